"""The compiled joint sweep over one part of a space. Importing this module needs numba."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Int
from nastool.exact.bounding import NO_BETTER, OPEN, switch
from nastool.exact.joint_bounding import interval, judge, judge_surface, mark_rows
from nastool.exact.kernels import FULL, exchange_corners, sum_row
from nastool.exact.staircase import insert
from nastool.exact.tables import ANYTHING, JointTables


@numba.njit(cache=True, nogil=True)
def _note(
    found: Int, size: int, ground: Int, row: int, column: int, second: int, value: int, third: int
) -> bool:
    """Keep a point that may be on the front of three, and raise what later ones must stay below.

    Args:
        found: Points (second, first function, number, third function).
        size: How many there are.
        ground: See `judge_surface`; changed in place.
        row: Interval of the second function.
        column: Interval of the third function.
        second: The second function.
        value: The first function.
        third: The third function.

    Returns:
        Whether there was room.
    """
    if size == len(found):
        return False
    found[size, 0], found[size, 1], found[size, 3] = second, value, third
    # It is nowhere worse than what lies in a later interval of both. Downwards and to the right
    # the limits fall: where one is as low, all behind it are.
    for i in range(row + 1, ground.shape[0]):
        if column + 1 >= ground.shape[1] or ground[i, column + 1] <= value:
            break
        for j in range(column + 1, ground.shape[1]):
            if ground[i, j] <= value:
                break
            ground[i, j] = value
    return True


@numba.njit(cache=True, nogil=True)
def mark_surface(points: Int) -> NDArray[np.bool_]:
    """Which points (second, first function, number, third function), sorted, none dominates.

    Of equal ones the first counts.
    """
    kept = np.zeros(len(points), np.bool_)
    stairs = np.empty((len(points), 3), np.int64)
    size = 0
    for i in range(len(points)):
        value, third = points[i, 1], points[i, 3]
        low, high = 0, size
        while low < high:
            middle = (low + high) >> 1
            if stairs[middle, 0] <= value:
                low = middle + 1
            else:
                high = middle
        if low == 0 or stairs[low - 1, 1] > third:
            kept[i] = True
            size = insert(stairs, size, value, third, i)
    return kept


@numba.njit(cache=True, nogil=True)
def sweep(
    tables: JointTables,
    unit: int,
    unit_level: int,
    is_front: bool,
    is_surface: bool,
    targets: Int,
    stairs: Int,
    ground: Int,
    grid: Int,
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
        is_surface: Whether a smaller third function is wanted, too.
        targets: See `judge`.
        stairs: See `judge`.
        ground: See `judge_surface`; changed in place.
        grid: See `judge_surface`.
        front: Points (second function, first function, number of the shape) by the second; grows
            in place, shape (capacity, 3). Of a front of three what may be on it, with the third
            function, shape (capacity, 4).
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

    # What bounds the rows of a block, and which of them may hold an improvement.
    told = np.full(trees, -1, np.int64)
    least = np.zeros((n, cells), np.int64)
    offered = np.zeros((n, tables.n_lanes + 1), np.int64)
    may = np.ones(cells, np.bool_)

    # The block of each function: differences, and running sums along the three axes.
    shown = np.full(trees, -1, np.int64)
    table = np.zeros((n, cells, lanes), np.int64)
    sum1 = np.zeros((n, e2 * e3, lanes), np.int64)
    sum2 = np.zeros((n, e3, lanes), np.int64)
    sum3 = np.zeros((n, lanes), np.int64)

    prunes = is_surface and grid[4] > 0
    for window in range(len(targets)):
        prunes |= targets[window] < ANYTHING

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
                if is_surface:
                    verdict = judge_surface(
                        residues,
                        additive[level].reshape(n, d, padded),
                        tables.open_genes[level],
                        tables.all_sizes,
                        uppers,
                        tables.weights,
                        tables.others,
                        ground,
                        grid,
                        tables.base,
                        tables.width,
                    )
                else:
                    verdict = judge(
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
        if prunes and tables.rests.shape[1]:
            for k in range(n):
                begin, end = tables.trees[k], tables.trees[k + 1]
                switch(
                    told[begin:end],
                    state[levels, begin:end],
                    first_state,
                    tables.rests.reshape(-1),
                    cells,
                    least[k],
                )
            if not mark_rows(
                tables,
                least,
                additive[levels].reshape(n, d, padded),
                is_surface,
                stairs,
                ground,
                grid,
                offered,
                may,
            ):
                counts[NO_BETTER] += below[levels]
                level -= 1
                continue
        for k in range(n):
            for t in range(tables.trees[k], tables.trees[k + 1]):
                now = state[levels, t] - first_state
                if shown[t] != now:
                    exchange_corners(
                        tables.begin,
                        tables.cells,
                        tables.rows,
                        tables.corners,
                        shown[t],
                        now,
                        table[k],
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
                    for v in range(tables.n_lanes if may[cell] else 0):
                        second = sum1[1, row, v]
                        if second > uppers[1]:
                            continue
                        value = sum1[0, row, v]
                        if is_surface:
                            third = sum1[2, row, v]
                            at = interval(second, grid[0], grid[1], ground.shape[0])
                            beside = interval(third, grid[2], grid[3], ground.shape[1])
                            if value >= ground[at, beside]:
                                continue
                        elif value >= stairs[(second - tables.base) >> tables.step]:
                            continue
                        allowed = True
                        for k in range(2, n):
                            allowed = allowed and sum1[k, row, v] <= uppers[k]
                        if not allowed:
                            continue
                        shape = (number[levels] * cells + cell) * tables.n_lanes + v
                        if is_surface:
                            if not _note(front, size, ground, at, beside, second, value, third):
                                return FULL, 0
                            front[size, 2] = shape
                            size += 1
                        else:
                            size = insert(front, size, second if is_front else 0, value, shape)
                            if size < 0:
                                return FULL, 0
                    cell += 1
        counts[OPEN] += below[levels]
        level -= 1
    return 0, size
