"""Spaces in which some genes decide whether others make a difference, and costs over them.

Where a gene is the depth of a net, the genes of layers that it leaves out make no difference:
genotypes that differ in them alone are one architecture. Where one gene is a width that all layers
share, what a layer costs depends on it. Such *global* genes are few. For each setting of them, a
*branch* of the space, the other genes are free or idle, and a cost is a chain over the free ones.
Extremes, counts, uniform draws and exact searches are those of the branches taken together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nastool.arrays import Int
from nastool.errors import InfeasibleError, InvalidInputError
from nastool.space.chain import ChainBudget, ChainCost, CostBudget, Count

_ROUNDS = 1000
"""Rounds of drawing after which bounds count as too narrow for the resolution."""


@dataclass(frozen=True)
class Branch:
    """Architectures that share the choices of the global genes.

    Args:
        chosen: Index of the choice of each global gene, by the gene's place in the space.
        idle: Places of genes that make no difference here; canonical forms have their first choice.
    """

    chosen: Mapping[int, int]
    idle: tuple[int, ...] = ()

    def free(self, genes: int) -> list[int]:
        """Places of the genes that are left to choose, of so many genes, ascending."""
        return [gene for gene in range(genes) if gene not in self.chosen and gene not in self.idle]


class Branching:
    """All branches of a space.

    Args:
        cardinalities: Number of choices of each gene, shape (d,).
        branches: One for each setting of the same global genes.

    Raises:
        InvalidInputError: A setting is missing or there twice, or a place or a choice does not
            exist.
    """

    def __init__(self, cardinalities: ArrayLike, branches: Sequence[Branch]) -> None:
        self.cardinalities = np.asarray(cardinalities, dtype=np.int64)
        self.branches = tuple(branches)
        d = len(self.cardinalities)
        names = sorted(self.branches[0].chosen) if self.branches else []
        if not names or any(sorted(branch.chosen) != names for branch in self.branches):
            raise InvalidInputError("the branches of a space must be settings of the same genes")
        places = {*names, *(gene for branch in self.branches for gene in branch.idle)}
        if not all(0 <= gene < d for gene in places):
            raise InvalidInputError(
                f"branches must name genes by places 0 to {d - 1}, got {sorted(places)}"
            )
        if any(set(branch.idle) & set(names) for branch in self.branches):
            raise InvalidInputError("a gene that a branch is a setting of cannot be idle")
        self._globals = np.array(names, dtype=np.int64)
        sizes = self.cardinalities[self._globals]
        settings: Int = np.array([[b.chosen[gene] for gene in names] for b in self.branches])
        self._settings = settings
        if np.any((settings < 0) | (settings >= sizes)):
            raise InvalidInputError("branches must be settings of choices that their genes have")
        self._strides = np.append(1, np.cumprod(sizes[:0:-1]))[::-1].astype(np.int64)
        self._places = np.full(math.prod(sizes.tolist()), -1, dtype=np.int64)
        self._places[settings @ self._strides] = np.arange(len(self.branches))
        if len(self.branches) != len(self._places) or np.any(self._places < 0):
            raise InvalidInputError(
                f"a space must have one branch for each of the {len(self._places):,} settings of "
                f"its global genes, got {len(self.branches):,}"
            )
        self.free = [branch.free(d) for branch in self.branches]
        self._kept = np.ones((len(self.branches), d), dtype=np.int64)
        for row, branch in zip(self._kept, self.branches, strict=True):
            row[list(branch.idle)] = 0

    @cached_property
    def sizes(self) -> list[int]:
        """Number of architectures of each branch."""
        return [math.prod(self.cardinalities[genes].tolist()) for genes in self.free]

    @property
    def size(self) -> int:
        """Number of architectures."""
        return sum(self.sizes)

    def of(self, genotypes: Int) -> Int:
        """Number of the branch of each genotype, (n, d) to (n,)."""
        branches: Int = self._places[genotypes[:, self._globals] @ self._strides]
        return branches

    def canonicalize(self, genotypes: Int) -> Int:
        """Give every idle gene its first choice, (n, d) to (n, d)."""
        canonical: Int = genotypes * self._kept[self.of(genotypes)]
        return canonical

    def complete(self, branch: int, choices: Int) -> Int:
        """Canonical genotypes (n, d) from choices (n, f) of the free genes of a branch."""
        genotypes = np.zeros((len(choices), len(self.cardinalities)), dtype=np.int64)
        for gene, choice in self.branches[branch].chosen.items():
            genotypes[:, gene] = choice
        genotypes[:, self.free[branch]] = choices[:, : len(self.free[branch])]
        return genotypes

    def sample(self, n: int, rng: np.random.Generator) -> Int:
        """Draw n architectures uniformly and independently, shape (n, d)."""
        drawn = rng.integers(0, self.cardinalities, size=(n, len(self.cardinalities)))
        drawn[:, self._globals] = self._settings[draw_by_size(self.sizes, n, rng)]
        return self.canonicalize(drawn)


def draw_by_size(sizes: Sequence[int], n: int, rng: np.random.Generator) -> Int:
    """Draw n places, each with a probability in proportion to its size, however large; (n,)."""
    total = sum(sizes)
    ends = np.cumsum([size / total for size in sizes])
    places: Int = np.searchsorted(ends, rng.random(n) * ends[-1], side="right")
    return np.minimum(places, len(sizes) - 1)


@dataclass(frozen=True, eq=False)
class ConditionalCost:
    """A cost that is a chain over the free genes of each branch.

    Args:
        name: Metric name, e.g. ``params``.
        cardinalities: Number of choices of each gene of the space, shape (d,).
        branches: Those of the space.
        chains: For each branch a chain over its free genes, in the order of the space; one of a
            single choice where none is free.
        unit: Base unit; empty for plain counts.

    Raises:
        InvalidInputError: Branches that make no space, or chains over other genes.
    """

    name: str
    cardinalities: Sequence[int] | NDArray[np.int64]
    branches: Sequence[Branch]
    chains: Sequence[ChainCost]
    unit: str = ""
    branching: Branching = field(init=False, repr=False)

    def __post_init__(self) -> None:
        branching = Branching(self.cardinalities, self.branches)
        object.__setattr__(self, "branching", branching)
        if len(self.chains) != len(self.branches):
            raise InvalidInputError(
                f"cost {self.name!r}: must have a chain for each of {len(self.branches)} branches, "
                f"got {len(self.chains)}"
            )
        for branch, genes, chain in zip(self.branches, branching.free, self.chains, strict=True):
            expected = tuple(branching.cardinalities[genes].tolist()) or (1,)
            if chain.cardinalities != expected:
                raise InvalidInputError(
                    f"cost {self.name!r}: the chain of the branch {dict(branch.chosen)} must have "
                    f"{expected} choices, got {chain.cardinalities}"
                )

    @property
    def terms(self) -> tuple[NDArray[np.number], ...]:
        """The terms of every branch."""
        return tuple(terms for chain in self.chains for terms in chain.terms)

    @property
    def tolerance(self) -> float:
        """How far two orders of summation may differ; 0 where sums are exact integers."""
        return max(chain.tolerance for chain in self.chains)

    def evaluate(self, genotypes: Int) -> NDArray[np.float64]:
        """Cost of each genotype, (n, d) to (n,); integer terms are summed exactly."""
        values = np.empty(len(genotypes))
        branches = self.branching.of(genotypes)
        for branch in np.unique(branches).tolist():
            rows = branches == branch
            genes = self.branching.free[branch]
            choices = genotypes[rows][:, genes] if genes else np.zeros((rows.sum(), 1), np.int64)
            values[rows] = self.chains[branch].evaluate(choices)
        return values

    @cached_property
    def minimum(self) -> tuple[float, Int]:
        """The smallest cost and a canonical genotype (d,) that has it."""
        ends = [chain.minimum for chain in self.chains]
        return self._extreme(ends, int(np.argmin([value for value, _ in ends])))

    @cached_property
    def maximum(self) -> tuple[float, Int]:
        """The largest cost and a canonical genotype (d,) that has it."""
        ends = [chain.maximum for chain in self.chains]
        return self._extreme(ends, int(np.argmax([value for value, _ in ends])))

    def _extreme(self, ends: Sequence[tuple[float, Int]], branch: int) -> tuple[float, Int]:
        value, choices = ends[branch]
        return value, self.branching.complete(branch, choices[None])[0]


Cost = ChainCost | ConditionalCost
"""An exact cost of a space."""


class ConditionalBudget(CostBudget):
    """The architectures whose conditional cost lies within bounds.

    Args:
        cost: The cost.
        upper: Largest allowed cost.
        lower: Smallest allowed cost.

    Raises:
        InvalidInputError: See `ChainBudget`.
        InfeasibleError: No architecture lies within the bounds.
    """

    def __init__(
        self, cost: ConditionalCost, upper: float = math.inf, lower: float = -math.inf
    ) -> None:
        self.cost, self.upper, self.lower = cost, upper, lower
        self._budgets: dict[int, ChainBudget | _Everything] = {}
        for branch, chain in enumerate(cost.chains):
            if lower <= chain.minimum[0] and chain.maximum[0] <= upper:
                self._budgets[branch] = _Everything(chain)
                continue
            try:
                self._budgets[branch] = ChainBudget(chain, upper, lower, among=len(cost.chains))
            except InfeasibleError:
                continue
        if not self._budgets:
            raise self._infeasible()

    @cached_property
    def count(self) -> Count:
        counts = [budget.count for budget in self._budgets.values()]
        return Count(sum(c.low for c in counts), sum(c.high for c in counts))

    def sample(self, n: int, rng: np.random.Generator) -> Int:
        branches = list(self._budgets)
        # What a branch is drawn by may exceed the bounds by rounding: such draws are repeated
        # with their branch, or branches with much of it would be drawn too often.
        sizes = [budget.candidates for budget in self._budgets.values()]
        found = [np.empty((0, len(self.cost.branching.cardinalities)), dtype=np.int64)]
        missing = n
        for _ in range(_ROUNDS):
            if missing <= 0:
                return np.concatenate(found)
            places = draw_by_size(sizes, missing, rng)
            drawn = np.empty((missing, found[0].shape[1]), dtype=np.int64)
            for place, branch in enumerate(branches):
                rows = np.flatnonzero(places == place)
                if len(rows):
                    choices = self._budgets[branch].draw(len(rows), rng)
                    drawn[rows] = self.cost.branching.complete(branch, choices)
            drawn = drawn[self.contains(drawn)]
            found.append(drawn)
            missing -= len(drawn)
        raise self._infeasible()


@dataclass(frozen=True)
class _Everything:
    """The budget of a chain whose bounds exclude nothing.

    Args:
        chain: The chain.
    """

    chain: ChainCost

    @property
    def count(self) -> Count:
        return Count(self.candidates, self.candidates)

    @property
    def candidates(self) -> int:
        return math.prod(self.chain.cardinalities)

    def draw(self, n: int, rng: np.random.Generator) -> Int:
        sizes = self.chain.cardinalities
        return rng.integers(0, sizes, size=(n, len(sizes)), dtype=np.int64)


def budget(cost: Cost, upper: float = math.inf, lower: float = -math.inf) -> CostBudget:
    """The architectures whose cost lies within bounds.

    Raises:
        InvalidInputError: See `ChainBudget`.
        InfeasibleError: No architecture lies within the bounds.
    """
    if isinstance(cost, ConditionalCost):
        return ConditionalBudget(cost, upper, lower)
    return ChainBudget(cost, upper, lower)
