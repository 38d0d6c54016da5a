"""What makes rows of a table evidence: measured alike, repeated, and not the same number twice."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Floats
from nastool.errors import InvalidInputError

_GROSS = 8.0
"""Ratio of repeats of one shape from which on they are no repeats of one measurement."""

_SAME = 1e-9
"""Relative difference of numbers that are equal but for a change of unit."""

_NEAR = 0.002
"""Powers of ten by which rounding may move the factor between two units."""

_MOSTLY = 0.5
"""Share of common shapes with the same number from which on two tables hold one measurement."""

_LEVELS = 12
"""Distinct values that a column of conditions has at most."""

_CONDITIONS = frozenset(
    """
    backend batch batches batchsize bs checkpoint core cores cpu cpus dataset device devices dtype
    engine framework governor gpu gpus hardware host instrument kernel len length machine metric
    phone platform precision quantisation quantised quantization quantized runtime seq seqlen
    sequence supernet system thread threads unit units workers
    """.split()  # noqa: SIM905  # a list of quoted words would be a page
)
"""Words in names of columns that say under which conditions a row was measured."""

_RUNS = frozenset(
    """
    date half id index iteration number order part pass rep repeat repeats repetition round row run
    runs seed session time timestamp trial visit
    """.split()  # noqa: SIM905  # likewise
)
"""Words in names of columns that tell repeats apart."""


def same_measurement(first: Floats, second: Floats) -> NDArray[np.bool_]:
    """Which pairs of numbers are one measurement, written again with fewer digits or in a unit.

    Args:
        first: Values of some shapes, shape (n,).
        second: Values of the same shapes, shape (n,).

    Returns:
        Shape (n,). True where they are equal, or equal up to one factor, or one factor and
        offset, for most of the shapes, and as far as the coarser of the two was written.
    """
    first, second = (np.asarray(v, dtype=np.float64) for v in (first, second))
    found = np.isclose(first, second, rtol=_SAME * 10, atol=0.0)
    factor = _factor(second, first)
    for least, mapped in ((3, second * factor), (5, _aligned(second, first))):
        if mapped is None or len(first) < least:
            continue
        # Two devices may be a factor apart, as far as few digits tell; a unit is no such chance.
        slack = np.zeros(len(first))
        if least == 3 and _is_unit(factor):
            slack = np.maximum(_rounding(first), _rounding(second) * abs(factor))
        equal = np.abs(mapped - first) <= slack + _SAME * np.abs(first)
        if equal.mean() > _MOSTLY:
            found |= equal
    return found


def _factor(values: Floats, onto: Floats) -> float:
    """The factor that most often leads from values onto others; NaN where there is none."""
    usable = (values != 0) & (onto != 0)
    if not usable.any() or np.ptp(values) == 0:
        return float("nan")
    return float(np.median(onto[usable] / values[usable]))


def _is_unit(factor: float) -> bool:
    """Whether a factor, but for rounding, leads from one unit to another."""
    if not factor > 0:
        return False
    tens = np.log10(factor)
    others = [np.log10(unit) * sign for unit in (60, 3600, 1024, 2**20, 2**30) for sign in (1, -1)]
    return bool(min(abs(tens - round(tens)), *np.abs(np.array(others) - tens)) < _NEAR)


def _aligned(values: Floats, onto: Floats) -> Floats | None:
    """Values on the line that leads onto others, by the middle of both halves of their range."""
    if np.ptp(values) == 0 or np.ptp(onto) == 0:
        return None
    slope, offset = np.polyfit(values - values.mean(), onto, 1)
    for _ in range(3):
        # What lies far off the line must not turn it.
        mapped = slope * (values - values.mean()) + offset
        off = np.abs(mapped - onto)
        near = off <= 3 * np.median(off) + np.finfo(float).tiny
        if near.sum() < 3 or np.ptp(values[near]) == 0:
            return None
        slope, offset = np.polyfit(values[near] - values.mean(), onto[near], 1)
    aligned: Floats = slope * (values - values.mean()) + offset
    return aligned


def _rounding(values: Floats) -> Floats:
    """How far rounding may have moved each value (n,): half a step of its last written digit."""
    texts = [f"{abs(value):.9e}" for value in values.tolist()]
    digits = [len(text.partition("e")[0].replace(".", "").rstrip("0")) for text in texts]
    # Written to so many digits, or to so many decimals: the longest one tells.
    exponents = np.array([int(text.partition("e")[2]) for text in texts])
    significant = max(digits, default=1)
    if significant > 7:
        return np.zeros(len(values))
    decimals = max(d - 1 - e for d, e in zip(digits, exponents.tolist(), strict=True))
    by_digits = 0.5 * 10.0 ** (exponents - significant + 1)
    by_decimals = np.full(len(values), 0.5 * 10.0**-decimals)
    slack: Floats = np.maximum(by_digits, by_decimals) * (1 + 1e-6)
    return slack


@dataclass(frozen=True)
class Repeats:
    """What repeated rows of one shape say about the noise.

    Args:
        rows: Rows of the table.
        shapes: Distinct shapes among them.
        repeated: Shapes with several rows that are no copies of each other.
        copies: Rows that say the same as another row of their shape.
        noise: Median relative difference between repeats of a shape; None without repeats.
    """

    rows: int
    shapes: int
    repeated: int = 0
    copies: int = 0
    noise: float | None = None

    def __str__(self) -> str:
        if self.rows == self.shapes:
            return ""
        text = f"{self.rows:,} rows are {self.shapes:,} shapes"
        if self.noise is not None:
            text += (
                f"; repeats of {self.repeated:,} of them differ by {self.noise:.2%} in the median"
            )
        if self.copies:
            text += f"; {self.copies:,} rows are copies of others and no repeats"
        return text


def groups_of(genotypes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows (n, d) of each distinct shape, in the order in which the shapes first occur."""
    if not len(genotypes):
        return []
    _, first, inverse = np.unique(genotypes, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    by_shape = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
    return [by_shape[k] for k in np.argsort(first)]


def repeats_of(
    groups: Sequence[NDArray[np.int64]],
    values: Floats,
    where: Callable[[int], str],
    name: Callable[[int], str],
    columns: Mapping[str, Sequence[Any]],
) -> Repeats:
    """Judge repeated rows.

    Args:
        groups: Rows of each distinct shape.
        values: Measured values, shape (n,).
        where: Names the place of a row in its file.
        name: Names the shape of a row.
        columns: What else the table says of each row.

    Raises:
        InvalidInputError: Repeats of a shape disagree grossly; names the rows.
    """
    differences, copies = [], 0
    gross: list[tuple[float, int, int]] = []
    width = float(np.subtract(*np.quantile(values, [0.95, 0.05]))) if len(values) else 0.0
    for rows in groups:
        if len(rows) < 2:
            continue
        distinct = np.unique(values[rows])
        copies += len(rows) - len(distinct)
        if len(distinct) < 2:
            continue
        low, high = float(distinct[0]), float(distinct[-1])
        # Where a ratio means nothing, as far apart as nearly all shapes are.
        relative = _GROSS * (high - low) / width if width > 0 else 1.0
        factor = high / low if low > 0 else relative
        if factor >= _GROSS:
            ends = rows[[values[rows].argmin(), values[rows].argmax()]]
            gross.append((factor, int(ends.min()), int(ends.max())))
        differences.append((high - low) / max(abs(float(np.median(values[rows]))), 1e-300))
    if gross:
        _, one, two = max(gross)
        differing = [c for c, cells in columns.items() if str(cells[one]) != str(cells[two])]
        hint = f"; they differ in {', '.join(map(repr, differing))}" if differing else ""
        raise InvalidInputError(
            f"repeats of one shape must agree, but {where(one)} says {values[one]:.6g} and "
            f"{where(two)} says {values[two]:.6g} of {name(one)}{hint}"
            + (f" ({len(gross):,} shapes disagree like that)" if len(gross) > 1 else "")
        )
    noise = float(np.median(differences)) if differences else None
    return Repeats(len(values), len(groups), len(differences), copies, noise)


def conditions(
    columns: Mapping[str, Sequence[Any]],
    used: Collection[str],
    groups: Sequence[NDArray[np.int64]],
    where: str,
) -> dict[str, str]:
    """What a table says about how its rows were measured.

    Args:
        columns: By name, a cell a row.
        used: Names of genes, costs and target.
        groups: Rows of each distinct shape.
        where: Names the table.

    Returns:
        The value of each column of conditions.

    Raises:
        InvalidInputError: Rows differ in one: they are not measured alike.
    """
    found = {}
    for name, cells in columns.items():
        words = set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()))
        if name in used or words & _RUNS:
            continue
        levels = list(dict.fromkeys(map(level, cells)))
        named = bool(words & _CONDITIONS) and len(levels) <= _LEVELS
        if len(levels) == 1:
            if named and levels[0]:
                found[name] = levels[0]
            continue
        if named or _is_crossed(cells, levels, groups):
            shown = ", ".join(text or "nothing" for text in levels[:4])
            more = ", ..." if len(levels) > 4 else ""
            raise InvalidInputError(
                f"{where}: rows must be measured alike, but column {name!r} says {shown}{more}; "
                f"choose by --where {name}={next(filter(None, levels))}"
            )
    return found


def _is_crossed(
    cells: Sequence[Any], levels: Sequence[str], groups: Sequence[NDArray[np.int64]]
) -> bool:
    """Whether the same shapes were measured at several levels of a column that has few."""
    if len(levels) > _LEVELS:
        return False
    several = [rows for rows in groups if len(rows) > 1]
    differ = sum(len({level(cells[row]) for row in rows}) > 1 for rows in several)
    return bool(several) and 2 * differ > len(several) and differ > 1


def level(cell: object) -> str:
    """A cell as text; 128 may have come as 128.0."""
    text = "" if cell is None else str(cell).strip()
    return text.removesuffix(".0")


def stated_unit(stated: Mapping[str, str], given: str, where: object) -> str:
    """The unit of a table: what it says itself, else what was given.

    Args:
        stated: Conditions of the table.
        given: Unit that the user named, or empty.
        where: Names the table.

    Raises:
        InvalidInputError: They differ.
    """
    said = next((v for name, v in stated.items() if name.lower() in ("unit", "units")), "")
    if said and given and said != given:
        raise InvalidInputError(f"{where}: expected the unit {said!r} that it says, got {given!r}")
    return said or given
