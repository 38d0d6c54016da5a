"""The compiled sweep over one part of a space. Importing this module needs numba."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Int
from nastool.exact.bounding import (
    NO_BETTER,
    OPEN,
    Whole,
    least_sum,
    look_ahead,
    look_up,
    mark_rows,
    own_cost,
    switch,
)
from nastool.exact.staircase import insert, place
from nastool.exact.tables import INFINITE, Scratch, Tables

Short = NDArray[np.int32]

FULL = 1
"""Status of a sweep whose front outgrew its buffer."""

_ASK = -2
"""In place of a number of points: a value must be known exactly."""


@numba.njit(cache=True, nogil=True)
def exchange_corners(
    begin: Int,
    cells: Short,
    rows: Short,
    corners: Whole,
    old: int,
    new: int,
    table: Whole,
) -> None:
    """Take a restricted tree off the differences (-1: none) and add another one."""
    lanes = table.shape[1]
    if old >= 0:
        for corner in range(begin[old], begin[old + 1]):
            target = table[cells[corner]]
            source = corners[rows[corner]]
            for v in range(lanes):
                target[v] -= source[v]
    for corner in range(begin[new], begin[new + 1]):
        target = table[cells[corner]]
        source = corners[rows[corner]]
        for v in range(lanes):
            target[v] += source[v]


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
def sum_row(difference: Whole, third: Whole, second: Whole, value: Whole) -> None:
    """One more row of the prefix sum: along the last axis, the second, the first."""
    for v in range(len(value)):
        a = third[v] + difference[v]
        third[v] = a
        b = second[v] + a
        second[v] = b
        value[v] += b


@numba.njit(cache=True, nogil=True)
def _any_below(value: Short, gain: Short, goal: int) -> bool:
    signs = np.int32(0)
    for v in range(len(value)):
        signs |= np.int32(value[v] + gain[v] - goal)
    return bool(signs < 0)


@numba.njit(cache=True, nogil=True)
def _sum_exactly(
    begin: Int,
    cells: Short,
    rows: Short,
    corners: Int,
    state: Int,
    extents: Int,
    cell: int,
    values: Int,
) -> None:
    """Values of one row of a block, bit by bit: the sum of the corners in front of it.

    Args:
        begin: See `Tables`, as the other arrays of corners.
        cells: Likewise.
        rows: Likewise.
        corners: Likewise.
        state: Of each tree, counted from the first before a block.
        extents: Of the three axes.
        cell: Number of the row.
        values: Filled, shape (lanes,).
    """
    values[:] = 0
    for t in range(len(state)):
        for corner in range(begin[state[t]], begin[state[t] + 1]):
            at, here, in_front = cells[corner], cell, True
            for axis in range(2, -1, -1):
                in_front &= at % extents[axis] <= here % extents[axis]
                at, here = at // extents[axis], here // extents[axis]
            if in_front:
                row = corners[rows[corner]]
                for v in range(len(values)):
                    values[v] += row[v]


@numba.njit(cache=True, nogil=True)
def _improve(
    value: Short,
    gain: Short,
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
    shift: int,
    exact: Int,
    is_exact: bool,
) -> int:
    """Compare the genotypes of a row with the front one by one.

    Args:
        value: Of each lane, without its last bits; rounded down.
        gain: Slope times axis cost of each lane, likewise.
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
        shift: How many bits.
        exact: The lanes' values with all bits.
        is_exact: Whether they are there.

    Returns:
        The new number of points; -1 if they do not fit, `_ASK` if a value may be one of
        them and is not known exactly.
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
            if is_exact:
                size = insert(front, size, axis, exact[v], number + v)
                if size < 0:
                    return size
            elif place(front, size, axis, int(value[v]) << shift) >= 0:
                return _ASK
    return size


