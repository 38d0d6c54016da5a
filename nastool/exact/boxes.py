"""Functions of genotypes as sums of box functions: what the exact search understands.

A tree over discrete genes cuts the space into boxes, one a leaf: for every gene a set of choices.
A table over a pair of genes does the same. Values are kept as whole numbers of a quantum, so that
every sum and every comparison of the search is exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nastool.errors import InvalidInputError
from nastool.predictors.trees import GridEnsemble, TreeEnsemble

Masks = NDArray[np.uint64]
"""Sets of choices: bit c stands for choice c."""

MOST_CHOICES = 64
"""Largest number of choices of a gene: a set of choices is one machine word."""

_TOTAL_BITS = 52
"""Sums of values stay below 2 to this power, which leaves room for costs and bounds in int64."""


@dataclass(frozen=True, eq=False)
class BoxSum:
    """A sum of piecewise constant functions: ``offset + quantum * sum over trees of value``.

    Args:
        cardinalities: Number of choices of each gene, shape (d,).
        masks: Box of each leaf: for every gene the set of choices in it, shape (leaves, d).
        values: Value of each leaf in quanta, shape (leaves,), int64.
        starts: Where the leaves of each tree begin and, last, end: shape (trees + 1,). The boxes
            of one tree are disjoint and fill the space.
        quantum: What one unit of the values is worth.
        offset: Added to the sum.
    """

    cardinalities: NDArray[np.int64]
    masks: Masks
    values: NDArray[np.int64]
    starts: NDArray[np.int64]
    quantum: float
    offset: float

    @property
    def n_trees(self) -> int:
        """Number of trees."""
        return len(self.starts) - 1

    @property
    def n_leaves(self) -> int:
        """Number of boxes that some genotype lies in."""
        return len(self.values)

    def __neg__(self) -> BoxSum:
        return replace(self, values=-self.values, offset=-self.offset)

    def to_float(self, totals: ArrayLike) -> NDArray[np.float64]:
        """Sums in quanta, of any shape, as values of the function."""
        # Products are exact below 2**53; the one rounding is that of the predictor itself.
        return self.offset + self.quantum * np.asarray(totals, dtype=np.float64)

    def evaluate(self, genotypes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sums in quanta of genotypes (n, d), shape (n,)."""
        totals = np.zeros(len(genotypes), dtype=np.int64)
        step = max(1, (1 << 22) // max(self.n_leaves, 1))
        for begin in range(0, len(genotypes), step):
            rows = genotypes[begin : begin + step].astype(np.uint64)
            inside = np.ones((len(rows), self.n_leaves), dtype=bool)
            for gene in self.used_genes:
                inside &= (self.masks[:, gene] >> rows[:, gene, None]) & np.uint64(1) != 0
            # Sums of so few bits are exact in float64, whose products go through BLAS.
            totals[begin : begin + step] = inside.astype(np.float64) @ self.values.astype(float)
        return totals

    def on_grid(self) -> GridEnsemble:
        """The function of genotypes, evaluated fast: just what `to_float` says of the sums."""
        inside = []
        for gene, k in enumerate(self.cardinalities.tolist()):
            choices = np.arange(k, dtype=np.uint64)[:, None]
            inside.append((self.masks[:, gene] >> choices) & np.uint64(1) != 0)
        values = self.quantum * self.values.astype(np.float64)
        return GridEnsemble(inside, values, self.starts, self.offset)

    @property
    def ends(self) -> tuple[int, int]:
        """Sums in quanta that no genotype's falls below or exceeds: those of each tree's ends."""
        if self.n_trees == 0:
            return 0, 0
        begins = self.starts[:-1]
        least = np.minimum.reduceat(self.values, begins).sum()
        return int(least), int(np.maximum.reduceat(self.values, begins).sum())

    @property
    def used_genes(self) -> NDArray[np.int64]:
        """Genes that make a difference, in increasing order."""
        return np.flatnonzero((self.masks != everything(self.cardinalities)).any(axis=0))


def everything(cardinalities: NDArray[np.int64]) -> Masks:
    """The set of all choices of each gene, shape (d,)."""
    full = [(1 << int(k)) - 1 for k in cardinalities]
    return np.array(full, dtype=np.uint64)


def check_cardinalities(cardinalities: ArrayLike) -> NDArray[np.int64]:
    """Refuse genes with more choices than a set can hold."""
    numbers = np.asarray(cardinalities, dtype=np.int64)
    if numbers.max(initial=1) > MOST_CHOICES:
        raise InvalidInputError(
            f"exact search needs genes of at most {MOST_CHOICES} choices, got {numbers.max()}"
        )
    return numbers


def from_trees(ensemble: TreeEnsemble, values: Sequence[ArrayLike]) -> BoxSum:
    """The boxes of a tree ensemble, compared in float32 as XGBoost does.

    Args:
        ensemble: The trees; every feature is a gene.
        values: For each gene what its choices look like to the trees; NaN for a missing value.

    Raises:
        InvalidInputError: A number of features other than that of genes, or too many choices.
    """
    grid = [np.asarray(v, dtype=np.float32) for v in values]
    if len(grid) != ensemble.n_features:
        raise InvalidInputError(
            f"the trees must test genes only: expected {len(grid)} features, "
            f"got {ensemble.n_features}"
        )
    cardinalities = check_cardinalities([len(v) for v in grid])
    masks = np.zeros((len(ensemble.left), len(grid)), dtype=np.uint64)
    masks[ensemble.roots] = everything(cardinalities)
    for level in ensemble.levels[:-1]:
        inner = level[ensemble.left[level] >= 0]
        for gene, choices in enumerate(grid):
            nodes = inner[ensemble.feature[inner] == gene]
            to_left = np.where(
                np.isnan(choices),
                ensemble.default_left[nodes, None],
                choices < ensemble.threshold[nodes, None],
            )
            bits = np.uint64(1) << np.arange(len(choices), dtype=np.uint64)
            left = np.where(to_left, bits, np.uint64(0)).sum(axis=1, dtype=np.uint64)
            for child, allowed in ((ensemble.left[nodes], left), (ensemble.right[nodes], ~left)):
                masks[child] = masks[nodes]
                masks[child, gene] &= allowed
    tree = np.zeros(len(ensemble.left), dtype=np.int64)
    tree[ensemble.roots] = 1
    tree = np.cumsum(tree) - 1
    alive = np.flatnonzero((ensemble.left < 0) & (masks != 0).all(axis=1))
    return _make(
        cardinalities,
        masks[alive],
        ensemble.value[alive],
        np.searchsorted(tree[alive], np.arange(ensemble.n_trees + 1)),
        ensemble.offset,
    )


def from_tables(
    cardinalities: ArrayLike,
    tables: Sequence[tuple[tuple[int, ...], ArrayLike]],
    offset: float = 0.0,
) -> BoxSum:
    """The boxes of a sum of tables over few genes each, such as a pairwise-additive predictor.

    Args:
        cardinalities: Number of choices of each gene, shape (d,).
        tables: Distinct genes, and the terms as an array with an axis for each of them.
        offset: Added to the sum.

    Raises:
        InvalidInputError: A table of another shape than its genes have.
    """
    numbers = check_cardinalities(cardinalities)
    masks, values, starts = [], [], [0]
    for genes, terms in tables:
        table = np.asarray(terms, dtype=np.float64)
        expected = tuple(int(numbers[gene]) for gene in genes)
        if table.shape != expected or len(set(genes)) != len(genes):
            raise InvalidInputError(
                f"a table over the genes {genes} must have shape {expected}, got {table.shape}"
            )
        boxes = np.tile(everything(numbers), (table.size, 1))
        for gene, choice in zip(genes, np.indices(table.shape), strict=True):
            boxes[:, gene] = np.uint64(1) << choice.ravel().astype(np.uint64)
        masks.append(boxes)
        values.append(table.ravel())
        starts.append(starts[-1] + table.size)
    empty = np.empty((0, len(numbers)), dtype=np.uint64)
    return _make(
        numbers,
        np.concatenate([empty, *masks]),
        np.concatenate([np.empty(0), *values]),
        np.array(starts),
        offset,
    )


def restrict(function: BoxSum, chosen: Mapping[int, int]) -> BoxSum:
    """The same function where some genes have their choice, of the other genes alone.

    Args:
        function: Of all genes.
        chosen: Index of the choice of each gene that is fixed. Where all are, the function is one
            of a gene with a single choice.
    """
    free = [gene for gene in range(len(function.cardinalities)) if gene not in chosen]
    inside = np.ones(function.n_leaves, dtype=bool)
    for gene, choice in chosen.items():
        inside &= (function.masks[:, gene] >> np.uint64(choice)) & np.uint64(1) != 0
    masks = function.masks[inside][:, free]
    return replace(
        function,
        cardinalities=function.cardinalities[free] if free else np.ones(1, dtype=np.int64),
        masks=masks if free else np.ones((len(masks), 1), dtype=np.uint64),
        values=function.values[inside],
        starts=np.append(0, np.cumsum(inside))[function.starts],
    )


def add(parts: Sequence[tuple[float, BoxSum]]) -> BoxSum:
    """A weighted sum of functions of the same genes."""
    ends = np.cumsum([0, *(part.n_leaves for _, part in parts)])
    return _make(
        parts[0][1].cardinalities,
        np.concatenate([part.masks for _, part in parts]),
        np.concatenate([weight * part.quantum * part.values for weight, part in parts]),
        np.concatenate([[0], *(e + p.starts[1:] for e, (_, p) in zip(ends, parts, strict=False))]),
        math.fsum(weight * part.offset for weight, part in parts),
    )


def _make(
    cardinalities: NDArray[np.int64],
    masks: Masks,
    values: NDArray[np.float64],
    starts: NDArray[np.integer],
    offset: float,
) -> BoxSum:
    """Express values in the finest quantum that keeps sums small; exact for `TreeEnsemble`."""
    if not (np.isfinite(values).all() and math.isfinite(offset)):
        raise InvalidInputError("exact search needs finite values, got NaN or infinity")
    largest = float(np.abs(values).max(initial=0.0)) * max(len(starts) - 1, 1)
    quantum = math.ldexp(1.0, math.frexp(largest)[1] - _TOTAL_BITS) if largest else 1.0
    return BoxSum(
        cardinalities,
        np.ascontiguousarray(masks),
        np.round(values / quantum).astype(np.int64),
        np.asarray(starts, dtype=np.int64),
        quantum,
        offset,
    )
