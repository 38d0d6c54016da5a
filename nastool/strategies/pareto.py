"""Evolution of an unbounded Pareto front, with most effort where the front gains most."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.evaluations import Evaluations
from nastool.pareto import crowding_distance
from nastool.problem import Problem
from nastool.space import Genotypes
from nastool.strategies.base import State, Strategy, check_size
from nastool.strategies.history import Seen, canonical, nothing, pack, unpack
from nastool.strategies.ranking import front, ranking
from nastool.strategies.variation import (
    choose_genes,
    step_or_resample,
    uniform_crossover,
)

_PARENTS = 50
"""The front is filled up with the next best to this size: one point alone breeds no variety."""

_REACH = 5
"""How many places apart on the front two parents of a crossover are at most."""

_GROWING = 2
"""The revision that has batches which grow with what is known."""

_SPREAD = 0.5
"""Weight of choosing parents evenly, beside choosing them by what they contribute."""


class ParetoSearch(Strategy):
    """Keeps every non-dominated architecture and breeds from them.

    A parent is chosen by the hypervolume that the front would lose without it, so that search
    goes where the front has gaps and corners. Half of the children mix it with a near neighbour
    on the front; the others differ from it in one gene, mostly by one step, and in more once what
    is near is known. No architecture is proposed twice.

    Args:
        problem: What to optimise.
        seed: Fixes every draw.
        initial: Uniform draws before the first children.
        growth: Share of what is known that a batch of children is at most, though never less than
            one child: where little is known, each evaluation changes what is best tried next.
        crossover: Share of the children that have two parents.
        jump: Share of the mutations that draw the gene anew instead of moving it by a step.

    Raises:
        InvalidInputError: A setting is out of range.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int = 0,
        *,
        initial: int = 50,
        growth: float = 0.1,
        crossover: float = 0.5,
        jump: float = 0.2,
    ) -> None:
        super().__init__(problem, seed)
        check_size("initial", initial)
        for name, share in (("growth", growth), ("crossover", crossover), ("jump", jump)):
            if not 0 <= share <= 1:
                raise InvalidInputError(f"{name} must be between 0 and 1, got {share}")
        self._initial = initial
        self._growth = growth
        self._crossover = crossover
        self._jump = jump
        self._seen = Seen(problem.space)
        self._parents = nothing(problem)
        self._weights = np.empty(0)
        self._ordered: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}

    @property
    def parents(self) -> Evaluations:
        """The front, filled up with the next best where it is small."""
        return self._parents

    @property
    def revision(self) -> int:
        return _GROWING

    def ask(self, n: int) -> Genotypes:
        known = len(self._seen)
        if known < self._initial:
            missing = min(n, self._initial - known)
            drawn = self._seen.sample_unseen(self.problem, missing, self.rng)
            if len(drawn):
                return drawn
        n = min(n, max(int(self._growth * known), 1))
        rounds = itertools.count()
        return self._seen.breed_unseen(
            self.problem, lambda k: self._breed(k, next(rounds) // 2), n, self.rng
        )

    def _breed(self, n: int, further: int) -> Genotypes:
        rng, space = self.rng, self.problem.space
        genotypes = self._parents.genotypes
        order, shares = self._along(int(rng.integers(len(self.problem.objectives))))
        # What `rng.choice` does with weights, and draws, without what it checks.
        places = shares.searchsorted(rng.random(n), side="right")
        mates = places + rng.integers(-_REACH, _REACH + 1, size=n)
        mates = np.minimum(np.maximum(mates, 0), len(genotypes) - 1)
        first, second = (genotypes.take(order.take(p), axis=0) for p in (places, mates))
        crossed = rng.random(n) < self._crossover
        children = uniform_crossover(first, second, rng, crossed)
        # Once the surroundings of the front are known, rounds reach further and further.
        mask = choose_genes(n, children.shape[1], np.where(crossed, 0, 1) + further, rng)
        return step_or_resample(space, children, mask, rng.random(n) < self._jump, rng)

    def _along(self, objective: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The parents' rows by one objective, and the shares of weight up to each of them.

        With two objectives these are places along the front.
        """
        if objective not in self._ordered:
            order = np.argsort(self._parents.objectives[:, objective], kind="stable")
            shares = self._weights[order].cumsum()
            self._ordered[objective] = order, shares / shares[-1]
        return self._ordered[objective]

    def tell(self, evaluations: Evaluations) -> None:
        told = canonical(self.problem, evaluations)
        new = self._seen.unlearned(told, self._parents)
        merged = Evaluations.concatenate([self._parents, new])
        best = front(merged)
        if best.sum() < _PARENTS:
            self._parents = merged.take(np.argsort(ranking(merged))[:_PARENTS])
            best = front(self._parents)
        else:
            self._parents = merged.take(best)
            best = np.ones(len(self._parents), dtype=bool)
        self._weights = np.full(len(best), _SPREAD / max(len(best), 1))
        self._weights[best] += _contributions(self._parents.objectives[best])
        self._weights /= self._weights.sum()
        self._ordered.clear()

    def state_dict(self) -> State:
        return {
            **super().state_dict(),
            "seen": self._seen.state(),
            "parents": pack(self._parents),
            "weights": self._weights.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._seen.restore(state["seen"])
        self._parents = unpack(state["parents"])
        self._weights = np.array(state["weights"], dtype=np.float64)
        self._ordered.clear()


def _contributions(objectives: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each member of a front (n, m) adds to it, in shares that sum to 1, shape (n,).

    For two objectives the hypervolume that the member alone dominates, for more the crowding
    distance; the ends of the front count as much as the largest of the others.
    """
    n, m = objectives.shape
    shares = np.ones(n)
    if n > 2 and m == 2:
        order = np.lexsort((objectives[:, 1], objectives[:, 0]))
        ordered = objectives[order]
        right = ordered[2:, 0] - ordered[1:-1, 0]
        above = ordered[:-2, 1] - ordered[1:-1, 1]
        inner = right * above
        shares[order[1:-1]] = inner
        shares[order[[0, -1]]] = inner.max()
    elif n > 2 and m > 2:
        shares = crowding_distance(objectives)
        inner = shares[np.isfinite(shares)]
        shares = np.where(np.isfinite(shares), shares, inner.max(initial=0.0))
    total = shares.sum()
    even = np.full(n, 1 / max(n, 1))
    return shares / total if np.isfinite(total) and total > 0 else even
