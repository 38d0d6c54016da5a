"""Multi-objective TPE and more of Optuna's samplers, behind ask and tell."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from nastool.errors import InvalidInputError, MissingDependencyError, nearest
from nastool.problem import Problem
from nastool.runtime.quiet import quiet
from nastool.strategies.trials import TrialStrategy

SAMPLERS = ("TPESampler", "GPSampler", "RandomSampler")
"""Those that remember nothing but the trials, so that their state can be written down."""


class OptunaSampler(TrialStrategy):
    """Multi-objective TPE (Ozaki et al., 2022), or by name another of Optuna's samplers.

    Args:
        problem: What to optimise.
        seed: Fixes every draw, Optuna's included.
        argument: Name of the sampler, one of `SAMPLERS`.

    Raises:
        InvalidInputError: An unknown sampler.
        MissingDependencyError: Optuna, or what its sampler needs, is not installed.
    """

    def __init__(self, problem: Problem, seed: int = 0, *, argument: str = "TPESampler") -> None:
        super().__init__(problem, seed)
        if argument not in SAMPLERS:
            raise InvalidInputError(
                f"unknown Optuna sampler {argument!r}; {nearest(argument, SAMPLERS)}"
            )
        try:
            import optuna

            if argument == "GPSampler":
                # Optuna would notice their absence only at the first draw.
                for package in ("scipy", "torch"):
                    if importlib.util.find_spec(package) is None:
                        raise ImportError(f"No module named {package!r}")
        except ImportError as error:
            raise MissingDependencyError(
                f"{argument} needs more: pip install 'nastool[strategies]' ({error})"
                + ("; GPSampler needs scipy and torch too" if argument == "GPSampler" else "")
            ) from error
        self._optuna = optuna
        self._sampler = getattr(optuna.samplers, argument)
        # Optuna 5 keeps constraints with the trial and deprecates functions that compute them.
        self._constraints_in_trial = hasattr(optuna.trial.FrozenTrial, "set_constraint")
        self._distributions: dict[str, Any] = {
            gene.name: optuna.distributions.IntDistribution(0, len(gene.choices) - 1)
            if gene.ordered
            else optuna.distributions.CategoricalDistribution(tuple(range(len(gene.choices))))
            for gene in problem.space.genes
        }
        self._begin()

    def _open(self) -> None:
        self._study = self._optuna.create_study(
            directions=["minimize"] * len(self.problem.objectives),
            sampler=self._make_sampler(0),
        )

    def _renew(self, seed: int) -> None:
        self._study.sampler = self._make_sampler(seed)

    def _next(self) -> tuple[list[int], Any]:
        trial = self._study.ask(self._distributions)
        return [trial.params[name] for name in self._distributions], trial

    def _finish(self, trial: Any, values: Sequence[float]) -> None:
        self._study.tell(trial, values)

    def _fail(self, trial: Any) -> None:
        self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)

    def _record(
        self, indices: Sequence[int], values: Sequence[float], violations: Mapping[str, float]
    ) -> None:
        settings: dict[str, Any] = {}
        if violations and self._constraints_in_trial:
            settings["constraints"] = violations
        elif violations:
            settings["system_attrs"] = {"constraints": list(violations.values())}
        trial = self._optuna.trial.create_trial(
            params=dict(zip(self._distributions, indices, strict=True)),
            distributions=self._distributions,
            values=values,
            **settings,
        )
        self._study.add_trial(trial)

    def _make_sampler(self, seed: int) -> Any:
        settings: dict[str, Any] = {"seed": seed}
        if self.problem.constraints and not self._constraints_in_trial:
            settings["constraints_func"] = _stored_constraints
        if self._sampler.__name__ == "TPESampler":
            settings["constant_liar"] = True
        with self._quiet():
            return self._sampler(**settings)

    def _quiet(self) -> AbstractContextManager[None]:
        return quiet("optuna", warning=self._optuna.exceptions.ExperimentalWarning)


def _stored_constraints(trial: Any) -> Any:
    """Violations of a trial, for Optuna 4; ours always carry them."""
    return trial.system_attrs["constraints"]
