"""Evolutionary search: regularized evolution, SuperShaper's, and one that keeps its best half."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.evaluations import Evaluations
from nastool.problem import Problem
from nastool.space import Genotypes
from nastool.strategies.base import State, Strategy, check_size
from nastool.strategies.history import Seen, canonical, nothing, pack, unpack
from nastool.strategies.ranking import leading, ranking
from nastool.strategies.variation import (
    change_one_gene,
    resample_genes,
    step_genes,
    uniform_crossover,
)

Selection = Literal["aging", "elitist"]
Mutation = Literal["uniform", "step"]

_PAPER = "paper"

_AT_ONCE = 2
"""One in how many members is replaced by a batch under aging; the paper had more workers."""

_AGING = 3
"""Revision of regularized evolution, raised when the same seed begins to draw something else."""

_SPARE = 4
"""A child in so many is bred to spare: one batch of children is cheaper than two smaller ones."""


class Evolution(Strategy):
    """Regularized evolution; ``evolution:paper`` is the search of SuperShaper.

    ``evolution`` is regularized evolution (Real et al., AAAI 2019, algorithm 1): the best of a
    tournament is the parent of one child, which differs from it in one gene, and for every child
    the oldest member dies, however good it is. A batch is bred by as many workers as it has
    children, by default half of the population; a batch of one is the published loop to the
    letter.

    ``evolution:paper`` is the search of SuperShaper (section 3.1): of a population of 100 every
    member may be a parent; 100 children are mutated parents, each gene drawn anew with probability
    0.4, and 100 uniform crossovers of two; the best 100 of all these survive; 300 times.

    ``selection=elitist`` is the same with a harder choice: half of the population survives and has
    as many children of either kind.

    Children that were already evaluated are bred again. Several objectives are ranked by
    non-dominated front and crowding distance.

    Args:
        problem: What to optimise.
        seed: Fixes every draw.
        argument: ``paper`` or nothing.
        population_size: How many members live.
        mutation_probability: Of each gene. By default exactly one gene changes under ``aging``,
            and 0.4 otherwise.
        selection: ``aging`` or, with survivors by quality, ``elitist``.
        tournament_size: Members a parent is the best of under ``aging``; by default a quarter of
            the population, the proportion of Real et al.
        crossover: Share of the children that two parents have; by default none under ``aging``
            and a half otherwise.
        mutation: ``uniform`` draws a new choice from all (from all others, where one gene
            changes), ``step`` moves an ordered gene to a neighbouring choice.
        iterations: Generations after which the search is over; by default 300 under ``paper`` and
            no end otherwise.

    Raises:
        InvalidInputError: A setting is out of range.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int = 0,
        *,
        argument: str | None = None,
        population_size: int = 100,
        mutation_probability: float | None = None,
        selection: Selection | None = None,
        tournament_size: int | None = None,
        crossover: float | None = None,
        mutation: Mutation = "uniform",
        iterations: int | None = None,
    ) -> None:
        super().__init__(problem, seed)
        paper = argument is not None
        if argument not in (None, _PAPER):
            raise InvalidInputError(f"evolution takes {_PAPER!r} or no argument, got {argument!r}")
        if paper and selection not in (None, "elitist"):
            raise InvalidInputError(f"evolution:{_PAPER} is elitist, got selection={selection}")
        selection = selection or ("elitist" if paper else "aging")
        if selection not in get_args(Selection):
            raise InvalidInputError(f"selection must be aging or elitist, got {selection!r}")
        aging = selection == "aging"
        check_size("population_size", population_size, 2)
        if mutation_probability is None:
            mutation_probability = 0.0 if aging else 0.4
        elif not 0 < mutation_probability <= 1:
            raise InvalidInputError(
                f"mutation_probability must be above 0 and at most 1, got {mutation_probability}"
            )
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
            crossover = 0.0 if aging else 0.5
        if not 0 <= crossover <= 1:
            raise InvalidInputError(f"crossover must be between 0 and 1, got {crossover}")
        if iterations is None and paper:
            iterations = 300
        if iterations is not None and iterations < 1:
            raise InvalidInputError(f"iterations must be at least 1, got {iterations}")
        self._population_size = population_size
        self._mutation_probability = mutation_probability
        self._aging = aging
        self._tournament_size = tournament_size
        self._crossover = crossover
        self._mutation = mutation
        # The paper breeds from all that survive, elitist evolution has room for half of them.
        self._survivors = population_size if paper else max(population_size // 2, 2)
        self._children = 2 * self._survivors if paper else population_size
        self._most = None if iterations is None else population_size + iterations * self.batch_size
        self._seen = Seen(problem.space)
        self._population = nothing(problem)
        self._best = np.empty(0, dtype=np.int64)

    @property
    def batch_size(self) -> int:
        return max(self._population_size // _AT_ONCE, 1) if self._aging else self._children

    @property
    def revision(self) -> int:
        return _AGING if self._aging else super().revision

    @property
    def population(self) -> Evaluations:
        """The members, the oldest first under ``aging``, the best first under ``elitist``."""
        return self._population

    def ask(self, n: int) -> Genotypes:
        if self._most is not None:
            n = min(n, self._most - len(self._seen))
        if n > 0 and (missing := self._population_size - len(self._seen)) > 0:
            drawn = self._seen.sample_unseen(self.problem, min(n, missing), self.rng)
            if len(drawn):
                return drawn
        spare = n // _SPARE if self._aging else 0
        return self._seen.breed_unseen(self.problem, self._breed, max(n, 0), self.rng, spare)

    def _breed(self, n: int) -> Genotypes:
        crossed = round(self._crossover * n)
        parents = self._population.genotypes.take(self._choose_parents(n + crossed), axis=0)
        if not crossed:
            return self._mutate(parents)
        mutants, first, second = np.split(parents, [n - crossed, n])
        children = self._mutate(mutants)
        children = np.concatenate([children, uniform_crossover(first, second, self.rng)])
        return children[self.rng.permutation(n)]

    def _mutate(self, parents: Genotypes) -> Genotypes:
        space, rng = self.problem.space, self.rng
        if not self._mutation_probability:
            return change_one_gene(space, parents, rng, by_steps=self._mutation == "step")
        mask = rng.random(parents.shape) < self._mutation_probability
        change = resample_genes if self._mutation == "uniform" else step_genes
        return change(space, parents, mask, rng)

    def _choose_parents(self, n: int) -> NDArray[np.int64]:
        size = len(self._population)
        if not self._aging:
            return self.rng.integers(0, size, size=n)
        places = tournament(size, min(self._tournament_size, size), n, self.rng)
        wanted = max(places.tolist(), default=-1) + 1
        if wanted > len(self._best):
            self._best = leading(self._population, wanted)
        return self._best.take(places)

    def tell(self, evaluations: Evaluations) -> None:
        told = canonical(self.problem, evaluations)
        self._seen.add(told.genotypes)
        both = self._population, told
        if self._aging:
            self._population = Evaluations.concatenate(both, last=self._population_size)
            self._best = self._best[:0]
            return
        merged = Evaluations.concatenate(both)
        # Copies of the best would fill the places of the survivors.
        merged = merged.take(Seen(self.problem.space).novel(merged.genotypes))
        best = leading(merged, self._survivors)[: self._survivors]
        self._population = merged.take(best)

    def state_dict(self) -> State:
        return {
            **super().state_dict(),
            "seen": self._seen.state(),
            "population": pack(self._population),
            "places": ranking(self._population),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._seen.restore(state["seen"])
        self._population = unpack(state["population"])
        self._best = np.empty(0, dtype=np.int64)


def tournament(members: int, size: int, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Hold n tournaments among members drawn with replacement (Real et al., 2019, algorithm 1).

    Args:
        members: How many there are.
        size: Members in a tournament.
        n: Tournaments.
        rng: Draws the winners.

    Returns:
        The winners' places among all members, 0 for the best, shape (n,).
    """
    # The best of `size` uniform draws is distributed as 1 - u^(1/size): one draw a tournament.
    best = 1 - rng.random(n) ** (1 / size)
    return np.minimum((best * members).astype(np.int64), members - 1)
