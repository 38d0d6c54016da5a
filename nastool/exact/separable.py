"""Objectives that add up gene by gene, under any number of costs that do too.

No space is too large here: 5^60 genotypes are as quick as 5^12. The optimum comes from a beam over
partial genotypes that the multipliers of the linear relaxation bound; the beam is widened until
nothing that could be better was left out of it, which is the proof.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nastool.arrays import Floats, Int
from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.exact.certificate import Certificate
from nastool.exact.task import Outcome
from nastool.pareto import new_lows, staircase
from nastool.predictors.separable import Separable
from nastool.space import Genotypes, granularity

_BITS = 40
"""Precision of sums that are no whole numbers: what bounds are off by is far less than a unit."""

_MARGIN = 0.01
"""More than bounds are off by, in quanta."""

_BEAM = 1_000
_WIDEST = 4_000_000
"""Partial genotypes kept side by side, at first and at most."""


@dataclass(frozen=True, eq=False)
class Sum:
    """A separable function in whole numbers of a quantum, each gene's least term being 0.

    Args:
        function: In its natural unit.
        sign: -1 where it is to be maximised.
        lower: Least allowed value.
        upper: Largest allowed value.
    """

    function: Separable
    sign: int = 1
    lower: float = -math.inf
    upper: float = math.inf

    @property
    def quantum(self) -> float:
        """What one unit is worth: as much as terms allow where they allow exact sums."""
        above = [terms - terms.min() for terms in self.function.terms]
        spread = float(sum(terms.max() for terms in above))
        grain = granularity(above)
        if spread < 2.0**_BITS * grain:
            whole = np.concatenate(above) / grain
            return float(np.gcd.reduce(whole.astype(np.int64))) * grain
        return math.ldexp(1.0, math.frexp(spread)[1] - _BITS) if spread else 1.0

    @property
    def least(self) -> float:
        """The signed sum whose total is 0."""
        ends = [float((self.sign * terms).min()) for terms in self.function.terms]
        return math.fsum([self.sign * self.function.offset, *ends])

    def terms(self) -> list[Int]:
        """Signed terms in quanta."""
        signed = [self.sign * terms for terms in self.function.terms]
        return [np.round((t - t.min()) / self.quantum).astype(np.int64) for t in signed]

    def limits(self) -> tuple[float, float]:
        """The least and the largest total whose values keep the limits, in quanta.

        Infinite where there is no limit; the least is above the largest where no total keeps both.
        """
        low, high = (self.lower, self.upper) if self.sign > 0 else (-self.upper, -self.lower)
        return (
            self._first(lambda value: value >= low) if math.isfinite(low) else low,
            self._first(lambda value: value > high) - 1 if math.isfinite(high) else high,
        )

    def _first(self, holds: Callable[[float], bool]) -> int:
        """The least total whose value, which ascends with it, is such; one too many if none is."""
        below, above = -1, sum(int(terms.max()) for terms in self.terms()) + 1
        while above - below > 1:
            middle = (below + above) // 2
            if holds(float(self.value(np.array([middle]))[0])):
                above = middle
            else:
                below = middle
        return above

    def value(self, totals: Int) -> Floats:
        """Signed values of totals."""
        sums = self.sign * (self.least + self.quantum * totals.astype(np.float64))
        return self.sign * self.function.value(sums)


@dataclass(frozen=True, eq=False)
class SeparableTask:
    """What is to be found where everything is a sum of terms in single genes.

    Args:
        objective: Minimised (its sign considered).
        bounds: What else is limited; the first is the second objective of a front.
        is_front: Whether the Pareto front of the objective and the first bound is wanted.
    """

    objective: Sum
    bounds: tuple[Sum, ...] = ()
    is_front: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of choices of each gene."""
        return tuple(len(terms) for terms in self.objective.function.terms)


@dataclass(frozen=True, eq=False)
class _Row:
    """A total that must not exceed a limit.

    Args:
        terms: For each gene those of its choices.
        limit: Largest total.
    """

    terms: Sequence[Int]
    limit: float


def solve_separable(task: SeparableTask) -> Outcome:
    """Find the optimum or the front of a task and prove it.

    Args:
        task: What is to be found.

    Raises:
        InvalidInputError: What bounds leave is too much to be kept.
        MissingDependencyError: scipy is not installed, which more than one cost needs.
    """
    begin = time.perf_counter()
    values = task.objective.terms()
    rows = _rows(task)
    axis = task.bounds[0].terms() if task.is_front else None
    if axis is None:
        genotypes, seen = _optimum(values, rows)
    elif len(rows) <= 1:
        genotypes, seen = _front(values, axis, rows[0].limit if rows else math.inf)
    else:
        genotypes, seen = _sweep(values, axis, rows)
    found = task.objective.value(_total(values, genotypes))
    costs = np.zeros(len(found)) if axis is None else task.bounds[0].value(_total(axis, genotypes))
    best = float(found.min()) if len(found) else math.inf
    size = math.prod(task.sizes)
    evaluated = min(seen, size)
    certificate = Certificate(
        size=size,
        excluded=0,
        pruned=size - evaluated,
        evaluated=evaluated,
        best=best,
        bound=best,
        gap=0.0,
        front=len(found),
        seconds=time.perf_counter() - begin,
        done=1.0,
    )
    return Outcome(genotypes, found, costs, certificate)


