"""The sweep over several box sums at once: two predictors, or limits on predictors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Int
from nastool.exact.blocks import cell_bounds, corner_tables
from nastool.exact.boxes import BoxSum
from nastool.exact.layout import choose_layout, joint_choices, padded_length
from nastool.exact.plan import WINDOWS, gene_importance, level_tables, lowest, main_effects
from nastool.exact.states import build_states
from nastool.exact.tables import ANYTHING, INFINITE, JointTables
from nastool.exact.task import JointTask
from nastool.space import Genotypes

_STEPS = 1 << 12
"""Intervals of the second function for which the sweep looks up what improves on the front."""

_INTERVALS = 256
"""The same of the second and of the third function of a front of three, at most."""

_LARGEST_WEIGHT = 255

_NOTHING = np.zeros(0, np.int64), np.zeros(0, np.int64)


class JointSweep:
    """Covers parts of a space for a task of several box sums.

    The trees of all functions are restricted side by side. A prefix is cut off if one function
    cannot keep its limit, or if for each window of the second function a weighted sum of the
    first two cannot come below what improves on the front there; for a front of three, if what
    such sums leave of the first and the third function does not.

    Args:
        task: What is to be found.
        memory: Most bytes that tables may take.

    Raises:
        InvalidInputError: The models are too large for the memory.
        ImportError: numba is not installed.
    """

    def __init__(self, task: JointTask, memory: int) -> None:
        from nastool.exact import joint_kernels

        self._sweep: Callable[..., tuple[int, int]] = joint_kernels.sweep
        self._mark: Callable[[Int], NDArray[np.bool_]] = joint_kernels.mark_surface
        self._task = task
        functions = task.functions
        sizes = functions[0].cardinalities.tolist()
        self.layout = choose_layout(sizes, _importance(functions))
        joint = _side_by_side(functions)
        depth = len(self.layout.outer)
        self._states = states = build_states(joint, self.layout.order, depth, memory)
        self._depth = depth
        least, most = functions[1].ends
        most = max(least, min(most, task.uppers[1]))
        fields: dict[str, Any] = {
            **level_tables(self.layout, states, sizes),
            **corner_tables(joint, self.layout, states, memory),
        }
        del fields["fixed"]
        width = ((most - least) // WINDOWS).bit_length()
        self.tables = JointTables(
            **fields,
            extents=np.array(
                [math.prod(sizes[gene] for gene in axis) for axis in self.layout.axes], np.int64
            ),
            rests=cell_bounds(joint, self.layout, states),
            lanes=np.array(self.layout.lanes, dtype=np.int64),
            lane_choices=joint_choices([sizes[gene] for gene in self.layout.lanes]),
            n_lanes=math.prod(sizes[gene] for gene in self.layout.lanes),
            padded=padded_length(max(sizes)),
            trees=np.cumsum([0, *(f.n_trees for f in functions)]),
            uppers=np.array(task.uppers, dtype=np.int64),
            weights=_choose_weights(functions[0], functions[1], least, width),
            others=_choose_weights(
                functions[min(2, len(functions) - 1)], functions[1], least, width
            ),
            base=least,
            width=width,
            step=((most - least) // _STEPS).bit_length(),
        )

    @property
    def nbytes(self) -> int:
        """Memory of the tables."""
        layers = sum(layer.following.nbytes + layer.bounds.nbytes for layer in self._states.layers)
        arrays = sum(a.nbytes for a in self.tables if isinstance(a, np.ndarray))
        return layers + arrays + sum(leaves.nbytes for leaves in self._states.leaves)

    def corners(self) -> Genotypes:
        """Genotypes of the least sum of the main effects of each function."""
        return np.stack(
            [[int(m.argmin()) for m in main_effects(f)] for f in self._task.functions]
        ).astype(np.int64)

    def evaluate(self, genotypes: Genotypes) -> tuple[NDArray[np.bool_], Int]:
        """Which genotypes (n, d) are allowed, and their functions: second, first, third (n, 3)."""
        totals = np.stack([f.evaluate(genotypes) for f in self._task.functions], axis=1)
        allowed: NDArray[np.bool_] = np.all(totals <= self.tables.uppers, axis=1)
        return allowed, totals[:, [1, 0, 2] if self._task.is_surface else [1, 0]]

    def merge(self, points: Int) -> Int:
        """The points that none dominates, by the second function; of equal ones the first.

        Args:
            points: Second function, first function, number and, of a front of three, the third
                function, shape (n, 3) or (n, 4).
        """
        if not self._task.is_surface:
            return lowest(points)
        points = points[np.lexsort(points[:, [2, 3, 1, 0]].T)]
        return points[self._mark(points)]

    def targets(self, front: Int, prune: bool) -> tuple[Int, ...]:
        """What improves on the front.

        Args:
            front: Points (second function, first function, number) by the second.
            prune: Whether bounds are used.

        Returns:
            For each window what the weighted sum must stay below, shape (windows,); what the
            first function must stay below, for each interval of the second, shape (steps,); what
            it must stay below for intervals of the second and the third function, and where these
            begin, of a front of three.
        """
        if self._task.is_surface:
            return (*_NOTHING, *self._ground(front, prune))
        tables = self.tables
        upper, limit = int(tables.uppers[1]), int(tables.uppers[0]) + 1
        if self._task.is_front:
            begins = np.append(tables.base, front[:, 0])
            ends = np.append(front[:, 0] - 1, upper)
            values = np.append(INFINITE, front[:, 1])
        else:
            begins, ends = np.array([tables.base]), np.array([upper])
            values = front[:, 1] if len(front) else np.array([INFINITE])
        # Something within its limit is wanted, whatever the front.
        values = np.minimum(values, limit)
        steps = ((max(upper, tables.base) - tables.base) >> tables.step) + 1
        edges = tables.base + (np.arange(steps, dtype=np.int64) << tables.step)
        stairs = values[np.searchsorted(begins[1:], edges, side="right")]
        nothing = np.zeros((1, 1), np.int64), np.zeros(5, np.int64)
        if not prune:
            return np.full(len(tables.weights), ANYTHING), np.full_like(stairs, limit), *nothing
        targets = np.full(len(tables.weights), -ANYTHING)
        for window, (first, second) in enumerate(tables.weights.tolist()):
            low = tables.base + (window << tables.width)
            high = min(low + (1 << tables.width) - 1, upper)
            touching = (begins <= high) & (ends >= low) & (begins <= ends)
            if touching.any() and low <= high:
                # Steps end where the next point begins: the highest sum is at the end of one.
                at = np.minimum(ends[touching], high)
                targets[window] = (first * values[touching] + second * at).max()
        return targets, stairs, *nothing

    def _ground(self, front: Int, prune: bool) -> tuple[Int, Int]:
        """What improves on a front of three: a limit of the first function for each cell.

        A cell's limit is the least first function of the points that are nowhere worse than it in
        the second and the third.
        """
        axes = front[:, [0, 3]]
        if not len(axes):
            axes = np.zeros((1, 2), np.int64)
        begins = axes.min(axis=0)
        steps = np.array([(int(r) // _INTERVALS).bit_length() for r in np.ptp(axes, axis=0)])
        places = -((begins - axes) >> steps) + 1
        rows, columns = (places.max(axis=0) + 1).tolist()
        ground = np.full((rows, columns), int(self.tables.uppers[0]) + 1)
        if len(front):
            np.minimum.at(ground, (places[:, 0], places[:, 1]), front[:, 1])
        for axis in (0, 1):
            ground = np.minimum.accumulate(ground, axis=axis)
        return ground, np.append(np.stack([begins, steps], axis=1), int(prune))

    def cover(
        self, unit: int, level: int, targets: tuple[Int, ...], front: Int, size: int, counts: Int
    ) -> tuple[int, int]:
        """Account for everything under one prefix; see `ChainSweep.cover`."""
        task, (sums, stairs, ground, grid) = self._task, targets
        # What a unit finds is its own until all of its wave are done.
        own = ground.copy()
        return self._sweep(
            self.tables,
            unit,
            level,
            task.is_front,
            task.is_surface,
            sums,
            stairs,
            own,
            grid,
            front,
            size,
            counts,
        )

    def open_bounds(self, prefixes: Int, front: Int) -> tuple[int, int] | None:
        """Least first function, and largest improvement on the front, under prefixes.

        Args:
            prefixes: Of as many outer genes, shape (n, level).
            front: Points (second function, first function, number) by the second.

        Returns:
            None where no limit allows anything under them.
        """
        tables, states = self.tables, self._states
        targets = self.targets(front, prune=True)[0]
        level = prefixes.shape[1]
        best, gap = INFINITE, -INFINITE
        layer = states.layers[level]
        if len(layer.effects.ravel()) == 0:
            return -INFINITE, INFINITE
        remaining = tables.open_genes[level][tables.open_genes[level] >= 0]
        for prefix in prefixes:
            state = states.roots
            for gone, choice in enumerate(prefix.tolist()):
                state = states.layers[gone].following[state, choice]
            trees = [slice(a, b) for a, b in zip(tables.trees, tables.trees[1:], strict=False)]
            rest = np.array([layer.residues[state[t]].sum() for t in trees])
            effects = [layer.effects[state[t]].sum(axis=0) for t in trees]
            own = [[e[i, : tables.all_sizes[g]] for i, g in enumerate(remaining)] for e in effects]
            least = rest + [sum(int(e.min()) for e in of_gene) for of_gene in own]
            if (least > tables.uppers).any():
                continue
            best = min(best, int(least[0]))
            if self._task.is_surface:
                # Of what two more functions may be traded for there is no one number.
                gap = INFINITE
                continue
            first = max(0, int(least[1]) - tables.base) >> tables.width
            for window in range(first, len(targets)):
                p, q = tables.weights[window].tolist()
                bound = p * int(rest[0]) + q * int(rest[1])
                bound += sum(
                    int((p * a + q * b).min()) for a, b in zip(own[0], own[1], strict=True)
                )
                gap = max(gap, -((bound - int(targets[window])) // p))
        return (best, gap) if best < INFINITE else None


def _importance(functions: Sequence[BoxSum]) -> list[float]:
    """How much each gene matters to the functions together, each counting the same."""
    total = np.zeros(len(functions[0].cardinalities))
    for function in functions:
        own = np.array(gene_importance(function))
        total += own / max(own.sum(), 1.0)
    return total.tolist()


def _side_by_side(functions: Sequence[BoxSum]) -> BoxSum:
    """The trees of all functions, each in its own quanta."""
    ends = np.cumsum([0, *(f.n_leaves for f in functions)])
    starts = [end + f.starts[1:] for end, f in zip(ends, functions, strict=False)]
    return BoxSum(
        functions[0].cardinalities,
        np.concatenate([f.masks for f in functions]),
        np.concatenate([f.values for f in functions]),
        np.concatenate([[0], *starts]).astype(np.int64),
        1.0,
        0.0,
    )


def _choose_weights(function: BoxSum, axis: BoxSum, base: int, width: int) -> Int:
    """For each window of the axis the weights whose bound on a function is best at its middle.

    They are those of the function and the axis (the Lagrangian dual).
    """
    functions = function, axis
    d = len(function.cardinalities)
    first, second = (main_effects(f) for f in functions)
    # A tree's remainder is at most that many times its largest leaf: no sum leaves int64.
    sums = [max(map(abs, f.ends)) for f in functions]
    trees = [np.abs(f.values).max(initial=1) * max(f.n_trees, 1) for f in functions]
    largest = max(*sums, *map(int, trees)) * (2 * d + 1)
    most = max(1, min(_LARGEST_WEIGHT, (1 << 60) // largest))
    spread = [max(sum(float(np.ptp(m)) for m in means), 1.0) for means in (first, second)]
    slopes = spread[0] / spread[1] * np.geomspace(1 / 64, 64, 100)
    pairs = np.where(
        slopes[:, None] >= 1,
        np.stack([most / slopes, np.full_like(slopes, most)], axis=1),
        np.stack([np.full_like(slopes, most), most * slopes], axis=1),
    )
    grid = np.unique(np.maximum(np.rint(pairs), [1, 0]).astype(np.int64), axis=0)
    # In floats and by main effects alone: only a choice, all weights are valid.
    p, q = grid[:, :1].astype(float), grid[:, 1:].astype(float)
    whole = sum(float(m.mean()) for m in second)
    bound = sum(
        (p * (a - a.mean()) + q * (b - b.mean())).min(axis=1)
        for a, b in zip(first, second, strict=True)
    )
    middle = base + (np.arange(WINDOWS) + 0.5) * 2.0**width
    dual = (bound - grid[:, 1] * (middle[:, None] - whole / d)) / grid[:, 0]
    chosen: Int = grid[dual.argmax(axis=1)]
    return chosen
