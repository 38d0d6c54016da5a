"""Trees specialised to prefixes: each tree has few distinct restrictions a level.

Genes are fixed one by one in an order. What is left of a tree after a prefix is the set of leaves
that the prefix leaves reachable; prefixes with the same set share a *state*. A state also knows
the least value its tree can still take, less what the tree's own additive part takes off, which
bounds the whole sum from below much more tightly than the least value alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.exact.boxes import BoxSum


@dataclass(frozen=True, eq=False)
class Layer:
    """The states of all trees after a number of genes, one after the other.

    Args:
        following: State of the next layer for each state and choice, shape (states, k).
        bounds: Least value of the tree's remainder less the tree's additive part, in quanta,
            shape (states,).
        effects: The remainder's own additive part: a term for each choice of each open gene,
            shape (states, open genes, largest k), open genes in ascending order; empty where a
            layer has none.
        residues: Least value of the remainder less its own additive part, shape (states,).
    """

    following: NDArray[np.int32]
    bounds: NDArray[np.int64]
    effects: NDArray[np.int64]
    residues: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class States:
    """Every tree, restricted gene by gene.

    Args:
        order: The genes in the order in which they are fixed, shape (d,).
        roots: State of each tree before any gene is fixed, shape (trees,).
        layers: After 0, 1, ... d genes; the last one has no following states and its bounds are
            the values of the leaves.
        additive: What the bounds leave out: a term for each choice of each gene, in quanta;
            shape (d, largest cardinality), by gene.
        leaves: For each tree the leaves reachable from each state of layer `depth`, shape
            (states, leaves of the tree).
        depth: The layer that `leaves` belongs to.
    """

    order: NDArray[np.int64]
    roots: NDArray[np.int32]
    layers: tuple[Layer, ...]
    additive: NDArray[np.int64]
    leaves: tuple[NDArray[np.bool_], ...]
    depth: int

    def evaluate(self, genotypes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sums in quanta of genotypes (n, d), shape (n,)."""
        totals = np.empty(len(genotypes), dtype=np.int64)
        step = max(1, (1 << 20) // max(len(self.roots), 1))
        for begin in range(0, len(genotypes), step):
            rows = genotypes[begin : begin + step]
            state = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
            for layer, gene in zip(self.layers, self.order.tolist(), strict=False):
                state = layer.following[state, rows[:, gene, None]]
            totals[begin : begin + step] = self.layers[-1].bounds[state].sum(axis=1)
        return totals


def contains(function: BoxSum, gene: int, leaves: slice) -> NDArray[np.bool_]:
    """Whether each choice of a gene lies in each leaf, shape (k, leaves)."""
    choices = np.arange(function.cardinalities[gene], dtype=np.uint64)
    bits: NDArray[np.bool_] = (function.masks[leaves, gene] >> choices[:, None]) & np.uint64(1) != 0
    return bits


def build_states(
    function: BoxSum, order: Sequence[int], depth: int, limit: int = 1 << 31
) -> States:
    """Restrict every tree along an order of genes.

    Args:
        function: The trees.
        order: Every gene once.
        depth: Layer whose reachable leaves are kept, and the last one with effects.
        limit: Most bytes that states may take.

    Raises:
        InvalidInputError: The states take more than that.
    """
    d = len(order)
    widest = int(function.cardinalities.max())
    additive = np.zeros((d, widest), dtype=np.int64)
    parts: list[list[Layer]] = [[] for _ in range(d + 1)]
    counts = [0] * (d + 1)
    leaves, roots, used = [], [], 0
    for tree in range(function.n_trees):
        span = slice(int(function.starts[tree]), int(function.starts[tree + 1]))
        inside = [contains(function, gene, span) for gene in range(d)]
        shares = np.stack([here.mean(axis=0) for here in inside])
        values = function.values[span]
        alive = np.ones((1, len(values)), dtype=bool)
        effects, _ = _additive_part(alive, values, inside, shares, range(d), widest)
        additive += effects[0]
        # What a leaf is worth at least, less the additive part of the genes still open.
        largest = [_largest(effects[0, gene], here) for gene, here in enumerate(inside)]
        open_value = values - sum(largest)
        roots.append(counts[0])
        for level in range(d + 1):
            bounds = np.where(alive, open_value, _NEVER).min(axis=1)
            empty = np.empty((len(alive), 0, widest), np.int64), np.empty(len(alive), np.int64)
            own = empty
            if _COARSE <= level <= depth:
                remaining = sorted(order[level:])
                own = _additive_part(alive, values, inside, shares, remaining, widest)
            if level == depth:
                leaves.append(alive)
            following = np.empty((len(alive), 0), np.int32)
            kept = alive
            if level < d:
                gene = order[level]
                open_value = open_value + largest[gene]
                children = (alive[:, None, :] & inside[gene]).reshape(-1, len(values))
                kept, index = _distinct(children)
                following = (index + counts[level + 1]).reshape(len(alive), -1).astype(np.int32)
            parts[level].append(Layer(following, bounds, *own))
            counts[level] += len(alive)
            used += sum(a.nbytes for a in (following, bounds, *own))
            if used > limit:
                raise InvalidInputError(
                    f"exact search may take {limit / 2**30:.3g} GiB for the restricted trees, "
                    f"which tree {tree + 1} of {function.n_trees} exceeds already: "
                    "fit fewer or shallower trees, or allow more memory"
                )
            alive = kept
    return States(
        np.array(order, dtype=np.int64),
        np.array(roots, dtype=np.int32),
        tuple(
            Layer(*(np.concatenate(arrays) for arrays in zip(*map(_fields, of_level), strict=True)))
            for of_level in parts
        ),
        additive,
        tuple(leaves),
        depth,
    )


_NEVER = np.int64(1) << 61

_COARSE = 2
"""Layers before this one have few prefixes: their states need no additive part of their own."""


def _fields(layer: Layer) -> tuple[NDArray[np.integer], ...]:
    return layer.following, layer.bounds, layer.effects, layer.residues


def _additive_part(
    alive: NDArray[np.bool_],
    values: NDArray[np.int64],
    inside: Sequence[NDArray[np.bool_]],
    shares: NDArray[np.float64],
    genes: Sequence[int],
    widest: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Main effects of restricted trees in whole quanta, and the least value of what is left.

    Args:
        alive: Leaves that each state can reach, shape (states, leaves).
        values: Of the leaves, shape (leaves,).
        inside: For each gene which choices lie in each leaf, shape (k, leaves).
        shares: For each gene the share of choices in each leaf, shape (d, leaves).
        genes: The open ones.
        widest: Largest number of choices.

    Returns:
        Shapes (states, open genes, widest) and (states,).
    """
    effects = np.zeros((len(alive), len(genes), widest), dtype=np.int64)
    volume = shares[list(genes)].prod(axis=0) * values
    mean = alive @ volume
    state, leaf = np.nonzero(alive)
    left = values[leaf]
    for column, gene in enumerate(genes):
        if (shares[gene] == 1.0).all():
            continue
        here = inside[gene]
        means = alive @ (here * (volume / shares[gene])).T
        effect = np.round(means - mean[:, None]).astype(np.int64)
        effects[:, column, : len(here)] = effect
        left = left - np.where(here.T[leaf], effect[state], -_NEVER).max(axis=1)
    starts = np.flatnonzero(np.append(True, np.diff(state) > 0))
    return effects, np.minimum.reduceat(left, starts)


def _largest(effect: NDArray[np.int64], inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Largest effect among the choices in each leaf, shape (leaves,)."""
    own = effect[: len(inside), None]
    largest: NDArray[np.int64] = np.where(inside, own, -_NEVER).max(axis=0)
    return largest


def _distinct(rows: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The different rows of (n, leaves), and for each row which of them it is, shape (n,)."""
    packed = np.ascontiguousarray(np.packbits(rows, axis=1))
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, index = np.unique(keys, return_index=True, return_inverse=True)
    return rows[first], index.reshape(-1).astype(np.int64)
