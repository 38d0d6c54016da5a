"""The compiled sweep over one part of a space. Importing this module needs numba."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from nastool.exact.bounding import HUGE, NO_BETTER, OPEN, least_sum, look_up, own_cost, switch
from nastool.exact.plan import Tables

Int = NDArray[np.int64]

FULL = 1
"""Status of a sweep whose front outgrew its buffer."""


@numba.njit(cache=True, nogil=True)
def add_corners(
    begin: Int,
    cells: NDArray[np.int32],
    rows: NDArray[np.int32],
    corners: Int,
    state: int,
    sign: int,
    table: Int,
) -> None:
    """Add a restricted tree to the differences, or take it away."""
    lanes = table.shape[1]
    for corner in range(begin[state], begin[state + 1]):
        target = table[cells[corner]]
        source = corners[rows[corner]]
        if sign > 0:
            for v in range(lanes):
                target[v] += source[v]
        else:
            for v in range(lanes):
                target[v] -= source[v]


@numba.njit(cache=True, nogil=True)
def _cell_costs(
    own: Int, steps: Int, inner: Int, cell_choices: Int, choices: Int, cost: int, total: Int
) -> None:
    """Cost of a prefix and each cell, but for the terms of the lanes."""
    for c in range(len(total)):
        total[c] = own[c] + cost
    for i in range(len(inner)):
        gene = inner[i]
        for side in range(2):
            neighbour = gene + 1 if side else gene - 1
            if neighbour < 0 or neighbour >= len(choices) or choices[neighbour] < 0:
                continue
            for c in range(len(total)):
                choice = cell_choices[c, i]
                if side:
                    total[c] += steps[neighbour, choice, choices[neighbour]]
                else:
                    total[c] += steps[gene, choices[neighbour], choice]


@numba.njit(cache=True, nogil=True)
def sum_row(difference: Int, third: Int, second: Int, value: Int) -> None:
    """One more row of the prefix sum: along the last axis, the second, the first."""
    for v in range(len(value)):
        a = third[v] + difference[v]
        third[v] = a
        b = second[v] + a
        second[v] = b
        value[v] += b


@numba.njit(cache=True, nogil=True)
def _any_below(value: Int, gain: Int, goal: int) -> bool:
    signs = 0
    for v in range(len(value)):
        signs |= value[v] + gain[v] - goal
    return signs < 0


@numba.njit(cache=True, nogil=True)
def insert(front: Int, size: int, cost: int, value: int, shape: int) -> int:
    """Let a point compete with a front sorted by cost; returns the new size, -1 if it is full."""
    low, high = 0, size
    while low < high:
        middle = (low + high) >> 1
        if front[middle, 0] <= cost:
            low = middle + 1
        else:
            high = middle
    at = low
    if at > 0 and front[at - 1, 1] <= value:
        return size
    if size == len(front):
        return -1
    # What the new point dominates: one of equal cost before it, some behind it.
    begin = at - 1 if at > 0 and front[at - 1, 0] == cost else at
    end = at
    while end < size and front[end, 1] >= value:
        end += 1
    moved = size - end
    # Number by number: compiling the assignment of a row takes seconds.
    for column in range(3):
        if end > begin:
            for i in range(moved):
                front[begin + 1 + i, column] = front[end + i, column]
        else:
            for i in range(moved - 1, -1, -1):
                front[begin + 1 + i, column] = front[end + i, column]
    front[begin, 0] = cost
    front[begin, 1] = value
    front[begin, 2] = shape
    return begin + 1 + moved


@numba.njit(cache=True, nogil=True)
def _improve(
    value: Int,
    gain: Int,
    goal: int,
    n: int,
    base: Int,
    lane_costs: Int,
    lower: Int,
    upper: Int,
    is_front: bool,
    number: int,
    front: Int,
    size: int,
) -> int:
    """Compare the genotypes of a row with the front one by one.

    Args:
        value: Of each lane.
        gain: Slope times axis cost of each lane.
        goal: What their sum must stay below.
        n: Lanes without padding.
        base: Costs of the row, shape (costs,).
        lane_costs: Of the lanes, shape (costs, lanes).
        lower: Least allowed costs.
        upper: Largest allowed costs.
        is_front: Whether costs compete.
        number: Of the first lane's genotype.
        front: Sorted points.
        size: How many.
    """
    for v in range(n):
        if value[v] + gain[v] >= goal:
            continue
        allowed = True
        for row in range(len(base)):
            total = base[row] + lane_costs[row, v]
            if total < lower[row] or total > upper[row]:
                allowed = False
        if allowed:
            axis = base[0] + lane_costs[0, v] if is_front else 0
            size = insert(front, size, axis, value[v], number + v)
            if size < 0:
                return size
    return size


@numba.njit(cache=True, nogil=True)
def sweep(
    tables: Tables,
    unit: int,
    unit_level: int,
    is_front: bool,
    lower: Int,
    upper: Int,
    width: int,
    targets: Int,
    row_targets: Int,
    front: Int,
    size: int,
    counts: Int,
) -> tuple[int, int]:
    """Cover all genotypes under one prefix.

    Args:
        tables: Of the plan.
        unit: Number of the prefix, of `unit_level` genes.
        unit_level: Its length.
        is_front: Whether cheaper shapes are wanted too, not only better ones.
        lower: Least allowed cost of each chain, shape (costs,).
        upper: Largest allowed.
        width: Width of a window of the axis, as a power of two.
        targets: What ``f + slope * cost`` must stay below to improve, for each window.
        row_targets: The same for the range of costs of a row that begins in a window.
        front: Points (cost, value, number of the shape) by ascending cost; grows in place, shape
            (capacity, 3).
        size: How many there are.
        counts: Filled with the number of shapes (not allowed, pruned, evaluated).

    Returns:
        A status, and how many points the front has.
    """
    outer, sizes, below = tables.outer, tables.sizes, tables.below
    following, bounds = tables.following, tables.bounds
    slopes = tables.slopes
    levels, trees, n_costs, d = len(outer), len(tables.roots), len(lower), len(tables.all_sizes)
    lanes, padded = tables.corners.shape[1], tables.ramps.shape[3]
    e1, e2, e3 = tables.extents[0], tables.extents[1], tables.extents[2]
    cells = e1 * e2 * e3
    counts[:] = 0

    choices = np.full(d, -1, np.int64)
    state = np.empty((levels + 1, trees), np.int64)
    cost = np.zeros((levels + 1, n_costs), np.int64)
    number = np.zeros(levels + 1, np.int64)
    for t in range(trees):
        state[0, t] = tables.roots[t]

    # Bounds: what the sums of additive parts were made for, and the tables of the programming.
    known = np.full((levels + 1, trees), -1, np.int64)
    additive = np.zeros((levels + 1, d * padded), np.int64)
    for i in range(levels + 1):
        for position in range(d):
            gene = tables.open_genes[i, position]
            if gene >= 0:
                additive[
                    i, position * padded + tables.all_sizes[gene] : (position + 1) * padded
                ] = HUGE
    range_ = np.zeros(2, np.int64)
    here = np.zeros(padded, np.int64)
    there = np.zeros(padded, np.int64)
    guess = 0

    # The block: differences, and running sums along the three axes.
    shown = np.full(trees, -1, np.int64)
    table = np.zeros((cells, lanes), np.int64)
    sum1 = np.zeros((e2 * e3, lanes), np.int64)
    sum2 = np.zeros((e3, lanes), np.int64)
    sum3 = np.zeros(lanes, np.int64)
    cell_cost = np.zeros((n_costs, cells), np.int64)
    left_column = right_column = -1
    for i in range(len(tables.inner)):
        if tables.inner[i] == tables.left:
            left_column = i
        if tables.inner[i] == tables.right:
            right_column = i

    given = np.zeros(levels + 1, np.int64)
    rest = unit
    for i in range(unit_level - 1, -1, -1):
        given[i] = rest % sizes[i]
        rest //= sizes[i]

    # Depth first; below the unit's own levels every choice is tried.
    level = 0
    while level >= 0:
        if level < levels:
            gene = outer[level]
            if level < unit_level:
                choice = given[level] if choices[gene] < 0 else sizes[level]
            else:
                choice = choices[gene] + 1
            if choice >= sizes[level]:
                choices[gene] = -1
                level -= 1
                continue
            choices[gene] = choice
            number[level + 1] = number[level] * sizes[level] + choice
            for row in range(n_costs):
                cost[level + 1, row] = cost[level, row] + own_cost(
                    tables.first[row], tables.steps[row], choices, gene
                )
            # Of the type of the sums, or what is called with them is compiled once more.
            bound = residue = tables.roots[0] * 0
            for t in range(trees):
                now = following[state[level, t], choice]
                state[level + 1, t] = now
                bound += bounds[now, 0]
                residue += bounds[now, 1]
            level += 1
            if level >= unit_level:
                verdict = look_up(
                    tables.segments[level],
                    tables.gain,
                    tables.low,
                    tables.high,
                    slopes,
                    choices,
                    cost[level],
                    bound,
                    lower,
                    upper,
                    width,
                    targets,
                    range_,
                )
                if verdict == OPEN and tables.first_effect[level] >= 0:
                    switch(
                        known[level],
                        state[level],
                        tables.first_state[level],
                        tables.effects[tables.first_effect[level] :],
                        (d - level) * padded,
                        additive[level],
                    )
                    own = additive[level].reshape(d, padded)
                    verdict = NO_BETTER
                    # Where the last prefix was open, the next one often is too.
                    guess = min(max(guess, range_[0]), range_[1])
                    for i in range(range_[1] - range_[0] + 1):
                        window = guess + i
                        if window > range_[1]:
                            window -= range_[1] - range_[0] + 1
                        least = (
                            residue
                            + slopes[window] * cost[level, 0]
                            + least_sum(
                                tables.open_genes[level],
                                tables.fixed[level],
                                tables.all_sizes,
                                tables.ramps[window],
                                own,
                                choices,
                                here,
                                there,
                            )
                        )
                        if least < targets[window]:
                            verdict = OPEN
                            guess = window
                            break
                if verdict != OPEN:
                    counts[verdict] += below[level]
                    level -= 1
                    continue
            if level < levels:
                continue

        # A block: every genotype that begins with this prefix of all outer genes.
        first_state = tables.first_state[levels]
        for t in range(trees):
            now = state[levels, t] - first_state
            if shown[t] != now:
                if shown[t] >= 0:
                    add_corners(
                        tables.begin, tables.cells, tables.rows, tables.corners, shown[t], -1, table
                    )
                add_corners(tables.begin, tables.cells, tables.rows, tables.corners, now, 1, table)
                shown[t] = now
        for row in range(n_costs):
            _cell_costs(
                tables.cell_costs[row],
                tables.steps[row],
                tables.inner,
                tables.cell_choices,
                choices,
                cost[levels, row],
                cell_cost[row],
            )
        left = choices[tables.left] if tables.left >= 0 and left_column < 0 else 0
        right = choices[tables.right] if tables.right >= 0 and right_column < 0 else 0
        sum1[:] = 0
        cell = 0
        for _ in range(e1):
            sum2[:] = 0
            for i2 in range(e2):
                sum3[:] = 0
                for i3 in range(e3):
                    value = sum1[i2 * e3 + i3]
                    sum_row(table[cell], sum3, sum2[i3], value)
                    if left_column >= 0:
                        left = tables.cell_choices[cell, left_column]
                    if right_column >= 0:
                        right = tables.cell_choices[cell, right_column]
                    base = cell_cost[0, cell]
                    low = max(base + tables.lane_low[left, right], lower[0])
                    high = min(base + tables.lane_high[left, right], upper[0])
                    if low <= high:
                        first = low >> width
                        window = (first + (high >> width)) >> 1
                        goal = row_targets[first, window] - slopes[window] * base
                        gain = tables.lane_gain[window, left, right]
                        if _any_below(value, gain, goal):
                            size = _improve(
                                value,
                                gain,
                                goal,
                                tables.n_lanes,
                                cell_cost[:, cell],
                                tables.lane_costs[:, left, right],
                                lower,
                                upper,
                                is_front,
                                (number[levels] * cells + cell) * tables.n_lanes,
                                front,
                                size,
                            )
                            if size < 0:
                                return FULL, 0
                    cell += 1
        counts[OPEN] += below[levels]
        level -= 1
    return 0, size
