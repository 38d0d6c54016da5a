"""Everything that the sweep over a space looks up, computed beforehand.

For a prefix of all outer genes the function of the genes of a block is added up at once, as a
prefix sum: each restricted tree contributes the corners of its boxes to a table of differences
along the three axes, and summing along the axes yields every value, at three additions each,
however many trees there are. The lanes are added as rows, many at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Int
from nastool.exact.blocks import cell_bounds, corner_tables
from nastool.exact.boxes import BoxSum
from nastool.exact.chains import IntegerChain, least, segments
from nastool.exact.layout import Layout, choose_layout, joint_choices, padded_length
from nastool.exact.states import States, build_states, contains
from nastool.exact.tables import MOST, NEVER, Tables
from nastool.pareto import staircase

WINDOWS = 32
"""Intervals of the axis cost, each with a slope of its own in the bounds."""


def lowest(points: Int) -> Int:
    """Points (cost, value, number) that none dominates, by cost; of equal ones the first."""
    return np.ascontiguousarray(points[staircase(*points.T)])


@dataclass(frozen=True, eq=False)
class Plan:
    """A search, ready to run.

    Args:
        layout: Which gene plays which part.
        states: The restricted trees.
        tables: For the sweep.
        width: Width of a window of the axis cost as a power of two; the first begins at 0.
    """

    layout: Layout
    states: States
    tables: Tables
    width: int

    @property
    def nbytes(self) -> int:
        """Memory of the tables."""
        states = sum(layer.following.nbytes + layer.bounds.nbytes for layer in self.states.layers)
        arrays = sum(a.nbytes for a in self.tables if isinstance(a, np.ndarray))
        return states + arrays + sum(leaves.nbytes for leaves in self.states.leaves)


def make_plan(
    function: BoxSum, costs: Sequence[IntegerChain], memory: int = 1 << 31, windows: int = WINDOWS
) -> Plan:
    """Prepare a search.

    Args:
        function: What is minimised.
        costs: The axis of the front (or the bounded cost that matters most), whose least value
            is 0, and further bounded costs.
        memory: Most bytes that tables may take.
        windows: Intervals of the axis cost, each with a slope of its own in the bounds.

    Raises:
        InvalidInputError: The tables take more than that.
    """
    cardinalities = function.cardinalities.tolist()
    effects = gene_importance(function)
    layout = choose_layout(cardinalities, effects)
    depth = len(layout.outer)
    states = build_states(function, layout.order, depth, memory)
    unary = [states.additive[gene, :k] for gene, k in enumerate(cardinalities)]
    width = (costs[0].ends[1] // windows).bit_length()
    slopes = _choose_slopes(costs[0], unary, width, windows)
    fields: dict[str, Any] = {
        **level_tables(layout, states, cardinalities),
        **_cost_tables(layout, costs, cardinalities, unary, slopes),
        **_block_tables(layout, costs, cardinalities, slopes),
        **corner_tables(function, layout, states, memory),
    }
    fields |= _short_tables(function, costs[0], fields)
    fields["rests"] = cell_bounds(function, layout, states, fields["shift"], np.int32)
    return Plan(layout, states, Tables(**fields), width)


def _short_tables(function: BoxSum, axis: IntegerChain, fields: dict[str, Any]) -> dict[str, Any]:
    """What is added up most, without the last bits: rounded down, it bounds from below.

    Args:
        function: What is minimised.
        axis: The first cost.
        fields: The other tables.
    """
    bounds, effects, gain = fields.pop("bounds"), fields["effects"], fields["lane_gain"]
    largest_effect = int(np.abs(effects).max(initial=0))
    # What is left of a tree of all effects of the lanes.
    most = int(np.abs(function.values).max(initial=0)) + len(fields["lanes"]) * largest_effect
    largest = max(most, int(np.abs(bounds).max(initial=0))) * function.n_trees
    largest += int(fields["slopes"].max()) * axis.magnitude
    shift = max(0, largest.bit_length() - MOST.bit_length() + 2)
    following = fields["following"]
    padded = padded_length(following.shape[1])
    ahead = np.zeros((len(following), 2, padded), np.int32)
    for level, k in enumerate(fields["sizes"].tolist()):
        rows = slice(*fields["first_state"][level : level + 2].tolist())
        ahead[rows, :, :k] = (bounds[following[rows, :k]] >> shift).transpose(0, 2, 1)
    return {
        "shift": shift,
        "ahead": ahead.reshape(len(following), 2 * padded),
        "effects": (effects >> shift).astype(np.int32),
        "coarse": (fields["corners"] >> shift).astype(np.int32),
        "lane_gain": np.minimum(gain >> shift, MOST - 1).astype(np.int32),
    }


def gene_importance(function: BoxSum) -> list[float]:
    """How much each gene moves the function: the sum over trees of what it moves each."""
    return [float(np.ptp(means, axis=0).sum()) for means in _tree_means(function)]


def main_effects(function: BoxSum) -> list[NDArray[np.float64]]:
    """Mean of the function in quanta for each choice of each gene."""
    return [means.sum(axis=1) for means in _tree_means(function)]


def _tree_means(function: BoxSum) -> Iterator[NDArray[np.float64]]:
    """For each gene the mean of each tree for each of its choices, shape (k, trees)."""
    genes, leaves = range(len(function.cardinalities)), slice(0, function.n_leaves)
    shares = np.stack([contains(function, gene, leaves).mean(axis=0) for gene in genes])
    worth = shares.prod(axis=0) * function.values
    for gene in genes:
        of_leaf = contains(function, gene, leaves) * (worth / shares[gene])
        yield np.add.reduceat(of_leaf, function.starts[:-1], axis=1)


def _choose_slopes(axis: IntegerChain, unary: Sequence[Int], width: int, windows: int) -> Int:
    """For each window the slope whose bound is largest at its middle (the Lagrangian dual)."""
    d = len(unary)
    spread = sum(int(np.ptp(u)) for u in unary)
    steepest = 64 * spread // max(axis.ends[1], 1)
    # No product of a slope and a cost may leave int64.
    steepest = max(1, min(steepest, (NEVER >> 5) // max(axis.magnitude, 1)))
    grid = np.unique(np.append(0, np.geomspace(1, steepest, 400).astype(np.int64)))
    bound = least(axis, segments(range(d), d)[0], grid, unary)[0, 0]
    middle = ((np.arange(windows, dtype=np.int64) * 2 + 1) << width) >> 1
    # In floats: only a choice, every slope is valid.
    dual = bound.astype(float) - grid.astype(float) * middle[:, None]
    chosen: Int = grid[dual.argmax(axis=1)]
    return chosen


def level_tables(layout: Layout, states: States, cardinalities: Sequence[int]) -> dict[str, Any]:
    """Everything about prefixes: sizes, following states, bounds, additive parts."""
    levels = len(layout.outer)
    widest = max(cardinalities)
    inside = math.prod(cardinalities[gene] for gene in (*layout.inner, *layout.lanes))
    below = [inside]
    for gene in reversed(layout.outer):
        below.append(below[-1] * cardinalities[gene])
    used = states.layers[: levels + 1]
    counts = [len(layer.bounds) for layer in used]
    first_state = np.cumsum([0, *counts])
    following = np.zeros((int(first_state[-1]), widest), dtype=np.int32)
    for level, layer in enumerate(used[:levels]):
        rows = slice(int(first_state[level]), int(first_state[level + 1]))
        following[rows, : layer.following.shape[1]] = layer.following + first_state[level + 1]
    lengths = np.array([_padded(layer.effects).size for layer in used], dtype=np.int64)
    open_genes = np.full((levels + 1, len(cardinalities)), -1, dtype=np.int64)
    fixed = np.zeros((levels + 1, len(cardinalities)), dtype=np.int64)
    for level in range(levels + 1):
        remaining = sorted(set(range(len(cardinalities))) - set(layout.outer[:level]))
        open_genes[level, : len(remaining)] = remaining
        fixed[level, list(layout.outer[:level])] = 1
    return {
        "outer": np.array(layout.outer, dtype=np.int64),
        "sizes": np.array([cardinalities[gene] for gene in layout.outer], dtype=np.int64),
        "all_sizes": np.array(cardinalities, dtype=np.int64),
        "below": np.array(below[::-1], dtype=np.int64),
        "roots": states.roots,
        "following": following,
        "first_state": first_state[:-1].astype(np.int64),
        "bounds": np.stack(
            [
                np.concatenate([layer.bounds for layer in used]),
                np.concatenate([layer.residues for layer in used]),
            ],
            axis=1,
        ),
        "effects": np.concatenate([_padded(layer.effects).ravel() for layer in used]),
        "first_effect": np.where(lengths > 0, np.cumsum(lengths) - lengths, -1),
        "open_genes": open_genes,
        "fixed": fixed,
    }


def _padded(array: Int) -> Int:
    """Zeros at the end of the last axis, up to whole vector registers."""
    missing = padded_length(array.shape[-1]) - array.shape[-1]
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)])


def _cost_tables(
    layout: Layout,
    costs: Sequence[IntegerChain],
    cardinalities: Sequence[int],
    unary: Sequence[Int],
    slopes: Int,
) -> dict[str, object]:
    d, widest, levels = len(cardinalities), max(cardinalities), len(layout.outer)
    first = np.zeros((len(costs), widest), dtype=np.int64)
    steps = np.zeros((len(costs), d, widest, widest), dtype=np.int64)
    for row, cost in enumerate(costs):
        first[row, : cardinalities[0]] = cost.first
        for i, step in enumerate(cost.steps, start=1):
            steps[row, i, : step.shape[0], : step.shape[1]] = step
    steps_of_axis = steps[0].copy()
    steps_of_axis[0, 0] = first[0]
    zero = [np.zeros(k, np.int64) for k in cardinalities]
    table = np.full((levels + 1, d + 1, 4), -1, dtype=np.int64)
    gains: list[Int] = []
    lows: list[Int] = []
    highs: list[Int] = []
    entries = 0
    for level in range(levels + 1):
        found = segments(sorted(set(range(d)) - set(layout.outer[:level])), d)
        for i, segment in enumerate(found):
            gain = least(costs[0], segment, slopes, unary)
            ends = [least(cost, segment, np.array([1, -1]), zero) for cost in costs]
            kl, kr = gain.shape[:2]
            table[level, i] = [segment.left, segment.right, kr, entries]
            gains.append(gain.reshape(kl * kr, -1))
            lows.append(np.stack([end[:, :, 0].ravel() for end in ends], axis=1))
            highs.append(np.stack([-end[:, :, 1].ravel() for end in ends], axis=1))
            entries += kl * kr
    return {
        "first": first,
        "steps": steps,
        "segments": table,
        "gain": np.concatenate(gains),
        "ramps": slopes[:, None, None, None] * _padded(steps_of_axis),
        "low": np.concatenate(lows),
        "high": np.concatenate(highs),
        "slopes": slopes,
    }


def _block_tables(
    layout: Layout, costs: Sequence[IntegerChain], cardinalities: Sequence[int], slopes: Int
) -> dict[str, object]:
    d, inner, lanes = len(cardinalities), layout.inner, layout.lanes
    extents = [math.prod(cardinalities[gene] for gene in axis) for axis in layout.axes]
    choices = joint_choices([cardinalities[gene] for gene in inner])
    place = {gene: column for column, gene in enumerate(inner)}
    cell_costs = np.zeros((len(costs), len(choices)), dtype=np.int64)
    for row, cost in enumerate(costs):
        if 0 in place:
            cell_costs[row] += cost.first[choices[:, place[0]]]
        for gene in range(1, d):
            if gene in place and gene - 1 in place:
                step = cost.steps[gene - 1]
                cell_costs[row] += step[choices[:, place[gene - 1]], choices[:, place[gene]]]
    left, right = lanes[0] - 1, lanes[-1] + 1 if lanes[-1] + 1 < d else -1
    kl = cardinalities[left] if left >= 0 else 1
    kr = cardinalities[right] if right >= 0 else 1
    lane_choices = joint_choices([cardinalities[gene] for gene in lanes])
    n = len(lane_choices)
    padded = padded_length(n)
    lane_costs = np.zeros((len(costs), kl, kr, padded), dtype=np.int64)
    for row, cost in enumerate(costs):
        target = lane_costs[row, :, :, :n]
        begin, end = lane_choices[:, 0], lane_choices[:, -1]
        target += (cost.first[None] if left < 0 else cost.steps[left])[:, None, begin]
        if right >= 0:
            target += cost.steps[lanes[-1]].T[None, :, end]
        for i, gene in enumerate(lanes[:-1]):
            target += cost.steps[gene][lane_choices[:, i], lane_choices[:, i + 1]]
    lane_gain = np.full((len(slopes), kl, kr, padded), NEVER, dtype=np.int64)
    lane_gain[..., :n] = slopes[:, None, None, None] * lane_costs[0][..., :n]
    return {
        "extents": np.array(extents, dtype=np.int64),
        "inner": np.array(inner, dtype=np.int64),
        "lanes": np.array(lanes, dtype=np.int64),
        "lane_choices": lane_choices,
        "cell_choices": choices,
        "cell_costs": cell_costs,
        "left": left,
        "right": right,
        "left_column": place.get(left, -1),
        "right_column": place.get(right, -1),
        "lane_costs": lane_costs,
        "lane_gain": lane_gain,
        "lane_low": lane_costs[0, :, :, :n].min(axis=2),
        "lane_high": lane_costs[0, :, :, :n].max(axis=2),
        "n_lanes": n,
    }
