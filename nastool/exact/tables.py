"""What the compiled sweeps look up: over one box sum and chain costs, over several box sums."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Int

NEVER = 1 << 60
"""Larger than any sum."""

INFINITE = NEVER >> 1
"""Value of what is not known; the sum with any cost times slope stays below `NEVER`."""

ANYTHING = 1 << 62
"""Larger than any weighted sum."""

MOST = 1 << 30
"""Sums without their last bits are smaller: twice as many as of int64 are added up at once."""


class Tables(NamedTuple):
    """What the compiled sweep reads; every array is int64 unless said otherwise.

    Genes are numbered as in the chain, outer genes by level. Arrays of int32 with values hold them
    rounded down to multiples of ``2**shift``: their sums are bounds from below.
    """

    outer: Int  # (levels,) gene of each level
    sizes: Int  # (levels,) its number of choices
    all_sizes: Int  # (d,) number of choices of every gene
    below: Int  # (levels + 1,) genotypes under a prefix of that length
    roots: NDArray[np.int32]  # (trees,)
    following: NDArray[np.int32]  # states of all levels, (states, largest k)
    first_state: Int  # (levels + 1,) where the states of each level begin
    shift: int
    # (states, 2 * padded k): bounds of the state that follows each choice, by the additive part of
    # the whole tree, and by its own
    ahead: NDArray[np.int32]
    effects: NDArray[np.int32]  # (states, open genes, padded k) of all levels, one by one
    first_effect: Int  # (levels + 1,) where those of each level begin; -1 where it has none
    open_genes: Int  # (levels + 1, d): in ascending order, then -1
    fixed: Int  # (levels + 1, d): whether the gene is fixed
    ramps: (
        Int  # (windows, d, k, padded k): slope * axis cost of genes i - 1 and i, [0, 0] of gene 0
    )
    first: Int  # (costs, largest k)
    steps: Int  # (costs, d, largest k, largest k): between gene i - 1 and i
    segments: Int  # (levels + 1, most, 4): left gene, right gene, k_right, offset; -1 ends
    gain: Int  # (entries, windows): least of additive part + slope * axis cost
    low: Int  # (entries, costs)
    high: Int  # (entries, costs)
    slopes: Int  # (windows,)
    begin: Int  # (states of the last level + 1,) where each list of corners begins
    cells: NDArray[np.int32]  # (corners,)
    rows: NDArray[np.int32]  # (corners,)
    corners: Int  # (rows, lanes)
    coarse: NDArray[np.int32]  # the same
    # (states of the last level, cells): least of the tree less its additive part of the lanes
    rests: NDArray[np.int32]
    extents: Int  # (AXES,)
    inner: Int  # (inner genes,)
    lanes: Int  # (lane genes,)
    lane_choices: Int  # (lanes, lane genes)
    cell_choices: Int  # (cells, inner genes)
    cell_costs: Int  # (costs, cells): terms between inner genes, and of the first gene
    left: int  # gene before the lanes, -1 if none
    right: int  # gene after the lanes, -1 if none
    left_column: int  # where it is among the inner genes, -1 if it is none of them
    right_column: int
    lane_costs: Int  # (costs, k_left, k_right, lanes)
    lane_gain: NDArray[
        np.int32
    ]  # (windows, k_left, k_right, lanes): slope * axis cost; NEVER in the padding
    lane_low: Int  # (k_left, k_right): least axis cost of the lanes
    lane_high: Int  # (k_left, k_right)
    n_lanes: int


class Scratch(NamedTuple):
    """What the compiled sweep writes to; every array is int64 unless said otherwise.

    Made outside of it, as each kind of array that is made inside takes a quarter of a second to
    compile.
    """

    choices: Int  # (d,) of each gene, -1 where it is open
    given: Int  # (levels + 1,) choices of the prefix
    state: NDArray[np.int32]  # (levels + 1, trees)
    cost: Int  # (levels + 1, costs) of the fixed genes
    number: Int  # (levels + 1,) of the prefix
    coming: NDArray[np.int32]  # (levels + 1, 2 * padded k): bounds for each choice to follow
    known: NDArray[np.int32]  # (levels + 1, trees): the states that `additive` is made for
    additive: NDArray[np.int32]  # (levels + 1, d * padded k): sums of additive parts
    by_gene: NDArray[np.int32]  # the same as (levels + 1, d, padded k)
    windows: Int  # (2,) the first and the last that may hold an improvement
    entries: Int  # (segments,) of the tables of bounds
    here: Int  # (padded k,) of the dynamic programming
    there: Int  # (padded k,)
    told: NDArray[np.int32]  # (trees,) the states that `bound` is made for
    bound: NDArray[np.int32]  # (cells,) sums of `Tables.rests`
    offered: NDArray[np.int32]  # (lanes,) additive parts
    reach: NDArray[np.int32]  # (windows, k_left, k_right): least of these with slope * axis cost
    # (cells, 4): window, choices left and right of the lanes, and what sums must stay below; the
    # window is -1 where a row holds no improvement
    rows: Int
    shown: Int  # (trees,) the states that `table` is made for
    table: NDArray[np.int32]  # (cells, lanes): differences
    sum1: NDArray[np.int32]  # (cells of the last two axes, lanes)
    sum2: NDArray[np.int32]  # (cells of the last axis, lanes)
    sum3: NDArray[np.int32]  # (lanes,)
    exact: Int  # (lanes,)
    cell_cost: Int  # (costs, cells)


def make_scratch(tables: Tables) -> Scratch:
    """Room for one sweep at a time."""
    levels, d, trees = len(tables.outer), len(tables.all_sizes), len(tables.roots)
    costs, (cells, lanes) = len(tables.first), (len(tables.cell_choices), tables.corners.shape[1])
    padded, last = tables.ramps.shape[3], int(tables.extents[2])
    additive = np.zeros((levels + 1, d * padded), np.int32)
    return Scratch(
        choices=np.full(d, -1),
        given=np.zeros(levels + 1, np.int64),
        state=np.zeros((levels + 1, trees), np.int32),
        cost=np.zeros((levels + 1, costs), np.int64),
        number=np.zeros(levels + 1, np.int64),
        coming=np.zeros((levels + 1, tables.ahead.shape[1]), np.int32),
        known=np.full((levels + 1, trees), -1, np.int32),
        additive=additive,
        by_gene=additive.reshape(levels + 1, d, padded),
        windows=np.zeros(2, np.int64),
        entries=np.zeros(tables.segments.shape[1], np.int64),
        here=np.zeros(padded, np.int64),
        there=np.zeros(padded, np.int64),
        told=np.full(trees, -1, np.int32),
        bound=np.zeros(tables.rests.shape[1], np.int32),
        offered=np.zeros(lanes, np.int32),
        reach=np.zeros(tables.lane_gain.shape[:3], np.int32),
        rows=np.zeros((cells, 4), np.int64),
        shown=np.full(trees, -1),
        table=np.zeros((cells, lanes), np.int32),
        sum1=np.zeros((cells // int(tables.extents[0]), lanes), np.int32),
        sum2=np.zeros((last, lanes), np.int32),
        sum3=np.zeros(lanes, np.int32),
        exact=np.zeros(lanes, np.int64),
        cell_cost=np.zeros((costs, cells), np.int64),
    )


class JointTables(NamedTuple):
    """What the compiled joint sweep reads; `Tables` says what has a name there."""

    outer: Int
    sizes: Int
    all_sizes: Int
    below: Int
    roots: NDArray[np.int32]
    following: NDArray[np.int32]
    first_state: Int
    bounds: Int
    effects: Int
    first_effect: Int
    open_genes: Int
    begin: Int
    cells: NDArray[np.int32]
    rows: NDArray[np.int32]
    corners: Int
    rests: Int
    extents: Int
    lanes: Int
    lane_choices: Int
    n_lanes: int
    padded: int  # largest number of choices, up to whole vector registers
    trees: Int  # (functions + 1,) where the trees of each function begin
    uppers: Int  # (functions,)
    weights: Int  # (windows, 2): of the first two functions
    others: Int  # (windows, 2): of the third and the second function
    base: int  # below every value of the second function that is allowed
    width: int  # of a window of the second function, as a power of two
    step: int  # of an interval of `stairs`, as a power of two
