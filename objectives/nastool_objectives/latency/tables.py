"""Tables of latencies: an architecture a row, in seconds, whoever measured them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError, NastoolError
from nastool.predictors.tables import read_columns
from nastool.space import Choice, Genotypes, SearchSpace
from nastool_objectives.latency.campaign import Visit
from nastool_objectives.latency.repeatability import Repeatability, repeatability

LATENCY = "latency_s"

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Units a table may be in, and how many seconds each is."""

Floats = NDArray[np.float64]


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
        n_anchors: How many of the first rows are anchors.
        failed: Architectures that never ran.
    """

    genotypes: Genotypes
    latency: Floats
    halves: Floats | None = None
    p90: Floats | None = None
    spread: Floats | None = None
    memory: Floats | None = None
    energy: Floats | None = None
    n_anchors: int = 0
    failed: int = 0

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
        columns: dict[str, Sequence[object]] = {LATENCY: self.latency.tolist()}
        optional = {
            "p90_s": self.p90,
            "spread": self.spread,
            "first_half_s": None if self.halves is None else self.halves[:, 0],
            "second_half_s": None if self.halves is None else self.halves[:, 1],
            "memory_B": self.memory,
            "energy_J": self.energy,
        }
        for name, values in optional.items():
            if values is not None and np.isfinite(values).any():
                columns[name] = [f"{v:.9g}" if np.isfinite(v) else "" for v in values.tolist()]
        columns[LATENCY] = [f"{v:.9g}" for v in self.latency.tolist()]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*(gene.name for gene in space.genes), *columns])
        architectures = space.decode(self.genotypes)
        writer.writerows(
            [*shape, *row]
            for shape, row in zip(architectures, zip(*columns.values(), strict=True), strict=True)
        )
        return text.getvalue()


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
    columns = np.full((len(kept), 7), np.nan)
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
            max((t.memory for _, t in timings if t.memory is not None), default=np.nan),
            _median([t.energy for _, t in timings if t.energy is not None]),
        )
    return LatencyTable(
        genotypes=genotypes[kept],
        latency=columns[:, 0],
        p90=columns[:, 1],
        spread=columns[:, 2],
        halves=columns[:, 3:5],
        memory=columns[:, 5],
        energy=columns[:, 6],
        n_anchors=sum(row < n_anchors for row in kept),
        failed=n - len(kept),
    )


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else np.nan


def read_latencies(
    path: Path, space: SearchSpace, unit: str, column: str = LATENCY
) -> LatencyTable:
    """Read a table that was measured elsewhere.

    Args:
        path: A .csv, .csv.gz or .parquet file with a column for each gene.
        space: The space.
        unit: Unit of the latencies, one of `UNITS`.
        column: Column of the latencies.

    Returns:
        Each architecture once: the median of its rows.

    Raises:
        InvalidInputError: An unknown unit, a missing column, or a latency that is not positive.
    """
    if unit not in UNITS:
        raise InvalidInputError(f"a unit must be one of {', '.join(UNITS)}, got {unit!r}")
    columns = read_columns(path)
    names = [gene.name for gene in space.genes]
    missing = [name for name in (*names, column) if name not in columns]
    if missing:
        raise InvalidInputError(
            f"{path}: a table of {space.name} must have the columns {', '.join(missing)}, "
            f"got {', '.join(columns)}"
        )
    known = [{str(choice): choice for choice in gene.choices} for gene in space.genes]
    rows = zip(*(columns[name] for name in names), strict=True)
    genotypes, latency = [], []
    for row, cell, place in zip(rows, columns[column], columns.places, strict=True):
        architecture = tuple(_choice(by, cell) for by, cell in zip(known, row, strict=True))
        try:
            genotypes.append(space.encode([architecture]))
            latency.append(_positive(cell, column) * UNITS[unit])
        except InvalidInputError as error:
            raise InvalidInputError(f"{path}, {place}: {error}") from error
    return _distinct(space, space.canonicalize(np.concatenate(genotypes)), np.array(latency))


def _positive(cell: object, column: str) -> float:
    try:
        number = float(str(cell))
    except ValueError:
        number = np.nan
    if not 0 < number < np.inf:
        raise InvalidInputError(f"{column} must be positive and finite, got {cell!r:.60}")
    return number


def _choice(known: Mapping[str, Choice], cell: object) -> Choice:
    """The choice that a cell names; 120 may have come as 120.0, and 1.0 as 1."""
    text = str(cell).strip()
    for name in (text, text.removesuffix(".0"), f"{text}.0"):
        if name in known:
            return known[name]
    return text


def _distinct(space: SearchSpace, genotypes: Genotypes, latency: Floats) -> LatencyTable:
    groups: dict[object, list[int]] = {}
    for row, key in enumerate(space.keys(genotypes)):
        groups.setdefault(key, []).append(row)
    first = [rows[0] for rows in groups.values()]
    medians = np.array([np.median(latency[rows]) for rows in groups.values()])
    return LatencyTable(genotypes[first], medians)


def join(space: SearchSpace, first: LatencyTable, second: LatencyTable) -> LatencyTable:
    """Two measurements of the same architectures as one with two halves.

    Args:
        space: The space.
        first: One measurement.
        second: The other one; only architectures that both have are kept.

    Raises:
        InvalidInputError: They have none in common.
    """
    place = {key: row for row, key in enumerate(space.keys(second.genotypes))}
    rows = [
        (row, place[key]) for row, key in enumerate(space.keys(first.genotypes)) if key in place
    ]
    if not rows:
        raise InvalidInputError("two measurements must have architectures in common, got none")
    mine, theirs = np.array(rows).T
    halves = np.stack([first.latency[mine], second.latency[theirs]], axis=1)
    return LatencyTable(first.genotypes[mine], halves.mean(axis=1), halves)
