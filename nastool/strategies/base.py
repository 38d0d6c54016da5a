"""The contract of a strategy: ask for genotypes, tell what they are worth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nastool.evaluations import Evaluations
from nastool.problem import Problem
from nastool.space import Genotypes

State = dict[str, Any]
"""JSON values and numpy arrays, nested in dicts and lists; nothing else."""


class Strategy(ABC):
    """Proposes batches of genotypes and learns from their evaluations.

    A subclass takes ``(problem, seed, <keyword settings with defaults>)`` and draws every random
    number from `rng`, so that the state is complete.
    `nastool.testing.StrategyConformance` checks an implementation.

    Args:
        problem: What to optimise.
        seed: Fixes everything the strategy draws.
    """

    can_be_interrupted = False
    """Whether Ctrl-C may raise KeyboardInterrupt within `ask`, which then has changed nothing.

    For strategies whose `ask` takes long; those of others are let finish.
    """

    def __init__(self, problem: Problem, seed: int = 0) -> None:
        self.problem = problem
        self.rng = np.random.default_rng(seed)

    @property
    def batch_size(self) -> int:
        """How many genotypes `ask` is best called for."""
        return 100

    @abstractmethod
    def ask(self, n: int) -> Genotypes:
        """Propose up to n canonical, admissible genotypes; learns nothing.

        Returns:
            Shape (k, d) with k <= n; k = 0 means there is nothing left to propose.
        """

    @abstractmethod
    def tell(self, evaluations: Evaluations) -> None:
        """Learn from evaluated genotypes, whether they were asked for or not."""

    def state_dict(self) -> State:
        """Everything needed to go on exactly as if never stopped; subclasses extend it."""
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.rng.bit_generator.state = state["rng"]


def admissible_children(
    problem: Problem,
    breed: Callable[[int], Genotypes],
    n: int,
    rng: np.random.Generator,
    rounds: int = 10,
) -> Genotypes:
    """Breed n children that satisfy the hard constraints, in bounded time.

    Args:
        problem: Knows the constraints.
        breed: Called with a number k, returns k children (k, d).
        n: How many are needed.
        rng: Source of the uniform draws that fill up what breeding did not yield.
        rounds: How often children that break a constraint are bred again.

    Returns:
        Canonical genotypes of shape (n, d).
    """
    found: list[Genotypes] = []
    missing = n
    for _ in range(rounds):
        children = problem.space.canonicalize(breed(missing))
        children = children[problem.admissible(children)]
        found.append(children)
        missing -= len(children)
        if missing <= 0:
            return np.concatenate(found)
    found.append(problem.sample(missing, rng))
    return np.concatenate(found)