def _rows(task: SeparableTask) -> list[_Row]:
    """Everything that is limited, as upper limits that not every genotype keeps."""
    rows = []
    for place, bound in enumerate((task.objective, *task.bounds)):
        low, high = bound.limits()
        terms = bound.terms()
        most = sum(int(t.max()) for t in terms)
        # The axis of a front stays, for its limit moves.
        if high < most or (task.is_front and place == 1):
            rows.append(_Row(terms, min(high, most)))
        if low > 0:
            rows.append(_Row([t.max() - t for t in terms], most - low))
    return rows


def _total(terms: Sequence[Int], genotypes: Genotypes) -> Int:
    """Totals of genotypes (n, d), shape (n,)."""
    total = np.zeros(len(genotypes), dtype=np.int64)
    for gene, its in enumerate(terms):
        total += its[genotypes[:, gene]]
    return total


def _optimum(values: Sequence[Int], rows: Sequence[_Row]) -> tuple[Genotypes, int]:
    """The least total within limits, (1, d) or (0, d), and the partial genotypes looked at."""
    d = len(values)
    none = np.empty((0, d), dtype=np.int64)
    if any(row.limit < sum(int(t.min()) for t in row.terms) for row in rows):
        return none, 1
    prices = _prices(values, rows)
    best, incumbent, seen, width = none, math.inf, 0, _BEAM
    while True:
        found, total, cut, looked = _beam(values, rows, prices, incumbent, width)
        seen += looked
        if total < incumbent:
            best, incumbent = found, total
        if not cut:
            return best, seen
        if width >= _WIDEST:
            raise InvalidInputError(
                f"exact search keeps at most {_WIDEST:,} partial architectures, which these "
                "bounds and scores exceed: leave out a bound"
            )
        width *= 8


def _prices(values: Sequence[Int], rows: Sequence[_Row]) -> Floats:
    """What a unit of each limit is worth in the linear relaxation: its multipliers, (m,)."""
    if not rows:
        return np.empty(0)
    try:
        from scipy.optimize import linprog
        from scipy.sparse import csr_array
    except ImportError as error:
        raise MissingDependencyError(
            "bounds on additive scores need scipy: pip install 'nastool[fit]'"
        ) from error
    sizes = [len(v) for v in values]
    columns = np.arange(sum(sizes))
    one = csr_array((np.ones(len(columns)), (np.repeat(np.arange(len(sizes)), sizes), columns)))
    cost = np.concatenate(values).astype(np.float64)
    matrix = np.stack([np.concatenate(row.terms) for row in rows]).astype(np.float64)
    limits = np.array([row.limit for row in rows])
    # Around 1, as solvers like it.
    unit = max(float(cost.max()), 1.0)
    scale = np.maximum(matrix.max(axis=1), 1.0)
    answer = linprog(
        cost / unit, matrix / scale[:, None], limits / scale, one, np.ones(len(sizes)), (0, 1)
    )
    if answer.status != 0:
        return np.zeros(len(rows))  # any prices bound, and these always do
    # A multiplier below 0 would bound nothing.
    prices: Floats = np.maximum(-answer.ineqlin.marginals, 0.0) * unit / scale
    return prices


