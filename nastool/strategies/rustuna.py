"""Rustuna's samplers, Optuna's algorithms in Rust, behind ask and tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nastool.errors import InvalidInputError, MissingDependencyError, nearest
from nastool.problem import Problem
from nastool.strategies.trials import TrialStrategy

SAMPLERS = ("TPESampler", "RandomSampler")
"""Those that remember nothing but the trials, so that their state can be written down."""

_NAME = "study"


class RustunaSampler(TrialStrategy):
    """Rustuna's multi-objective TPE, or by name another of its samplers.

    Args:
        problem: What to optimise.
        seed: Fixes every draw, Rustuna's included.
        argument: Name of the sampler, one of `SAMPLERS`.

    Raises:
        InvalidInputError: An unknown sampler.
        MissingDependencyError: Rustuna is not installed.
    """

    def __init__(self, problem: Problem, seed: int = 0, *, argument: str = "TPESampler") -> None:
        super().__init__(problem, seed)
        if argument not in SAMPLERS:
            raise InvalidInputError(
                f"unknown Rustuna sampler {argument!r}; {nearest(argument, SAMPLERS)}"
            )
        try:
            import rustuna
        except ImportError as error:
            raise MissingDependencyError(
                f"{argument} needs more: pip install rustuna ({error})"
            ) from error
        self._rustuna = rustuna
        self._sampler = getattr(rustuna.samplers, argument)
        self._begin()

    def _open(self) -> None:
        self._storage = self._rustuna.storages.InMemoryStorage()
        self._study = self._rustuna.create_study(
            study_name=_NAME,
            storage=self._storage,
            sampler=self._sampler(seed=0),
            directions=["minimize"] * len(self.problem.objectives),
        )

    def _renew(self, seed: int) -> None:
        self._study = self._rustuna.load_study(
            study_name=_NAME, storage=self._storage, sampler=self._sampler(seed=seed)
        )

    def _next(self) -> tuple[list[int], Any]:
        trial = self._study.ask()
        indices = [
            trial.suggest_int(gene.name, 0, len(gene.choices) - 1)
            if gene.ordered
            else _chosen(trial.suggest_categorical(gene.name, list(range(len(gene.choices)))))
            for gene in self.problem.space.genes
        ]
        return indices, trial

    def _finish(self, trial: Any, values: Sequence[float]) -> None:
        self._study.tell(trial.number, list(values))

    def _fail(self, trial: Any) -> None:
        self._study.tell(trial.number, state=self._rustuna.trial.TrialState.FAIL)

    def _record(
        self, indices: Sequence[int], values: Sequence[float], violations: Mapping[str, float]
    ) -> None:
        names = [gene.name for gene in self.problem.space.genes]
        self._study.enqueue_trial(dict(zip(names, indices, strict=True)))
        _, trial = self._next()
        if violations:
            trial.set_constraints(dict(violations))
        self._finish(trial, values)


def _chosen(choice: object) -> int:
    """An index, which comes back as any number may."""
    return int(choice)  # type: ignore[call-overload,no-any-return]  # one of those given
