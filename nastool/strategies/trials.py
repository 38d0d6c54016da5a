"""Strategies whose proposals come from another library's trials, behind ask and tell."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from nastool.evaluations import Evaluations
from nastool.space import Genotypes
from nastool.strategies.base import State, Strategy
from nastool.strategies.descent import seeds
from nastool.strategies.history import Seen, canonical, nothing, pack, unpack
from nastool.strategies.local import neighbours

_TRIES = 8
"""Proposals that may break a hard constraint in a row before a uniform draw takes over."""


class TrialStrategy(Strategy):
    """A strategy that keeps a library's study and lets its sampler propose trials.

    Constraints reach the sampler through its own interface. Proposals that break a hard one are
    drawn again. One that is known already teaches nothing, and a sampler makes more and more of
    them as it converges: an unknown neighbour takes its place.

    A subclass calls `_begin` once it is made.

    Args:
        problem: What to optimise.
        seed: Fixes every draw, the library's included.
    """

    @abstractmethod
    def _open(self) -> None:
        """Begin an empty study."""

    @abstractmethod
    def _renew(self, seed: int) -> None:
        """Give the study a fresh sampler of that seed."""

    @abstractmethod
    def _next(self) -> tuple[list[int], Any]:
        """The next trial: its indices, one a gene, and what the library calls it."""

    @abstractmethod
    def _finish(self, trial: Any, values: Sequence[float]) -> None:
        """Tell what a trial was worth."""

    @abstractmethod
    def _fail(self, trial: Any) -> None:
        """Tell that a trial was of no use."""

    @abstractmethod
    def _record(
        self, indices: Sequence[int], values: Sequence[float], violations: Mapping[str, float]
    ) -> None:
        """Tell of a trial that the study did not ask for.

        Args:
            indices: One a gene.
            values: Minimised.
            violations: By constraint.
        """

    def _quiet(self) -> AbstractContextManager[None]:
        """Hold back what the library says."""
        return nullcontext()

    def _begin(self) -> None:
        with self._quiet():
            self._open()
        self._told = [nothing(self.problem)]
        self._seen = Seen(self.problem.space)
        self._running: list[tuple[list[int], Any]] = []

    @property
    def batch_size(self) -> int:
        return 1

    def ask(self, n: int) -> Genotypes:
        batch = self.problem.space.sample(0, self.rng)
        with self._quiet():
            # A fresh sampler a batch: its seed is drawn here, so that nothing of it must be saved.
            self._renew(int(self.rng.integers(2**31)))
            self._give_up()
            for _ in range(n):
                genotype, trial = self._propose()
                if not self._seen.novel(np.concatenate([batch, genotype]))[-1]:
                    if trial is not None:
                        self._fail(trial[1])
                    genotype, trial = self._near(genotype, batch), None
                    if len(genotype) == 0:
                        break
                if trial is not None:
                    # It runs till the batch is told, which keeps the sampler from proposing the
                    # same again.
                    self._running.append(trial)
                batch = np.concatenate([batch, genotype])
        return batch

    def _propose(self) -> tuple[Genotypes, tuple[list[int], Any] | None]:
        """An admissible genotype (1, d) and its trial, which a uniform draw does not have."""
        for _ in range(_TRIES):
            indices, trial = self._next()
            genotype = self.problem.space.canonicalize(np.array([indices], dtype=np.int64))
            if self.problem.admissible(genotype)[0]:
                return genotype, (indices, trial)
            self._fail(trial)
        return seeds(self.problem, 1, self.rng), None

    def _near(self, genotype: Genotypes, batch: Genotypes) -> Genotypes:
        """An unknown neighbour of a known proposal, else any unknown one, if one is left."""
        space = self.problem.space
        found = space.canonicalize(neighbours(space, genotype)[0])
        found = np.concatenate([batch, found[self.problem.admissible(found)]])
        unknown = found[np.flatnonzero(self._seen.novel(found))[len(batch) :]]
        if len(unknown):
            return self.rng.choice(unknown, 1)
        found = np.concatenate([batch, self._seen.sample_unseen(self.problem, 1, self.rng)])
        return found[np.flatnonzero(self._seen.novel(found))[len(batch) :]]

    def _give_up(self) -> None:
        for _, trial in self._running:
            self._fail(trial)
        self._running = []

    def tell(self, evaluations: Evaluations) -> None:
        told = canonical(self.problem, evaluations)
        # What has failed teaches the sampler nothing; but it is not to be proposed again.
        self._seen.add(told.genotypes)
        told = told.take(np.isfinite(told.total_violation))
        running = [indices for indices, _ in self._running]
        if running == told.genotypes.tolist() and not self.problem.constraints:
            with self._quiet():
                for (_, trial), values in zip(self._running, told.objectives.tolist(), strict=True):
                    self._finish(trial, values)
            self._running = []
            self._told.append(told)
        elif len(told):
            # Other trials than those asked for, or with more to say: they are told as new ones.
            with self._quiet():
                self._give_up()
            self._add(told)

    def _add(self, evaluations: Evaluations) -> None:
        constraints = [str(constraint) for constraint in self.problem.constraints]
        with self._quiet():
            for genotype, values, violations in zip(
                evaluations.genotypes.tolist(),
                evaluations.objectives.tolist(),
                evaluations.violations.tolist(),
                strict=True,
            ):
                self._record(genotype, values, dict(zip(constraints, violations, strict=True)))
        self._told.append(evaluations)

    def state_dict(self) -> State:
        self._told = [Evaluations.concatenate(self._told)]
        state = {**super().state_dict(), "told": pack(self._told[0])}
        # Also what has failed, where anything has.
        if len(self._seen) > len(self._told[0]):
            state["seen"] = self._seen.state()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._begin()
        told = unpack(state["told"])
        self._add(told)
        self._seen.restore(state.get("seen", told.genotypes))
