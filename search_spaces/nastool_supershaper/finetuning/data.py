"""Examples of a task, from the hub or from local files."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np

from nastool.errors import InvalidInputError, MissingDependencyError
from nastool_supershaper.finetuning.tasks import Files, Hub, Kind, Task

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
        rows = {part: read(task, part) for part in ("train", "dev")}
        labels = _labels(task, rows["train"])
        names = _class_names(task, rows["train"])
        parts = {
            part: to_examples(task, found, labels, f"{part} example")
            for part, found in rows.items()
        }
    except InvalidInputError as error:
        raise InvalidInputError(f"task {task.name}: {error}") from error
    for part, examples in parts.items():
        if not examples:
            raise InvalidInputError(f"task {task.name}: expected examples in {part}, got none")
    return TaskData(
        _sample(parts["train"], n_train),
        _sample(parts["dev"], n_dev),
        labels,
        tuple(names[int(label)] for label in labels) if names else labels,
    )


def to_examples(
    task: Task, rows: Sequence[Mapping[str, Any]], labels: Sequence[str] = (), what: str = "example"
) -> tuple[Example, ...]:
    """Take the texts and labels of a task out of rows.

    Args:
        task: Says what the columns are.
        rows: Columns by name.
        labels: Classes; empty where there are none.
        what: What a row is called.

    Raises:
        InvalidInputError: A row breaks a rule.
    """
    return tuple(
        _example(task, row, labels, f"{what} {number}") for number, row in enumerate(rows, 1)
    )


def _sample(examples: tuple[Example, ...], n: int | None) -> tuple[Example, ...]:
    if n is None or n >= len(examples):
        return examples
    chosen = np.random.default_rng(0).permutation(len(examples))[:n]
    return tuple(examples[i] for i in sorted(chosen.tolist()))


def _labels(task: Task, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Classes of the training examples, numbers by size and words by letter."""
    if task.kind not in (Kind.SENTENCE, Kind.PAIR):
        return ()
    found = {str(_column(row, task.label)) for row in rows}
    if len(found) < 2:
        raise InvalidInputError(f"column {task.label!r} must hold two classes at least")
    numeric = all(name.removeprefix("-").isdecimal() for name in found)
    return tuple(sorted(found, key=(lambda name: (int(name), name)) if numeric else None))


def _class_names(task: Task, rows: Any) -> tuple[str, ...]:
    """Names of the classes by number, where a data set of the hub brings them along."""
    feature = getattr(rows, "features", {}).get(task.label)
    return tuple(getattr(feature, "names", None) or ())


def _example(task: Task, row: Mapping[str, Any], labels: Sequence[str], where: str) -> Example:
    texts = []
    for column in task.texts:
        text = _column(row, column)
        if not isinstance(text, str):
            raise InvalidInputError(f"{where}: column {column!r} must hold text, got {text!r}")
        texts.append(text)
    if task.kind is Kind.QUESTION_ANSWERING:
        return Example(tuple(texts), _answers(row, texts[1], where))
    value = _column(row, task.label)
    if task.kind is Kind.REGRESSION:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise InvalidInputError(f"{where}: {task.label!r} must be a number, got {value!r}")
        return Example(tuple(texts), number)
    try:
        return Example(tuple(texts), labels.index(str(value)))
    except ValueError as error:
        known = ", ".join(labels[:10])
        raise InvalidInputError(
            f"{where}: {task.label!r} must be one of the classes ({known}), got {value!r}"
        ) from error


def _answers(row: Mapping[str, Any], context: str, where: str) -> tuple[Answer, ...]:
    """Answers in SQuAD's form (a list) or in the hub's (two lists)."""
    found = _column(row, "answers")
    try:
        if isinstance(found, Mapping):
            pairs = list(zip(found["text"], found["answer_start"], strict=True))
        else:
            pairs = [(answer["text"], answer["answer_start"]) for answer in found]
        answers = tuple(Answer(str(text), int(start)) for text, start in pairs)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{where}: answers must have text and answer_start, got {found!r}"
        ) from error
    if not answers or not all(0 <= answer.start < len(context) for answer in answers):
        raise InvalidInputError(f"{where}: expected answers that lie in the context, got {found!r}")
    return answers


