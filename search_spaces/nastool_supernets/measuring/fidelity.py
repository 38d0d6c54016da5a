"""Successive halving over text: few blocks for all shapes, all of them for what may be best."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nastool.strategies.halving import promising

Measure = Callable[[int, NDArray[np.int64]], NDArray[np.float64]]
"""Perplexities of shapes by their rows (k,), on the blocks of a rung by its number."""


def halve(
    costs: NDArray[np.float64],
    rungs: int,
    measure: Measure,
    always: Sequence[int] = (),
) -> NDArray[np.float64]:
    """Measure shapes on more and more blocks, as long as they may be on the front.

    Args:
        costs: What is to be small beside the perplexity, shape (n,).
        rungs: How many numbers of blocks there are, ascending.
        measure: Measures.
        always: Rows that are measured on all blocks.

    Returns:
        Perplexity on the blocks of each rung, shape (rungs, n); NaN where not measured, infinite
        where that failed.
    """
    values = np.full((rungs, len(costs)), np.nan)

    def fill(rung: int, rows: NDArray[np.int64]) -> None:
        values[rung, rows] = np.nan_to_num(measure(rung, rows), nan=np.inf, posinf=np.inf)

    fill(0, np.arange(len(costs)))
    for rung in range(rungs - 1):
        if len(always):
            fill(rung + 1, np.array(always, dtype=np.int64))
        while len(rows := promising(costs[:, None], values[rung], values[rung + 1])):
            fill(rung + 1, np.sort(rows))
    return values
