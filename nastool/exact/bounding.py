"""Compiled bounds on what lies under a prefix. Importing this module needs numba."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Int
from nastool.exact.tables import MOST, Scratch, Tables

Whole = NDArray[np.signedinteger]

NOTHING, NO_BETTER, OPEN = 0, 1, 2
"""Under a prefix: no genotype is allowed; none improves on what is known; one may."""


@numba.njit(cache=True, nogil=True)
def own_cost(first: Int, steps: Int, choices: Int, gene: int) -> int:
    """Terms of a gene with its fixed neighbours (choice -1 where not fixed)."""
    choice = choices[gene]
    total = 0
    if gene == 0:
        total += first[choice]
    elif choices[gene - 1] >= 0:
        total += steps[gene, choices[gene - 1], choice]
    if gene + 1 < len(choices) and choices[gene + 1] >= 0:
        total += steps[gene + 1, choice, choices[gene + 1]]
    return total


@numba.njit(cache=True, nogil=True)
def look_up(
    segments: Int,
    gain: Int,
    low: Int,
    high: Int,
    slopes: Int,
    choices: Int,
    cost: Int,
    bound: int,
    lower: Int,
    upper: Int,
    width: int,
    targets: Int,
    range_: Int,
    entries: Int,
) -> int:
    """Judge a prefix by tables; leaves in `range_` the windows where it may improve.

    `entries` is scratch.
    """
    n = 0
    for s in range(len(segments)):
        if segments[s, 3] < 0:
            break
        left, right = segments[s, 0], segments[s, 1]
        entry = segments[s, 3]
        if left >= 0:
            entry += choices[left] * segments[s, 2]
        if right >= 0:
            entry += choices[right]
        entries[n] = entry
        n += 1
    first = last = 0
    for row in range(len(cost)):
        least = most = cost[row]
        for s in range(n):
            least += low[entries[s], row]
            most += high[entries[s], row]
        if least > upper[row] or most < lower[row]:
            return NOTHING
        if row == 0:
            first = max(least, lower[0]) >> width
            last = min(most, upper[0]) >> width
    range_[0], range_[1] = last + 1, last
    for window in range(first, last + 1):
        value = bound + slopes[window] * cost[0]
        for s in range(n):
            value += gain[entries[s], window]
        if value < targets[window]:
            range_[0] = min(range_[0], window)
            range_[1] = window
    if range_[0] > last:
        return NO_BETTER
    # Up to the last one that failed.
    return OPEN


@numba.njit(cache=True, nogil=True)
def least_sum(
    open_genes: Int,
    fixed: Int,
    sizes: Int,
    ramps: Int,
    effects: NDArray[np.int32],
    shift: int,
    choices: Int,
    here: Int,
    there: Int,
) -> int:
    """Least additive part plus slope times axis cost over the open genes, by dynamic programming.

    Args:
        open_genes: In ascending order, then -1.
        fixed: Whether each gene is fixed.
        sizes: Number of choices of each gene.
        ramps: Slope times axis cost between each gene and the one before, (d, k, padded k).
        effects: Additive part of the open genes without its last bits, (d, padded k).
        shift: How many bits.
        choices: Of the fixed genes.
        here: Scratch, (padded k,).
        there: Likewise.
    """
    total = 0
    lanes = len(here)
    for position in range(len(open_genes)):
        gene = open_genes[position]
        if gene < 0:
            break
        own = effects[position]
        if gene == 0 or fixed[gene - 1]:
            before = ramps[gene, choices[gene - 1] if gene else 0]
            for c in range(lanes):
                there[c] = before[c]
        else:
            ramp = ramps[gene, 0]
            first = here[0]
            for c in range(lanes):
                there[c] = first + ramp[c]
            for b in range(1, sizes[gene - 1]):
                ramp = ramps[gene, b]
                value = here[b]
                for c in range(lanes):
                    there[c] = min(there[c], value + ramp[c])
        for c in range(lanes):
            here[c] = there[c] + (int(own[c]) << shift)
        if gene + 1 == len(fixed):
            # The array's own method takes seconds to compile.
            least = here[0]
            for c in range(1, sizes[gene]):
                least = min(least, here[c])
            total += least
        elif fixed[gene + 1]:
            # The end of a run of open genes.
            after = ramps[gene + 1, :, choices[gene + 1]]
            least = here[0] + after[0]
            for c in range(1, sizes[gene]):
                least = min(least, here[c] + after[c])
            total += least
    return total


@numba.njit(cache=True, nogil=True)
def look_ahead(
    ahead: NDArray[np.int32], state: NDArray[np.int32], total: NDArray[np.int32]
) -> None:
    """Bounds of all that may follow a prefix: the sums over its trees' states."""
    total[:] = 0
    for t in range(len(state)):
        row = ahead[state[t]]
        for c in range(len(total)):
            total[c] += row[c]


