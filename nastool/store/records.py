"""What a store gives back: studies, their evaluations and states, checked as they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import StoreError
from nastool.numbers import is_whole
from nastool.space import Genotypes
from nastool.store import rows
from nastool.store.encoding import decode_state, unpack_array


@dataclass(frozen=True)
class StudySummary:
    """What a list of studies shows.

    Args:
        name: Unique in the store.
        created: UTC, ISO 8601.
        evaluations: Distinct genotypes evaluated so far.
        seconds: Time spent running.
        stop_reason: Why the last run ended; empty while it runs or where it was killed.
        identity: What must stay the same for the study to go on.
        description: Enough to build the problem and the strategy again.
    """

    name: str
    created: str
    evaluations: int
    seconds: float
    stop_reason: str
    identity: Mapping[str, Any]
    description: Mapping[str, Any]

    @property
    def comparison(self) -> tuple[str, str] | None:
        """Name of the comparison it is a run of, and of its strategy there; None for a study.

        Raises:
            StoreError: The description says something else.
        """
        said = self.description.get("comparison")
        if said is None:
            return None
        known = said if isinstance(said, dict) else {}
        name, strategy = known.get("name"), known.get("strategy", "")
        if not isinstance(name, str) or not isinstance(strategy, str):
            raise self.damaged("comparison", "name a comparison and a strategy", said)
        return name, strategy

    def text(self, key: str) -> str:
        """A text of the description.

        Raises:
            StoreError: There is something else.
        """
        said = self.description.get(key)
        if not isinstance(said, str):
            raise self.damaged(key, "be a text", said)
        return said

    def number(self, key: str) -> int:
        """A whole number of the description.

        Raises:
            StoreError: There is something else.
        """
        said = self.description.get(key)
        if not is_whole(said):
            raise self.damaged(key, "be a whole number", said)
        return said

    def texts(self, key: str) -> list[str]:
        """A list of texts of the description.

        Raises:
            StoreError: There is something else.
        """
        said = self.description.get(key)
        if not isinstance(said, list) or not all(isinstance(item, str) for item in said):
            raise self.damaged(key, "be a list of texts", said)
        return said

    def damaged(self, key: str, expected: str, got: object) -> StoreError:
        """The error about an entry of the description or identity."""
        return StoreError(
            f"study {self.name!r} is damaged: its {key!r} must {expected}, "
            f"got {rows.shortened(got)}"
        )


@dataclass(frozen=True)
class Batch:
    """Consecutive evaluations of a study.

    Args:
        genotypes: Shape (n, d).
        values: Every reported metric in its natural sign and base unit, shape (n, r).
        elapsed: Seconds of the study after which each was known, shape (n,).
        failures: Messages of evaluations that raised, as JSON values.
    """

    genotypes: Genotypes
    values: NDArray[np.float64]
    elapsed: NDArray[np.float64]
    failures: Sequence[Any] = ()


@dataclass(frozen=True)
class StoredStudy:
    """A study as it was last committed.

    Args:
        key: Number of the study in its store.
        summary: Its description.
        batch: All its evaluations in order.
        state: The strategy's latest state; None before the first one was committed.
        commits: How often it has been committed to.
    """

    key: int
    summary: StudySummary
    batch: Batch
    state: Mapping[str, Any] | None = field(default=None)
    commits: int = 0


def read_study(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table of studies, checked.

    Raises:
        StoreError: It is damaged.
    """
    from nastool.store.tables import studies

    return rows.read(studies, row, f"study {rows.shortened(row['name'])}")


def summarise(row: Mapping[str, Any]) -> StudySummary:
    """The summary in a row that `read_study` returned.

    Raises:
        StoreError: It is damaged.
    """
    from nastool.store.tables import studies

    what = f"study {row['name']!r}"
    try:
        datetime.fromisoformat(row["created"])
    except ValueError as error:
        raise rows.damaged(studies, what, "created must be a date") from error
    if row["evaluations"] < 0 or not 0 <= row["seconds"] < float("inf"):
        raise rows.damaged(studies, what, "evaluations and seconds must be at least 0")
    return StudySummary(
        row["name"],
        row["created"],
        row["evaluations"],
        row["seconds"],
        row["stop_reason"],
        rows.parsed(studies, row, "identity", dict, what),
        rows.parsed(studies, row, "description", dict, what),
    )


def read_batches(name: str, parts: Sequence[Mapping[str, Any]], begin: int = 0) -> Batch:
    """The evaluations of a study from its rows in the table of batches, in order.

    Args:
        name: Of the study.
        parts: As `rows.columns` gives them.
        begin: Number of the first evaluation in them.

    Raises:
        StoreError: One is damaged or missing.
    """
    from nastool.store.tables import batches

    arrays: list[list[NDArray[Any]]] = [[], [], []]
    failures: list[Any] = []
    for part in parts:
        what = f"study {name!r}, evaluations from {rows.shortened(part['first'])} on"
        row = rows.read(batches, part, what)
        if row["first"] != begin:
            raise StoreError(
                f"holds a damaged study {name!r}: it must go on with evaluation {begin}, "
                f"got {row['first']}"
            )
        try:
            read = [unpack_array(row[column]) for column in ("genotypes", "values", "elapsed")]
        except StoreError as error:
            raise rows.damaged(batches, what, str(error)) from error
        genotypes, values, elapsed = read
        if (
            (genotypes.ndim, values.ndim, elapsed.ndim) != (2, 2, 1)
            or not len(genotypes) == len(values) == len(elapsed) > 0
            or genotypes.dtype.kind not in "iu"
            or not values.dtype.kind == elapsed.dtype.kind == "f"
            or (arrays[0] and genotypes.shape[1] != arrays[0][0].shape[1])
            or (arrays[1] and values.shape[1] != arrays[1][0].shape[1])
        ):
            shapes = ", ".join(f"{array.dtype}{list(array.shape)}" for array in read)
            raise rows.damaged(batches, what, f"its arrays do not fit together: {shapes}")
        for column, array in zip(arrays, read, strict=True):
            column.append(array)
        failures += rows.parsed(batches, row, "failures", list, what)
        begin += len(genotypes)
    if not parts:
        return Batch(np.empty((0, 0), np.int64), np.empty((0, 0)), np.empty(0))
    genotypes, values, elapsed = map(np.concatenate, arrays)
    return Batch(genotypes.astype(np.int64), values, elapsed, failures)


def read_state(name: str, row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The strategy's state from a study's row in the table of states, None without one.

    Raises:
        StoreError: It is damaged.
    """
    from nastool.store.tables import states

    if row is None:
        return None
    what = f"study {name!r}"
    text = rows.read(states, row, what)["state"]
    try:
        return decode_state(text)
    except StoreError as error:
        raise rows.damaged(states, what, str(error)) from error
