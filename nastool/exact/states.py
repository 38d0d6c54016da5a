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
        bounds: Least value of the tree's remainder, in quanta, shape (states,).
    """

    following: NDArray[np.int32]
    bounds: NDArray[np.int64]


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
        depth: Layer whose reachable leaves are kept.
        limit: Most bytes that states may take.

    Raises:
        InvalidInputError: The states take more than that.
    """
    d = len(order)
    additive = np.zeros((d, int(function.cardinalities.max())), dtype=np.int64)
    following: list[list[NDArray[np.int32]]] = [[] for _ in range(d)]
    bounds: list[list[NDArray[np.int64]]] = [[] for _ in range(d + 1)]
    counts = [0] * (d + 1)
    leaves, roots, used = [], [], 0
    for tree in range(function.n_trees):
        span = slice(int(function.starts[tree]), int(function.starts[tree + 1]))
        inside = [contains(function, gene, span) for gene in range(d)]
        values = function.values[span]
        effects = _main_effects(values, inside)
        for gene, effect in enumerate(effects):
            additive[gene, : len(effect)] += effect
        # What a leaf is worth at least, less the additive part of the genes still open.
        open_value = values.copy()
        for effect, here in zip(effects, inside, strict=True):
            open_value -= _largest(effect, here)
        alive = np.ones((1, len(values)), dtype=bool)
        roots.append(counts[0])
        for level, gene in enumerate([*order, -1]):
            bounds[level].append(np.where(alive, open_value, _NEVER).min(axis=1))
            if level == depth:
                leaves.append(alive)
            if gene < 0:
                counts[level] += len(alive)
                break
            open_value = open_value + _largest(effects[gene], inside[gene])
            children = (alive[:, None, :] & inside[gene]).reshape(-1, len(values))
            kept, index = _distinct(children)
            shape = (len(alive), len(inside[gene]))
            following[level].append((index + counts[level + 1]).reshape(shape).astype(np.int32))
            counts[level] += len(alive)
            used += 4 * index.size + 8 * len(alive) + (kept.size if level + 1 == depth else 0)
            if used > limit:
                raise InvalidInputError(
                    f"exact search may take {limit / 2**30:.3g} GiB for the restricted trees, "
                    f"which tree {tree + 1} of {function.n_trees} exceeds already: "
                    "fit fewer or shallower trees, or allow more memory"
                )
            alive = kept
    layers = [
        Layer(
            np.concatenate([np.empty((0, int(function.cardinalities[gene])), np.int32), *rows]),
            np.concatenate([np.empty(0, np.int64), *bounds[level]]),
        )
        for level, (gene, rows) in enumerate(zip(order, following, strict=True))
    ]
    last = np.concatenate([np.empty(0, np.int64), *bounds[d]])
    layers.append(Layer(np.empty((len(last), 0), np.int32), last))
    return States(
        np.array(order, dtype=np.int64),
        np.array(roots, dtype=np.int32),
        tuple(layers),
        additive,
        tuple(leaves),
        depth,
    )


_NEVER = np.int64(1) << 61


def _main_effects(
    values: NDArray[np.int64], inside: Sequence[NDArray[np.bool_]]
) -> list[NDArray[np.int64]]:
    """Mean of a tree at each choice of each gene less its mean, in whole quanta."""
    shares = [here.mean(axis=0) for here in inside]
    volume = np.prod(shares, axis=0)
    mean = volume @ values
    return [
        np.round((here * (volume / share)) @ values - mean).astype(np.int64)
        for here, share in zip(inside, shares, strict=True)
    ]


def _largest(effect: NDArray[np.int64], inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Largest effect among the choices in each leaf, shape (leaves,)."""
    largest: NDArray[np.int64] = np.where(inside, effect[:, None], -_NEVER).max(axis=0)
    return largest


def _distinct(rows: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The different rows of (n, leaves), and for each row which of them it is, shape (n,)."""
    packed = np.ascontiguousarray(np.packbits(rows, axis=1))
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, index = np.unique(keys, return_index=True, return_inverse=True)
    return rows[first], index.reshape(-1).astype(np.int64)
