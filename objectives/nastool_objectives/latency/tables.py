"""Tables of latencies: an architecture a row, in seconds, whoever measured them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Floats
from nastool.devices import Timing
from nastool.errors import InvalidInputError, NastoolError
from nastool.files.tables import csv_text
from nastool.predictors.evidence import same_measurement, stated_unit
from nastool.predictors.tables import Cells, check_column, observations, read_cells
from nastool.space import Genotypes, SearchSpace
from nastool_objectives.latency.campaign import Visit
from nastool_objectives.latency.quantities import DECODE, ENERGY, LATENCY, MEMORY
from nastool_objectives.latency.repeatability import Repeatability, repeatability

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Units a table may be in, and how many seconds each is."""

_REPEATED = 10
"""Shapes measured again from which on their repeats say how noisy a table is."""


@dataclass(frozen=True, eq=False)
class LatencyTable:
    """Latencies of distinct architectures.

    Args:
        genotypes: Shape (n, d).
        latency: Median seconds of a pass, shape (n,).
        halves: Median seconds in the two halves of the measurement, shape (n, 2); NaN where a half
            is missing, None where there was only one.
        p90: 90th percentile of the passes, shape (n,), or None.
        spread: Interquartile range of the passes relative to their median, shape (n,), or None.
        memory: Peak bytes, shape (n,), NaN where not known; or None.
        energy: Joules a pass, likewise.
        decode: Median seconds of one more token after the pass, likewise.
        n_anchors: How many of the first rows are anchors.
        failed: Architectures that never ran.
        conditions: How all of it was measured, as a table from elsewhere says.
        note: What repeated rows of such a table say, or what disturbed a campaign.
    """

    genotypes: Genotypes
    latency: Floats
    halves: Floats | None = None
    p90: Floats | None = None
    spread: Floats | None = None
    memory: Floats | None = None
    energy: Floats | None = None
    decode: Floats | None = None
    n_anchors: int = 0
    failed: int = 0
    conditions: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def __len__(self) -> int:
        return len(self.latency)

    def repeats(self, *, anchors: bool = False) -> Repeatability | None:
        """How well the two halves agree.

        Args:
            anchors: On the anchors only, else on all architectures.
        """
        if self.halves is None:
            return None
        rows = self.halves[: self.n_anchors] if anchors else self.halves
        rows = rows[np.isfinite(rows).all(axis=1)]
        return repeatability(rows[:, 0], rows[:, 1]) if len(rows) else None

    def to_csv(self, space: SearchSpace) -> str:
        """The table as text: a column a gene, ``latency_s``, then what else is known."""
        columns: dict[str, Sequence[object]] = {LATENCY.column: self.latency.tolist()}
        optional = {
            "p90_s": self.p90,
            "spread": self.spread,
            "first_half_s": None if self.halves is None else self.halves[:, 0],
            "second_half_s": None if self.halves is None else self.halves[:, 1],
            MEMORY.column: self.memory,
            ENERGY.column: self.energy,
            DECODE.column: self.decode,
        }
        for name, values in optional.items():
            if values is not None and np.isfinite(values).any():
                columns[name] = [f"{v:.9g}" if np.isfinite(v) else "" for v in values.tolist()]
        columns[LATENCY.column] = [f"{v:.9g}" for v in self.latency.tolist()]
        rows = zip(space.decode(self.genotypes), zip(*columns.values(), strict=True), strict=True)
        header = [*(gene.name for gene in space.genes), *columns]
        return csv_text(header, ([*shape, *row] for shape, row in rows))


def tabulate(
    visits: Sequence[Visit], genotypes: Genotypes, n_anchors: int, rounds: int
) -> LatencyTable:
    """Summarise a campaign.

    An architecture's latency is the median over its visits of each visit's median: what disturbs
    one visit, however many passes it had, moves it little.

    Args:
        visits: All of them.
        genotypes: What was measured, anchors first, shape (n, d).
        n_anchors: How many anchors.
        rounds: Number of rounds; the halves are the earlier and the later ones.

    Raises:
        NastoolError: No visit succeeded.
    """
    n = len(genotypes)
    by_row: list[list[Visit]] = [[] for _ in range(n)]
    for visit in visits:
        if visit.timing is not None:
            by_row[visit.row].append(visit)
    kept = [row for row in range(n) if by_row[row]]
    if not kept:
        raise NastoolError("no visit of the campaign succeeded")
    columns = np.full((len(kept), 8), np.nan)
    for i, row in enumerate(kept):
        timings = [(visit.round, visit.timing) for visit in by_row[row] if visit.timing]
        passes = np.concatenate([timing.seconds for _, timing in timings])
        quartiles = np.quantile(passes, [0.25, 0.5, 0.75])
        columns[i] = (
            _median([float(np.median(t.seconds)) for _, t in timings]),
            np.quantile(passes, 0.9),
            (quartiles[2] - quartiles[0]) / quartiles[1],
            _median([float(np.median(t.seconds)) for r, t in timings if 2 * r < rounds]),
            _median([float(np.median(t.seconds)) for r, t in timings if 2 * r >= rounds]),
            *(q.over([q.of(t) for _, t in timings]) for q in (MEMORY, ENERGY, DECODE)),
        )
    return LatencyTable(
        genotypes=genotypes[kept],
        latency=columns[:, 0],
        p90=columns[:, 1],
        spread=columns[:, 2],
        halves=columns[:, 3:5],
        memory=columns[:, 5],
        energy=columns[:, 6],
        decode=columns[:, 7],
        n_anchors=sum(row < n_anchors for row in kept),
        failed=n - len(kept),
        note=_disturbance([visit.timing for rows in by_row for visit in rows if visit.timing]),
    )


