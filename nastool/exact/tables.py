"""What the compiled sweep over one box sum and chain costs looks up."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nastool.exact.chains import Int

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
    extents: Int  # (AXES,)
    inner: Int  # (inner genes,)
    cell_choices: Int  # (cells, inner genes)
    cell_costs: Int  # (costs, cells): terms between inner genes, and of the first gene
    left: int  # gene before the lanes, -1 if none
    right: int  # gene after the lanes, -1 if none
    lane_costs: Int  # (costs, k_left, k_right, lanes)
    lane_gain: NDArray[
        np.int32
    ]  # (windows, k_left, k_right, lanes): slope * axis cost; NEVER in the padding
    lane_low: Int  # (k_left, k_right): least axis cost of the lanes
    lane_high: Int  # (k_left, k_right)
    n_lanes: int
