"""Exact search as a strategy: it proposes the proven optimum or front, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from nastool.constraint import Constraint
from nastool.errors import InfeasibleError, InvalidInputError
from nastool.evaluations import Evaluations
from nastool.exact.certificate import Certificate
from nastool.exact.forms import make_form
from nastool.exact.prove import prove
from nastool.problem import Problem
from nastool.space import Genotypes
from nastool.strategies.base import State, Strategy, check_size
from nastool.strategies.evolution import Evolution

_GIB = 2**30
_BATCH = 100


class Exact(Strategy):
    """The true optimum or the true Pareto front of predictors and exact costs, with a certificate.

    Up to three objectives, predicted by trees or by terms in pairs of genes or an exact cost, under
    constraints on such metrics. Other constraints are left out of the search: what it finds is
    then a bound, and those proposals that keep them are certified nevertheless.

    Args:
        problem: What to optimise.
        seed: Of the evolution that finds the first front; the answer does not depend on it.
        start: Evaluations of that evolution.
        memory: Most GiB that the search's tables may take.
        threads: Worker threads; one for each processor by default.
        checkpoint: File that keeps the state of an unfinished search, which goes on from it.

    Raises:
        InvalidInputError: A problem that cannot be certified; the message says why.
    """

    can_be_interrupted = True

    def __init__(
        self,
        problem: Problem,
        seed: int = 0,
        *,
        start: int = 2000,
        memory: float = 2.0,
        threads: int | None = None,
        checkpoint: str | None = None,
    ) -> None:
        super().__init__(problem, seed)
        if start < 0 or not 0 < memory * _GIB < math.inf or (threads is not None and threads < 1):
            raise InvalidInputError(
                "start must be at least 0, memory above 0 and threads at least 1, got "
                f"{start}, {memory} and {threads}"
            )
        check_size("start", start, 0)
        # Refuses at once what cannot be certified.
        self._dropped = make_form(problem, relax=True).dropped
        self._seed = seed
        self._start = start
        self._memory = round(memory * _GIB)
        self._threads = threads
        self._checkpoint = Path(checkpoint) if checkpoint is not None else None
        self._answer: Genotypes | None = None
        self._certificate: Certificate | None = None
        self._asked = 0

    @property
    def dropped(self) -> tuple[Constraint, ...]:
        """Constraints that are left out; with any, what is proven is a bound."""
        return self._dropped

    @property
    def certificate(self) -> Certificate | None:
        """What is proven; None before the search."""
        return self._certificate

    def prove(self, progress: Callable[[Certificate], None] | None = None) -> Certificate:
        """Search the space, unless that is done; Ctrl-C ends it with what is proven so far.

        Args:
            progress: Told every now and then.
        """
        if self._certificate is None or self._answer is None:
            proof = prove(
                self.problem,
                self._first_front(),
                progress,
                relax=True,
                memory=self._memory,
                threads=self._threads,
                checkpoint=self._checkpoint,
            )
            self._answer, self._certificate = proof.genotypes, proof.certificate
        return self._certificate

    def _first_front(self) -> Genotypes:
        problem = self.problem
        if self._dropped:
            # What is left out may be slow to evaluate.
            kept = tuple(c for c in problem.constraints if c not in self._dropped)
            problem = replace(problem, constraints=kept)
        found = [np.empty((0, len(problem.space.genes)), dtype=np.int64)]
        if len(problem.objectives) == 1 and not problem.constraints:
            # The proof takes no longer than the evolution would.
            return found[0]
        evolution = Evolution(problem, self._seed)
        for _ in range(self._start // _BATCH):
            try:
                genotypes = evolution.ask(_BATCH)
            except InfeasibleError:
                # So little is allowed that draws do not find it; the proof does, or finds nothing.
                break
            if len(genotypes) == 0:
                break
            evolution.tell(problem.evaluate(genotypes))
            found.append(genotypes)
        return np.concatenate(found)

    def ask(self, n: int) -> Genotypes:
        if self._answer is None and not self.prove().is_complete:
            # Not asked to say what it has: what is not the answer must not be told to a study.
            self._answer = self._certificate = None
            raise KeyboardInterrupt
        if self._answer is None:
            return np.empty((0, len(self.problem.space.genes)), dtype=np.int64)
        asked = self._answer[self._asked : self._asked + n]
        self._asked += len(asked)
        return asked

    def tell(self, evaluations: Evaluations) -> None:
        """Evaluations add nothing to what is proven."""

    def state_dict(self) -> State:
        proven = self._certificate is not None and self._certificate.is_complete
        return {
            **super().state_dict(),
            # An interrupted search goes on from its checkpoint, not from here.
            "answer": self._answer if proven else None,
            "certificate": asdict(self._certificate) if proven and self._certificate else None,
            "asked": self._asked if proven else 0,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._answer = state["answer"]
        self._certificate = Certificate(**state["certificate"]) if state["certificate"] else None
        self._asked = state["asked"]
