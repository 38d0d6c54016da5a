"""Multi-objective TPE and more of Optuna's samplers, behind ask and tell."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.evaluations import Evaluations
from nastool.problem import Problem
from nastool.space import Genotypes
from nastool.strategies.base import State, Strategy
from nastool.strategies.history import Seen, canonical, nothing, pack, unpack
from nastool.strategies.local import neighbours

SAMPLERS = ("TPESampler", "GPSampler", "RandomSampler")
"""Those that remember nothing but the trials, so that their state can be written down."""

_TRIES = 8
"""Proposals that may break a hard constraint in a row before a uniform draw takes over."""


class OptunaSampler(Strategy):
    """Multi-objective TPE (Ozaki et al., 2020), or by name another of Optuna's samplers.

    Constraints reach the sampler through its own interface. Proposals that break a hard one are
    drawn again. One that is known already teaches nothing, and a sampler makes more and more of
    them as it converges: an unknown neighbour takes its place.

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
                f"unknown Optuna sampler {argument!r}; known: {', '.join(SAMPLERS)}"
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

    def _begin(self) -> None:
        with self._quiet():
            self._study = self._optuna.create_study(
                directions=["minimize"] * len(self.problem.objectives),
                sampler=self._make_sampler(0),
            )
        self._told = [nothing(self.problem)]
        self._seen = Seen(self.problem.space)
        self._running: list[Any] = []

    @property
    def batch_size(self) -> int:
        return 1

    def ask(self, n: int) -> Genotypes:
        # A fresh sampler a batch: its seed is drawn here, so that nothing of it must be saved.
        self._study.sampler = self._make_sampler(int(self.rng.integers(2**31)))
        batch = self.problem.space.sample(0, self.rng)
        with self._quiet():
            self._give_up()
            for _ in range(n):
                genotype, trial = self._propose()
                if not self._seen.novel(np.concatenate([batch, genotype]))[-1]:
                    if trial is not None:
                        self._fail(trial)
                    genotype, trial = self._near(genotype, batch), None
                    if len(genotype) == 0:
                        break
                if trial is not None:
                    # It runs till the batch is told, which keeps the sampler from proposing the
                    # same again.
                    self._running.append(trial)
                batch = np.concatenate([batch, genotype])
        return batch

    def _propose(self) -> tuple[Genotypes, Any]:
        """An admissible genotype (1, d) and its trial, which a uniform draw does not have."""
        for _ in range(_TRIES):
            trial = self._study.ask(self._distributions)
            genotype = self._genotype(trial.params)
            if self.problem.admissible(genotype)[0]:
                return genotype, trial
            self._fail(trial)
        return self.problem.sample(1, self.rng), None

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

    def _fail(self, trial: Any) -> None:
        self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)

    def _give_up(self) -> None:
        for trial in self._running:
            self._fail(trial)
        self._running = []

    def tell(self, evaluations: Evaluations) -> None:
        told = canonical(self.problem, evaluations)
        # What has failed teaches the sampler nothing; but it is not to be proposed again.
        self._seen.add(told.genotypes)
        told = told.take(np.isfinite(told.total_violation))
        names = list(self._distributions)
        running = [[trial.params[name] for name in names] for trial in self._running]
        if running == told.genotypes.tolist() and not self.problem.constraints:
            with self._quiet():
                for trial, values in zip(self._running, told.objectives.tolist(), strict=True):
                    self._study.tell(trial, values)
            self._running = []
            self._told.append(told)
        elif len(told):
            # Other trials than those asked for, or with more to say: they are told as new ones.
            with self._quiet():
                self._give_up()
            self._add(told)

    def _add(self, evaluations: Evaluations) -> None:
        names = list(self._distributions)
        constraints = [str(constraint) for constraint in self.problem.constraints]
        with self._quiet():
            for genotype, values, violations in zip(
                evaluations.genotypes.tolist(),
                evaluations.objectives.tolist(),
                evaluations.violations.tolist(),
                strict=True,
            ):
                settings: dict[str, Any] = {}
                if constraints and self._constraints_in_trial:
                    settings["constraints"] = dict(zip(constraints, violations, strict=True))
                elif constraints:
                    settings["system_attrs"] = {"constraints": violations}
                trial = self._optuna.trial.create_trial(
                    params=dict(zip(names, genotype, strict=True)),
                    distributions=self._distributions,
                    values=values,
                    **settings,
                )
                self._study.add_trial(trial)
        self._told.append(evaluations)

    def _genotype(self, params: Mapping[str, int]) -> Genotypes:
        row = np.array([[params[name] for name in self._distributions]], dtype=np.int64)
        return self.problem.space.canonicalize(row)

    def _make_sampler(self, seed: int) -> Any:
        settings: dict[str, Any] = {"seed": seed}
        if self.problem.constraints and not self._constraints_in_trial:
            settings["constraints_func"] = _stored_constraints
        if self._sampler.__name__ == "TPESampler":
            settings["constant_liar"] = True
        with self._quiet():
            return self._sampler(**settings)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Hold back the log and the warnings about experimental features."""
        logging = self._optuna.logging
        verbosity = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
                yield
        finally:
            logging.set_verbosity(verbosity)

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


TPE = OptunaSampler  # the default sampler, under the name that people look for


def _stored_constraints(trial: Any) -> Any:
    """Violations of a trial, for Optuna 4; ours always carry them."""
    return trial.system_attrs["constraints"]
