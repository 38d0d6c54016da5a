"""Chain costs: exact counting, bounding and sampling of architectures under a budget.

A parameter count, FLOPs or an additive latency model is a sum of terms in neighbouring genes:
``cost(g) = first[g_1] + sum_i steps[i][g_i, g_{i+1}]``. For such a cost the best and the worst
architecture, the number of architectures within a budget and a uniform draw from them follow by
dynamic programming, without ever rejecting a candidate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InfeasibleError, InvalidInputError

_HALF_LIMIT = 2_000_000
"""Largest number of partial architectures that is enumerated for an exact count."""

_BUCKETS = 8192
"""Resolution of the rounded count where halves are too many to enumerate."""


@dataclass(frozen=True, eq=False)
class ChainCost:
    """A cost that is a sum of terms in neighbouring genes.

    Args:
        name: Metric name, e.g. ``params``.
        first: Terms of the first gene, shape (k_1,); constants belong here.
        steps: For each further gene the terms, shape (k_{i-1}, k_i).
        unit: Base unit; empty for plain counts.

    Raises:
        InvalidInputError: Shapes that do not chain, or terms that are not finite.
    """

    name: str
    first: NDArray[np.number]
    steps: tuple[NDArray[np.number], ...]
    unit: str = ""

    def __post_init__(self) -> None:
        width = self.first.shape
        for index, step in enumerate(self.steps, start=2):
            if step.ndim != 2 or (step.shape[0],) != width:
                raise InvalidInputError(
                    f"cost {self.name!r}: the terms of gene {index} must have shape "
                    f"({width[0]}, k), got {step.shape}"
                )
            width = step.shape[1:]
        if not all(np.all(np.isfinite(terms)) for terms in (self.first, *self.steps)):
            raise InvalidInputError(f"cost {self.name!r}: every term must be finite")

    def evaluate(self, genotypes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Cost of each genotype, (n, d) to (n,); integer terms are summed exactly."""
        total = self.first[genotypes[:, 0]]
        for index, step in enumerate(self.steps):
            total = total + step[genotypes[:, index], genotypes[:, index + 1]]
        return total.astype(np.float64)

    @cached_property
    def minimum(self) -> tuple[float, NDArray[np.int64]]:
        """The smallest cost and a genotype (d,) that has it."""
        return self._extreme(1)

    @cached_property
    def maximum(self) -> tuple[float, NDArray[np.int64]]:
        """The largest cost and a genotype (d,) that has it."""
        return self._extreme(-1)

    def _extreme(self, sign: int) -> tuple[float, NDArray[np.int64]]:
        best = sign * self.first
        came_from = []
        for step in self.steps:
            candidates = best[:, None] + sign * step
            came_from.append(candidates.argmin(axis=0))
            best = candidates.min(axis=0)
        genotype = [int(best.argmin())]
        for previous in reversed(came_from):
            genotype.append(int(previous[genotype[-1]]))
        return float(sign * best.min()), np.array(genotype[::-1], dtype=np.int64)


@dataclass(frozen=True)
class Count:
    """How many architectures there are: exact when both ends agree."""

    low: int
    high: int

    @property
    def is_exact(self) -> bool:
        """Whether the number is exact."""
        return self.low == self.high

    def __str__(self) -> str:
        if self.is_exact:
            return f"{self.low:,}"
        return f"between {self.low:.4g} and {self.high:.4g}"


class ChainBudget:
    """The architectures whose chain cost lies within bounds.

    Args:
        cost: The chain.
        upper: Largest allowed cost.
        lower: Smallest allowed cost.

    Raises:
        InfeasibleError: No architecture lies within the bounds.
    """

    def __init__(self, cost: ChainCost, upper: float = math.inf, lower: float = -math.inf) -> None:
        self.cost = cost
        self.upper = upper
        self.lower = lower
        if cost.minimum[0] > upper or cost.maximum[0] < lower or lower > upper:
            raise InfeasibleError(
                f"no architecture has {cost.name} between {lower:,.10g} and {upper:,.10g}: "
                f"the range of the space is {cost.minimum[0]:,.10g} to {cost.maximum[0]:,.10g}"
            )
        cardinalities = [len(cost.first), *(step.shape[1] for step in cost.steps)]
        middle = (len(cardinalities) - 1) // 2
        left, right = cardinalities[: middle + 1], cardinalities[middle:]
        enumerable = math.prod(left) <= _HALF_LIMIT and math.prod(right) <= _HALF_LIMIT
        self._method = _Halves(self, middle) if enumerable else _Buckets(self)

    @property
    def count(self) -> Count:
        """Number of architectures within the bounds."""
        return self._method.count

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw n architectures uniformly and independently from those within the bounds.

        Returns:
            Genotypes of shape (n, d).
        """
        return self._method.sample(n, rng)

    def contains(self, genotypes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which genotypes (n, d) lie within the bounds, shape (n,)."""
        costs = self.cost.evaluate(genotypes)
        return (costs >= self.lower) & (costs <= self.upper)


