"""The compiled joint sweep over one part of a space. Importing this module needs numba."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from nastool.exact.bounding import NO_BETTER, NOTHING, OPEN, switch
from nastool.exact.joint_sweep import JointTables
from nastool.exact.kernels import FULL, add_corners, insert, sum_row

Int = NDArray[np.int64]


@numba.njit(cache=True, nogil=True)
def _judge(
    residues: Int,
    effects: Int,
    open_genes: Int,
    all_sizes: Int,
    uppers: Int,
    weights: Int,
    targets: Int,
    stairs: Int,
    base: int,
    width: int,
    step: int,
) -> int:
    """Bound everything under a prefix.

    Args:
        residues: Least sums of the trees without their additive parts, shape (functions,).
        effects: Sums of the additive parts, shape (functions, open genes, padded k).
        open_genes: In ascending order, then -1.
        all_sizes: Number of choices of every gene.
        uppers: Largest allowed value of each function.
        weights: Of the first two functions, shape (windows, 2).
        targets: What the weighted sums must stay below, shape (windows,).
        stairs: What the first function must stay below, by interval of the second.
        base: Where windows and intervals begin.
        width: Of a window, as a power of two.
        step: Of an interval, as a power of two.
    """
    first = second = 0
    for k in range(len(residues)):
        least = residues[k]
        for position in range(len(open_genes)):
            gene = open_genes[position]
            if gene < 0:
                break
            # The array's own method takes seconds to compile.
            smallest = effects[k, position, 0]
            for c in range(1, all_sizes[gene]):
                smallest = min(smallest, effects[k, position, c])
            least += smallest
        if least > uppers[k]:
            return NOTHING
        if k == 0:
            first = least
        elif k == 1:
            second = max(least, base)
    if first >= stairs[(second - base) >> step]:
        return NO_BETTER
    last = min((uppers[1] - base) >> width, len(weights) - 1)
    for window in range((second - base) >> width, last + 1):
        p, q = weights[window, 0], weights[window, 1]
        bound = p * residues[0] + q * residues[1]
        for position in range(len(open_genes)):
            gene = open_genes[position]
            if gene < 0:
                break
            a, b = effects[0, position], effects[1, position]
            least = p * a[0] + q * b[0]
            for c in range(1, all_sizes[gene]):
                least = min(least, p * a[c] + q * b[c])
            bound += least
        if bound < targets[window]:
            return OPEN
    return NO_BETTER


@numba.njit(cache=True, nogil=True)
def sweep(
    tables: JointTables,
    unit: int,
    unit_level: int,
    is_front: bool,
    targets: Int,
    stairs: Int,
    front: Int,
    size: int,
    counts: Int,
) -> tuple[int, int]:
    """Cover all genotypes under one prefix.

    Args:
        tables: Of the sweep.
        unit: Number of the prefix, of `unit_level` genes.
        unit_level: Its length.
        is_front: Whether a smaller second function is wanted too, not only a smaller first one.
        targets: See `_judge`.
        stairs: See `_judge`.
        front: Points (second function, first function, number of the shape) by the second; grows
            in place, shape (capacity, 3).
        size: How many there are.
        counts: Filled with the number of shapes (not allowed, pruned, evaluated).

    Returns:
        A status, and how many points the front has.
    """
    outer, sizes, below = tables.outer, tables.sizes, tables.below
    following, bounds, uppers = tables.following, tables.bounds, tables.uppers
    levels, d, n = len(outer), len(tables.all_sizes), len(uppers)
    trees = tables.trees[n]
    lanes, padded = tables.corners.shape[1], tables.padded
    e1, e2, e3 = tables.extents[0], tables.extents[1], tables.extents[2]
    cells = e1 * e2 * e3
    counts[:] = 0

    choice_at = np.full(levels, -1, np.int64)
    state = np.empty((levels + 1, trees), np.int64)
    number = np.zeros(levels + 1, np.int64)
    for t in range(trees):
        state[0, t] = tables.roots[t]

    # Bounds: what the sums of additive parts were made for.
    known = np.full((levels + 1, trees), -1, np.int64)
    additive = np.zeros((levels + 1, n, d * padded), np.int64)
    residues = np.zeros(n, np.int64)

    # The block of each function: differences, and running sums along the three axes.
    shown = np.full(trees, -1, np.int64)
    table = np.zeros((n, cells, lanes), np.int64)
    sum1 = np.zeros((n, e2 * e3, lanes), np.int64)
    sum2 = np.zeros((n, e3, lanes), np.int64)
    sum3 = np.zeros((n, lanes), np.int64)

    given = np.zeros(levels + 1, np.int64)
    rest = unit
    for i in range(unit_level - 1, -1, -1):
        given[i] = rest % sizes[i]
        rest //= sizes[i]

    # Depth first; below the unit's own levels every choice is tried.
    level = 0
    while level >= 0:
        if level < levels:
            if level < unit_level:
                choice = given[level] if choice_at[level] < 0 else sizes[level]
            else:
                choice = choice_at[level] + 1
            if choice >= sizes[level]:
                choice_at[level] = -1
                level -= 1
                continue
            choice_at[level] = choice
            number[level + 1] = number[level] * sizes[level] + choice
            for k in range(n):
                residue = 0
                for t in range(tables.trees[k], tables.trees[k + 1]):
                    now = following[state[level, t], choice]
                    state[level + 1, t] = now
                    residue += bounds[now, 1]
                residues[k] = residue
            level += 1
            if level >= unit_level and tables.first_effect[level] >= 0:
                span = (d - level) * padded
                for k in range(n):
                    begin, end = tables.trees[k], tables.trees[k + 1]
                    switch(
                        known[level, begin:end],
                        state[level, begin:end],
                        tables.first_state[level],
                        tables.effects[tables.first_effect[level] :],
                        span,
                        additive[level, k],
                    )
                verdict = _judge(
                    residues,
                    additive[level].reshape(n, d, padded),
                    tables.open_genes[level],
                    tables.all_sizes,
                    uppers,
                    tables.weights,
                    targets,
                    stairs,
                    tables.base,
                    tables.width,
                    tables.step,
                )
                if verdict != OPEN:
                    counts[verdict] += below[level]
                    level -= 1
                    continue
            if level < levels:
                continue

        # A block: every genotype that begins with this prefix of all outer genes.
        first_state = tables.first_state[levels]
        for k in range(n):
            for t in range(tables.trees[k], tables.trees[k + 1]):
                now = state[levels, t] - first_state
                if shown[t] != now:
                    if shown[t] >= 0:
                        add_corners(
                            tables.begin,
                            tables.cells,
                            tables.rows,
                            tables.corners,
                            shown[t],
                            -1,
                            table[k],
                        )
                    add_corners(
                        tables.begin, tables.cells, tables.rows, tables.corners, now, 1, table[k]
                    )
                    shown[t] = now
        sum1[:] = 0
        cell = 0
        for _ in range(e1):
            sum2[:] = 0
            for i2 in range(e2):
                sum3[:] = 0
                for i3 in range(e3):
                    row = i2 * e3 + i3
                    for k in range(n):
                        sum_row(table[k, cell], sum3[k], sum2[k, i3], sum1[k, row])
                    for v in range(tables.n_lanes):
                        second = sum1[1, row, v]
                        if second > uppers[1]:
                            continue
                        value = sum1[0, row, v]
                        if value >= stairs[(second - tables.base) >> tables.step]:
                            continue
                        allowed = True
                        for k in range(2, n):
                            allowed = allowed and sum1[k, row, v] <= uppers[k]
                        if allowed:
                            size = insert(
                                front,
                                size,
                                second if is_front else 0,
                                value,
                                (number[levels] * cells + cell) * tables.n_lanes + v,
                            )
                            if size < 0:
                                return FULL, 0
                    cell += 1
        counts[OPEN] += below[levels]
        level -= 1
    return 0, size