def _beam(
    values: Sequence[Int], rows: Sequence[_Row], prices: Floats, incumbent: float, width: int
) -> tuple[Genotypes, float, bool, int]:
    """The best of what a beam holds.

    Returns:
        The best genotype (1, d), or (0, d); its total; whether anything that could be better was
        left out; the number of partial genotypes looked at.
    """
    d, m = len(values), len(rows)
    limits = np.array([row.limit for row in rows])
    priced = [
        values[gene] + sum((prices[i] * rows[i].terms[gene] for i in range(m)), np.zeros(1))
        for gene in range(d)
    ]
    # Genes whose choice is clear first, so that few partial genotypes are kept for long.
    order = sorted(range(d), key=lambda gene: -_second(priced[gene]))
    onward = np.cumsum([0.0, *(float(priced[g].min()) for g in reversed(order))])[::-1]
    needed = np.zeros((d + 1, m))
    for place in range(d - 1, -1, -1):
        least = [int(row.terms[order[place]].min()) for row in rows]
        needed[place] = needed[place + 1] + least
    worth = float(prices @ limits) if m else 0.0

    sums, used = np.zeros(1, dtype=np.int64), np.zeros((1, m), dtype=np.int64)
    steps: list[tuple[Int, Int]] = []
    cut, looked = False, 0
    for place, gene in enumerate(order):
        k = len(values[gene])
        sums = (sums[:, None] + values[gene]).ravel()
        of_gene = np.stack([row.terms[gene] for row in rows], axis=1) if m else np.zeros((k, 0))
        used = (used[:, None] + of_gene.astype(np.int64)).reshape(len(sums), m)
        looked += len(sums)
        bounds = sums + used @ prices + onward[place + 1] - worth
        fits = np.all(used + needed[place + 1] <= limits, axis=1)
        kept = np.flatnonzero(fits & (bounds < incumbent - 1 + _MARGIN))
        kept = _undominated(sums, used, kept)
        if len(kept) > width:
            cut = True
            kept = kept[np.argpartition(bounds[kept], width)[:width]]
        steps.append((kept // k, kept % k))
        sums, used = sums[kept], used[kept]
    if not len(sums):
        return np.empty((0, d), dtype=np.int64), math.inf, cut, looked
    at = int(sums.argmin())
    total = float(sums[at])
    genotype = np.empty((1, d), dtype=np.int64)
    for gene, (before, choice) in zip(reversed(order), reversed(steps), strict=True):
        genotype[0, gene] = choice[at]
        at = int(before[at])
    return genotype, total, cut, looked


def _second(terms: Floats) -> float:
    """How much dearer the second choice is than the first."""
    if len(terms) == 1:
        return math.inf
    first, second = np.partition(terms, 1)[:2]
    return float(second - first)


def _undominated(sums: Int, used: Int, rows: Int) -> Int:
    """Those of some rows that no other equals or betters in everything, where that is quick."""
    if used.shape[1] > 1:
        keys = np.column_stack([used[rows], sums[rows]])
        order = np.lexsort(keys.T[::-1])
        # Of those that use the same, the first has the least sum.
        new = np.append(True, np.any(np.diff(used[rows][order], axis=0) != 0, axis=1))
        return np.sort(rows[order[new[: len(order)]]])
    costs = used[rows, 0] if used.shape[1] else np.zeros(len(rows), dtype=np.int64)
    return np.sort(rows[staircase(costs, sums[rows])])


def _front(values: Sequence[Int], axis: Sequence[Int], limit: float) -> tuple[Genotypes, int]:
    """The whole front of two totals, by ascending axis: dynamic programming."""
    sums, used = np.zeros(1, dtype=np.int64), np.zeros((1, 1), dtype=np.int64)
    steps: list[tuple[Int, Int]] = []
    looked = 0
    for gene, its in enumerate(values):
        sums = (sums[:, None] + its).ravel()
        used = (used[:, None] + axis[gene][:, None]).reshape(-1, 1)
        looked += len(sums)
        kept = _undominated(sums, used, np.flatnonzero(used[:, 0] <= limit))
        if len(kept) > _WIDEST:
            raise InvalidInputError(
                f"a front of additive scores keeps at most {_WIDEST:,} partial architectures, "
                f"which gene {gene + 1} of {len(values)} exceeds"
            )
        steps.append((kept // len(its), kept % len(its)))
        sums, used = sums[kept], used[kept]
    at = np.argsort(used[:, 0], kind="stable")
    genotypes = np.empty((len(at), len(values)), dtype=np.int64)
    for gene in range(len(values) - 1, -1, -1):
        before, choice = steps[gene]
        genotypes[:, gene] = choice[at]
        at = before[at]
    return genotypes, looked


def _sweep(
    values: Sequence[Int], axis: Sequence[Int], rows: Sequence[_Row]
) -> tuple[Genotypes, int]:
    """The front under further limits: the optimum at each limit of the axis that makes one."""
    place = next(i for i, row in enumerate(rows) if _same(row.terms, axis))
    found: list[Genotypes] = []
    seen, limit = 0, rows[place].limit
    while True:
        now = [replace(row, limit=limit) if i == place else row for i, row in enumerate(rows)]
        genotype, looked = _optimum(values, now)
        seen += looked
        if not len(genotype):
            break
        found.append(genotype)
        limit = float(_total(axis, genotype)[0] - 1)
    genotypes = np.concatenate([np.empty((0, len(values)), dtype=np.int64), *found[::-1]])
    return genotypes[new_lows(_total(values, genotypes))], seen


def _same(one: Sequence[Int], other: Sequence[Int]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
