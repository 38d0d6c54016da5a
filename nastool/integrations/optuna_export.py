"""Studies as studies of Optuna, in any of its storages, for optuna-dashboard and its plots."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from numpy.typing import NDArray

from nastool.errors import InvalidInputError, NastoolError
from nastool.problem import Problem
from nastool.results import Result
from nastool.space import Gene

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

Progress = Callable[[int, int], None]
"""Called with the number of evaluations written so far and of all."""

_CHUNK = 1_000
"""Trials of one transaction."""

_IDENTITY = "nastool:problem"
"""User attribute by which a study of Optuna's is known as an export of the same problem."""

_SHAPE = "shape"
"""User attribute that says which architecture a trial is."""

_CONSTRAINTS = "constraints"
"""System attribute that holds the violations. Optuna 5 has one attribute a constraint of its own,
and reads this one too; its dashboard reads only this one."""

_TABLES: Mapping[str, frozenset[str]] = {
    "trials": frozenset(
        ["trial_id", "number", "study_id", "state", "datetime_start", "datetime_complete"]
    ),
    "trial_params": frozenset(
        ["param_id", "trial_id", "param_name", "param_value", "distribution_json"]
    ),
    "trial_values": frozenset(["trial_value_id", "trial_id", "objective", "value", "value_type"]),
    "trial_user_attributes": frozenset(
        ["trial_user_attribute_id", "trial_id", "key", "value_json"]
    ),
    "trial_system_attributes": frozenset(
        ["trial_system_attribute_id", "trial_id", "key", "value_json"]
    ),
}
"""Optuna's tables from version 3 to 5; others are written through its own interface only."""