def _column(row: Mapping[str, Any], name: str) -> Any:
    if row.get(name) is None:
        known = ", ".join(str(column) for column in row)
        raise InvalidInputError(f"expected a column {name!r} in every row; columns: {known}")
    return row[name]


# --------------------------------------------------------------------------------------------------
# Sources


def _read_hub(task: Task, part: str) -> Sequence[Mapping[str, Any]]:
    source = cast("Hub", task.source)
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError(
            "data sets of the hub need datasets: pip install 'nastool[train]'"
        ) from error
    split = source.train if part == "train" else source.dev
    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(source.path, source.config, split=split)
    # Besides OSError and ValueError, the library raises those of whatever it downloads with.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        what = f"{source.path}/{source.config}" if source.config else source.path
        raise InvalidInputError(
            f"cannot load {split} of data set {what}: {reason} (local files go into a --task-file)"
        ) from error
    if _class_names(task, rows):
        # How the hub writes that there is no class: withheld, or without agreement on one.
        known = [number for number, label in enumerate(rows[task.label]) if label != -1]
        if len(rows) and not known:
            raise InvalidInputError(f"{split} must have classes, but they are withheld (-1)")
        rows = rows.select(known)
    return cast("Sequence[Mapping[str, Any]]", rows)


def _read_files(task: Task, part: str) -> list[Mapping[str, Any]]:
    source = cast("Files", task.source)
    rows: list[Mapping[str, Any]] = []
    for path in source.train if part == "train" else source.dev:
        rows.extend(read_rows(path))
    return rows


def read_rows(path: Path) -> list[Mapping[str, Any]]:
    """Read a file of examples.

    Args:
        path: One of `SUFFIXES`, or ``.gz`` of one.

    Returns:
        An example a row, columns by name and in their order.

    Raises:
        InvalidInputError: It cannot be read.
    """
    try:
        with _open(path) as file:
            return list(_rows(path, file))
    except (OSError, EOFError, ValueError, csv.Error, zlib.error) as error:
        raise InvalidInputError(f"cannot read {path}: {error}") from error


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return open(path, encoding="utf-8-sig", newline="")


def _rows(path: Path, file: TextIO) -> Iterator[Mapping[str, Any]]:
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix == ".tsv":
        # As GLUE has them: quotation marks are text, and no field holds a tab or a line break.
        yield from _table(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    elif suffix == ".csv":
        yield from _table(csv.DictReader(file))
    elif suffix == ".jsonl":
        yield from (_object(json.loads(line)) for line in file if line.strip())
    elif suffix == ".json":
        yield from _json_rows(json.load(file))
    else:
        raise InvalidInputError(
            f"expected a file in {', '.join(SUFFIXES)} (or .gz of one), got {path.name}"
        )


def _table(reader: csv.DictReader[str]) -> Iterator[Mapping[str, Any]]:
    for row in reader:
        # A separator within a text: whatever follows would be read as another column.
        if None in row:
            raise InvalidInputError(
                f"line {reader.line_num}: expected {len(reader.fieldnames or ())} columns, got more"
            )
        yield row


def _json_rows(content: Any) -> Iterator[Mapping[str, Any]]:
    """A list of objects, or SQuAD's own form: data, paragraphs, questions."""
    if isinstance(content, list):
        yield from map(_object, content)
        return
    try:
        for article in content["data"]:
            for paragraph in article["paragraphs"]:
                for entry in paragraph["qas"]:
                    yield {**entry, "context": paragraph["context"]}
    except (KeyError, TypeError) as error:
        raise InvalidInputError(
            "expected a list of objects, or SQuAD's data, paragraphs and qas"
        ) from error


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInputError(f"expected an object in every row, got {value!r}")
    return value
