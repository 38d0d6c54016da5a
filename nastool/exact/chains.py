"""Chain costs in whole numbers, and what the genes still open can add to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Int
from nastool.space import ChainCost

_TOTAL_BITS = 40
"""Precision of costs that are no whole numbers."""


@dataclass(frozen=True, eq=False)
class IntegerChain:
    """A chain cost as whole numbers of a quantum; exact where the terms are whole numbers.

    Args:
        first: Terms of the first gene, shape (k_1,).
        steps: Terms of neighbouring genes, each of shape (k_i, k_{i+1}).
        quantum: What one unit is worth.
        shift: What was taken off every cost, in quanta.
    """

    first: Int
    steps: tuple[Int, ...]
    quantum: float
    shift: int = 0

    @property
    def ends(self) -> tuple[int, int]:
        """Least and largest cost in quanta."""
        d = len(self.cardinalities)
        zero = [np.zeros(k, np.int64) for k in self.cardinalities]
        low, high = least(self, segments(range(d), d)[0], np.array([1, -1]), zero)[0, 0]
        return int(low), -int(high)

    @property
    def magnitude(self) -> int:
        """No sum of some of the terms is larger in absolute value."""
        return sum(int(np.abs(terms).max()) for terms in (self.first, *self.steps))

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of choices of each gene."""
        return (len(self.first), *(step.shape[1] for step in self.steps))

    def evaluate(self, genotypes: Int) -> Int:
        """Costs in quanta of genotypes (n, d), shape (n,)."""
        total = self.first[genotypes[:, 0]]
        for i, step in enumerate(self.steps):
            total = total + step[genotypes[:, i], genotypes[:, i + 1]]
        return total

    def to_float(self, totals: Int) -> NDArray[np.float64]:
        """Costs in quanta as costs in the base unit."""
        return (totals + self.shift).astype(np.float64) * self.quantum


def integer_chain(cost: ChainCost) -> IntegerChain:
    """Express a chain in whole numbers, from 0 upwards."""
    lows, quantum, terms = 0, cost.quantum, cost.terms
    if cost.tolerance or any(term.dtype != np.int64 for term in terms):
        if cost.tolerance or sum(float(np.ptp(term)) for term in terms) >= 2**_TOTAL_BITS * quantum:
            magnitude = sum(float(np.abs(term).max()) for term in terms)
            quantum = math.ldexp(1.0, math.frexp(magnitude)[1] - _TOTAL_BITS)
        # What all choices have in common would take bits.
        rounded = [np.round(term / quantum).astype(np.int64) for term in terms]
        lows = sum(int(term.min()) for term in rounded)
        terms = tuple(term - term.min() for term in rounded)
    first, *steps = (term.astype(np.int64, copy=False) for term in terms)
    chain = IntegerChain(first, tuple(steps), quantum)
    low = chain.ends[0]
    return replace(chain, first=chain.first - low, shift=low + lows)


def no_chain(cardinalities: Sequence[int]) -> IntegerChain:
    """A cost of zero everywhere."""
    steps = (np.zeros((a, b), np.int64) for a, b in pairwise(cardinalities))
    return IntegerChain(np.zeros(cardinalities[0], np.int64), tuple(steps), 1.0)


@dataclass(frozen=True)
class Segment:
    """Neighbouring open genes between two fixed ones.

    Args:
        first: Its first gene.
        last: Its last gene.
        left: The fixed gene before it, -1 where it begins the chain.
        right: The fixed gene after it, -1 where it ends the chain.
    """

    first: int
    last: int
    left: int
    right: int


def segments(open_genes: Sequence[int], d: int) -> list[Segment]:
    """Runs of neighbouring open genes, from the left."""
    wanted = set(open_genes)
    found = []
    for gene in sorted(wanted):
        if gene - 1 in wanted:
            continue
        last = gene
        while last + 1 in wanted:
            last += 1
        found.append(Segment(gene, last, gene - 1, last + 1 if last + 1 < d else -1))
    return found


def least(chain: IntegerChain, segment: Segment, weights: Int, unary: Sequence[Int]) -> Int:
    """Least of ``unary + weight * chain`` over the genes of a segment, by dynamic programming.

    Args:
        chain: The cost; the terms between the segment and its fixed neighbours count.
        segment: The open genes.
        weights: Factors of the cost, shape (m,).
        unary: For each gene of the chain a term for each choice.

    Returns:
        For each choice of the left and the right neighbour (one where there is none) and each
        weight, shape (k_left, k_right, m).
    """
    w = weights[:, None, None]
    if segment.left < 0:
        table = w * chain.first[None, None, :] + unary[0]
    else:
        table = w * chain.steps[segment.left][None] + unary[segment.first]
    for gene in range(segment.first, segment.last):
        joint = table[:, :, :, None] + (w * chain.steps[gene][None])[:, None]
        table = joint.min(axis=2) + unary[gene + 1]
    if segment.right < 0:
        table = table.min(axis=2, keepdims=True)
    else:
        joint = table[:, :, :, None] + (w * chain.steps[segment.last][None])[:, None]
        table = joint.min(axis=2)
    return np.ascontiguousarray(table.transpose(1, 2, 0))
