"""Objectives that are chains themselves: no search, only dynamic programming."""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nastool.arrays import Int
from nastool.errors import InvalidInputError
from nastool.exact.boxes import BoxSum, from_tables
from nastool.exact.certificate import Certificate
from nastool.exact.chains import IntegerChain, least, segments
from nastool.exact.task import Bound, Outcome
from nastool.pareto import staircase

_LABELS = 20_000_000
"""Most partial genotypes kept side by side."""


def is_programmable(bounds: tuple[Bound, ...]) -> bool:
    """Whether one cost at most matters, and only its upper limit."""
    return len(bounds) <= 1 and all(b.limits[0] <= b.cost.ends[0] for b in bounds)


def chain_boxes(chain: IntegerChain) -> BoxSum:
    """A chain as a sum of tables, for what dynamic programming cannot do."""
    tables: list[tuple[tuple[int, ...], ArrayLike]] = [((0,), chain.first * chain.quantum)]
    tables += [((i, i + 1), step * chain.quantum) for i, step in enumerate(chain.steps)]
    return from_tables(chain.cardinalities, tables, chain.shift * chain.quantum)


def solve_chain(function: IntegerChain, bounds: tuple[Bound, ...], is_front: bool) -> Outcome:
    """The least value of a chain under a bound on another, or their Pareto front.

    From left to right, the partial genotypes that end in each choice and are dominated by none of
    them, neither in value nor in cost, are all that can be part of a best one.

    Args:
        function: Minimised.
        bounds: None, or one cost without a lower limit.
        is_front: Whether the front of value and cost is wanted.

    Raises:
        InvalidInputError: The partial genotypes are too many to be kept.
    """
    begin = time.perf_counter()
    sizes = function.cardinalities
    d = len(sizes)
    if bounds:
        cost, upper = bounds[0].cost, bounds[0].limits[1]
        onward = _onward(cost)
    else:
        zero = tuple(np.zeros_like(step) for step in function.steps)
        cost, upper = IntegerChain(np.zeros_like(function.first), zero, 1.0), 0
        onward = [np.zeros(k, np.int64) for k in sizes]

    # One array a choice: (cost, value), and where each label came from.
    labels = [(cost.first[c : c + 1], function.first[c : c + 1]) for c in range(sizes[0])]
    origins: list[list[tuple[Int, Int]]] = []
    for gene in range(1, d):
        following, came_from = [], []
        for target in range(sizes[gene]):
            costs = np.concatenate(
                [c + cost.steps[gene - 1][b, target] for b, (c, _) in enumerate(labels)]
            )
            values = np.concatenate(
                [v + function.steps[gene - 1][b, target] for b, (_, v) in enumerate(labels)]
            )
            previous = np.repeat(np.arange(len(labels)), [len(c) for c, _ in labels])
            index = np.concatenate([np.arange(len(c)) for c, _ in labels])
            kept = _undominated(costs, values, upper - int(onward[gene][target]))
            following.append((costs[kept], values[kept]))
            came_from.append((previous[kept], index[kept]))
        labels = following
        origins.append(came_from)
        if sum(len(c) for c, _ in labels) > _LABELS:
            raise InvalidInputError(
                f"dynamic programming keeps at most {_LABELS:,} partial architectures, "
                f"which gene {gene + 1} of {d} exceeds"
            )
    costs = np.concatenate([c for c, _ in labels])
    values = np.concatenate([v for _, v in labels])
    choice = np.repeat(np.arange(sizes[-1]), [len(c) for c, _ in labels])
    index = np.concatenate([np.arange(len(c)) for c, _ in labels])
    kept = _undominated(costs, values, upper)
    if not is_front:
        kept = kept[values[kept].argsort(kind="stable")[:1]]
    genotypes = np.empty((len(kept), d), dtype=np.int64)
    here, at = choice[kept], index[kept]
    genotypes[:, -1] = here
    for gene in range(d - 1, 0, -1):
        before = np.empty_like(here)
        place = np.empty_like(at)
        for c in np.unique(here):
            rows = here == c
            before[rows] = origins[gene - 1][c][0][at[rows]]
            place[rows] = origins[gene - 1][c][1][at[rows]]
        here, at = before, place
        genotypes[:, gene - 1] = here
    found = function.to_float(values[kept])
    best = float(found.min()) if len(found) else math.inf
    size = math.prod(sizes)
    certificate = Certificate(
        size=size,
        excluded=0,
        pruned=size - len(costs),
        evaluated=len(costs),
        best=best,
        bound=best,
        gap=0.0,
        front=len(kept),
        seconds=time.perf_counter() - begin,
        done=1.0,
    )
    return Outcome(genotypes, found, cost.to_float(costs[kept]), certificate)


def _onward(cost: IntegerChain) -> list[Int]:
    """Least cost of the genes behind each gene, for each of its choices."""
    d = len(cost.cardinalities)
    zero = [np.zeros(k, np.int64) for k in cost.cardinalities]
    behind = []
    for gene in range(d - 1):
        segment = segments(range(gene + 1, d), d)[0]
        behind.append(least(cost, segment, np.array([1]), zero)[:, 0, 0])
    return [*behind, np.zeros(cost.cardinalities[-1], np.int64)]


def _undominated(costs: Int, values: Int, upper: int) -> NDArray[np.int64]:
    """Rows within the limit that no other is as good as in both, by ascending cost."""
    within = np.flatnonzero(costs <= upper)
    return within[staircase(costs[within], values[within])]
