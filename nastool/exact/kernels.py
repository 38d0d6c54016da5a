"""The compiled sweep over one part of a space. Importing this module needs numba."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from nastool.exact.plan import NEVER, Tables

Int = NDArray[np.int64]

FULL = 1
"""Status of a sweep whose front outgrew its buffer."""


@numba.njit(cache=True, nogil=True, inline="always")
def _fixed(choices: Int, gene: int) -> int:
    return choices[gene] if gene >= 0 else 0


@numba.njit(cache=True, nogil=True)
def _own_cost(tables: Tables, row: int, choices: Int, gene: int) -> int:
    """Terms of a gene with its fixed neighbours (choice -1 where not fixed)."""
    choice = choices[gene]
    total = 0
    if gene == 0:
        total += tables.first[row, choice]
    elif choices[gene - 1] >= 0:
        total += tables.steps[row, gene, choices[gene - 1], choice]
    if gene + 1 < len(choices) and choices[gene + 1] >= 0:
        total += tables.steps[row, gene + 1, choice, choices[gene + 1]]
    return total


@numba.njit(cache=True, nogil=True)
def _verdict(
    tables: Tables,
    level: int,
    choices: Int,
    cost: Int,
    bound: int,
    lower: Int,
    upper: Int,
    width: int,
    targets: Int,
) -> int:
    """0: nothing under the prefix is allowed; 1: none improves on what is known; 2: go on."""
    found = tables.segments[level]
    for row in range(len(cost)):
        low = high = cost[row]
        for s in range(found.shape[0]):
            if found[s, 3] < 0:
                break
            entry = found[s, 3] + _fixed(choices, found[s, 0]) * found[s, 2]
            entry += _fixed(choices, found[s, 1])
            low += tables.low[entry, row]
            high += tables.high[entry, row]
        if low > upper[row] or high < lower[row]:
            return 0
        if row == 0:
            first = max(low, lower[0]) >> width
            last = min(high, upper[0]) >> width
    for window in range(first, last + 1):
        least = bound + tables.slopes[window] * cost[0]
        for s in range(found.shape[0]):
            if found[s, 3] < 0:
                break
            entry = found[s, 3] + _fixed(choices, found[s, 0]) * found[s, 2]
            entry += _fixed(choices, found[s, 1])
            least += tables.gain[entry, window]
        if least < targets[window]:
            return 2
    return 1


@numba.njit(cache=True, nogil=True)
def _threshold(front: Int, size: int, cost: int) -> int:
    """Where a cost belongs in a front sorted by it: the number of points that cost no more."""
    low, high = 0, size
    while low < high:
        middle = (low + high) >> 1
        if front[middle, 0] <= cost:
            low = middle + 1
        else:
            high = middle
    return low


@numba.njit(cache=True, nogil=True)
def _insert(front: Int, size: int, at: int, cost: int, value: int, shape: int) -> int:
    """Put a point that nothing dominates into the front and drop what it dominates."""
    # Of equal cost with a larger value: the one just before.
    begin = at
    if at > 0 and front[at - 1, 0] == cost:
        begin = at - 1
    end = at
    while end < size and front[end, 1] >= value:
        end += 1
    moved = size - end
    if end > begin + 1:
        for i in range(moved):
            front[begin + 1 + i] = front[end + i]
    elif end < begin + 1:
        for i in range(moved - 1, -1, -1):
            front[begin + 1 + i] = front[end + i]
    front[begin, 0] = cost
    front[begin, 1] = value
    front[begin, 2] = shape
    return begin + 1 + moved


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
    levels = len(tables.outer)
    trees = len(tables.roots)
    n_costs = len(lower)
    d = tables.steps.shape[1]
    lanes = tables.corners.shape[1]
    e1, e2, e3 = tables.extents[0], tables.extents[1], tables.extents[2]
    cells = e1 * e2 * e3
    counts[:] = 0

    choices = np.full(d, -1, np.int64)
    state = np.empty((levels + 1, trees), np.int64)
    cost = np.zeros((levels + 1, n_costs), np.int64)
    number = np.zeros(levels + 1, np.int64)
    for t in range(trees):
        state[0, t] = tables.roots[t]

    # The block: differences, and running sums along the three axes.
    table = np.zeros((cells, lanes), np.int64)
    sum1 = np.zeros((e2 * e3, lanes), np.int64)
    sum2 = np.zeros((e3, lanes), np.int64)
    sum3 = np.zeros(lanes, np.int64)
    cell_cost = np.zeros((n_costs, cells), np.int64)

    level = 0
    choices_left = np.zeros(levels + 1, np.int64)
    rest = unit
    for i in range(unit_level - 1, -1, -1):
        choices_left[i] = rest % tables.sizes[i]
        rest //= tables.sizes[i]

    # Depth first; below the unit's own levels every choice is tried.
    while level >= 0:
        if level < levels and level < unit_level:
            if choices[tables.outer[level]] >= 0:
                choices[tables.outer[level]] = -1
                level -= 1
                continue
            choice = choices_left[level]
        elif level < levels:
            choice = choices[tables.outer[level]] + 1
            if choice >= tables.sizes[level]:
                choices[tables.outer[level]] = -1
                level -= 1
                continue
        if level < levels:
            gene = tables.outer[level]
            choices[gene] = choice
            number[level + 1] = number[level] * tables.sizes[level] + choice
            for row in range(n_costs):
                cost[level + 1, row] = cost[level, row] + _own_cost(tables, row, choices, gene)
            bound = 0
            for t in range(trees):
                following = tables.following[state[level, t], choice]
                state[level + 1, t] = following
                bound += tables.bounds[following]
            if level + 1 >= unit_level:
                verdict = _verdict(
                    tables,
                    level + 1,
                    choices,
                    cost[level + 1],
                    bound,
                    lower,
                    upper,
                    width,
                    targets,
                )
                if verdict < 2:
                    counts[verdict] += tables.below[level + 1]
                    continue
            level += 1
            if level < levels:
                continue
        # A block.
        size = _block(
            tables,
            is_front,
            lower,
            upper,
            width,
            row_targets,
            front,
            size,
            choices,
            state[levels],
            cost[levels],
            number[levels],
            table,
            sum1,
            sum2,
            sum3,
            cell_cost,
        )
        if size < 0:
            return FULL, 0
        counts[2] += tables.below[levels]
        level -= 1
    return 0, size


@numba.njit(cache=True, nogil=True)
def _block(
    tables: Tables,
    is_front: bool,
    lower: Int,
    upper: Int,
    width: int,
    row_targets: Int,
    front: Int,
    size: int,
    choices: Int,
    state: Int,
    cost: Int,
    number: int,
    table: Int,
    sum1: Int,
    sum2: Int,
    sum3: Int,
    cell_cost: Int,
) -> int:
    """Evaluate every genotype that begins with a prefix of all outer genes."""
    lanes = table.shape[1]
    n_costs = len(cost)
    e1, e2, e3 = tables.extents[0], tables.extents[1], tables.extents[2]
    last_states = tables.first_state[len(tables.outer)]
    for t in range(len(state)):
        s = state[t] - last_states
        for corner in range(tables.begin[s], tables.begin[s + 1]):
            target = table[tables.cells[corner]]
            source = tables.corners[tables.rows[corner]]
            for v in range(lanes):
                target[v] += source[v]

    for row in range(n_costs):
        here = cell_cost[row]
        here[:] = tables.cell_costs[row]
        here += cost[row]
        for i in range(len(tables.inner)):
            gene = tables.inner[i]
            before = choices[gene - 1] if gene > 0 else -1
            after = choices[gene + 1] if gene + 1 < len(choices) else -1
            if before >= 0:
                terms = tables.steps[row, gene, before]
                for c in range(len(here)):
                    here[c] += terms[tables.cell_choices[c, i]]
            if after >= 0:
                terms = tables.steps[row, gene + 1, :, after]
                for c in range(len(here)):
                    here[c] += terms[tables.cell_choices[c, i]]
    left_column = right_column = -1
    for i in range(len(tables.inner)):
        if tables.inner[i] == tables.left:
            left_column = i
        if tables.inner[i] == tables.right:
            right_column = i
    left = _fixed(choices, tables.left)
    right = _fixed(choices, tables.right)

    sum1[:] = 0
    cell = 0
    for i1 in range(e1):
        sum2[:] = 0
        for i2 in range(e2):
            sum3[:] = 0
            for i3 in range(e3):
                difference = table[cell]
                second = sum2[i3]
                value = sum1[i2 * e3 + i3]
                for v in range(lanes):
                    a = sum3[v] + difference[v]
                    sum3[v] = a
                    b = second[v] + a
                    second[v] = b
                    value[v] += b
                    difference[v] = 0
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
                    slope = tables.slopes[window]
                    goal = row_targets[first, window] - slope * base
                    gain = tables.lane_gain[window, left, right]
                    signs = 0
                    for v in range(lanes):
                        signs |= value[v] + gain[v] - goal
                    if signs < 0:
                        size = _improve(
                            tables,
                            is_front,
                            lower,
                            upper,
                            front,
                            size,
                            number,
                            cell,
                            left,
                            right,
                            cell_cost,
                            value,
                            gain,
                            goal,
                        )
                        if size < 0:
                            return size
                cell += 1
    return size


@numba.njit(cache=True, nogil=True)
def _improve(
    tables: Tables,
    is_front: bool,
    lower: Int,
    upper: Int,
    front: Int,
    size: int,
    number: int,
    cell: int,
    left: int,
    right: int,
    cell_cost: Int,
    value: Int,
    gain: Int,
    goal: int,
) -> int:
    """Compare the genotypes of a row with the front one by one."""
    for v in range(tables.n_lanes):
        if value[v] + gain[v] >= goal:
            continue
        allowed = True
        for row in range(len(lower)):
            total = cell_cost[row, cell] + tables.lane_costs[row, left, right, v]
            if total < lower[row] or total > upper[row]:
                allowed = False
        if not allowed:
            continue
        axis = cell_cost[0, cell] + tables.lane_costs[0, left, right, v] if is_front else 0
        at = _threshold(front, size, axis)
        if at > 0 and front[at - 1, 1] <= value[v]:
            continue
        if size == len(front):
            return -1
        shape = (number * len(cell_cost[0]) + cell) * tables.n_lanes + v
        size = _insert(front, size, at, axis, value[v], shape)
    return size
