"""The sweep over one box sum and chain costs, with its bounds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Int
from nastool.exact.chains import IntegerChain
from nastool.exact.plan import Plan, lowest, make_plan
from nastool.exact.tables import INFINITE, MOST, make_scratch
from nastool.exact.task import Task
from nastool.space import ChainCost, Genotypes

_INTERVALS = 1 << 12
"""Intervals of the axis cost for which the sweep looks up what improves on the front."""


class ChainSweep:
    """Covers parts of a space for a task whose second objective and limits are chain costs.

    Args:
        task: What is to be found.
        memory: Most bytes that tables may take.

    Raises:
        InvalidInputError: The model is too large for the memory.
        ImportError: numba is not installed.
    """

    def __init__(self, task: Task, memory: int) -> None:
        from nastool.exact import kernels

        self._sweep: Callable[..., tuple[int, int]] = kernels.sweep
        self._task = task
        self._plan: Plan = make_plan(task.function, [b.cost for b in task.bounds], memory)
        self.layout = self._plan.layout
        self.nbytes = self._plan.nbytes
        limits = np.array([bound.limits for bound in task.bounds], dtype=np.int64)
        self._lower, self._upper = np.ascontiguousarray(limits.T)
        self._step = (task.bounds[0].cost.ends[1] // _INTERVALS).bit_length()

    def corners(self) -> Genotypes:
        """Genotypes of the least and the largest cost of each chain."""
        return np.stack([_extreme(b.cost, sign) for b in self._task.bounds for sign in (1, -1)])

    def evaluate(self, genotypes: Genotypes) -> tuple[NDArray[np.bool_], Int]:
        """Which genotypes (n, d) are allowed, and their first costs and values, (n, 2)."""
        totals = np.stack([b.cost.evaluate(genotypes) for b in self._task.bounds], axis=1)
        allowed = ((totals >= self._lower) & (totals <= self._upper)).all(axis=1)
        values = self._plan.states.evaluate(genotypes)
        return allowed, np.stack([totals[:, 0], values], axis=1)

    def merge(self, points: Int) -> Int:
        """The points (cost, value, number) that none dominates; see `lowest`."""
        return lowest(points)

    def cover(
        self, unit: int, level: int, targets: tuple[Int, ...], front: Int, size: int, counts: Int
    ) -> tuple[int, int]:
        """Account for everything under one prefix.

        Args:
            unit: Number of the prefix.
            level: Its length.
            targets: Of `targets`.
            front: Points (cost, value, number) by cost, with room for more; changed in place.
            size: How many there are.
            counts: Filled with the number of genotypes (not allowed, pruned, evaluated).

        Returns:
            Whether the front outgrew its room, and how many points it has.
        """
        return self._sweep(
            self._plan.tables,
            make_scratch(self._plan.tables),
            unit,
            level,
            self._task.is_front,
            self._lower,
            self._upper,
            self._plan.width,
            self._step,
            *targets,
            front,
            size,
            counts,
        )

    def targets(self, front: Int, prune: bool) -> tuple[Int, ...]:
        """What ``f + slope * cost`` must stay below to improve on the front.

        Args:
            front: Points (cost, value, number) by cost.
            prune: Whether bounds are used.

        Returns:
            For each window with its slope, shape (windows,); for costs from the begin of one
            window to as far behind another, with the slope of the latter, (windows, windows);
            without slope and last bits, for each interval of costs, (intervals,).
        """
        tables, width = self._plan.tables, self._plan.width
        slopes = tables.slopes
        lower, upper = int(self._lower[0]), int(self._upper[0])
        if self._task.is_front:
            begins = np.append(lower, front[:, 0])
            ends = np.append(front[:, 0] - 1, upper)
            values = np.append(INFINITE, front[:, 1])
        else:
            begins, ends = np.array([lower]), np.array([upper])
            values = front[:, 1] if len(front) else np.array([INFINITE])
        windows = len(slopes)
        edges = np.arange(windows + 1, dtype=np.int64) << width
        # What costs within each window may reach, with every slope.
        reach = np.full((windows, windows), -INFINITE, dtype=np.int64)
        for window in range(windows):
            low, high = max(int(edges[window]), lower), min(int(edges[window + 1]) - 1, upper)
            touching = (begins <= high) & (ends >= low) & (begins <= ends)
            if touching.any() and low <= high:
                # Steps end where the next point begins: the highest sum is at the end of one.
                at = np.minimum(ends[touching], high)
                best = (values[touching, None] + slopes * at[:, None]).max(axis=0)
                reach[window] = np.minimum(best, INFINITE)
        rows = np.full((windows, windows), -INFINITE, dtype=np.int64)
        for begin in range(windows):
            highest = np.maximum.accumulate(reach[begin:], axis=0)
            for window in range(begin, windows):
                last = min(2 * window - begin + 1, windows - 1)
                rows[begin, window] = highest[last - begin, window]
        targets = np.ascontiguousarray(reach.diagonal())
        edges = np.arange((self._task.bounds[0].cost.ends[1] >> self._step) + 1) << self._step
        # Values fall along the front: in an interval the first of them is the largest.
        limits = values[np.searchsorted(begins[1:], edges, side="right")]
        limits[(edges > upper) | (edges + (1 << self._step) <= lower)] = -INFINITE
        short = np.clip(((limits - 1) >> tables.shift) + 1, 1 - MOST, MOST).astype(np.int32)
        return targets if prune else np.full_like(targets, INFINITE), rows, short

    def open_bounds(self, prefixes: Int, front: Int) -> tuple[int, int] | None:
        """Least value, and largest improvement on the front, that prefixes can still hold.

        Args:
            prefixes: Of as many outer genes, shape (n, level).
            front: Points (cost, value, number) by cost.

        Returns:
            None where no constraint allows anything under them.
        """
        tables, level_of_units = self._plan.tables, prefixes.shape[1]
        layers = self._plan.states.layers
        state = np.broadcast_to(tables.roots, (len(prefixes), len(tables.roots)))
        choices = np.zeros((len(prefixes), len(self._task.function.cardinalities)), np.int64)
        fixed = set()
        for level, gene in enumerate(tables.outer[:level_of_units].tolist()):
            state = layers[level].following[state, prefixes[:, level, None]]
            choices[:, gene] = prefixes[:, level]
            fixed.add(gene)
        least = np.broadcast_to(
            layers[level_of_units].bounds[state].sum(axis=1)[:, None],
            (len(prefixes), len(tables.slopes)),
        ).copy()
        low, high = np.zeros((2, len(prefixes), len(self._task.bounds)), np.int64)
        for row, bound in enumerate(self._task.bounds):
            own = np.zeros(len(prefixes), np.int64)
            if 0 in fixed:
                own += bound.cost.first[choices[:, 0]]
            for i, step in enumerate(bound.cost.steps):
                if {i, i + 1} <= fixed:
                    own += step[choices[:, i], choices[:, i + 1]]
            low[:, row] += own
            high[:, row] += own
            if row == 0:
                least += tables.slopes * own[:, None]
        for left, right, width, offset in tables.segments[level_of_units].tolist():
            if offset < 0:
                break
            entry = np.full(len(prefixes), offset)
            entry += choices[:, left] * width if left >= 0 else 0
            entry += choices[:, right] if right >= 0 else 0
            least += tables.gain[entry]
            low += tables.low[entry]
            high += tables.high[entry]
        allowed = ((low <= self._upper) & (high >= self._lower)).all(axis=1)
        if not allowed.any():
            return None
        least = least[allowed]
        # At the largest allowed cost, with the slope that bounds it best.
        values = (least - tables.slopes * int(self._upper[0])).max(axis=1)
        targets, _, _ = self.targets(front, prune=True)
        gap = int((targets - least).max())
        return int(values.min()), gap


def _extreme(cost: IntegerChain, sign: int) -> NDArray[np.int64]:
    chain = ChainCost("cost", cost.first, cost.steps)
    return chain.minimum[1] if sign == 1 else chain.maximum[1]
