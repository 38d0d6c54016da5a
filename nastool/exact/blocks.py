"""What a block looks up: of each state before it, all that its tree can still be.

A function that is constant on boxes is the prefix sum of its differences, which are zero except at
the boxes' corners; `corner_tables` finds these. `cell_bounds` says for each choice of the genes of
the axes how little the tree can be, whatever the lanes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Int
from nastool.errors import InvalidInputError
from nastool.exact.boxes import BoxSum
from nastool.exact.layout import Layout, joint_choices, padded_length
from nastool.exact.states import NEVER, States, contains

_ENTRIES = 1 << 16
"""Pairs of a state and a leaf whose corners are worked on at once."""

_NUMBERS = 1 << 23
"""Bounds of pairs of a state and a leaf, one a cell, that are laid out at once."""


def corner_tables(
    function: BoxSum, layout: Layout, states: States, memory: int
) -> dict[str, object]:
    """For each state before a block, the corners of what is left of its tree."""
    sizes = function.cardinalities
    lane_choices = joint_choices([int(sizes[gene]) for gene in layout.lanes])
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


def _reachable_groups(states: States, most: int = _ENTRIES) -> Iterator[tuple[int, int]]:
    """First tree of each group with as many pairs, and the one behind its last."""
    begin = entries = 0
    for tree, alive in enumerate(states.leaves):
        if begin < tree and entries + alive.size > most:
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


def cell_bounds(
    function: BoxSum,
    layout: Layout,
    states: States,
    shift: int = 0,
    dtype: type[np.signedinteger[Any]] = np.int64,
) -> NDArray[np.signedinteger[Any]]:
    """For each state before a block and each choice of the axes, what its tree is at least.

    That is less the state's additive part of the lanes, whose sum over the trees is then bounded
    at once; with the axes fixed, little else of a tree varies.

    Args:
        function: The trees.
        layout: Which gene plays which part.
        states: The restricted trees.
        shift: How many bits are left out, rounded down.
        dtype: Of the result.

    Returns:
        Shape (states, cells); (states, 0) where states have no additive part.
    """
    sizes, layer = function.cardinalities, states.layers[len(layout.outer)]
    cells = joint_choices([int(sizes[gene]) for gene in layout.inner])
    if not layer.effects.size:
        return np.empty((len(layer.bounds), 0), dtype)
    open_genes = sorted((*layout.inner, *layout.lanes))
    bounds = np.empty((len(layer.bounds), len(cells)), dtype)
    first = 0
    for begin, end in _reachable_groups(states, max(1, _NUMBERS // len(cells))):
        leaves = slice(int(function.starts[begin]), int(function.starts[end]))
        state, leaf, n_states = _reachable(states, begin, end)
        worth = function.values[leaves][leaf]
        for gene in layout.lanes:
            inside = contains(function, gene, leaves).T[leaf]
            effects = layer.effects[first + state, open_genes.index(gene), : inside.shape[1]]
            worth -= np.where(inside, effects, -NEVER).max(axis=1)
        within = np.ones((leaves.stop - leaves.start, len(cells)), dtype=bool)
        for column, gene in enumerate(layout.inner):
            within &= contains(function, gene, leaves)[cells[:, column]].T
        # More than any leaf is worth, of the same type.
        worth = (worth >> shift).astype(dtype)
        each = np.where(within[leaf], worth[:, None], np.iinfo(dtype).max)
        starts = np.flatnonzero(np.append(True, state[1:] != state[:-1]))
        bounds[first : first + n_states] = np.minimum.reduceat(each, starts, axis=0)
        first += n_states
    return bounds
