"""Examples of a task, from the hub or from local files."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from nastool.errors import InvalidInputError, MissingDependencyError, one_line
from nastool.files.reading import GZIP, json_lines, json_records, read_table
from nastool_supernets.corpus.text import well_formed
from nastool_supernets.finetuning.tasks import Files, Hub, Kind, Task

_log = logging.getLogger(__name__)

SUFFIXES = (".tsv", ".csv", ".jsonl", ".json")


@dataclass(frozen=True)
class Answer:
    """A right answer.

    Args:
        text: As it stands in the context.
        start: Its first character there.
    """

    text: str
    start: int


@dataclass(frozen=True)
class Example:
    """One example.

    Args:
        texts: One or two texts; question and context where a question is to be answered.
        label: Index of the class, the number, or the answers that are right.
    """

    texts: tuple[str, ...]
    label: int | float | tuple[Answer, ...]


@dataclass(frozen=True)
class TaskData:
    """Examples to train on and to score on.

    Args:
        train: To train on.
        dev: To score on.
        labels: Classes as the examples have them; empty where there are none.
        names: What they are called, which a data set that numbers them may say.
    """

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    labels: tuple[str, ...]
    names: tuple[str, ...]

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of all that a model learns from, which names are not."""
        digest = hashlib.blake2b(digest_size=16)
        for example in (*self.train, None, *self.dev, self.labels):
            digest.update(repr(example).encode())
        return digest.hexdigest()


def load_task(task: Task, n_train: int | None = None, n_dev: int | None = None) -> TaskData:
    """Read the examples of a task.

    Args:
        task: The task.
        n_train: Examples to train on, the same random ones each time; None for all.
        n_dev: Examples to score on, likewise.

    Raises:
        InvalidInputError: There are none, or they break a rule.
        MissingDependencyError: A data set of the hub, and `datasets` is not installed.
    """
    read = _read_hub if isinstance(task.source, Hub) else _read_files
    try:
        rows, names = {}, {}
        for part in ("train", "dev"):
            rows[part], names[part] = read(task, part)
        labels = _labels(task, rows["train"])
        parts = {
            part: to_examples(task, found, labels, f"{part} example")
            for part, found in rows.items()
        }
        called = _called(labels, names["train"])
    except InvalidInputError as error:
        raise InvalidInputError(f"task {task.name}: {error}") from error
    for part, examples in parts.items():
        if not examples and not (isinstance(task.source, Files) and not task.source.train):
            raise InvalidInputError(f"task {task.name}: expected examples in {part}, got none")
    return TaskData(
        _sample(parts["train"], n_train),
        _sample(parts["dev"], n_dev),
        labels,
        called,
    )


def to_examples(
    task: Task, rows: Sequence[Mapping[str, Any]], labels: Sequence[str] = (), what: str = "example"
) -> tuple[Example, ...]:
    """Take the texts and labels of a task out of rows.

    Args:
        task: Says what the columns are.
        rows: Columns by name.
        labels: Classes; empty where there are none.
        what: What a row is called that does not say where it stands.

    An answer that does not stand where its row says is moved to the nearest place where it does;
    how many is logged.

    Raises:
        InvalidInputError: A row breaks a rule, or an answer stands nowhere in its context.
    """
    moved: list[str] = []
    examples = tuple(
        _example(task, row, labels, getattr(row, "place", f"{what} {number}"), moved)
        for number, row in enumerate(rows, 1)
    )
    if moved:
        count = "1 answer" if len(moved) == 1 else f"{len(moved):,} answers"
        _log.warning(
            "task %s: %s of %s did not stand where answer_start says, and moved to the nearest "
            "place in the context (first: %s)",
            task.name,
            count,
            f"{len(rows):,} rows",
            moved[0],
        )
    return examples


def _sample(examples: tuple[Example, ...], n: int | None) -> tuple[Example, ...]:
    if n is None or n >= len(examples):
        return examples
    chosen = np.random.default_rng(0).permutation(len(examples))[:n]
    return tuple(examples[i] for i in sorted(chosen.tolist()))


