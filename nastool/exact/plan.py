"""Everything that the sweep over a space looks up, computed beforehand.

The genes fall into three parts. *Outer* genes are fixed one by one, most important first, so that
bounds cut off prefixes early. For a prefix of all of them the function of the other genes is added
up at once, as a prefix sum: each restricted tree contributes the corners of its boxes to a table
of differences along three *axes* (each one or more genes), and summing along the axes yields
every value, at three additions each, however many trees there are. The *lane* genes lie side by
side in memory and are added as rows, many at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Int
from nastool.errors import InvalidInputError
from nastool.exact.boxes import BoxSum
from nastool.exact.chains import IntegerChain, least, segments
from nastool.exact.states import States, build_states, contains
from nastool.exact.tables import MOST, Tables
from nastool.pareto import staircase

AXES = 3
_AXIS_CHOICES = 8
_LANES = 64
_LANE_MULTIPLE = 4
"""Lanes are padded to whole vector registers."""

_ENTRIES = 1 << 16
"""Pairs of a state and a leaf whose corners are worked on at once."""

WINDOWS = 32
"""Intervals of the axis cost, each with a slope of its own in the bounds."""

NEVER = 1 << 60
"""Larger than any sum."""

INFINITE = NEVER >> 1
"""Value of what is not known; the sum with any cost times slope stays below `NEVER`."""


@dataclass(frozen=True)
class Layout:
    """Which gene plays which part.

    Args:
        outer: Fixed one by one, in this order.
        axes: Genes of each of the three axes of a block; some may have none.
        lanes: Neighbouring genes, in ascending order.
    """

    outer: tuple[int, ...]
    axes: tuple[tuple[int, ...], ...]
    lanes: tuple[int, ...]

    @property
    def inner(self) -> tuple[int, ...]:
        """Genes of the axes, axis by axis."""
        return tuple(gene for axis in self.axes for gene in axis)

    @property
    def order(self) -> tuple[int, ...]:
        """All genes: outer ones, axes, lanes."""
        return (*self.outer, *self.inner, *self.lanes)


def choose_layout(cardinalities: Sequence[int], importance: Sequence[float]) -> Layout:
    """Leave the least important genes to the blocks.

    Args:
        cardinalities: Number of choices of each gene.
        importance: How much each gene matters.
    """
    d = len(cardinalities)
    runs = [
        range(begin, end)
        for begin in range(d)
        for end in range(begin + 1, d + 1)
        if end == begin + 1 or math.prod(cardinalities[begin:end]) <= _LANES
    ]

    # Long rows first: short ones leave registers empty.
    def merit(run: range) -> tuple[bool, float]:
        size = math.prod(cardinalities[gene] for gene in run)
        return size >= _LANES // 2, -sum(importance[gene] for gene in run) / math.log(size + 1)

    lanes = max(runs, key=merit)
    rest = sorted(set(range(d)) - set(lanes), key=lambda gene: (importance[gene], gene))
    axes: list[tuple[int, ...]] = []
    for _ in range(AXES):
        axis: tuple[int, ...] = ()
        while rest:
            size = math.prod(cardinalities[gene] for gene in (*axis, rest[0]))
            if axis and size > _AXIS_CHOICES:
                break
            axis = (*axis, rest.pop(0))
        axes.append(axis)
    return Layout(tuple(reversed(rest)), tuple(axes), tuple(lanes))


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
    return Plan(layout, states, Tables(**fields), width)


def _short_tables(function: BoxSum, axis: IntegerChain, fields: dict[str, Any]) -> dict[str, Any]:
    """What is added up most, without the last bits: rounded down, it bounds from below.

    Args:
        function: What is minimised.
        axis: The first cost.
        fields: The other tables.
    """
    bounds, effects, gain = fields.pop("bounds"), fields["effects"], fields["lane_gain"]
    parts = (function.values, bounds, effects)
    largest = max(int(np.abs(part).max(initial=0)) for part in parts) * function.n_trees
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


def padded_length(n: int) -> int:
    """Up to whole vector registers."""
    return -(-n // _LANE_MULTIPLE) * _LANE_MULTIPLE


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
    choices = _joint_choices([cardinalities[gene] for gene in inner])
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
    lane_choices = _joint_choices([cardinalities[gene] for gene in lanes])
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
        "cell_choices": choices,
        "cell_costs": cell_costs,
        "left": left,
        "right": right,
        "lane_costs": lane_costs,
        "lane_gain": lane_gain,
        "lane_low": lane_costs[0, :, :, :n].min(axis=2),
        "lane_high": lane_costs[0, :, :, :n].max(axis=2),
        "n_lanes": n,
    }


def _joint_choices(sizes: Sequence[int]) -> Int:
    """All joint choices in lexicographic order, shape (product, genes)."""
    if not sizes:
        return np.zeros((1, 0), dtype=np.int64)
    return np.indices(sizes).reshape(len(sizes), -1).T.astype(np.int64)


def corner_tables(
    function: BoxSum, layout: Layout, states: States, memory: int
) -> dict[str, object]:
    """For each state before a block, the corners of what is left of its tree."""
    sizes = function.cardinalities
    lane_choices = _joint_choices([int(sizes[gene]) for gene in layout.lanes])
    padded = padded_length(len(lane_choices))
    counts, cells, tables, used = [np.zeros(1, np.int64)], [], [], 0
    for begin, end in _reachable_groups(states):
        leaves = slice(int(function.starts[begin]), int(function.starts[end]))
        differences = _differences(function, layout, leaves)
        n = differences.shape[1]
        pattern = np.ones((len(differences), padded), dtype=bool)
        pattern[:, len(lane_choices) :] = False
        for column, gene in enumerate(layout.lanes):
            here = contains(function, gene, leaves)[lane_choices[:, column]]
            pattern[:, : len(lane_choices)] &= here.T
        worth = pattern * function.values[leaves, None]
        # One entry a corner of a reachable leaf; then those of one cell are added up.
        leaf_of, cell_of = np.nonzero(differences)
        per_leaf = np.bincount(leaf_of, minlength=len(differences))
        first_corner = np.cumsum(per_leaf) - per_leaf
        state, leaf, n_states = _reachable(states, begin, end)
        repeats = per_leaf[leaf]
        within = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        corner = np.repeat(first_corner[leaf], repeats) + within
        key = np.repeat(state, repeats) * n + cell_of[corner]
        order = np.argsort(key, kind="stable")
        key, corner = key[order], corner[order]
        first = np.flatnonzero(np.append(True, key[1:] != key[:-1]))
        weighted = differences[leaf_of, cell_of][corner, None] * worth[leaf_of[corner]]
        rows = np.add.reduceat(weighted, first, axis=0)
        kept = rows.any(axis=1)
        key, rows = key[first][kept], rows[kept]
        counts.append(np.bincount(key // n, minlength=n_states))
        cells.append((key % n).astype(np.int32))
        tables.append(rows)
        used += rows.nbytes
        if used > memory:
            raise InvalidInputError(
                f"exact search may take {memory / 2**30:.3g} GiB for the corners of the trees' "
                f"boxes, which the first {end} of {function.n_trees} trees exceed already: "
                "fit fewer or shallower trees, or allow more memory"
            )
    rows, index = _distinct_rows([np.zeros((0, padded), np.int64), *tables])
    return {
        "begin": np.cumsum(np.concatenate(counts)),
        "cells": np.concatenate([np.empty(0, np.int32), *cells]),
        "rows": index.astype(np.int32),
        "corners": rows,
    }


def _reachable_groups(states: States) -> Iterator[tuple[int, int]]:
    """First tree of each group that is worked on at once, and the one behind its last."""
    begin = entries = 0
    for tree, alive in enumerate(states.leaves):
        if begin < tree and entries + alive.size > _ENTRIES:
            yield begin, tree
            begin, entries = tree, 0
        entries += alive.size
    if states.leaves:
        yield begin, len(states.leaves)


def _reachable(states: States, begin: int, end: int) -> tuple[Int, Int, int]:
    """State and leaf of each pair of which one reaches the other, and how many states there are.

    Both are counted from the first of tree `begin`.
    """
    parts, n_states, n_leaves = [], 0, 0
    for alive in states.leaves[begin:end]:
        state, leaf = np.nonzero(alive)
        parts.append((state + n_states, leaf + n_leaves))
        n_states, n_leaves = n_states + alive.shape[0], n_leaves + alive.shape[1]
    state, leaf = map(np.concatenate, zip(*parts, strict=True))
    return state, leaf, n_states


def _differences(function: BoxSum, layout: Layout, span: slice) -> Int:
    """Each leaf's indicator over the cells, differenced along every axis: (leaves, cells)."""
    leaves = span.stop - span.start
    product = np.ones((leaves, 1), dtype=np.int64)
    for axis in layout.axes:
        joint = np.ones((leaves, 1), dtype=np.int64)
        for gene in axis:
            here = contains(function, gene, span).T.astype(np.int64)
            joint = (joint[:, :, None] * here[:, None, :]).reshape(leaves, -1)
        joint = np.diff(joint, axis=1, prepend=0)
        product = (product[:, :, None] * joint[:, None, :]).reshape(leaves, -1)
    return product


def _distinct_rows(tables: Sequence[Int]) -> tuple[Int, Int]:
    """The different rows, and for each row which of them it is."""
    rows = np.concatenate(tables)
    # Equal rows have equal keys; should others have the same, a row may be there twice.
    factors = np.random.default_rng(0).integers(1, 1 << 62, size=rows.shape[1])
    order = np.argsort(rows @ factors, kind="stable")
    rows = rows[order]
    new = np.append(len(rows) > 0, (rows[1:] != rows[:-1]).any(axis=1))[: len(rows)]
    index = np.empty(len(rows), np.int64)
    index[order] = np.cumsum(new) - 1
    return np.ascontiguousarray(rows[new]), index
