"""Chain costs: exact counting, bounding and sampling of architectures under a budget.

A parameter count, FLOPs or an additive latency model is a sum of terms in neighbouring genes:
``cost(g) = first[g_1] + sum_i steps[i][g_i, g_{i+1}]``. For such a cost the best and the worst
architecture, the number of architectures within a budget and a uniform draw from them follow by
dynamic programming, without ever rejecting a candidate.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InfeasibleError, InvalidInputError
from nastool.space.summing import granularity

_HALF_LIMIT = 2_000_000
"""Largest number of partial architectures that is enumerated for an exact count."""

_BUCKETS = 8192
"""Resolution of the rounded count where halves are too many to enumerate."""

_LARGEST_COUNT = 10**300
"""Largest space whose count fits in floats."""

_TABLE_SIZE = 2**15
"""Most sums of neighbouring terms that are kept to be looked up."""

_ROUNDS = 1000
"""Rounds of drawing after which bounds count as too narrow for the resolution."""


@dataclass(frozen=True, eq=False)
class ChainCost:
    """A cost that is a sum of terms in neighbouring genes.

    Args:
        name: Metric name, e.g. ``params``.
        first: Terms of the first gene, shape (k_1,); constants belong here.
        steps: For each further gene the terms, shape (k_{i-1}, k_i).
        unit: Base unit; empty for plain counts.

    Raises:
        InvalidInputError: Shapes that do not chain, or terms that are not finite numbers.
    """

    name: str
    first: NDArray[np.number]
    steps: tuple[NDArray[np.number], ...]
    unit: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", self._widest(self.first))
        object.__setattr__(self, "steps", tuple(self._widest(step) for step in self.steps))
        if self.first.ndim != 1 or not self.first.size:
            raise InvalidInputError(
                f"cost {self.name!r}: the terms of gene 1 must have shape (k,), "
                f"got {self.first.shape}"
            )
        width = len(self.first)
        for index, step in enumerate(self.steps, start=2):
            if step.ndim != 2 or step.shape[0] != width or not step.size:
                raise InvalidInputError(
                    f"cost {self.name!r}: the terms of gene {index} must have shape "
                    f"({width}, k), got {step.shape}"
                )
            width = step.shape[1]
        if not all(np.all(np.isfinite(terms)) for terms in self.terms):
            raise InvalidInputError(f"cost {self.name!r}: every term must be finite")

    def _widest(self, terms: NDArray[np.number]) -> NDArray[np.number]:
        """The terms as int64 or float64, so that sums and signs do not overflow."""
        array = np.asarray(terms)
        if np.issubdtype(array.dtype, np.integer):
            return array.astype(np.int64, copy=False)
        if np.issubdtype(array.dtype, np.floating):
            return array.astype(np.float64, copy=False)
        raise InvalidInputError(
            f"cost {self.name!r}: terms must be real numbers, got {array.dtype}"
        )

    @property
    def terms(self) -> tuple[NDArray[np.number], ...]:
        """The terms of every gene, those of the first included."""
        return (self.first, *self.steps)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of choices of each gene."""
        return tuple(terms.shape[-1] for terms in self.terms)

    @cached_property
    def quantum(self) -> float:
        """A number of which all terms are whole multiples: 1 of integers, else a power of two."""
        is_whole = all(terms.dtype == np.int64 for terms in self.terms)
        return 1.0 if is_whole else granularity(self.terms) or 1.0

    @cached_property
    def tolerance(self) -> float:
        """How far two orders of summation may differ; 0 where sums are exact."""
        magnitude = sum(float(np.abs(terms).max()) for terms in self.terms)
        if magnitude < 2**53 * self.quantum:
            return 0.0
        return 4 * len(self.terms) * float(np.finfo(np.float64).eps) * magnitude

    def evaluate(self, genotypes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Cost of each genotype, (n, d) to (n,); multiples of a quantum are summed exactly."""
        strides, tables = self._runs
        keys: NDArray[np.int64] = genotypes.dot(strides)
        total = tables[0].take(keys[:, 0])
        for run, table in enumerate(tables[1:], start=1):
            total = total + table.take(keys[:, run])
        return total.astype(np.float64, copy=False)

    @cached_property
    def _runs(self) -> tuple[NDArray[np.int64], tuple[NDArray[np.number], ...]]:
        """What turns genotypes into places of a few tables, and the tables: a look-up each.

        A table holds the sum of the terms of some genes in a row, of which it shares the last
        with the next one. Sums of floats depend on their order, so there a table is a step.
        """
        limit = _TABLE_SIZE if self.tolerance == 0 else 0
        sizes = self.cardinalities
        strides: list[dict[int, int]] = [{0: 1}]
        tables = [self.first]
        for gene, step in enumerate(self.steps, start=1):
            if tables[-1].size * sizes[gene] <= limit:
                rows = tables[-1].reshape(-1, sizes[gene - 1])
                tables[-1] = (rows[:, :, None] + step).ravel()
                strides[-1] = {g: stride * sizes[gene] for g, stride in strides[-1].items()}
                strides[-1][gene] = 1
            else:
                strides.append({gene - 1: sizes[gene], gene: 1})
                tables.append(step.ravel())
        columns = np.zeros((len(sizes), len(tables)), dtype=np.int64)
        for run, of_run in enumerate(strides):
            columns[list(of_run), run] = list(of_run.values())
        return columns, tuple(tables)

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


class CostBudget(ABC):
    """The architectures whose cost lies within bounds."""

    cost: Any
    """Has a name, extremes, and says what genotypes cost."""
    upper: float
    lower: float

    @property
    @abstractmethod
    def count(self) -> Count:
        """Number of architectures within the bounds."""

    @abstractmethod
    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw n architectures uniformly and independently from those within the bounds.

        Returns:
            Canonical genotypes of shape (n, d).

        Raises:
            InfeasibleError: The bounds are so narrow that rounding hides what lies within.
        """

    def contains(self, genotypes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which genotypes (n, d) lie within the bounds, shape (n,)."""
        costs: NDArray[np.float64] = self.cost.evaluate(genotypes)
        return (costs >= self.lower) & (costs <= self.upper)

    def _infeasible(self) -> InfeasibleError:
        smallest, largest = self.cost.minimum[0], self.cost.maximum[0]
        return InfeasibleError(
            f"no architecture has {self.cost.name} between {self.lower:,.10g} and "
            f"{self.upper:,.10g}: the range of the space is {smallest:,.10g} to {largest:,.10g}"
        )


class ChainBudget(CostBudget):
    """The architectures whose chain cost lies within bounds.

    Args:
        cost: The chain.
        upper: Largest allowed cost.
        lower: Smallest allowed cost.
        among: Number of chains that share what may be enumerated for exact counts.

    Raises:
        InvalidInputError: A bound is not a number, or the space is too large to count in floats.
        InfeasibleError: No architecture lies within the bounds.
    """

    def __init__(
        self,
        cost: ChainCost,
        upper: float = math.inf,
        lower: float = -math.inf,
        *,
        among: int = 1,
    ) -> None:
        if math.isnan(upper) or math.isnan(lower):
            raise InvalidInputError(f"bounds on {cost.name} must be numbers, got NaN")
        self.cost = cost
        self.upper = upper
        self.lower = lower
        if cost.minimum[0] > upper or cost.maximum[0] < lower or lower > upper:
            raise self._infeasible()
        if cost.tolerance == 0:
            # Costs are multiples of the quantum: between bounds that are, differences are exact.
            upper = float(np.floor(upper / cost.quantum) * cost.quantum)
            lower = float(np.ceil(lower / cost.quantum) * cost.quantum)
        middle = (len(cost.terms) - 1) // 2
        left, right = cost.cardinalities[: middle + 1], cost.cardinalities[middle:]
        enumerable = max(math.prod(left), math.prod(right)) <= _HALF_LIMIT // among
        method: type[_Halves | _Buckets] = _Halves if enumerable else _Buckets
        self._method = method(cost, lower, upper)
        if self._method.count.high == 0:
            raise self._infeasible()

    @property
    def count(self) -> Count:
        if self.lower <= self.cost.minimum[0] and self.cost.maximum[0] <= self.upper:
            size = math.prod(self.cost.cardinalities)
            return Count(size, size)
        return self._method.count

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        if self._method.is_exact:
            return self._method.draw(n, rng)
        # What is drawn from exceeds the bounds by rounding only, so few draws are repeated.
        found = [np.empty((0, len(self.cost.terms)), dtype=np.int64)]
        missing = n
        for _ in range(_ROUNDS):
            if missing <= 0:
                return np.concatenate(found)
            drawn = self._method.draw(2 * missing + 64, rng)
            drawn = drawn[self.contains(drawn)][:missing]
            found.append(drawn)
            missing -= len(drawn)
        raise self._infeasible()

    @property
    def candidates(self) -> int:
        """Number of architectures that `draw` chooses from."""
        return self._method.count.high

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw uniformly from a set that may exceed the bounds by rounding, shape (n, d)."""
        return self._method.draw(n, rng)


class _Halves:
    """Meet in the middle: sort the left halves, look up what each right half leaves for them."""

    def __init__(self, cost: ChainCost, lower: float, upper: float) -> None:
        middle = (len(cost.terms) - 1) // 2
        before, after = cost.steps[:middle], cost.steps[middle:]
        self._left_shape = cost.cardinalities[: middle + 1]
        self._right_shape = cost.cardinalities[middle + 1 :]

        left = cost.first
        for step in before:
            left = left[..., None] + step
        left = left.reshape(-1, self._left_shape[-1])
        self._left_order = left.argsort(axis=0, kind="stable")
        # Column by column in memory: a column is what is searched.
        left = np.asfortranarray(np.take_along_axis(left, self._left_order, axis=0))

        # The cost of every suffix seen from the gene before it: (k_previous, k_next * ...).
        right: NDArray[np.number] = np.zeros((cost.cardinalities[-1], 1), dtype=np.int64)
        for step in reversed(after):
            right = (step[:, :, None] + right[None]).reshape(len(step), -1)

        # Sums of floats may depend on their order: widen the bounds by that much to draw, narrow
        # them to count what is certain. Where sums are exact, both are the bounds themselves.
        slack = cost.tolerance
        begin, end = self._ranges(left, right, lower - slack, upper + slack)
        self._begin = begin.ravel()
        self._cumulative = np.cumsum((end - begin).ravel())
        high = low = int(self._cumulative[-1])
        if slack:
            begin, end = self._ranges(left, right, lower + slack, upper - slack)
            low = int(np.maximum(end - begin, 0).sum())
        self.count = Count(low, high)

    @property
    def is_exact(self) -> bool:
        """Whether every draw lies within the bounds."""
        return self.count.is_exact

    @staticmethod
    def _ranges(
        left: NDArray[np.number], right: NDArray[np.number], lower: float, upper: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which sorted left halves fit each right half: begin and end, each (k, suffixes)."""
        begin = np.zeros(right.shape, dtype=np.int64)
        end = np.full(right.shape, len(left), dtype=np.int64)
        for choice, (prefixes, suffixes) in enumerate(zip(left.T, right, strict=True)):
            # A million look-ups take a while: none where a side is open.
            if lower > -math.inf:
                begin[choice] = np.searchsorted(prefixes, lower - suffixes, "left")
            if upper < math.inf:
                end[choice] = np.searchsorted(prefixes, upper - suffixes, "right")
        return begin, end

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw n pairs of halves, uniformly over the counted ones."""
        ranks = rng.integers(0, self.count.high, size=n)
        pairs = np.searchsorted(self._cumulative, ranks, side="right")
        within = ranks - np.where(pairs > 0, self._cumulative[pairs - 1], 0)
        choice, suffix = np.divmod(pairs, math.prod(self._right_shape))
        prefix = self._left_order[self._begin[pairs] + within, choice]
        columns = [
            *(np.unravel_index(prefix, self._left_shape[:-1]) if self._left_shape[:-1] else ()),
            choice,
            *(np.unravel_index(suffix, self._right_shape) if self._right_shape else ()),
        ]
        return np.stack(columns, axis=1).astype(np.int64)


class _Buckets:
    """Terms rounded down to buckets: a slightly larger set that is counted and drawn from.

    Costs are taken relative to the end of the range that is nearer to the bounds, as sums of
    non-negative terms, so that the number of buckets is fixed however narrow the bounds are.
    """

    def __init__(self, cost: ChainCost, lower: float, upper: float) -> None:
        size = math.prod(cost.cardinalities)
        if size > _LARGEST_COUNT:
            raise InvalidInputError(
                f"cost {cost.name!r}: at most {_LARGEST_COUNT:.0e} architectures can be counted, "
                f"got 10^{math.log10(size):.0f}"
            )
        smallest, largest = cost.minimum[0], cost.maximum[0]
        lower, upper = max(lower, smallest), min(upper, largest)
        sign = 1 if upper - smallest <= largest - lower else -1
        near, far = (
            (lower - smallest, upper - smallest)
            if sign == 1
            else (largest - upper, largest - lower)
        )
        # Few multiples need no rounding. Elsewhere a term rounded down loses less than a bucket,
        # and floating-point noise may lift a sum past an exact multiple by one.
        self.is_exact = cost.tolerance == 0 and far <= _BUCKETS * cost.quantum
        resolution = cost.quantum if self.is_exact else max(far / _BUCKETS, cost.tolerance)
        noise = 0 if self.is_exact else 1
        lost = 0 if self.is_exact else len(cost.terms) + noise
        self._top = math.floor(far / resolution) + noise
        self._terms = [
            np.clip(np.floor(term / resolution), 0, self._top + 1).astype(np.int64)
            for term in _excess(cost, sign)
        ]
        bottom = max(0, math.ceil(near / resolution) - lost)
        self._ways = self._count_completions(bottom)
        start = self._terms[0][0]
        inside = np.flatnonzero(start <= self._top)
        possible = float(self._ways[0][inside, start[inside]].sum())
        # An end of the bounds that is an end of the range excludes nothing.
        is_open = lower <= smallest, upper >= largest
        sure_top = self._top if is_open[sign == 1] else self._top - noise - lost
        sure_bottom = 0 if is_open[sign != 1] else math.ceil(near / resolution) + noise
        certain = self._count_between(sure_bottom, sure_top)
        # Sums of floats above 2^53 are rounded; keep the ends on their sides.
        margin = 1e-9 if possible > 2**53 else 0.0
        self.count = Count(int(certain * (1 - margin)), math.ceil(possible * (1 + margin)))

    def _count_completions(self, bottom: int) -> list[NDArray[np.float64]]:
        """For each gene, (k, top + 1): ways to go on from a choice with that much used up."""
        size = self._top + 1
        last = np.zeros((self._terms[-1].shape[1], size))
        last[:, bottom:] = 1.0
        ways = [last]
        for term in reversed(self._terms[1:]):
            current = np.zeros((term.shape[0], size))
            for a, b in np.ndindex(*term.shape):
                used = int(term[a, b])
                if used < size:
                    current[a, : size - used] += ways[-1][b, used:]
            ways.append(current)
        return ways[::-1]

    def _count_between(self, bottom: int, top: int) -> float:
        """Architectures whose rounded cost lies between two buckets, both included."""
        if top < bottom:
            return 0.0
        size = top + 1
        counts = np.zeros((self._terms[0].shape[1], size))
        for choice, used in enumerate(self._terms[0][0]):
            if used < size:
                counts[choice, used] = 1.0
        for term in self._terms[1:]:
            following = np.zeros((term.shape[1], size))
            for a, b in np.ndindex(*term.shape):
                used = int(term[a, b])
                if used < size:
                    following[b, used:] += counts[a, : size - used]
            counts = following
        return float(counts[:, bottom:].sum())

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw n architectures, uniformly over those whose rounded cost is within the bounds."""
        genotypes = np.empty((n, len(self._terms)), dtype=np.int64)
        used = np.zeros(n, dtype=np.int64)
        previous = np.zeros(n, dtype=np.int64)
        for gene, (term, ways) in enumerate(zip(self._terms, self._ways, strict=True)):
            after = used[:, None] + term[previous]
            inside = after <= self._top
            weights = ways[np.arange(term.shape[1]), np.minimum(after, self._top)] * inside
            cumulative = np.cumsum(weights, axis=1)
            threshold = rng.random(n) * cumulative[:, -1]
            previous = (cumulative <= threshold[:, None]).sum(axis=1)
            previous = np.minimum(previous, term.shape[1] - 1)
            used = np.take_along_axis(after, previous[:, None], axis=1)[:, 0]
            genotypes[:, gene] = previous
        return genotypes


def _excess(cost: ChainCost, sign: int) -> list[NDArray[np.float64]]:
    """The cost above its minimum (sign 1) or below its maximum (sign -1), as terms >= 0.

    Each term is what a choice costs beyond the best way on, so that the terms of an architecture
    still add up to its cost but for a constant; the first has shape (1, k), the others (k, k').
    """
    onward = np.zeros(cost.cardinalities[-1])
    terms = []
    for step in reversed((cost.first[None], *cost.steps)):
        total = sign * step + onward
        onward = total.min(axis=1)
        terms.append(total - onward[:, None])
    return terms[::-1]