class _Halves:
    """Meet in the middle: sort the left halves, look up what each right half leaves for them."""

    def __init__(self, budget: ChainBudget, middle: int) -> None:
        cost = budget.cost
        steps = cost.steps
        self._middle = middle
        self._left_shape = (len(cost.first), *(s.shape[1] for s in steps[:middle]))
        self._right_shape = tuple(s.shape[1] for s in steps[middle:])

        left = cost.first
        for step in steps[:middle]:
            left = left[..., None] + step
        left = left.reshape(-1, self._left_shape[-1])
        self._left_order = left.argsort(axis=0, kind="stable")
        left = np.take_along_axis(left, self._left_order, axis=0)

        right = np.zeros(((left.shape[1], *self._right_shape)[-1], 1), dtype=left.dtype)
        for step in reversed(steps[middle:]):
            # The suffix cost seen from the gene before it: (k_prev, k_next * ...).
            right = (step[:, :, None] + right[None]).reshape(len(step), -1)

        begin = np.empty(right.shape, dtype=np.int64)
        end = np.empty(right.shape, dtype=np.int64)
        for choice in range(left.shape[1]):
            begin[choice] = np.searchsorted(left[:, choice], budget.lower - right[choice], "left")
            end[choice] = np.searchsorted(left[:, choice], budget.upper - right[choice], "right")
        self._begin = begin.ravel()
        self._cumulative = np.cumsum(np.maximum(end - begin, 0).ravel())
        total = int(self._cumulative[-1])
        if total == 0:
            raise InfeasibleError(
                f"no architecture has {cost.name} between {budget.lower:,.10g} and "
                f"{budget.upper:,.10g}"
            )
        self.count = Count(total, total)

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        ranks = rng.integers(0, self.count.high, size=n)
        pairs = np.searchsorted(self._cumulative, ranks, side="right")
        within = ranks - np.where(pairs > 0, self._cumulative[pairs - 1], 0)
        suffixes = int(np.prod(self._right_shape, dtype=np.int64))
        choice, suffix = np.divmod(pairs, suffixes)
        prefix = self._left_order[self._begin[pairs] + within, choice]
        columns = [
            *(np.unravel_index(prefix, self._left_shape[:-1]) if self._middle else ()),
            choice,
            *(np.unravel_index(suffix, self._right_shape) if self._right_shape else ()),
        ]
        return np.stack(columns, axis=1).astype(np.int64)


class _Buckets:
    """Terms rounded down to buckets: a slightly larger set that is counted and drawn from.

    Draws outside the bounds are drawn again; the set exceeds the true one by at most d buckets
    on either side, so few are.
    """

    def __init__(self, budget: ChainBudget) -> None:
        cost = budget.cost
        self._budget = budget
        low, high = cost.minimum[0], min(cost.maximum[0], budget.upper)
        self._resolution = max((high - low) / _BUCKETS, np.finfo(float).tiny)
        # Shifting every term by its smallest value keeps the bucket numbers small.
        terms = [cost.first[None, :], *cost.steps]
        shifts = [float(t.min()) for t in terms]
        self._terms = [
            np.floor((t - shift) / self._resolution).astype(np.int64)
            for t, shift in zip(terms, shifts, strict=True)
        ]
        d, base = len(terms), sum(shifts)
        self._top = math.floor((high - base) / self._resolution)
        bottom = (budget.lower - base) / self._resolution - d
        self._bottom = max(0, math.floor(bottom)) if math.isfinite(bottom) else 0
        if self._top < 0:
            raise InfeasibleError(f"no architecture has {cost.name} <= {budget.upper:,.10g}")
        # ways[i][c, b]: completions of genes i+1.. given choice c at gene i with b buckets used.
        self._ways = self._count_completions()
        begin = self._terms[0][0]
        inside = begin <= self._top
        total = float(self._ways[0][np.flatnonzero(inside), begin[inside]].sum())
        certain = self._certain(d, base)
        self.count = Count(int(certain), int(total))

    def _count_completions(self) -> list[NDArray[np.float64]]:
        size = self._top + 1
        last = np.zeros((self._terms[-1].shape[1], size))
        last[:, self._bottom :] = 1.0
        ways = [last]
        for term in reversed(self._terms[1:]):
            current = np.zeros((term.shape[0], size))
            for a, b in np.ndindex(*term.shape):
                used = int(term[a, b])
                if used < size:
                    current[a, : size - used] += ways[0][b, used:]
            ways.insert(0, current)
        return ways

    def _certain(self, d: int, base: float) -> float:
        """Architectures whose rounded cost proves them within the bounds."""
        lower = (self._budget.lower - base) / self._resolution
        bottom = max(0, math.ceil(lower)) if math.isfinite(lower) else 0
        counts = np.zeros((self._terms[0].shape[1], self._top + 1))
        for choice, used in enumerate(self._terms[0][0]):
            if used <= self._top:
                counts[choice, used] = 1.0
        for term in self._terms[1:]:
            following = np.zeros((term.shape[1], self._top + 1))
            for a, b in np.ndindex(*term.shape):
                used = int(term[a, b])
                if used <= self._top:
                    following[b, used:] += counts[a, : self._top + 1 - used]
            counts = following
        return float(counts[:, bottom : max(self._top - d + 1, 0)].sum())

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        found: list[NDArray[np.int64]] = []
        missing = n
        while missing > 0:
            drawn = self._draw(max(missing * 2, 64), rng)
            drawn = drawn[self._budget.contains(drawn)][:missing]
            found.append(drawn)
            missing -= len(drawn)
        return np.concatenate(found)[:n] if found else np.empty((0, len(self._terms)), np.int64)

    def _draw(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        genotypes = np.empty((n, len(self._terms)), dtype=np.int64)
        used = np.zeros(n, dtype=np.int64)
        previous = np.zeros(n, dtype=np.int64)
        for gene, (term, ways) in enumerate(zip(self._terms, self._ways, strict=True)):
            after = used[:, None] + term[previous]
            inside = after <= self._top
            weights = ways[np.arange(term.shape[1]), np.minimum(after, self._top)] * inside
            cumulative = np.cumsum(weights, axis=1)
            threshold = rng.random(n) * cumulative[:, -1]
            previous = np.minimum((cumulative <= threshold[:, None]).sum(axis=1), term.shape[1] - 1)
            used = np.take_along_axis(after, previous[:, None], axis=1)[:, 0]
            genotypes[:, gene] = previous
        return genotypes
