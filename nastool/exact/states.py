"""Trees specialised to prefixes: each tree has few distinct restrictions a level.

Genes are fixed one by one in an order. What is left of a tree after a prefix is the set of leaves
that the prefix leaves reachable; prefixes with the same set share a *state*. A state also knows
the least value its tree can still take, less what the tree's own additive part takes off, which
bounds the whole sum from below much more tightly than the least value alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

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
        step = max(1, (1 << 16) // max(len(self.roots), 1))
        for begin in range(0, len(genotypes), step):
            rows = genotypes[begin : begin + step]
            state = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
            for layer, gene in zip(self.layers, self.order.tolist(), strict=False):
                # One index is looked up several times faster than two.
                following = layer.following
                place = state * np.intp(following.shape[1]) + rows[:, gene, None]
                state = following.reshape(-1).take(place)
            totals[begin : begin + step] = self.layers[-1].bounds.take(state).sum(axis=1)
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
    additive = np.zeros((d, int(function.cardinalities.max())), dtype=np.int64)
    parts: list[list[Layer]] = [[] for _ in range(d + 1)]
    counts = [0] * (d + 1)
    leaves: list[NDArray[np.bool_]] = []
    roots: list[NDArray[np.int32]] = []
    used = 0
    for begin, end in _groups(function):
        group = make_group(function, begin, end)
        additive += group.effects.sum(axis=0)
        roots.append(np.arange(end - begin, dtype=np.int32) + np.int32(counts[0]))
        tree, alive = np.arange(end - begin), group.real
        # What a leaf is worth at least, less the additive part of the genes still open.
        open_value = group.values - group.largest.sum(axis=2)
        for level in range(d + 1):
            bounds = np.where(alive, open_value[tree], NEVER).min(axis=1)
            own = (
                np.empty((len(alive), 0, additive.shape[1]), np.int64),
                np.zeros(len(alive), np.int64),
            )
            if _COARSE <= level <= depth:
                own = additive_part(group, tree, alive, sorted(order[level:]))
            if level == depth:
                leaves += _by_tree(group, tree, alive)
            following = np.empty((len(alive), 0), np.int32)
            kept, tree_of_kept = alive, tree
            if level < d:
                gene = order[level]
                open_value = open_value + group.largest[:, :, gene]
                k = int(function.cardinalities[gene])
                reached = group.inside[:, gene, :k][tree] & alive[:, None, :]
                kept, tree_of_kept, index = distinct(
                    reached.reshape(-1, alive.shape[1]), np.repeat(tree, k)
                )
                following = (index + counts[level + 1]).reshape(len(alive), -1).astype(np.int32)
            parts[level].append(Layer(following, bounds, *own))
            counts[level] += len(alive)
            used += sum(a.nbytes for a in (following, bounds, *own))
            if used > limit:
                raise InvalidInputError(
                    f"exact search may take {limit / 2**30:.3g} GiB for the restricted trees, "
                    f"which the first {end} of {function.n_trees} trees exceed already: "
                    "fit fewer or shallower trees, or allow more memory"
                )
            alive, tree = kept, tree_of_kept
    return States(
        np.array(order, dtype=np.int64),
        np.concatenate([np.empty(0, np.int32), *roots]),
        tuple(
            Layer(*(np.concatenate(arrays) for arrays in zip(*map(_fields, of_level), strict=True)))
            for of_level in parts
        ),
        additive,
        tuple(leaves),
        depth,
    )


NEVER = np.int64(1) << 61

_COARSE = 2
"""Layers before this one have few prefixes: their states need no additive part of their own."""

_GROUP = 1 << 13
"""Leaves of the trees that are restricted side by side: enough that numpy is busy."""

_ROWS = 1 << 21
"""Numbers that one step of an additive part may lay out."""


@dataclass(frozen=True, eq=False)
class Group:
    """Some trees side by side, each with as many leaves as the one with most: the last are none.

    Args:
        sizes: Leaves of each tree, shape (trees,).
        real: Whether each leaf is one, shape (trees, leaves).
        values: In quanta, shape (trees, leaves).
        inside: Whether each choice of each gene lies in a leaf, shape (trees, d, k, leaves).
        shares: Share of a gene's choices that do, shape (trees, d, leaves); 1 where none is.
        choices: Whether each choice of each gene is one, shape (d, k).
        effects: Additive part of each tree, shape (trees, d, k).
        largest: Largest effect of each gene among the choices in a leaf, shape (trees, leaves, d).
    """

    sizes: NDArray[np.int64]
    real: NDArray[np.bool_]
    values: NDArray[np.int64]
    inside: NDArray[np.bool_]
    shares: NDArray[np.float64]
    choices: NDArray[np.bool_]
    effects: NDArray[np.int64]
    largest: NDArray[np.int64]


def _groups(function: BoxSum) -> Iterator[tuple[int, int]]:
    """First tree of each group and the one behind its last."""
    sizes = np.diff(function.starts).tolist()
    begin = 0
    while begin < len(sizes):
        end, widest = begin + 1, sizes[begin]
        while end < len(sizes) and max(widest, sizes[end]) * (end + 1 - begin) <= _GROUP:
            widest = max(widest, sizes[end])
            end += 1
        yield begin, end
        begin = end


def make_group(function: BoxSum, begin: int, end: int) -> Group:
    """Lay out the trees from one to before another."""
    sizes = np.diff(function.starts[begin : end + 1])
    real = np.arange(sizes.max()) < sizes[:, None]
    span = slice(int(function.starts[begin]), int(function.starts[end]))
    values = np.zeros(real.shape, np.int64)
    values[real] = function.values[span]
    d, widest = len(function.cardinalities), int(function.cardinalities.max())
    inside = np.zeros((len(sizes), d, widest, real.shape[1]), dtype=bool)
    shares = np.ones((len(sizes), d, real.shape[1]))
    for gene, k in enumerate(function.cardinalities.tolist()):
        here = contains(function, gene, span)
        inside[:, gene, :k].transpose(0, 2, 1)[real] = here.T
        shares[:, gene][real] = here.mean(axis=0)
    nothing = np.zeros((len(sizes), d, widest), np.int64)
    largest = np.zeros((*real.shape, d), np.int64)
    choices = np.arange(widest) < function.cardinalities[:, None]
    group = Group(sizes, real, values, inside, shares, choices, nothing, largest)
    effects = _main_effects(group, np.arange(len(sizes)), real, list(range(d)))
    largest = np.where(inside, effects[..., None], -NEVER).max(axis=2)
    largest = np.where(real[:, None], largest, 0).transpose(0, 2, 1)
    return replace(group, effects=effects, largest=largest)


def _by_tree(
    group: Group, tree: NDArray[np.int64], alive: NDArray[np.bool_]
) -> list[NDArray[np.bool_]]:
    """Rows of each tree, its own leaves only."""
    ends = np.cumsum(np.bincount(tree, minlength=len(group.sizes)))
    rows = np.split(alive, ends[:-1])
    return [of[:, :n] for of, n in zip(rows, group.sizes.tolist(), strict=True)]


def _fields(layer: Layer) -> tuple[NDArray[np.integer], ...]:
    return layer.following, layer.bounds, layer.effects, layer.residues


def _main_effects(
    group: Group, tree: NDArray[np.int64], alive: NDArray[np.bool_], genes: Sequence[int]
) -> NDArray[np.int64]:
    """Main effects of restricted trees in whole quanta, shape (states, genes, k).

    Args:
        group: The trees.
        tree: Of each state, ascending, shape (states,).
        alive: Leaves that each state can reach, shape (states, leaves).
        genes: The open ones.
    """
    trees, leaves = group.real.shape
    widest = group.inside.shape[2]
    shares = group.shares[:, genes]
    volume = shares.prod(axis=1) * group.values
    worth = group.inside[:, genes] * (volume[:, None] / shares)[:, :, None]
    # Of every choice, the whole, and how many leaves hold a part of the choices only.
    columns = np.concatenate(
        [
            worth.reshape(trees, -1, leaves),
            volume[:, None],
            (shares < 1).astype(float),
        ],
        axis=1,
    ).transpose(0, 2, 1)
    ends = np.cumsum(np.bincount(tree, minlength=trees)).tolist()
    reached = alive.astype(float)
    begins = [0, *ends[:-1]]
    sums = np.concatenate(
        [reached[a:b] @ of for a, b, of in zip(begins, ends, columns, strict=True)]
    )
    n = len(genes)
    means = sums[:, : n * widest].reshape(len(alive), n, widest)
    effects: NDArray[np.int64] = np.round(means - sums[:, n * widest, None, None]).astype(np.int64)
    # A gene that makes no difference has no effect, not one of rounding.
    effects[sums[:, n * widest + 1 :] == 0] = 0
    effects[:, ~group.choices[genes]] = 0
    return effects


def additive_part(
    group: Group, tree: NDArray[np.int64], alive: NDArray[np.bool_], genes: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Main effects of restricted trees, and the least value of what is left.

    Returns:
        Shapes (states, open genes, k) and (states,).
    """
    effects = _main_effects(group, tree, alive, genes)
    # Off what each leaf is worth, the largest effect of each gene among the choices in it.
    left = group.values[tree]
    for column, gene in enumerate(genes):
        moved = np.flatnonzero(effects[:, column].any(axis=1))
        step = max(1, _ROWS // (effects.shape[2] * alive.shape[1]))
        for begin in range(0, len(moved), step):
            of = moved[begin : begin + step]
            inside = group.inside[:, gene][tree[of]]
            left[of] -= np.where(inside, effects[of, column, :, None], -NEVER).max(axis=1)
    least: NDArray[np.int64] = np.where(alive, left, NEVER).min(axis=1)
    return effects, least


def distinct(
    rows: NDArray[np.bool_], tree: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """The different rows of each tree.

    Args:
        rows: Shape (n, leaves).
        tree: Shape (n,).

    Returns:
        Those rows and their trees, by tree; for each row which of them it is, shape (n,).
    """
    packed = np.packbits(rows, axis=1)
    words = np.zeros((len(rows), -(-packed.shape[1] // 8) * 8), np.uint8)
    words[:, : packed.shape[1]] = packed
    keys = [*words.view(np.uint64).T, tree]
    order = np.lexsort(keys)
    new = np.ones(len(rows), dtype=bool)
    new[1:] = False
    for key in keys:
        new[1:] |= key[order[1:]] != key[order[:-1]]
    index = np.empty(len(rows), np.int64)
    index[order] = np.cumsum(new) - 1
    first = order[new]
    return rows[first], tree[first], index
