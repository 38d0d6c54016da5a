"""The course of a study: what its strategy proposed, what is evaluated of it, what it was told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError, naming
from nastool.numbers import is_whole
from nastool.objective import read_only
from nastool.results import Failure
from nastool.results.archive import Archive
from nastool.space import Genotypes
from nastool.strategies.base import Strategy

STALE_LIMIT = 100
"""Consecutive batches without a new genotype after which a strategy counts as stalled."""


class Course:
    """A strategy and all that it has led to so far.

    Args:
        strategy: What proposes; not told anything yet.
        name: What it is called in messages.
    """

    def __init__(self, strategy: Strategy, name: str) -> None:
        self.problem = strategy.problem
        self.strategy = strategy
        self.archive = Archive(self.problem)
        self.failures: list[Failure] = []
        self.told = 0
        """How many first rows of the archive the strategy knows."""
        self.stale = 0
        """How many proposals in a row have held nothing new."""
        self.left: Genotypes = np.empty((0, len(self.problem.space.genes)), dtype=np.int64)
        """What was under way when a run ended, to be evaluated before anything is asked for."""
        self._name = name

    def ask(self, n: int) -> Genotypes:
        """Up to n proposals in canonical form, shape (k, d).

        Raises:
            InvalidInputError: The strategy returns something else than it must.
            NastoolError: It raised.
        """
        space, what = self.problem.space, f"strategy {self._name}"
        with naming(what):
            proposals = self.strategy.ask(n)
        try:
            genotypes = space.validate(proposals)
        except InvalidInputError as error:
            raise InvalidInputError(f"{what}: {error}") from error
        if len(genotypes) > n:
            raise InvalidInputError(
                f"{what} must propose at most {n} genotypes, got {len(genotypes)}"
            )
        with naming(f"space {space.name}"):
            return space.canonicalize(read_only(genotypes))

    def tell(self, rows: NDArray[np.int64] | slice) -> None:
        """Tell the strategy of rows of the archive; it must not change what it is told.

        Raises:
            NastoolError: It raised.
        """
        told = self.archive.evaluations(rows)
        for array in (told.genotypes, told.objectives, told.violations):
            array.setflags(write=False)
        with naming(f"strategy {self._name}"):
            self.strategy.tell(told)

    def tell_new(self) -> None:
        """Tell the strategy of every row of the archive that it does not know."""
        if self.told < len(self.archive):
            self.tell(slice(self.told, len(self.archive)))
            self.told = len(self.archive)

    def news(self, genotypes: Genotypes, under_way: set[Any]) -> tuple[list[Any], Genotypes]:
        """Which of some proposals (n, d) are to be evaluated: their keys, and themselves.

        Where none is, the strategy is told again of those that are known, or it might propose them
        for ever.

        Args:
            genotypes: Canonical.
            under_way: Keys of what is being evaluated.
        """
        keys = self.problem.space.keys(genotypes)
        positions = self.archive.first_positions(keys).tolist()
        new = [position for position in positions if keys[position] not in under_way]
        if not new and len(genotypes):
            known = sorted({key for key in keys if key not in under_way}, key=keys.index)
            if known:
                self.tell(self.archive.rows(known))
        return [keys[position] for position in new], genotypes[new]

    def take_over(self, left: Sequence[Genotypes]) -> None:
        """Evaluate also what others have left, arrays (k, d) of the store, before asking."""
        space = self.problem.space
        for genotypes in map(space.validate, left):
            taken = set(space.keys(self.left))
            keys = space.keys(genotypes)
            new = [key not in taken and key not in self.archive for key in keys]
            self.left = np.concatenate([self.left, genotypes[np.array(new, dtype=bool)]])

    def state(self, left: Genotypes) -> dict[str, Any]:
        """What a store keeps beside the evaluations, for `restore`.

        Args:
            left: What is under way, shape (k, d).
        """
        with naming(f"strategy {self._name}"):
            own = self.strategy.state_dict()
        state = {"strategy": own, "told": self.told, "stale": self.stale}
        return {**state, "pending": left} if len(left) else state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned; the archive must hold what the strategy was told.

        Raises:
            InvalidInputError: It is something else.
        """
        told, stale = state.get("told"), state.get("stale")
        counts = [n for n in (told, stale) if is_whole(n, 0)]
        if len(counts) < 2 or counts[0] > len(self.archive):
            raise InvalidInputError("it must say how much the strategy was told")
        try:
            self.strategy.load_state_dict(state["strategy"])
        except Exception as error:
            # What a strategy makes of a state that is not its own is anything.
            raise InvalidInputError(
                f"it is none of strategy {self._name} ({type(error).__name__}: {error})"
            ) from error
        self.told, self.stale = counts
        left = np.asarray(state.get("pending", self.left[:0]))
        try:
            self.left = self.problem.space.validate(left)
        except InvalidInputError as error:
            raise InvalidInputError(f"it must hold genotypes that are pending: {error}") from error
