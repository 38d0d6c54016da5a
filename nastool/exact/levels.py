"""The optimum of a box sum that nothing limits, level by level, with nothing to compile.

Prefixes of genes, the most important first, are extended all at once and cut off by the bound that
`nastool.exact.states` explains. Where no cost holds a predictor back, few of them last, and the
proof takes less time than loading the compiled sweep; where many do, the sweep has to do it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nastool.exact.boxes import BoxSum
from nastool.exact.certificate import Certificate
from nastool.exact.states import NEVER, Group, additive_part, distinct, make_group
from nastool.exact.task import Outcome, Task
from nastool.space import Genotypes

_WORK = 1 << 27
"""Numbers that may be looked up before the search is left to the sweep: some tenths of a second."""

_DRAWN = 64
"""Genotypes that are drawn to begin with."""


def is_unlimited(task: Task) -> bool:
    """Whether only the least value is wanted, and every genotype is allowed."""
    return not task.is_front and all(bound.limits == bound.cost.ends for bound in task.bounds)


def search_levels(task: Task, start: Genotypes) -> Outcome | None:
    """The proven optimum of a task that `is_unlimited`; None where that takes too much.

    Args:
        task: What is to be found.
        start: Genotypes to begin with, shape (n, d).
    """
    begin = time.perf_counter()
    function = task.function
    sizes = function.cardinalities.tolist()
    trees = function.n_trees
    if trees == 0 or trees * int(np.diff(function.starts).max()) * sum(sizes) > _WORK:
        return None
    group = make_group(function, 0, trees)
    importance = np.ptp(group.effects, axis=2).sum(axis=0)
    order = sorted(range(len(sizes)), key=lambda gene: -int(importance[gene]))
    rests = [int(group.effects[:, gene, :k].sum(axis=0).min()) for gene, k in enumerate(sizes)]
    best, value = _descend(group, sizes, start)

    # Prefixes, the state of each tree under each, and the states that some prefix has.
    prefixes = np.zeros((1, len(sizes)), np.int64)
    reached = np.arange(trees)[None]
    tree, alive = np.arange(trees), group.real
    open_value = group.values - group.largest.sum(axis=2)
    below, pruned, work = math.prod(sizes), 0, 0
    for level, gene in enumerate(order, start=1):
        k, open_genes = sizes[gene], sorted(order[level:])
        below //= k
        work += len(prefixes) * k * trees + alive.size * k
        if work > _WORK:
            return None
        children = group.inside[:, gene, :k][tree] & alive[:, None, :]
        alive, tree, index = distinct(children.reshape(-1, alive.shape[1]), np.repeat(tree, k))
        reached = index.reshape(-1, k)[reached].transpose(0, 2, 1).reshape(-1, trees)
        prefixes = np.repeat(prefixes, k, axis=0)
        prefixes[:, gene] = np.tile(np.arange(k), len(prefixes) // k)

        open_value = open_value + group.largest[:, :, gene]
        bounds = np.where(alive, open_value[tree], NEVER).min(axis=1)
        least = bounds[reached].sum(axis=1) + sum(rests[g] for g in open_genes)
        if not open_genes:
            # Every gene is fixed: these are the values themselves.
            pruned += int((least >= value).sum())
            evaluated = int((least < value).sum())
            if evaluated:
                best, value = prefixes[least.argmin()], int(least.min())
            break
        kept = least < value
        pruned += int((~kept).sum()) * below
        prefixes, reached = prefixes[kept], reached[kept]
        reached, tree, alive = _used(reached, tree, alive)
        work += (len(prefixes) * trees + alive.size) * len(open_genes) * max(sizes)
        if work > _WORK:
            return None
        effects, residues = additive_part(group, tree, alive, open_genes)
        effects[:, ~group.choices[open_genes]] = NEVER // trees
        least = residues[reached].sum(axis=1)
        for row, of in enumerate(reached):
            least[row] += effects[of].sum(axis=0).min(axis=1).sum()
        kept = least < value
        pruned += int((~kept).sum()) * below
        prefixes, reached = prefixes[kept], reached[kept]
        reached, tree, alive = _used(reached, tree, alive)
    return _outcome(task, best, value, pruned, evaluated, time.perf_counter() - begin)


def _used(
    reached: NDArray[np.int64], tree: NDArray[np.int64], alive: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Only the states that a prefix has, numbered anew."""
    used = np.zeros(len(tree), dtype=bool)
    used[reached] = True
    return (np.cumsum(used) - 1)[reached], tree[used], alive[used]


def _descend(group: Group, sizes: Sequence[int], start: Genotypes) -> tuple[Genotypes, int]:
    """The best genotype that changes of one gene lead to from the best of some, and its value."""
    drawn = np.random.default_rng(0).integers(0, sizes, size=(_DRAWN, len(sizes)))
    genes = np.repeat(np.arange(len(sizes)), sizes)
    choices = np.concatenate([np.arange(k) for k in sizes])
    tried = np.concatenate([start, drawn])
    best, value = tried[0], math.inf
    while True:
        values = _evaluate(group, tried)
        if values.min() >= value:
            return best, int(value)
        best, value = tried[values.argmin()], int(values.min())
        tried = np.repeat(best[None], len(genes), axis=0)
        tried[np.arange(len(genes)), genes] = choices


def _evaluate(group: Group, genotypes: Genotypes) -> NDArray[np.int64]:
    """Sums in quanta of genotypes (n, d), shape (n,)."""
    totals = np.empty(len(genotypes), np.int64)
    for begin in range(0, len(genotypes), _DRAWN):
        rows = genotypes[begin : begin + _DRAWN]
        alive = np.repeat(group.real[None], len(rows), axis=0)
        for gene, choice in enumerate(rows.T):
            alive &= group.inside[:, gene][:, choice].transpose(1, 0, 2)
        # Each tree has one leaf left.
        totals[begin : begin + len(rows)] = (alive * group.values).sum(axis=(1, 2))
    return totals


def _outcome(
    task: Task, best: Genotypes, value: int, pruned: int, evaluated: int, seconds: float
) -> Outcome:
    function: BoxSum = task.function
    genotypes = best[None]
    values = function.to_float([value])
    certificate = Certificate(
        size=math.prod(function.cardinalities.tolist()),
        excluded=0,
        pruned=pruned,
        evaluated=evaluated,
        best=float(values[0]),
        bound=float(values[0]),
        gap=0.0,
        front=1,
        seconds=seconds,
        done=1.0,
    )
    return Outcome(genotypes, values, task.axis(genotypes), certificate)
