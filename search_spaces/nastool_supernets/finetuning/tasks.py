"""Tasks to fine-tune on: GLUE and SQuAD as published, and tasks of a user's own.

A task says what its examples are, where they lie, how it is scored, and with which hyperparameters
it is trained.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Any

from nastool.errors import InvalidInputError, nearest
from nastool.files.reading import is_file, is_folder, read_text
from nastool.numbers import is_number, is_whole


class Kind(StrEnum):
    """What an example of a task is."""

    SENTENCE = "sentence"
    PAIR = "pair"
    REGRESSION = "regression"
    SIMILARITY = "similarity"
    QUESTION_ANSWERING = "question-answering"


METRICS: Mapping[Kind, tuple[str, ...]] = {
    Kind.SENTENCE: ("accuracy", "f1", "matthews"),
    Kind.PAIR: ("accuracy", "f1", "matthews"),
    Kind.REGRESSION: ("spearman", "pearson"),
    Kind.SIMILARITY: ("spearman", "pearson"),
    Kind.QUESTION_ANSWERING: ("exact_match", "f1"),
}
"""Metrics that each kind has; question answering always reports both of its own."""

_TEXTS: Mapping[Kind, tuple[str, ...]] = {
    Kind.SENTENCE: ("sentence",),
    Kind.PAIR: ("sentence1", "sentence2"),
    Kind.REGRESSION: ("sentence1", "sentence2"),
    Kind.SIMILARITY: ("sentence1", "sentence2"),
    Kind.QUESTION_ANSWERING: ("question", "context"),
}


@dataclass(frozen=True)
class Settings:
    """Hyperparameters of fine-tuning; the defaults are the published ones (paper, table 3).

    Args:
        epochs: Passes over the training examples; the best of them on the dev set counts.
        batch_size: Examples an optimizer step.
        learning_rate: Peak learning rate; it decays linearly to zero.
        weight_decay: On matrices.
        warmup_steps: Steps of linear warm-up.
        max_length: Tokens of an example at most.
        max_steps: Optimizer steps at most; None for all that the epochs take.
        group_by_length: Whether examples of about the same length share a batch, which then holds
            little padding. As published, batches are drawn at random.

    Raises:
        InvalidInputError: A value is out of range.
    """

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 5e-5
    weight_decay: float = 0.0
    warmup_steps: int = 0
    max_length: int = 128
    max_steps: int | None = None
    group_by_length: bool = False

    def __post_init__(self) -> None:
        rules = {
            "epochs": (self.epochs, self.epochs >= 1, "at least 1"),
            "batch_size": (self.batch_size, self.batch_size >= 1, "at least 1"),
            "learning_rate": (self.learning_rate, 0 < self.learning_rate < math.inf, "positive"),
            "weight_decay": (self.weight_decay, 0 <= self.weight_decay < math.inf, "at least 0"),
            "warmup_steps": (self.warmup_steps, self.warmup_steps >= 0, "at least 0"),
            "max_length": (self.max_length, self.max_length >= 8, "at least 8"),
            "max_steps": (
                self.max_steps,
                self.max_steps is None or self.max_steps >= 1,
                "at least 1",
            ),
        }
        for name, (value, holds, rule) in rules.items():
            if not holds:
                raise InvalidInputError(f"{name} must be {rule}, got {value}")


@dataclass(frozen=True)
class Files:
    """Examples in local files: .tsv, .csv, .json or .jsonl, each also .gz.

    Args:
        train: Files to train on, joined; none where embeddings are scored as they are.
        dev: Files to score on, joined.
    """

    train: tuple[Path, ...]
    dev: tuple[Path, ...]


@dataclass(frozen=True)
class Hub:
    """Examples in a data set of the hub, or in a local folder of the same form.

    Args:
        path: Name on the hub, or folder.
        config: Its configuration; None where it has one only.
        train: Split to train on.
        dev: Split to score on.
    """

    path: str
    config: str | None = None
    train: str = "train"
    dev: str = "validation"


@dataclass(frozen=True)
class Task:
    """What to fine-tune on.

    Args:
        name: As users type it.
        kind: What an example is.
        source: Where the examples lie.
        texts: Columns of the one or two texts.
        label: Column of the label: a class, or a number for a regression.
        metrics: How it is scored; the first one picks the best epoch and is averaged.
        start_from: Task whose fine-tuned model this one starts from, or None.
        settings: Hyperparameters.
        grid: Values of hyperparameters to choose from on the dev set, by name.
        published: Whether the paper's table 1 has it.

    Raises:
        InvalidInputError: Texts or metrics do not fit the kind.
    """

    name: str
    kind: Kind
    source: Files | Hub
    texts: tuple[str, ...] = ()
    label: str = "label"
    metrics: tuple[str, ...] = ()
    start_from: str | None = None
    settings: Settings = field(default_factory=Settings)
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    published: bool = False

    def __post_init__(self) -> None:
        known = METRICS[self.kind]
        if not self.texts:
            object.__setattr__(self, "texts", _TEXTS[self.kind])
        if not self.metrics:
            fixed = self.kind is Kind.QUESTION_ANSWERING
            object.__setattr__(self, "metrics", known if fixed else known[:1])
        allowed = {Kind.SENTENCE: (1,), Kind.REGRESSION: (1, 2)}.get(self.kind, (2,))
        if len(self.texts) not in allowed:
            raise InvalidInputError(
                f"task {self.name}: {self.kind} needs {' or '.join(map(str, allowed))} columns of "
                f"text, got {', '.join(self.texts)}"
            )
        unknown = [metric for metric in self.metrics if metric not in known]
        if unknown:
            raise InvalidInputError(
                f"task {self.name}: metrics of {self.kind} are {', '.join(known)}, "
                f"got {', '.join(unknown)}"
            )

    @property
    def head(self) -> str:
        """Name of the head that it is fine-tuned with, see `Family.heads`."""
        if self.kind is Kind.SIMILARITY:
            return "encoder"
        own = (Kind.REGRESSION, Kind.QUESTION_ANSWERING)
        return self.kind.value if self.kind in own else "classification"

    def choices(self) -> list[Settings]:
        """Every combination of the grid, as settings."""
        return [
            replace(self.settings, **dict(zip(self.grid, values, strict=True)))
            for values in product(*self.grid.values())
        ]


GLUE_PATH, SQUAD_PATH = "nyu-mll/glue", "squad"

_COLA = {"batch_size": (32, 16), "weight_decay": (0.0, 0.1), "warmup_steps": (0, 400)}
_SQUAD = {"batch_size": (32, 16, 8), "weight_decay": (0.0, 0.1), "warmup_steps": (0, 1000)}


def published_tasks(glue: str = GLUE_PATH, squad: str = SQUAD_PATH) -> dict[str, Task]:
    """GLUE without WNLI, and SQuAD v1.1, as the paper fine-tunes on them (table 3).

    Args:
        glue: Data set of the hub with a configuration a task, or a local folder of that form.
        squad: The same for SQuAD.
    """

    def glue_task(name: str, kind: Kind, *texts: str, **more: Any) -> Task:
        dev = "validation_matched" if name == "mnli" else "validation"
        return Task(name, kind, Hub(glue, name, dev=dev), texts, published=True, **more)

    pair = Kind.PAIR
    tasks = (
        glue_task("mnli", pair, "premise", "hypothesis"),
        glue_task("qqp", pair, "question1", "question2"),
        glue_task("qnli", pair, "question", "sentence"),
        glue_task("cola", Kind.SENTENCE, "sentence", metrics=("matthews",), grid=_COLA),
        glue_task("sst2", Kind.SENTENCE, "sentence"),
        glue_task("stsb", Kind.REGRESSION, "sentence1", "sentence2", start_from="mnli"),
        glue_task("rte", pair, "sentence1", "sentence2", start_from="mnli"),
        glue_task("mrpc", pair, "sentence1", "sentence2", start_from="mnli"),
        Task(
            "squad",
            Kind.QUESTION_ANSWERING,
            Hub(squad),
            settings=Settings(learning_rate=1e-5, max_length=512),
            grid=_SQUAD,
            published=True,
        ),
    )
    return {task.name: task for task in tasks}


_SETTINGS = {entry.name for entry in fields(Settings)}
_KEYS = {"kind", "train", "dev", "texts", "label", "metrics", "start_from", "dataset", "config"}


def read_task_file(path: Path, known: Mapping[str, Task]) -> dict[str, Task]:
    """Read tasks from a TOML file: a table a task, its name as the heading.

    Args:
        path: The file; paths in it are relative to it.
        known: Tasks whose names a table may take to bring files or hyperparameters of its own;
            everything that it leaves out stays.

    Raises:
        InvalidInputError: The file cannot be read, or breaks a rule.
    """
    try:
        content = tomllib.loads(read_text(path).replace("\r\n", "\n"))
    except InvalidInputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{path} is not valid TOML: {error}") from error
    tasks = {}
    for name, table in content.items():
        try:
            if not isinstance(table, dict):
                raise InvalidInputError(f"expected a table, got {table!r}")
            tasks[name] = _parse_task(name, table, path.parent, known.get(name))
        except InvalidInputError as error:
            raise InvalidInputError(f"{path}: [{name}]: {error}") from error
    if not tasks:
        raise InvalidInputError(f"{path} must hold a table a task, got none")
    return tasks


def _parse_task(name: str, table: dict[str, Any], folder: Path, known: Task | None) -> Task:
    unknown = sorted(set(table) - _KEYS - _SETTINGS)
    if unknown:
        known_keys = nearest(unknown[0], sorted(_KEYS | _SETTINGS))
        raise InvalidInputError(f"unknown key {unknown[0]!r}; {known_keys}")
    kind = known.kind if known is not None and "kind" not in table else _kind(table.get("kind"))
    if known is not None and kind is not known.kind:
        known = None  # the name alone is the same
    source = _parse_source(table, folder, known, kind)
    given: dict[str, Any] = {}
    for key in ("texts", "metrics"):
        if key in table:
            given[key] = tuple(_strings(key, table[key]))
    for key in ("label", "start_from"):
        if key in table:
            (given[key],) = _strings(key, table[key], one=True)
    chosen = {key: _setting(key, table[key]) for key in _SETTINGS & set(table)}
    settings = replace(known.settings if known else Settings(), **chosen)
    if known is None:
        return Task(name, kind, source, settings=settings, **given)
    return replace(known, source=source, settings=settings, **given)


def _kind(value: object) -> Kind:
    try:
        return Kind(str(value))
    except ValueError as error:
        got = "none" if value is None else repr(value)
        raise InvalidInputError(f"kind must be one of {', '.join(Kind)}, got {got}") from error


def _parse_source(
    table: dict[str, Any], folder: Path, known: Task | None, kind: Kind
) -> Files | Hub:
    usual = known.source if known is not None else None
    # A published task without files stays where it is published.
    if usual is not None and not table.keys() & {"train", "dev", "dataset", "config"}:
        return usual
    if "dataset" in table:
        (path,) = _strings("dataset", table["dataset"], one=True)
        splits = {
            key: _strings(key, table[key], one=True)[0]
            for key in ("config", "train", "dev")
            if key in table
        }
        path = str(folder / path) if is_folder(folder / path) else path
        return replace(usual if isinstance(usual, Hub) else Hub(path), path=path, **splits)
    files: dict[str, tuple[Path, ...]] = {}
    for part in ("train", "dev"):
        if part == "train" and part not in table and kind is Kind.SIMILARITY:
            files[part] = ()
            continue
        if part not in table:
            raise InvalidInputError(f'expected {part} = "FILE", got none')
        files[part] = tuple(folder / file for file in _strings(part, table[part]))
        for file in files[part]:
            if not is_file(file):
                raise InvalidInputError(f"{part}: no such file: {file}")
    return Files(files["train"], files["dev"])


def _strings(key: str, value: object, *, one: bool = False) -> list[str]:
    values: Sequence[object] = (
        [value]
        if isinstance(value, str) or one
        else (value if isinstance(value, list) else [value])
    )
    if not values or not all(isinstance(entry, str) and entry for entry in values):
        raise InvalidInputError(
            f"{key} must be text{'' if one else ' or a list of it'}, got {value!r}"
        )
    return [str(entry) for entry in values]


def _setting(key: str, value: object) -> Any:
    if key == "group_by_length":
        if not isinstance(value, bool):
            raise InvalidInputError(f"{key} must be true or false, got {value!r}")
        return value
    whole = key not in ("learning_rate", "weight_decay")
    if not (is_whole if whole else is_number)(value):
        raise InvalidInputError(f"{key} must be a {'whole ' if whole else ''}number, got {value!r}")
    return value
