"""Studies as studies of Optuna, in any of its storages, for optuna-dashboard and its plots."""

from __future__ import annotations

import contextlib
import itertools
import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from nastool.errors import InvalidInputError, NastoolError, first_line
from nastool.files.reading import is_file
from nastool.integrations.optuna_tables import Tables
from nastool.problem import Problem
from nastool.results import Result
from nastool.runtime.quiet import quiet
from nastool.space import Gene
from nastool.store import urls

Progress = Callable[[int, int], None]
"""Called with the number of evaluations written so far and of all."""

_CHUNK = 1_000
"""Trials between two reports of progress."""

_IDENTITY = "nastool:problem"
"""User attribute by which a study of Optuna's is known as an export of the same problem."""

_SHAPE = "shape"
"""User attribute that says which architecture a trial is."""

_CONSTRAINTS = "constraints"
"""System attribute that holds the violations. Optuna 5 has one attribute a constraint of its own,
and reads this one too; its dashboard reads only this one."""


def export_study(
    result: Result,
    storage: str | optuna.storages.BaseStorage,
    name: str | None = None,
    *,
    front: bool = False,
    last: int | None = None,
    created: datetime | None = None,
    attributes: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> optuna.Study:
    """Write a result as a study of Optuna's, one trial an evaluation, in order.

    Values are in their natural sign, infeasible trials carry their violations as constraints, and
    failed evaluations are failed trials. Exporting again adds what is new. In a database a study is
    written whole or, where that fails, not at all.

    Args:
        result: Of a study.
        storage: A URL such as ``sqlite:///optuna.db``, the path of a journal file, or a storage.
        name: Of the study in Optuna; that of the result by default.
        front: Write the evaluations on the front only.
        last: Write that many last evaluations only; all by default.
        created: When the study began; by default it has just ended.
        attributes: JSON values kept with the study, besides what its numbers are.
        progress: Told as trials are written.

    Raises:
        InvalidInputError: A storage that cannot be opened or is a store of ours, one that has
            another study of that name, or both a front and a number of last evaluations.
        NastoolError: The storage cannot be read or written.
    """
    name = name or result.name
    if not name:
        raise InvalidInputError("a study that is exported must have a name, got none")
    part = part_of(result, front, last)
    target = _open(storage)
    began = created or datetime.now(UTC) - timedelta(seconds=result.seconds)
    # Optuna's times are local and say no zone.
    trials = _Trials(part, began.astimezone().replace(tzinfo=None, microsecond=0))
    report = partial(_report, progress, len(part))
    with _reported(storage):
        there = _find(part.problem, target, name)
        tables = _tables(target)
        written = 0 if there is None else _written(name, _shapes(there, tables), trials, len(part))
        rows = range(written, len(part))
        if tables is None:
            study = _write(part.problem, target, name, there, trials, rows, attributes, report)
        else:
            sample = _database("sqlite:///:memory:")
            model = _create(part.problem, sample, name)
            _describe(model, part.problem, attributes or {})
            if len(part):
                model.add_trial(trials.trial(0))
            copied = Tables.of(sample)
            if copied is None:
                raise NastoolError("Optuna must make the same tables in every database")
            if there is None or rows:
                # The number by which its tables know a study, as its own plots read it.
                key = name if there is None else there._study_id  # noqa: SLF001 - there is no other
                tables.write(key, copied, trials, rows, _CHUNK, report)
            study = optuna.load_study(study_name=name, storage=target)
        if there is not None:
            _describe(study, part.problem, attributes or {})
        return study


def _tables(storage: optuna.storages.BaseStorage) -> Tables | None:
    """The tables behind a storage, where trials can be written in bulk."""
    return Tables.of(storage)


def _report(progress: Progress | None, total: int, done: int) -> None:
    if progress is not None:
        progress(done, total)


def part_of(result: Result, front: bool, last: int | None) -> Result:
    """The evaluations that are asked for, in order.

    Args:
        result: Of a study.
        front: Those on the front only.
        last: That many last ones only; all by default.

    Raises:
        InvalidInputError: Both are asked for, or none.
    """
    if front and last is not None:
        raise InvalidInputError("either the front or the last evaluations are exported, got both")
    if last is not None and last < 1:
        raise InvalidInputError(f"at least the last evaluation must be exported, got {last}")
    if front:
        keys = result.problem.space.keys
        listed = set(keys(result.front().genotypes))
        chosen = np.array([key in listed for key in keys(result.evaluations.genotypes)], dtype=bool)
    else:
        chosen = np.ones(len(result), dtype=bool)
        chosen[: max(0, len(result) - (last or len(result)))] = False
    return replace(
        result,
        evaluations=result.evaluations.take(np.flatnonzero(chosen)),
        metrics=result.metrics[chosen],
        elapsed=result.elapsed[chosen],
    )


def _write(
    problem: Problem,
    storage: optuna.storages.BaseStorage,
    name: str,
    there: optuna.Study | None,
    trials: _Trials,
    rows: range,
    attributes: Mapping[str, Any] | None,
    report: Callable[[int], None],
) -> optuna.Study:
    """Write trials, and the study where it is new, through Optuna's interface."""
    study = there or _create(problem, storage, name)
    try:
        if there is None:
            _describe(study, problem, attributes or {})
        for begin in range(rows.start, rows.stop, _CHUNK):
            end = min(begin + _CHUNK, rows.stop)
            study.add_trials(trials.trial(row) for row in range(begin, end))
            report(end)
    except BaseException:
        if there is None:
            # Whatever it was is more important than a second error.
            with contextlib.suppress(Exception):
                optuna.delete_study(study_name=name, storage=storage)
        raise
    return study


def _open(storage: str | optuna.storages.BaseStorage) -> optuna.storages.BaseStorage:
    if isinstance(storage, optuna.storages.BaseStorage):
        return storage
    rule = (
        "a storage of Optuna must be a URL such as sqlite:///optuna.db or the path of a journal "
        "file, got "
    )
    if not isinstance(storage, str):
        raise InvalidInputError(f"{rule}{storage!r:.80}")
    expected = f"{rule}{urls.showable(storage)!r}"
    if "://" in storage and urls.parse(storage) is None:
        raise InvalidInputError(expected)
    try:
        if "://" in storage:
            _check_database(storage)
            return _database(storage)
        from optuna.storages.journal import JournalFileBackend

        # A device or a pipe would be read without end.
        if os.path.lexists(storage) and not is_file(Path(storage)):
            raise InvalidInputError(f"{expected}, which is no regular file")

        return optuna.storages.JournalStorage(JournalFileBackend(storage))
    except NastoolError:
        raise
    except Exception as error:  # noqa: BLE001 - SQLAlchemy's, the driver's or Optuna's own
        raise InvalidInputError(f"{expected}: {_reason(error, storage)}") from None


def _database(url: str) -> optuna.storages.RDBStorage:
    """A storage that gives its connections back once nobody has it, which Optuna's own does not."""
    storage = optuna.storages.RDBStorage(url)
    weakref.finalize(storage, storage.engine.dispose).atexit = False
    return storage


def _check_database(url: str) -> None:
    """Optuna would mix its tables with those of another program, some of the same names."""
    from sqlalchemy import create_engine, inspect

    from nastool.store.tables import schema

    engine = create_engine(url)
    try:
        names = inspect(engine).get_table_names()
        if schema.name in names:
            raise InvalidInputError(
                "a storage of Optuna must be a database of its own, got the store of nastool at "
                f"{urls.showable(url)}"
            )
        # Servers are shared on purpose; a file belongs to a program.
        if engine.dialect.name == "sqlite" and names and "version_info" not in names:
            raise InvalidInputError(
                "the storage of Optuna cannot be used: it holds tables of another program "
                f"({', '.join(sorted(names)[:3])})"
            )
    finally:
        engine.dispose()


@contextlib.contextmanager
def _reported(storage: str | optuna.storages.BaseStorage) -> Iterator[None]:
    """Turn errors of the storage into one of ours."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError, OSError) as error:
        # Optuna's own message only guesses at what the database says.
        reason = _reason(error.__cause__ or error, storage if isinstance(storage, str) else "")
        raise NastoolError(f"the storage of Optuna cannot be used: {reason}") from None


def _reason(error: BaseException, storage: str) -> str:
    line = first_line(error)
    # The error about a file repeats its path, which may be a mistyped address.
    if storage:
        line = line.replace(storage, urls.showable(storage))
    return urls.redacted(line, storage)


def _find(problem: Problem, storage: optuna.storages.BaseStorage, name: str) -> optuna.Study | None:
    """The study of that name, if there is one.

    Raises:
        InvalidInputError: It is no export of the same problem.
    """
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None
    if study.user_attrs.get(_IDENTITY) != problem.fingerprint:
        raise InvalidInputError(
            f"study {name!r} of Optuna must be an export of the same problem to be added to: "
            "take another name"
        )
    return study


def _create(problem: Problem, storage: optuna.storages.BaseStorage, name: str) -> optuna.Study:
    kinds = optuna.study.StudyDirection
    directions = [kinds[objective.direction.name] for objective in problem.objectives]
    study = optuna.create_study(study_name=name, storage=storage, directions=directions)
    with quiet("optuna", warning=optuna.exceptions.ExperimentalWarning):
        study.set_metric_names([objective.name for objective in problem.objectives])
    study.set_user_attr(_IDENTITY, problem.fingerprint)
    return study


def _shapes(study: optuna.Study, tables: Tables | None) -> list[Any]:
    """What the trials of a study say about their shapes, in order."""
    if tables is not None:
        return tables.attribute(study._study_id, _SHAPE)  # noqa: SLF001 - there is no other
    return [trial.user_attrs.get(_SHAPE) for trial in study.get_trials(deepcopy=False)]


def _written(name: str, held: list[Any], trials: _Trials, total: int) -> int:
    """How many of the evaluations a study of Optuna's holds, given its shapes.

    Raises:
        InvalidInputError: It holds something else.
    """
    if len(held) > total:
        raise InvalidInputError(
            f"study {name!r} of Optuna must hold at most the {total:,} evaluations "
            f"that are exported, got {len(held):,} trials: take another name"
        )
    for row, theirs in enumerate(held):
        ours = trials.user_attributes(row)[_SHAPE]
        if theirs != ours:
            # Another strategy or seed on the same problem, or a study that went on in Optuna.
            raise InvalidInputError(
                f"study {name!r} of Optuna must hold the first evaluations of the "
                f"study that is exported, got trial {row} with {theirs} instead of {ours}: take "
                "another name"
            )
    return len(held)


def _describe(study: optuna.Study, problem: Problem, attributes: Mapping[str, Any]) -> None:
    described = {
        "space": problem.space.name,
        "constraints": [str(constraint) for constraint in problem.constraints],
        **{f"provenance of {m.name}": str(m.provenance) for m in problem.reported},
        **{f"unit of {m.name}": m.unit for m in problem.reported if m.unit},
        **attributes,
    }
    for key, value in described.items():
        if study.user_attrs.get(key) != value:
            study.set_user_attr(key, value)


def _distribution(gene: Gene) -> Any:
    """What Optuna knows of a gene: its choices, and their order where they are evenly spaced."""
    choices = gene.choices
    numbers = [choice for choice in choices if isinstance(choice, int)]
    steps = {b - a for a, b in itertools.pairwise(numbers)}
    if gene.ordered and len(numbers) == len(choices) > 1 and len(steps) == 1 and min(steps) > 0:
        return optuna.distributions.IntDistribution(numbers[0], numbers[-1], step=steps.pop())
    return optuna.distributions.CategoricalDistribution(choices)


class _Trials:
    """The evaluations of a result, seen as trials.

    Args:
        result: Of a study.
        began: When it began, local time.
    """

    def __init__(self, result: Result, began: datetime) -> None:
        problem, evaluations = result.problem, result.evaluations
        self.genotypes = evaluations.genotypes
        self.choices = [gene.choices for gene in problem.space.genes]
        self.distributions = {gene.name: _distribution(gene) for gene in problem.space.genes}
        self.metrics: NDArray[np.float64] = result.metrics[:, : len(problem.objectives)]
        self.failed: list[bool] = result.failed.tolist()
        self._violations = evaluations.violations
        columns = result.columns()
        others = [metric.name for metric in problem.reported[len(problem.objectives) :]]
        self._attributes = {key: columns[key] for key in (_SHAPE, *others)}
        self._began = began
        self._elapsed = np.append(0.0, result.elapsed)

    def times(self, row: int) -> tuple[datetime, datetime]:
        """When an evaluation began and was known."""
        begin, end = self._elapsed[[row, row + 1]].tolist()
        return self._began + timedelta(seconds=begin), self._began + timedelta(seconds=end)

    def params(self, row: int) -> dict[str, Any]:
        """Choice of each gene."""
        indices = self.genotypes[row].tolist()
        choices = [known[k] for known, k in zip(self.choices, indices, strict=True)]
        return dict(zip(self.distributions, choices, strict=True))

    def user_attributes(self, row: int) -> dict[str, Any]:
        """The shape as text, and metrics that are no objectives."""
        values = {key: column[row] for key, column in self._attributes.items()}
        return {key: value for key, value in values.items() if value == value}  # not NaN

    def system_attributes(self, row: int) -> dict[str, Any]:
        """Violations, in the order of the study's attribute ``constraints``."""
        if self._violations.shape[1] == 0 or self.failed[row]:
            return {}
        return {_CONSTRAINTS: self._violations[row].tolist()}

    def trial(self, row: int) -> Any:
        """One evaluation as a trial."""
        failed = self.failed[row]
        states = optuna.trial.TrialState
        trial = optuna.trial.create_trial(
            state=states.FAIL if failed else states.COMPLETE,
            values=None if failed else self.metrics[row].tolist(),
            params=self.params(row),
            distributions=self.distributions,
            user_attrs=self.user_attributes(row),
            system_attrs=self.system_attributes(row),
        )
        trial.datetime_start, trial.datetime_complete = self.times(row)
        return trial
