"""The compiled joint sweep over one part of a space. Importing this module needs numba."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Int
from nastool.exact.bounding import NO_BETTER, NOTHING, OPEN, switch
from nastool.exact.kernels import FULL, exchange_corners, insert, sum_row
from nastool.exact.tables import JointTables


@numba.njit(cache=True, nogil=True)
def _least(effects: Int, open_genes: Int, all_sizes: Int) -> int:
    """Least sum of a function's additive parts, shape (open genes, padded k)."""
    total = 0
    for position in range(len(open_genes)):
        gene = open_genes[position]
        if gene < 0:
            break
        # The array's own method takes seconds to compile.
        smallest = effects[position, 0]
        for c in range(1, all_sizes[gene]):
            smallest = min(smallest, effects[position, c])
        total += smallest
    return total


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
        least = residues[k] + _least(effects[k], open_genes, all_sizes)
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
def _place(value: int, begin: int, step: int, n: int) -> int:
    """In which of n intervals a value lies; the first and the last have no end."""
    return min(max(((value - begin) >> step) + 1, 0), n - 1)


@numba.njit(cache=True, nogil=True)
def _judge_surface(
    residues: Int,
    effects: Int,
    open_genes: Int,
    all_sizes: Int,
    uppers: Int,
    weights: Int,
    others: Int,
    ground: Int,
    grid: Int,
    base: int,
    width: int,
) -> int:
    """Bound everything under a prefix where a front of three functions is wanted.

    Args:
        residues: See `_judge`, as what is not said here.
        effects: Likewise.
        open_genes: Likewise.
        all_sizes: Likewise.
        uppers: Likewise.
        weights: Of the first two functions, shape (windows, 2).
        others: Of the third and the second function, shape (windows, 2).
        ground: What the first function must stay below, by intervals of the other two.
        grid: Where these begin, and their widths as powers of two: second, third function; last,
            whether bounds are used.
        base: Where windows of the second function begin.
        width: Of a window, as a power of two.
    """
    least = np.empty(3, np.int64)
    for k in range(len(residues)):
        total = residues[k] + _least(effects[k], open_genes, all_sizes)
        if total > uppers[k]:
            return NOTHING
        if k < 3:
            least[k] = total
    if not grid[4]:
        return OPEN
    rows, columns = ground.shape
    row = _place(least[1], grid[0], grid[1], rows)
    if least[0] >= ground[row, _place(least[2], grid[2], grid[3], columns)]:
        return NO_BETTER
    last = min((uppers[1] - base) >> width, len(weights) - 1)
    for window in range((max(least[1], base) - base) >> width, last + 1):
        low = max(base + (window << width), least[1])
        high = base + ((window + 1) << width) - 1
        p, q = weights[window, 0], weights[window, 1]
        r, s = others[window, 0], others[window, 1]
        first = p * residues[0] + q * residues[1]
        third = r * residues[2] + s * residues[1]
        for position in range(len(open_genes)):
            gene = open_genes[position]
            if gene < 0:
                break
            a, b, c = effects[0, position], effects[1, position], effects[2, position]
            one, other = p * a[0] + q * b[0], r * c[0] + s * b[0]
            for choice in range(1, all_sizes[gene]):
                one = min(one, p * a[choice] + q * b[choice])
                other = min(other, r * c[choice] + s * b[choice])
            first += one
            third += other
        # What the weighted sums leave where the second function is largest in the window.
        first = max(least[0], -((q * high - first) // p))
        third = max(least[2], -((s * high - third) // r))
        row = _place(low, grid[0], grid[1], rows)
        if first < ground[row, _place(third, grid[2], grid[3], columns)]:
            return OPEN
    return NO_BETTER


@numba.njit(cache=True, nogil=True)
def _note(
    found: Int, size: int, ground: Int, row: int, column: int, second: int, value: int, third: int
) -> bool:
    """Keep a point that may be on the front of three, and raise what later ones must stay below.

    Args:
        found: Points (second, first function, number, third function).
        size: How many there are.
        ground: See `_judge_surface`; changed in place.
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
        targets: See `_judge`.
        stairs: See `_judge`.
        ground: See `_judge_surface`; changed in place.
        grid: See `_judge_surface`.
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
                if is_surface:
                    verdict = _judge_surface(
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
                    for v in range(tables.n_lanes):
                        second = sum1[1, row, v]
                        if second > uppers[1]:
                            continue
                        value = sum1[0, row, v]
                        if is_surface:
                            third = sum1[2, row, v]
                            at = _place(second, grid[0], grid[1], ground.shape[0])
                            beside = _place(third, grid[2], grid[3], ground.shape[1])
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