@numba.njit(cache=True, nogil=True)
def sweep(
    tables: Tables,
    scratch: Scratch,
    unit: int,
    unit_level: int,
    is_front: bool,
    lower: Int,
    upper: Int,
    width: int,
    step: int,
    targets: Int,
    row_targets: Int,
    limits: Short,
    front: Int,
    size: int,
    counts: Int,
) -> tuple[int, int]:
    """Cover all genotypes under one prefix.

    Args:
        tables: Of the plan.
        scratch: As `make_scratch` makes it.
        unit: Number of the prefix, of `unit_level` genes.
        unit_level: Its length.
        is_front: Whether cheaper shapes are wanted too, not only better ones.
        lower: Least allowed cost of each chain, shape (costs,).
        upper: Largest allowed.
        width: Width of a window of the axis, as a power of two.
        step: Of an interval, likewise.
        targets: What ``f + slope * cost`` must stay below to improve, for each window.
        row_targets: The same for the range of costs of a row that begins in a window.
        limits: What a value without its last bits must stay below to improve, for each interval
            of the axis cost.
        front: Points (cost, value, number of the shape) by ascending cost; grows in place, shape
            (capacity, 3).
        size: How many there are.
        counts: Filled with the number of shapes (not allowed, pruned, evaluated).

    Returns:
        A status, and how many points the front has.
    """
    outer, sizes, below = tables.outer, tables.sizes, tables.below
    following, slopes = tables.following, tables.slopes
    levels, trees, n_costs, d = len(outer), len(tables.roots), len(lower), len(tables.all_sizes)
    padded, shift = tables.ramps.shape[3], tables.shift
    e1, e2, e3 = tables.extents[0], tables.extents[1], tables.extents[2]
    cells = e1 * e2 * e3
    counts[:] = 0

    choices, state, cost, number = scratch.choices, scratch.state, scratch.cost, scratch.number
    coming, known, additive = scratch.coming, scratch.known, scratch.additive
    here, there, range_ = scratch.here, scratch.there, scratch.windows
    shown, table, exact = scratch.shown, scratch.table, scratch.exact
    sum1, sum2, sum3 = scratch.sum1, scratch.sum2, scratch.sum3
    cell_cost, given, rows = scratch.cell_cost, scratch.given, scratch.rows
    for t in range(trees):
        state[0, t] = tables.roots[t]
    guess = 0
    prunes = False
    for window in range(len(targets)):
        prunes |= targets[window] < INFINITE

    rest = unit
    for i in range(unit_level - 1, -1, -1):
        given[i] = rest % sizes[i]
        rest //= sizes[i]

    # Depth first; below the unit's own levels every choice is tried.
    level = 0
    while level >= 0:
        if level < levels:
            gene = outer[level]
            if choices[gene] < 0:
                choice = given[level] if level < unit_level else 0
                if level + 1 >= unit_level:
                    look_ahead(tables.ahead, state[level], coming[level])
            else:
                choice = sizes[level] if level < unit_level else choices[gene] + 1
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
            level += 1
            verdict = OPEN
            if level >= unit_level:
                verdict = look_up(
                    tables.segments[level],
                    tables.gain,
                    tables.low,
                    tables.high,
                    slopes,
                    choices,
                    cost[level],
                    int(coming[level - 1, choice]) << shift,
                    lower,
                    upper,
                    width,
                    targets,
                    range_,
                    scratch.entries,
                )
            if verdict == OPEN:
                for t in range(trees):
                    state[level, t] = following[state[level - 1, t], choice]
                if level >= unit_level and tables.first_effect[level] >= 0:
                    switch(
                        known[level],
                        state[level],
                        tables.first_state[level],
                        tables.effects[tables.first_effect[level] :],
                        (d - level) * padded,
                        additive[level],
                    )
                    residue = int(coming[level - 1, len(coming[0]) // 2 + choice]) << shift
                    own = scratch.by_gene[level]
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
                                shift,
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
        is_bounded = prunes and len(scratch.bound) > 0
        if is_bounded:
            switch(
                scratch.told,
                state[levels],
                tables.first_state[levels],
                tables.rests.reshape(-1),
                cells,
                scratch.bound,
            )
        if not mark_rows(
            tables,
            scratch,
            is_bounded,
            lower[0],
            upper[0],
            width,
            row_targets,
            step,
            limits,
        ):
            counts[NO_BETTER] += below[levels]
            level -= 1
            continue
        first_state = tables.first_state[levels]
        for t in range(trees):
            now = state[levels, t] - first_state
            if shown[t] != now:
                exchange_corners(
                    tables.begin,
                    tables.cells,
                    tables.rows,
                    tables.coarse,
                    shown[t],
                    now,
                    table,
                )
                shown[t] = now
        sum1[:] = 0
        for i1 in range(e1):
            sum2[:] = 0
            for i2 in range(e2):
                sum3[:] = 0
                for i3 in range(e3):
                    value = sum1[i2 * e3 + i3]
                    # Counted up from 0, it would be of another type the first time.
                    cell = (i1 * e2 + i2) * e3 + i3
                    sum_row(table[cell], sum3, sum2[i3], value)
                    window, left, right = rows[cell, 0], rows[cell, 1], rows[cell, 2]
                    if window >= 0:
                        goal, gain = rows[cell, 3], tables.lane_gain[window, left, right]
                        if _any_below(value, gain, goal):
                            for is_exact in range(2):
                                found = _improve(
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
                                    shift,
                                    exact,
                                    is_exact > 0,
                                )
                                if found != _ASK:
                                    break
                                _sum_exactly(
                                    tables.begin,
                                    tables.cells,
                                    tables.rows,
                                    tables.corners,
                                    shown,
                                    tables.extents,
                                    cell,
                                    exact,
                                )
                            size = found
                            if size < 0:
                                return FULL, 0
        counts[OPEN] += below[levels]
        level -= 1
    return 0, size
