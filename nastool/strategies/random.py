"""Random search: the baseline that every strategy has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nastool.evaluations import Evaluations
from nastool.problem import Problem
from nastool.space import Genotypes
from nastool.strategies.base import State, Strategy
from nastool.strategies.history import Seen, canonical


class RandomSearch(Strategy):
    """Draws uniformly from the admissible architectures and avoids those already evaluated.

    Args:
        problem: What to optimise.
        seed: Fixes every draw.
    """

    def __init__(self, problem: Problem, seed: int = 0) -> None:
        super().__init__(problem, seed)
        self._seen = Seen(problem.space)

    def ask(self, n: int) -> Genotypes:
        return self._seen.sample_unseen(self.problem, n, self.rng, draw=Problem.sample)

    def tell(self, evaluations: Evaluations) -> None:
        self._seen.add(canonical(self.problem, evaluations).genotypes)

    def state_dict(self) -> State:
        return {**super().state_dict(), "seen": self._seen.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._seen.restore(state["seen"])
