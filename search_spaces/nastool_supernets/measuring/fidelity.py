"""Successive halving over text: few blocks for all shapes, all of them for what may be best.

Perplexity on a few blocks orders shapes almost as perplexity on many does. So all shapes are
measured on few, and on the next number of blocks only those whose value there, as far as those
that are measured on both tell, may be on the front of perplexity and cost. What is decided is
decided again until no shape is left that may be.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nastool.constraint import parse_whole
from nastool.errors import InvalidInputError
from nastool.pareto import least_up_to

_DEVIATIONS = 4.0
"""Standard deviations by which a shape may turn out better than expected."""

_FEW = 12
"""Shapes that are measured on more blocks before it is known how far the two agree."""

_WORST = 1e300

Measure = Callable[[int, NDArray[np.int64]], NDArray[np.float64]]
"""Perplexities of shapes by their rows (k,), on the blocks of a rung by its number."""


def parse_fidelity(text: str) -> tuple[int, ...]:
    """Read ``blocks=16,64,256``: blocks of text, ascending.

    Raises:
        InvalidInputError: It is something else.
    """
    name, _, numbers = text.partition("=")
    found = [parse_whole(number.strip(), 1) for number in numbers.split(",")]
    blocks = [number for number in found if number is not None]
    rising = all(a < b for a, b in itertools.pairwise(blocks))
    if name.strip() != "blocks" or len(blocks) < max(2, len(found)) or not rising:
        raise InvalidInputError(
            "--fidelity: expected two or more numbers of blocks, ascending, such as "
            f"blocks=16,64,256, got {text!r}"
        )
    return tuple(blocks)


@dataclass(frozen=True)
class Halved:
    """What successive halving measured.

    Args:
        values: Perplexity on the blocks of each rung, shape (rungs, n); NaN where not measured.
        blocks: Of each rung.
    """

    values: NDArray[np.float64]
    blocks: tuple[int, ...]

    @property
    def counts(self) -> list[int]:
        """Shapes measured on each rung."""
        counts: list[int] = np.isfinite(self.values).sum(axis=1).tolist()
        return counts

    @property
    def saved(self) -> float:
        """Share of the blocks that all shapes would have been measured on."""
        read = sum(n * b for n, b in zip(self.counts, self.blocks, strict=True))
        return 1 - read / (self.values.shape[1] * self.blocks[-1])


def halve(
    costs: NDArray[np.float64],
    blocks: Sequence[int],
    measure: Measure,
    always: Sequence[int] = (),
) -> Halved:
    """Measure shapes on more and more blocks, as long as they may be on the front.

    Args:
        costs: What is to be small beside the perplexity, shape (n,).
        blocks: Of each rung, ascending.
        measure: Measures.
        always: Rows that are measured on all blocks.
    """
    values = np.full((len(blocks), len(costs)), np.nan)

    def fill(rung: int, rows: NDArray[np.int64]) -> None:
        # What is beyond all numbers is worse than all, and measured no less.
        values[rung, rows] = np.nan_to_num(measure(rung, rows), nan=_WORST, posinf=_WORST)

    fill(0, np.arange(len(costs)))
    for rung in range(len(blocks) - 1):
        while len(rows := _promising(costs, values[rung], values[rung + 1], always)):
            fill(rung + 1, rows)
    return Halved(values, tuple(blocks))


def _promising(
    costs: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    always: Sequence[int],
) -> NDArray[np.int64]:
    """Which shapes that are measured on fewer blocks are to be measured on more, next."""
    open_ = np.isfinite(low) & ~np.isfinite(high)
    both = np.flatnonzero(np.isfinite(low) & np.isfinite(high))
    x = np.log(low)
    if len(both) < _FEW:
        chosen = open_ & (x <= _least_before(costs, x, np.flatnonzero(np.isfinite(low))))
        chosen[list(always)] |= open_[list(always)]
        rest = np.flatnonzero(open_ & ~chosen)
        missing = _FEW - len(both) - int(chosen.sum())
        if missing > 0 and len(rest):
            # Of every size: how far the two agree may depend on it.
            rest = rest[np.argsort(costs[rest], kind="stable")]
            chosen[rest[np.linspace(0, len(rest) - 1, missing).round().astype(int)]] = True
        return np.flatnonzero(chosen)
    y = np.log(high[both])
    slope, offset = (
        np.polyfit(x[both], y, 1) if np.ptp(x[both]) > 0 else (1.0, (y - x[both]).mean())
    )
    residual = y - (offset + slope * x[both])
    spread = np.sqrt((residual**2).sum() / (len(both) - 2) * (1 + 1 / len(both)))
    hoped = offset + slope * x - _DEVIATIONS * spread
    measured = np.full(len(costs), np.nan)
    measured[both] = y
    return np.flatnonzero(open_ & (hoped <= _least_before(costs, measured, both)))


def _least_before(
    costs: NDArray[np.float64], values: NDArray[np.float64], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """For every shape the least value among some that cost no more; infinite without any."""
    return least_up_to(costs, costs[rows], values[rows])
