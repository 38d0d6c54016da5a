"""Pareto local search: try every neighbour of every architecture on the front."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.evaluations import Evaluations
from nastool.problem import Problem
from nastool.space import Genotypes, SearchSpace
from nastool.strategies.base import State, Strategy, check_size
from nastool.strategies.history import Seen, canonical, nothing, pack, unpack
from nastool.strategies.ranking import front


class LocalSearch(Strategy):
    """Evaluates all neighbours of the front until none is left (Paquete et al., 2004).

    It starts from whatever it is told, such as the front of another strategy, or else from
    uniform draws. When the front has no untried neighbour the search is over.

    Args:
        problem: What to optimise.
        seed: Fixes the draws and the order of the neighbours.
        starts: Uniform draws that a search which was told nothing begins with.

    Raises:
        InvalidInputError: `starts` is below 1.
    """

    def __init__(self, problem: Problem, seed: int = 0, *, starts: int = 20) -> None:
        super().__init__(problem, seed)
        check_size("starts", starts)
        self._starts = starts
        self._seen = Seen(problem.space)
        self._expanded = Seen(problem.space)
        self._front = nothing(problem)

    @property
    def front(self) -> Evaluations:
        """The best that was told: feasible and non-dominated, or least infeasible."""
        return self._front

    def ask(self, n: int) -> Genotypes:
        if len(self._seen) == 0:
            return self._seen.sample_unseen(self.problem, min(n, self._starts), self.rng)
        candidates = self._neighbours_of_front()
        return candidates[self.rng.permutation(len(candidates))[:n]]

    def _neighbours_of_front(self) -> Genotypes:
        """Untried admissible neighbours, shape (k, d); members without any are marked done."""
        todo = self._front.genotypes[self._expanded.novel(self._front.genotypes)]
        found, owners = neighbours(self.problem.space, todo)
        found = self.problem.space.canonicalize(found)
        untried = ~self._seen.known(found)
        untried[untried] = self.problem.admissible(found[untried])
        done = np.ones(len(todo), dtype=bool)
        done[owners[untried]] = False
        self._expanded.add(todo[done])
        found = found[untried]
        return found[self._seen.novel(found)]

    def tell(self, evaluations: Evaluations) -> None:
        told = canonical(self.problem, evaluations)
        new = self._seen.unlearned(told, self._front)
        merged = Evaluations.concatenate([self._front, new])
        self._front = merged.take(front(merged))

    def state_dict(self) -> State:
        return {
            **super().state_dict(),
            "seen": self._seen.state(),
            "expanded": self._expanded.state(),
            "front": pack(self._front),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._seen.restore(state["seen"])
        self._expanded.restore(state["expanded"])
        self._front = unpack(state["front"])


def neighbours(space: SearchSpace, genotypes: Genotypes) -> tuple[Genotypes, NDArray[np.int64]]:
    """Everything that differs in one gene: by a step if it is ordered, else by any other choice.

    Args:
        space: Says which genes are ordered.
        genotypes: Shape (n, d).

    Returns:
        Genotypes (k, d), and for each the row of the one it is a neighbour of, shape (k,).
    """
    found = [np.empty((0, genotypes.shape[1]), dtype=np.int64)]
    owners = [np.empty(0, dtype=np.int64)]
    for column, gene in enumerate(space.genes):
        choices = len(gene.choices)
        for shift in (-1, 1) if gene.ordered else range(1, choices):
            moved = genotypes.copy()
            moved[:, column] += shift
            if not gene.ordered:
                moved[:, column] %= choices
            inside = (moved[:, column] >= 0) & (moved[:, column] < choices)
            found.append(moved[inside])
            owners.append(np.flatnonzero(inside))
    return np.concatenate(found), np.concatenate(owners)