def _labels(task: Task, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Classes of the training examples, numbers by size and words by letter."""
    if task.kind not in (Kind.SENTENCE, Kind.PAIR):
        return ()
    found = {
        _class(row, task.label, getattr(row, "place", f"train example {number}"))
        for number, row in enumerate(rows, 1)
    }
    if len(found) < 2:
        raise InvalidInputError(f"column {task.label!r} must hold two classes at least")
    numeric = all(name.removeprefix("-").isdecimal() for name in found)
    return tuple(sorted(found, key=(lambda name: (int(name), name)) if numeric else None))


def _called(labels: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """What classes are called, by their numbers where a data set names these."""
    if not names:
        return tuple(labels)
    beyond = [label for label in labels if not 0 <= int(label) < len(names)]
    if beyond:
        raise InvalidInputError(
            f"classes must be numbers from 0 to {len(names) - 1}, as the data set names them, "
            f"got {beyond[0]}"
        )
    return tuple(names[int(label)] for label in labels)


def _example(
    task: Task, row: Mapping[str, Any], labels: Sequence[str], where: str, moved: list[str]
) -> Example:
    texts = []
    for column in task.texts:
        text = _column(row, column, where)
        if not isinstance(text, str):
            raise InvalidInputError(f"{where}: column {column!r} must hold text, got {text!r:.60}")
        texts.append(well_formed(text))
    if task.kind is Kind.QUESTION_ANSWERING:
        return Example(tuple(texts), _answers(row, texts[1], where, moved))
    value = _column(row, task.label, where)
    if task.kind in (Kind.REGRESSION, Kind.SIMILARITY):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise InvalidInputError(f"{where}: {task.label!r} must be a number, got {value!r:.60}")
        return Example(tuple(texts), number)
    name = _class(row, task.label, where)
    try:
        return Example(tuple(texts), labels.index(name))
    except ValueError as error:
        known = ", ".join(labels[:10])
        raise InvalidInputError(
            f"{where}: {task.label!r} must be one of the classes ({known}), got {value!r}"
        ) from error


def _class(row: Mapping[str, Any], column: str, where: str) -> str:
    value = _column(row, column, where)
    name = str(value).strip()
    if not name or isinstance(value, (list, dict)) or (isinstance(value, float) and value != value):
        raise InvalidInputError(f"{where}: {column!r} must be a class, got {value!r:.60}")
    return name


def _answers(
    row: Mapping[str, Any], context: str, where: str, moved: list[str]
) -> tuple[Answer, ...]:
    """Answers in SQuAD's form (a list) or in the hub's (two lists), where they stand."""
    found = _column(row, "answers", where)
    try:
        if isinstance(found, Mapping):
            pairs = list(zip(found["text"], found["answer_start"], strict=True))
        else:
            pairs = [(answer["text"], answer["answer_start"]) for answer in found]
        answers = [Answer(well_formed(str(text)), int(start)) for text, start in pairs]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(
            f"{where}: answers must have text and answer_start, got {found!r:.60}"
        ) from error
    if not answers or not all(answer.text.strip() for answer in answers):
        raise InvalidInputError(
            f"{where}: expected answers that lie in the context, got {found!r:.60}"
        )
    placed = [_placed(answer, context, where) for answer in answers]
    moved += [where for answer, now in zip(answers, placed, strict=True) if answer != now]
    return tuple(placed)


def _placed(answer: Answer, context: str, where: str) -> Answer:
    """An answer at the place nearest to the one it is said to have, the first of two as near."""
    text, start = answer.text, answer.start
    if start >= 0 and context.startswith(text, start):
        return answer
    near = max(0, min(start, len(context)))
    places = (context.rfind(text, 0, near + len(text)), context.find(text, near))
    found = [place for place in places if place >= 0]
    if not found:
        raise InvalidInputError(
            f"{where}: expected answers that lie in the context, but {text!r:.60} stands nowhere "
            "in it"
        )
    return Answer(text, min(found, key=lambda place: abs(place - start)))


def _column(row: Mapping[str, Any], name: str, where: str) -> Any:
    if row.get(name) is None:
        known = ", ".join(str(column) for column in row)
        raise InvalidInputError(
            f"{where}: expected a column {name!r} in every row, got none; columns: {known}"
        )
    return row[name]


# --------------------------------------------------------------------------------------------------
# Sources


class _Row(dict[str, Any]):
    """Columns by name, and where the row stands."""

    def __init__(self, columns: Mapping[str, Any], place: str) -> None:
        super().__init__(columns)
        self.place = place


def _read_hub(task: Task, part: str) -> tuple[list[_Row], tuple[str, ...]]:
    source = cast("Hub", task.source)
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError(
            "data sets of the hub need datasets: pip install 'nastool[train]'"
        ) from error
    split = source.train if part == "train" else source.dev
    datasets.disable_progress_bars()
    what = f"{source.path}/{source.config}" if source.config else source.path
    # Besides OSError and ValueError, the library raises those of whatever it downloads with.
    with one_line(
        f"cannot load {split} of data set {what}",
        InvalidInputError,
        rest=" (local files go into a --task-file)",
    ):
        rows = datasets.load_dataset(source.path, source.config, split=split)
    feature = getattr(rows, "features", {}).get(task.label)
    names = tuple(getattr(feature, "names", None) or ())
    placed = (_Row(row, f"{split} row {number}") for number, row in enumerate(rows, 1))
    if not names:
        return list(placed), names
    # How the hub writes that there is no class: withheld, or without agreement on one.
    known = [row for row in placed if row.get(task.label, 0) not in (-1, None)]
    if len(rows) and not known:
        raise InvalidInputError(f"{split} must have classes, but they are withheld (-1)")
    if len(known) < len(rows):
        _log.warning(
            "task %s: %s of %s rows of %s have no class and are left out",
            task.name,
            f"{len(rows) - len(known):,}",
            f"{len(rows):,}",
            split,
        )
    return known, names


def _read_files(task: Task, part: str) -> tuple[list[_Row], tuple[str, ...]]:
    source = cast("Files", task.source)
    paths = source.train if part == "train" else source.dev
    return [row for path in paths for row in read_rows(path)], ()


def read_rows(path: Path) -> list[_Row]:
    """Read a file of examples.

    Args:
        path: One of `SUFFIXES`, or ``.gz`` of one, in small or capital letters.

    Returns:
        An example a row, columns by name and in their order.

    Raises:
        InvalidInputError: It cannot be read; names file and place.
    """
    name = path.name.lower()
    for packed in GZIP:
        name = name.removesuffix(packed)
    suffix = Path(name).suffix
    rows: Iterator[tuple[str, Any]]
    if suffix == ".tsv":
        # As GLUE has them: quotation marks are text, and no field holds a tab or a line break.
        rows = ((f"line {r.line}", r.cells) for r in read_table(path, "\t", quotes=False))
    elif suffix == ".csv":
        rows = ((f"line {r.line}", r.cells) for r in read_table(path))
    elif suffix == ".jsonl":
        rows = json_lines(path)
    elif suffix == ".json":
        rows = _json_rows(path)
    else:
        raise InvalidInputError(
            f"expected a file in {', '.join(SUFFIXES)} (or .gz of one), got {path.name}"
        )
    return [_row(columns, f"{path.name}, {place}") for place, columns in rows]


def _json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Records, or those of SQuAD's own form: data, paragraphs, questions."""
    for place, record in json_records(path):
        if not isinstance(record, dict) or "paragraphs" not in record:
            yield place, record
            continue
        try:
            for number, paragraph in enumerate(record["paragraphs"], 1):
                for question, entry in enumerate(paragraph["qas"], 1):
                    columns = {**entry, "context": paragraph["context"]}
                    yield f"{place}, paragraph {number}, question {question}", columns
        except (KeyError, TypeError) as error:
            raise InvalidInputError(
                f"{path}, {place}: expected a list of objects, or SQuAD's data, paragraphs and qas"
            ) from error


def _row(columns: Any, place: str) -> _Row:
    if not isinstance(columns, Mapping):
        raise InvalidInputError(f"{place}: expected an object in every row, got {columns!r:.60}")
    return _Row(columns, place)
