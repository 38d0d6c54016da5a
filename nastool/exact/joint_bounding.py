"""Compiled bounds of the joint sweep. Importing this module needs numba."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Int
from nastool.exact.bounding import NO_BETTER, NOTHING, OPEN, offer
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
def judge(
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
def interval(value: int, begin: int, step: int, n: int) -> int:
    """In which of n intervals a value lies; the first and the last have no end."""
    return min(max(((value - begin) >> step) + 1, 0), n - 1)


@numba.njit(cache=True, nogil=True)
def judge_surface(
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
        residues: See `judge`, as what is not said here.
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
    row = interval(least[1], grid[0], grid[1], rows)
    if least[0] >= ground[row, interval(least[2], grid[2], grid[3], columns)]:
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
        row = interval(low, grid[0], grid[1], rows)
        if first < ground[row, interval(third, grid[2], grid[3], columns)]:
            return OPEN
    return NO_BETTER


@numba.njit(cache=True, nogil=True)
def mark_rows(
    tables: JointTables,
    least: Int,
    effects: Int,
    is_surface: bool,
    stairs: Int,
    ground: Int,
    grid: Int,
    offered: Int,
    may: NDArray[np.bool_],
) -> bool:
    """Mark which rows of a block may hold an improvement; whether any may.

    Each shape is bounded by the trees' least values, in its row, less their additive parts of the
    lanes, and by these.

    Args:
        tables: Of the sweep.
        least: Those least values, summed, shape (functions, cells).
        effects: Sums of the additive parts, shape (functions, open genes, padded k).
        is_surface: See `sweep`, as what is not said here.
        stairs: Likewise.
        ground: Likewise.
        grid: Likewise.
        offered: Scratch, shape (functions, lanes + 1).
        may: Filled, shape (cells,).
    """
    n = len(least)
    for k in range(n):
        offer(
            effects[k],
            tables.open_genes[len(tables.outer)],
            tables.lanes,
            tables.lane_choices,
            offered[k],
        )
    # Last, the least of each function: most rows need no more.
    for k in range(n):
        smallest = offered[k, 0]
        for v in range(1, tables.n_lanes):
            smallest = min(smallest, offered[k, v])
        offered[k, tables.n_lanes] = smallest
    any_may = False
    for cell in range(len(may)):
        may[cell] = False
        for v in range(tables.n_lanes, -1, -1):
            second = max(least[1, cell] + offered[1, v], tables.base)
            value = least[0, cell] + offered[0, v]
            improves = second <= tables.uppers[1]
            for k in range(2, n):
                improves = improves and least[k, cell] + offered[k, v] <= tables.uppers[k]
            if improves and is_surface:
                third = least[2, cell] + offered[2, v]
                row = interval(second, grid[0], grid[1], ground.shape[0])
                improves = value < ground[row, interval(third, grid[2], grid[3], ground.shape[1])]
            elif improves:
                improves = value < stairs[(second - tables.base) >> tables.step]
            if improves and v < tables.n_lanes:
                may[cell] = any_may = True
            if improves == (v < tables.n_lanes):
                break
    return any_may