def _disturbance(timings: Sequence[Timing]) -> str:
    """What held the clock back during a campaign, and how often."""
    held = [timing.throttled for timing in timings if timing.throttled]
    if not held:
        return ""
    reasons = ", ".join(sorted({reason for text in held for reason in text.split(", ")}))
    return f"clock held back in {len(held)} of {len(timings)} visits: {reasons}"


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else np.nan


def read_latencies(
    path: Path,
    space: SearchSpace,
    unit: str,
    column: str = LATENCY.column,
    where: Sequence[str] = (),
) -> LatencyTable:
    """Read a table that was measured elsewhere.

    Args:
        path: A .csv, .csv.gz or .parquet file with a column for each gene, or one of shapes.
        space: The space.
        unit: Unit of the latencies, one of `UNITS`.
        column: Column of the latencies.
        where: Rows to take, as ``COLUMN=VALUE``.

    Returns:
        Each architecture once: the median of its rows. Where enough were measured again, the
        halves are the medians of the earlier and of the later ones.

    Raises:
        InvalidInputError: An unknown unit, or another than the table says, a missing column, a
            latency that is not positive, rows that were not measured alike, or repeats that
            disagree grossly.
    """
    if unit not in UNITS:
        raise InvalidInputError(f"a unit must be one of {', '.join(UNITS)}, got {unit!r}")
    cells = read_cells(path, where)
    check_column(cells, column, " of latencies, or the one that --column says")
    _check_positive(cells, column)
    seen = observations(cells, column, space)
    stated_unit(seen.conditions, unit, path)
    latency = seen.values * UNITS[unit]
    first = np.array([rows[0] for rows in seen.groups])
    medians = np.array([np.median(latency[rows]) for rows in seen.groups])
    return LatencyTable(
        seen.genotypes[first],
        medians,
        _halves(seen.groups, latency),
        conditions=seen.conditions,
        note=str(seen.repeats),
    )


def _check_positive(cells: Cells, column: str) -> None:
    """Raise InvalidInputError for the first latency that is none."""
    for row, cell in enumerate(cells.columns[column]):
        try:
            number = float(str(cell))
        except ValueError:
            number = np.nan
        if not 0 < number < np.inf:
            raise InvalidInputError(
                f"{cells.place(row)}: {column} must be positive and finite, got {cell!r:.60}"
            )


def _halves(groups: Sequence[NDArray[np.int64]], latency: Floats) -> Floats | None:
    """Medians of the earlier and the later rows of each shape; None where few have several."""
    halves = np.full((len(groups), 2), np.nan)
    for half, rows in zip(halves, groups, strict=True):
        if len(np.unique(latency[rows])) > 1:
            middle = len(rows) // 2
            half[:] = np.median(latency[rows[:middle]]), np.median(latency[rows[middle:]])
    return halves if np.isfinite(halves).all(axis=1).sum() >= _REPEATED else None


def join(space: SearchSpace, first: LatencyTable, second: LatencyTable) -> LatencyTable:
    """Two measurements of the same architectures as one with two halves.

    Args:
        space: The space.
        first: One measurement.
        second: The other one; only architectures that both have are kept.

    Raises:
        InvalidInputError: They have none in common, were measured under different conditions, or
            are one measurement given twice, in whatever order or unit.
    """
    for name in first.conditions.keys() & second.conditions.keys():
        if first.conditions[name] != second.conditions[name]:
            raise InvalidInputError(
                f"two runs must be measured alike, but one says {name} {first.conditions[name]}, "
                f"the other {second.conditions[name]}"
            )
    place = {key: row for row, key in enumerate(space.keys(second.genotypes))}
    rows = [
        (row, place[key]) for row, key in enumerate(space.keys(first.genotypes)) if key in place
    ]
    if not rows:
        raise InvalidInputError("two measurements must have architectures in common, got none")
    mine, theirs = np.array(rows).T
    halves = np.stack([first.latency[mine], second.latency[theirs]], axis=1)
    same = same_measurement(halves[:, 0], halves[:, 1])
    if same.mean() > 0.5:
        raise InvalidInputError(
            f"two runs must be measured apart, but {int(same.sum()):,} of {len(same):,} "
            "architectures have the same latency in both (up to its unit): one run given twice "
            "says nothing about noise"
        )
    return LatencyTable(
        first.genotypes[mine],
        halves.mean(axis=1),
        halves,
        conditions={**second.conditions, **first.conditions},
    )


_SAME_CONDITION = {
    "batch_size": {"batch", "batches", "batchsize", "bs"},
    "sequence_length": {"length", "len", "seqlen", "sequencelength", "maxlength", "seqlength"},
}
"""Other names, without underscores, of what `Workload` calls so."""


def stated(said: Mapping[str, str], given: Mapping[str, int | None]) -> dict[str, Any]:
    """Conditions of a table: what it says itself, and what a user says of it.

    Args:
        said: By the table.
        given: By the user; None where they said nothing.

    Raises:
        InvalidInputError: The two differ.
    """
    found: dict[str, Any] = {}
    for name, value in said.items():
        plain = name.lower().replace("_", "").replace(" ", "").replace("-", "")
        proper = next(
            (
                known
                for known, others in _SAME_CONDITION.items()
                if plain in others or plain == known.replace("_", "")
            ),
            name,
        )
        found[proper] = int(value) if value.isdecimal() else value
    for name, number in given.items():
        if number is None:
            continue
        if found.get(name, number) != number:
            raise InvalidInputError(
                f"--{name.replace('_', '-')}: expected {found[name]}, as the table says, "
                f"got {number}"
            )
        found[name] = number
    return found