@numba.njit(cache=True, nogil=True)
def switch(
    known: Whole, state: Whole, first: int, effects: Whole, width: int, total: Whole
) -> None:
    """Keep the sum of the trees' additive parts up to date, tree by tree where one changed."""
    for t in range(len(state)):
        if known[t] == state[t]:
            continue
        new = effects[(state[t] - first) * width :]
        if known[t] < 0:
            for i in range(width):
                total[i] += new[i]
        else:
            old = effects[(known[t] - first) * width :]
            for i in range(width):
                total[i] += new[i] - old[i]
        known[t] = state[t]


@numba.njit(cache=True, nogil=True)
def offer(effects: Whole, open_genes: Int, lanes: Int, lane_choices: Int, offered: Whole) -> None:
    """Add up the additive parts of the genes of the lanes.

    Args:
        effects: Of the open genes, shape (open genes, padded k).
        open_genes: In ascending order.
        lanes: The genes, likewise.
        lane_choices: Their choices, shape (lanes, lane genes).
        offered: Filled, shape (lanes or more,).
    """
    for v in range(len(offered)):
        offered[v] = 0
    position = 0
    for i in range(len(lanes)):
        while open_genes[position] != lanes[i]:
            position += 1
        for v in range(len(lane_choices)):
            offered[v] += effects[position, lane_choices[v, i]]


@numba.njit(cache=True, nogil=True)
def mark_rows(
    tables: Tables,
    scratch: Scratch,
    is_bounded: bool,
    lower: int,
    upper: int,
    width: int,
    row_targets: Int,
    step: int,
    limits: NDArray[np.int32],
) -> bool:
    """Note in `scratch.rows` how the rows of a block are judged; whether any may improve.

    A row is bounded by the trees' least values less their additive parts of the lanes, and by the
    least of these parts and the slope times the axis cost; where that is not enough, each of its
    genotypes by its own additive parts and cost.

    Args:
        tables: See `nastool.exact.kernels.sweep`, as what is not said here.
        scratch: Likewise; with the choices, the costs of the rows and the sums of `Tables.rests`.
        is_bounded: Whether rows that cannot improve are left out, not only those not allowed.
        lower: Least allowed axis cost.
        upper: Largest.
        width: As in the sweep.
        row_targets: Likewise.
        step: Likewise.
        limits: Likewise.
    """
    offered, reach, rows, levels = scratch.offered, scratch.reach, scratch.rows, len(tables.outer)
    if is_bounded:
        offer(
            scratch.by_gene[levels],
            tables.open_genes[levels],
            tables.lanes,
            tables.lane_choices,
            offered,
        )
        reach[:] = MOST
    any_may = not is_bounded
    left = scratch.choices[tables.left] if tables.left >= 0 else 0
    right = scratch.choices[tables.right] if tables.right >= 0 else 0
    for cell in range(len(rows)):
        if tables.left_column >= 0:
            left = tables.cell_choices[cell, tables.left_column]
        if tables.right_column >= 0:
            right = tables.cell_choices[cell, tables.right_column]
        base = scratch.cell_cost[0, cell]
        low = max(base + tables.lane_low[left, right], lower)
        high = min(base + tables.lane_high[left, right], upper)
        rows[cell, 0] = -1
        if low > high:
            continue
        first = low >> width
        window = (first + (high >> width)) >> 1
        # What sums without their last bits must stay below: with all bits they are below it, too.
        target = row_targets[first, window] - tables.slopes[window] * base
        goal = max(min(((target - 1) >> tables.shift) + 1, MOST), 1 - MOST)
        if is_bounded:
            gain, costs = tables.lane_gain[window, left, right], tables.lane_costs[0, left, right]
            if reach[window, left, right] == MOST:
                least = offered[0] + gain[0]
                for v in range(1, tables.n_lanes):
                    least = min(least, offered[v] + gain[v])
                reach[window, left, right] = least
            if scratch.bound[cell] + reach[window, left, right] >= goal:
                continue
            # One is enough: then the block is summed, and its rows are looked at again.
            if not any_may:
                signs, least = np.int32(0), scratch.bound[cell]
                for v in range(tables.n_lanes):
                    limit = limits[(base + costs[v]) >> step]
                    signs |= np.int32(least + offered[v] - limit)
                any_may = bool(signs < 0)
                if not any_may:
                    continue
        rows[cell, 0], rows[cell, 1], rows[cell, 2] = window, left, right
        rows[cell, 3] = goal
    return any_may