def export_study(
    result: Result,
    storage: str | optuna.storages.BaseStorage,
    name: str | None = None,
    *,
    created: datetime | None = None,
    attributes: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> optuna.Study:
    """Write a result as a study of Optuna's, one trial an evaluation, in order.

    Values are in their natural sign, infeasible trials carry their violations as constraints, and
    failed evaluations are failed trials. Exporting again adds what is new.

    Args:
        result: Of a study.
        storage: A URL such as ``sqlite:///optuna.db``, the path of a journal file, or a storage.
        name: Of the study in Optuna; that of the result by default.
        created: When the study began; by default it has just ended.
        attributes: JSON values kept with the study, besides what its numbers are.
        progress: Told as trials are written.

    Raises:
        InvalidInputError: A storage that cannot be opened or is a store of ours, or one that has
            another study of that name.
        NastoolError: The storage cannot be read or written.
    """
    name = name or result.name
    if not name:
        raise InvalidInputError("a study that is exported must have a name, got none")
    target = _open(storage)
    began = created or datetime.now(UTC) - timedelta(seconds=result.seconds)
    # Optuna's times are local and say no zone.
    trials = _Trials(result, began.astimezone().replace(tzinfo=None, microsecond=0))
    with _reported():
        study = _create(result.problem, target, name)
        written = _written(study, trials, len(result))
        _describe(study, result.problem, attributes or {})
        _write(study, target, trials, written, len(result), progress)
        return optuna.load_study(study_name=name, storage=target)


def _write(
    study: optuna.Study,
    storage: optuna.storages.BaseStorage,
    trials: _Trials,
    written: int,
    total: int,
    progress: Progress | None,
) -> None:
    """Add the trials written ... total - 1."""
    if written == 0 and total:
        # One through Optuna's own interface: it shows how this version writes a trial down.
        study.add_trial(trials.trial(0))
        written = 1
    tables = _tables(storage)
    for begin in range(written, total, _CHUNK):
        end = min(begin + _CHUNK, total)
        if tables is None:
            study.add_trials(trials.trial(row) for row in range(begin, end))
        else:
            tables.insert(study, trials, begin, end)
        if progress is not None:
            progress(end, total)


def _open(storage: str | optuna.storages.BaseStorage) -> optuna.storages.BaseStorage:
    if not isinstance(storage, str):
        return storage
    try:
        if "://" in storage:
            _refuse_store(storage)
            return optuna.storages.RDBStorage(storage)
        from optuna.storages.journal import JournalFileBackend

        return optuna.storages.JournalStorage(JournalFileBackend(storage))
    except NastoolError:
        raise
    except Exception as error:  # SQLAlchemy's, the driver's or Optuna's own
        raise InvalidInputError(
            "a storage of Optuna must be a URL such as sqlite:///optuna.db or the path of a "
            f"journal file, got {storage!r}: {_reason(error)}"
        ) from error


def _refuse_store(url: str) -> None:
    """Optuna would mix its tables with those of a store, some of which have the same names."""
    from sqlalchemy import create_engine, inspect

    from nastool.store.tables import schema

    engine = create_engine(url)
    try:
        if inspect(engine).has_table(schema.name):
            raise InvalidInputError(
                "a storage of Optuna must be a database of its own, got the store of nastool at "
                f"{engine.url}"
            )
    finally:
        engine.dispose()


@contextmanager
def _reported() -> Iterator[None]:
    """Turn errors of the storage into one of ours."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        # Optuna's own message only guesses at what the database says.
        raise NastoolError(
            f"the storage of Optuna cannot be used: {_reason(error.__cause__ or error)}"
        ) from error


def _reason(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _create(problem: Problem, storage: optuna.storages.BaseStorage, name: str) -> optuna.Study:
    """The study of that name, made unless an export of the same problem has made it."""
    kinds = optuna.study.StudyDirection
    directions = [kinds[objective.direction.name] for objective in problem.objectives]
    try:
        study = optuna.create_study(study_name=name, storage=storage, directions=directions)
    except optuna.exceptions.DuplicatedStudyError as error:
        study = optuna.load_study(study_name=name, storage=storage)
        if study.user_attrs.get(_IDENTITY) != problem.fingerprint:
            raise InvalidInputError(
                f"study {name!r} of Optuna must be an export of the same problem to be added to: "
                "take another name"
            ) from error
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([objective.name for objective in problem.objectives])
        study.set_user_attr(_IDENTITY, problem.fingerprint)
    return study


def _written(study: optuna.Study, trials: _Trials, total: int) -> int:
    """How many of the evaluations a study of Optuna's holds.

    Raises:
        InvalidInputError: It holds something else.
    """
    held = study.get_trials(deepcopy=False)
    if len(held) > total:
        raise InvalidInputError(
            f"study {study.study_name!r} of Optuna must hold at most the {total:,} evaluations "
            f"that are exported, got {len(held):,} trials: take another name"
        )
    for row, trial in enumerate(held):
        ours, theirs = trials.user_attributes(row)[_SHAPE], trial.user_attrs.get(_SHAPE)
        if theirs != ours:
            # Another strategy or seed on the same problem, or a study that went on in Optuna.
            raise InvalidInputError(
                f"study {study.study_name!r} of Optuna must hold the first evaluations of the "
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
        self._genotypes = evaluations.genotypes
        self._choices = [gene.choices for gene in problem.space.genes]
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
        indices = self._genotypes[row].tolist()
        choices = [known[k] for known, k in zip(self._choices, indices, strict=True)]
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


@dataclass(frozen=True)
class _Tables:
    """Optuna's tables, to be written many rows at a time.

    Its own interface takes dozens of statements for every trial, which adds up to an hour for a
    study of 30,000.

    Args:
        engine: Of the storage.
        tables: By name.
    """

    engine: Any
    tables: Mapping[str, Table]

    def insert(self, study: optuna.Study, trials: _Trials, begin: int, end: int) -> None:
        """Add the trials begin ... end - 1 in one transaction."""
        rows = range(begin, end)
        with self.engine.begin() as connection:
            shift = self._shift(connection, study)
            table = self.tables["trials"]
            new = []
            for row in rows:
                start, complete = trials.times(row)
                new.append(
                    {
                        "number": row,
                        "study_id": study._study_id,  # noqa: SLF001 - as its own plots read it
                        "state": "FAIL" if trials.failed[row] else "COMPLETE",
                        "datetime_start": start + shift,
                        "datetime_complete": complete + shift,
                    }
                )
            connection.execute(table.insert(), new)
            mine = table.c.study_id == study._study_id  # noqa: SLF001 - the same
            found = connection.execute(
                table.select().where(mine & (table.c.number >= begin) & (table.c.number < end))
            )
            ids = {row.number: row.trial_id for row in found}
            for name, dependent in (
                ("trial_params", _params(trials, ids)),
                ("trial_values", _values(trials, ids)),
                ("trial_user_attributes", _attributes(trials.user_attributes, ids)),
                ("trial_system_attributes", _attributes(trials.system_attributes, ids)),
            ):
                batch = list(dependent)
                if batch:
                    connection.execute(self.tables[name].insert(), batch)

    def _shift(self, connection: Connection, study: optuna.Study) -> timedelta:
        """From local time to what this version of Optuna stores."""
        from sqlalchemy import select

        table = self.tables["trials"]
        mine = (table.c.study_id == study._study_id) & (table.c.number == 0)  # noqa: SLF001 - the same
        stored = connection.execute(select(table.c.datetime_start).where(mine)).scalar_one()
        first = study.get_trials(deepcopy=False)[0].datetime_start
        shift: timedelta = stored - first
        return shift


def _params(trials: _Trials, ids: Mapping[int, int]) -> Iterator[dict[str, Any]]:
    texts = {
        name: optuna.distributions.distribution_to_json(distribution)
        for name, distribution in trials.distributions.items()
    }
    for row, trial_id in ids.items():
        for name, choice in trials.params(row).items():
            yield {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": trials.distributions[name].to_internal_repr(choice),
                "distribution_json": texts[name],
            }


def _values(trials: _Trials, ids: Mapping[int, int]) -> Iterator[dict[str, Any]]:
    for row, trial_id in ids.items():
        if trials.failed[row]:
            continue
        for column, value in enumerate(trials.metrics[row].tolist()):
            finite = abs(value) != float("inf")
            yield {
                "trial_id": trial_id,
                "objective": column,
                "value": value if finite else None,
                "value_type": "FINITE" if finite else "INF_POS" if value > 0 else "INF_NEG",
            }


def _attributes(
    of: Callable[[int], Mapping[str, Any]], ids: Mapping[int, int]
) -> Iterator[dict[str, Any]]:
    for row, trial_id in ids.items():
        for key, value in of(row).items():
            yield {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}


def _tables(storage: optuna.storages.BaseStorage) -> _Tables | None:
    """The tables behind a storage, if they are those we know."""
    if not isinstance(storage, optuna.storages.RDBStorage):
        return None
    from sqlalchemy import MetaData

    metadata = MetaData()
    metadata.reflect(storage.engine)
    for name, columns in _TABLES.items():
        if name not in metadata.tables or set(metadata.tables[name].columns.keys()) != columns:
            return None
    return _Tables(storage.engine, {name: metadata.tables[name] for name in _TABLES})
