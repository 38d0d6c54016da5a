"""Evolutionary search: regularized evolution, and the elitist variant SuperShaper used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.evaluations import Evaluations
from nastool.problem import Problem
from nastool.space import Genotypes
from nastool.strategies.base import State, Strategy
from nastool.strategies.history import Seen, canonical, nothing, pack, unpack
from nastool.strategies.ranking import ranking
from nastool.strategies.variation import resample_genes, step_genes, uniform_crossover

Selection = Literal["aging", "elitist"]
Mutation = Literal["uniform", "step"]


class Evolution(Strategy):
    """Evolution with a population that forgets its oldest, or one that keeps its best.

    ``aging`` is regularized evolution (Real et al., 2019): the winner of a tournament is mutated
    and the oldest member dies. ``elitist`` is the search of SuperShaper (section 3.1): the best
    half of a population survives; one half of the children are mutated survivors, the other half
    crossovers of two survivors. The defaults of population and mutation are the published ones.
    Children that were already evaluated are bred again.

    A probability of 0.4 changes nearly five of twelve genes at once. Smaller steps search better:
    ``mutation_probability=0.1, mutation="step"`` (docs/strategies.md has the numbers).

    Args:
        problem: What to optimise.
        seed: Fixes every draw.
        population_size: How many members live, and how many genotypes are best asked for at once.
        mutation_probability: Of each gene.
        selection: ``aging`` or ``elitist``.
        tournament_size: Members a parent is the best of under ``aging``; by default a quarter of
            the population, the proportion of Real et al.
        crossover: Share of the children that two parents have; by default none under ``aging``
            and a half under ``elitist``.
        mutation: ``uniform`` draws a new choice from all, ``step`` moves an ordered gene to a
            neighbouring choice.

    Raises:
        InvalidInputError: A setting is out of range.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int = 0,
        *,
        population_size: int = 100,
        mutation_probability: float = 0.4,
        selection: Selection = "aging",
        tournament_size: int | None = None,
        crossover: float | None = None,
        mutation: Mutation = "uniform",
    ) -> None:
        super().__init__(problem, seed)
        if population_size < 2:
            raise InvalidInputError(f"population_size must be at least 2, got {population_size}")
        if not 0 < mutation_probability <= 1:
            raise InvalidInputError(
                f"mutation_probability must be above 0 and at most 1, got {mutation_probability}"
            )
        if selection not in get_args(Selection):
            raise InvalidInputError(f"selection must be aging or elitist, got {selection!r}")
        if mutation not in get_args(Mutation):
            raise InvalidInputError(f"mutation must be uniform or step, got {mutation!r}")
        if tournament_size is None:
            tournament_size = max(population_size // 4, 2)
        if not 1 <= tournament_size <= population_size:
            raise InvalidInputError(
                "tournament_size must be between 1 and the population size "
                f"{population_size}, got {tournament_size}"
            )
        if crossover is None:
            crossover = 0.0 if selection == "aging" else 0.5
        if not 0 <= crossover <= 1:
            raise InvalidInputError(f"crossover must be between 0 and 1, got {crossover}")
        self._population_size = population_size
        self._mutation_probability = mutation_probability
        self._selection = selection
        self._tournament_size = tournament_size
        self._crossover = crossover
        self._change = resample_genes if mutation == "uniform" else step_genes
        self._seen = Seen(problem.space)
        self._population = nothing(problem)
        self._places = np.empty(0, dtype=np.int64)

    @property
    def batch_size(self) -> int:
        return self._population_size

    @property
    def population(self) -> Evaluations:
        """The members, the oldest first under ``aging``, the best first under ``elitist``."""
        return self._population

    def ask(self, n: int) -> Genotypes:
        if len(self._seen) < self._population_size:
            drawn = self._seen.sample_unseen(self.problem, n, self.rng)
            if len(drawn):
                return drawn
        return self._seen.breed_unseen(self.problem, self._breed, n, self.rng)

    def _breed(self, n: int) -> Genotypes:
        crossed = round(self._crossover * n)
        parents = self._population.genotypes[self._choose_parents(n + crossed)]
        mutants, first, second = np.split(parents, [n - crossed, n])
        mask = self.rng.random(mutants.shape) < self._mutation_probability
        children = self._change(self.problem.space, mutants, mask, self.rng)
        if not crossed:
            return children
        children = np.concatenate([children, uniform_crossover(first, second, self.rng)])
        return children[self.rng.permutation(n)]

    def _choose_parents(self, n: int) -> NDArray[np.int64]:
        size = len(self._places)
        if self._selection == "elitist":
            return self.rng.integers(0, size, size=n)
        return tournament(self._places, min(self._tournament_size, size), n, self.rng)

    def tell(self, evaluations: Evaluations) -> None:
        told = canonical(self.problem, evaluations)
        self._seen.add(told.genotypes)
        merged = Evaluations.concatenate([self._population, told])
        if self._selection == "aging":
            self._population = merged.take(slice(-self._population_size, None))
            self._places = ranking(self._population)
            return
        # Copies of the best would fill the places of the survivors.
        merged = merged.take(Seen(self.problem.space).novel(merged.genotypes))
        survivors = np.argsort(ranking(merged))[: max(self._population_size // 2, 2)]
        self._population = merged.take(survivors)
        self._places = np.arange(len(survivors))

    def state_dict(self) -> State:
        return {
            **super().state_dict(),
            "seen": self._seen.state(),
            "population": pack(self._population),
            "places": self._places.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._seen.restore(state["seen"])
        self._population = unpack(state["population"])
        self._places = np.array(state["places"], dtype=np.int64)


def tournament(
    places: NDArray[np.int64], size: int, n: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Hold n tournaments among members drawn with replacement (Real et al., 2019, algorithm 1).

    Args:
        places: The place of each member, 0 for the best, shape (p,).
        size: Members in a tournament.
        n: Tournaments.
        rng: Draws the winners.

    Returns:
        The winners' indices, shape (n,).
    """
    # The best of `size` uniform draws is distributed as 1 - u^(1/size): one draw a tournament.
    best = 1 - rng.random(n) ** (1 / size)
    place = np.minimum((best * len(places)).astype(np.int64), len(places) - 1)
    return np.argsort(places)[place]
