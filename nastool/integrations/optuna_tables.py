"""Optuna's own tables, written many rows at a time and all in one transaction.

Its interface takes dozens of statements for every trial, which adds up to an hour for a study of
30,000. What this version of Optuna writes down about a study, and how it stores times, is taken
from a sample that its interface has written in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import optuna
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

_STUDY = ("study_directions", "study_user_attributes", "study_system_attributes")

_TABLES: Mapping[str, frozenset[str]] = {
    "studies": frozenset(["study_id", "study_name"]),
    "study_directions": frozenset(["study_direction_id", "direction", "study_id", "objective"]),
    "study_user_attributes": frozenset(
        ["study_user_attribute_id", "study_id", "key", "value_json"]
    ),
    "study_system_attributes": frozenset(
        ["study_system_attribute_id", "study_id", "key", "value_json"]
    ),
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
"""Those of versions 3 to 5; others are written through Optuna's interface only."""


class Trials(Protocol):
    """Evaluations seen as trials, by row."""

    distributions: dict[str, Any]
    choices: list[tuple[Any, ...]]
    genotypes: NDArray[np.int64]
    metrics: NDArray[np.float64]
    failed: list[bool]

    def times(self, row: int) -> tuple[datetime, datetime]:
        """When an evaluation began and was known, local time."""

    def user_attributes(self, row: int) -> dict[str, Any]:
        """What users see of it."""

    def system_attributes(self, row: int) -> dict[str, Any]:
        """What Optuna sees of it."""


@dataclass(frozen=True)
class Tables:
    """The tables behind a storage.

    Args:
        engine: Of the storage.
        tables: By name.
    """

    engine: Engine
    tables: Mapping[str, Table]

    @classmethod
    def of(cls, storage: optuna.storages.BaseStorage) -> Tables | None:
        """The tables behind a storage, if they are those we know."""
        if not isinstance(storage, optuna.storages.RDBStorage):
            return None
        from sqlalchemy import MetaData

        metadata = MetaData()
        metadata.reflect(storage.engine)
        for name, columns in _TABLES.items():
            if name not in metadata.tables or set(metadata.tables[name].columns.keys()) != columns:
                return None
        return cls(storage.engine, {name: metadata.tables[name] for name in _TABLES})

    def write(
        self,
        study: int | str,
        sample: Tables,
        trials: Trials,
        rows: range,
        chunk: int,
        progress: Callable[[int], None],
    ) -> None:
        """Write trials, and the study where it is new: all of it, or after a failure nothing.

        Args:
            study: Number of a study that is there, or name of a new one.
            sample: Of a storage that holds this study with its first trial only.
            trials: Of the study.
            rows: Which of them.
            chunk: Rows between two reports.
            progress: Told the number of the next row.
        """
        shift = sample.first_start() - trials.times(0)[0] if rows else timedelta()
        with self.engine.begin() as connection:
            key = study if isinstance(study, int) else self._new_study(connection, study, sample)
            for begin in range(rows.start, rows.stop, chunk):
                end = min(begin + chunk, rows.stop)
                self._insert(connection, key, trials, range(begin, end), shift)
                progress(end)

    def first_start(self) -> datetime:
        """When the first trial of the only study began, as this version of Optuna stores it."""
        from sqlalchemy import select

        with self.engine.connect() as connection:
            found: datetime = connection.execute(
                select(self.tables["trials"].c.datetime_start)
            ).scalar_one()
        return found

    def _new_study(self, connection: Connection, name: str, sample: Tables) -> int:
        made = connection.execute(self.tables["studies"].insert().values(study_name=name))
        key = int(made.inserted_primary_key[0])  # type: ignore[index]  # rows have one
        with sample.engine.connect() as reading:
            for table in _STUDY:
                primary = sample.tables[table].primary_key.columns.keys()
                copied = [
                    {k: v for k, v in row.items() if k not in primary} | {"study_id": key}
                    for row in reading.execute(sample.tables[table].select()).mappings()
                ]
                if copied:
                    connection.execute(self.tables[table].insert(), copied)
        return key

    def _insert(
        self, connection: Connection, study: int, trials: Trials, rows: range, shift: timedelta
    ) -> None:
        table = self.tables["trials"]
        new = []
        for row in rows:
            start, complete = trials.times(row)
            new.append(
                {
                    "number": row,
                    "study_id": study,
                    "state": "FAIL" if trials.failed[row] else "COMPLETE",
                    "datetime_start": start + shift,
                    "datetime_complete": complete + shift,
                }
            )
        connection.execute(table.insert(), new)
        number = table.c.number
        found = connection.execute(
            table.select().where(
                (table.c.study_id == study) & (number >= rows.start) & (number < rows.stop)
            )
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


def _params(trials: Trials, ids: Mapping[int, int]) -> Iterator[dict[str, Any]]:
    written = [
        (
            name,
            optuna.distributions.distribution_to_json(distribution),
            [distribution.to_internal_repr(choice) for choice in choices],
        )
        for (name, distribution), choices in zip(
            trials.distributions.items(), trials.choices, strict=True
        )
    ]
    for row, trial_id in ids.items():
        for (name, text, values), k in zip(written, trials.genotypes[row].tolist(), strict=True):
            yield {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": values[k],
                "distribution_json": text,
            }


def _values(trials: Trials, ids: Mapping[int, int]) -> Iterator[dict[str, Any]]:
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
