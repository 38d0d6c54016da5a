"""The contract of a strategy: ask for genotypes, tell what they are worth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nastool.attributes import attribute
from nastool.choices import whole
from nastool.errors import InvalidInputError, naming
from nastool.evaluations import Evaluations
from nastool.problem import Problem
from nastool.space import Genotypes

State = dict[str, Any]
"""JSON values and numpy arrays, nested in dicts and lists; nothing else."""


MOST_AT_ONCE = 1_000_000
"""Architectures that a strategy is asked for, or keeps as a population, at most."""


def check_size(name: str, value: int, least: int = 1) -> None:
    """Raise InvalidInputError where a number of architectures is too small or fits no memory.

    Args:
        name: Of the setting.
        value: Its value.
        least: The smallest that makes sense.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise InvalidInputError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise InvalidInputError(f"{name} must be at least {least}, got {value}")
    if value > MOST_AT_ONCE:
        raise InvalidInputError(f"{name} must be at most {MOST_AT_ONCE:,}, got {value:,}")


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
        self.pending: Genotypes = np.empty((0, len(problem.space.genes)), dtype=np.int64)
        """What is being evaluated while `ask` is called, shape (k, d); none unless asynchronous."""

    @attribute
    def batch_size(self) -> int:
        """How many genotypes `ask` is best called for."""
        return 100

    @attribute
    def revision(self) -> int:
        """Raised when the same settings and seed begin to propose something else.

        A study is not continued by another revision of its strategy than it began with.
        """
        return 1

    @property
    def named(self) -> Sequence[tuple[str, Sequence[int]]]:
        """Name and genotype of each member of a fixed list; nothing for a strategy that searches.

        Members that the constraints rule out are listed too, though never proposed.
        """
        return ()

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
        state: State = {"rng": self.rng.bit_generator.state}
        return state if self.revision == 1 else {**state, "revision": self.revision}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            InvalidInputError: It is of another revision.
        """
        if (found := state.get("revision", 1)) != self.revision:
            raise InvalidInputError(
                f"a state of {type(self).__name__} must be of revision {self.revision}, got {found}"
            )
        self.rng.bit_generator.state = state["rng"]


def check_strategy(strategy: object) -> Strategy:
    """Check that something is a strategy that was begun as one, where it enters.

    Raises:
        InvalidInputError: It derives from something else, its ``__init__`` left the base's out, or
            its batch size or its revision is no whole number.
        NastoolError: It raised while it was asked.
    """
    if not isinstance(strategy, Strategy):
        raise InvalidInputError(
            "a strategy must derive from nastool.strategies.base.Strategy, got "
            f"{type(strategy).__qualname__}"
        )
    if missing := [name for name in ("problem", "rng", "pending") if not hasattr(strategy, name)]:
        raise InvalidInputError(
            f"strategy {type(strategy).__name__} must call super().__init__(problem, seed), got "
            f"one without {', '.join(missing)}"
        )
    what = f"strategy {type(strategy).__name__}"
    with naming(what):
        size: object = strategy.batch_size
        revision: object = strategy.revision
    whole(f"{what}: batch_size", size)
    whole(f"{what}: revision", revision)
    return strategy
