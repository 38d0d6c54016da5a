"""Our strategies as samplers of Optuna, and our studies in its storages."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler

from nastool.choices import listed, whole
from nastool.errors import InvalidInputError
from nastool.integrations.optuna_export import export_study
from nastool.integrations.optuna_parameters import GRID, Budget, Parameters, searchable
from nastool.integrations.optuna_replica import Finished, Replica, problem_of
from nastool.objective import Direction
from nastool.plugins import load_strategy
from nastool.problem import Problem
from nastool.strategies.base import Strategy

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["Budget", "NastoolSampler", "export_study"]

_COIN = CategoricalDistribution((False, True))


class NastoolSampler(BaseSampler):
    """A strategy of ours as a sampler: ``optuna.create_study(sampler=NastoolSampler("pareto"))``.

    It takes any number of objectives in both directions, constraints (`Trial.set_constraint` of
    Optuna 5, or `constraints_func`), trials that came from elsewhere, and studies that go on in
    another process: a proposal depends on the seed, the number of the trial and what is known by
    then. Copied or pickled, it goes on the same. Integers and floats count as ordered; a float
    without a step, and an integer of too many values, is searched on a grid.

    A budget is kept by every proposal, however few points it lets through. No point is proposed
    twice before all were tried, those of trials that still run included.

    Args:
        strategy: Name of a strategy, as ``nastool list`` shows it, or what makes one from a
            problem and a seed.
        seed: Fixes every draw; random by default.
        settings: Of a strategy given by name.
        search_space: Distribution of each parameter. By default those that all finished trials
            share, which the first one draws at random.
        constraints_func: From a finished trial to violations, positive where it is infeasible;
            the way of Optuna 4.
        grid: Points that stand for a parameter without a step, evenly spread or, where it is
            logarithmic, in even ratios.
        budgets: Bounds that the parameters alone decide; `search_space` must be given with them,
            its order says which parameters are neighbours.
        stop: Whether to stop the study once every point that the budgets allow was tried: what is
            best then is so by proof.

    Raises:
        InvalidInputError: An unknown strategy or setting, or a budget that is none.
        InfeasibleError: No point keeps a budget.
    """

    def __init__(
        self,
        strategy: str | Callable[[Problem, int], Strategy] = "evolution",
        seed: int | None = None,
        *,
        settings: Mapping[str, object] | None = None,
        search_space: Mapping[str, BaseDistribution] | None = None,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
        grid: int = GRID,
        budgets: Sequence[Budget] = (),
        stop: bool = False,
    ) -> None:
        if not (isinstance(strategy, str) or callable(strategy)):
            raise InvalidInputError(
                "a strategy must be a name or what makes one from a problem and a seed, got "
                f"{strategy!r:.80}"
            )
        if settings is not None and not isinstance(settings, Mapping):
            raise InvalidInputError(f"settings must be by name, got {settings!r:.80}")
        if constraints_func is not None and not callable(constraints_func):
            raise InvalidInputError(
                f"constraints_func must be a function of a trial, got {constraints_func!r:.80}"
            )
        self._strategy = strategy
        self._settings = dict(settings or {})
        drawn = np.random.default_rng().integers(2**31) if seed is None else seed
        self._seed = whole("a seed", drawn)
        self._constraints_func = constraints_func
        self._fixed = searchable(search_space) if search_space is not None else None
        self._grid = whole("grid", grid, 2)
        self._budgets = _apart(listed("budgets", budgets))
        self._stop = stop
        self._shared = _SharedSpace()
        self._random = RandomSampler(seed=self._seed)
        self._replica: Replica | None = None
        # Threads of one study (n_jobs) share their sampler.
        self._lock = threading.RLock()
        self._check_space()
        if settings and not isinstance(strategy, str):
            raise InvalidInputError(
                "settings must come with the name of a strategy, got what makes one"
            )
        if isinstance(strategy, str):
            self._check()

    def _check_space(self) -> None:
        if self._budgets and self._fixed is None:
            raise InvalidInputError("budgets must come with the search_space that they bound")
        if self._fixed:
            self._problem(self._fixed, [Direction.MINIMIZE])

    def _problem(
        self, distributions: Mapping[str, BaseDistribution], directions: Sequence[Direction]
    ) -> Problem:
        """The problem of a study: what its trials return, and that they are feasible."""
        space = Parameters(distributions, self._grid, self._budgets)
        return problem_of(space, directions, [c for b in self._budgets for c in b.constraints])

    def _check(self) -> None:
        """An unknown name must show at once and not at the second trial."""
        refused = []
        for objectives in (2, 1):  # of the study nothing is known yet: some take only one
            try:
                self._make(problem_of(Parameters({"x": _COIN}), [Direction.MINIMIZE] * objectives))
            except InvalidInputError as error:
                refused.append(str(error))
            else:
                return
        raise InvalidInputError("; ".join(dict.fromkeys(refused)))

    def _make(self, problem: Problem) -> Strategy:
        if isinstance(self._strategy, str):
            return load_strategy(self._strategy, problem, self._seed, self._settings)
        return self._strategy(problem, self._seed)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy, here or in another process, is made from."""
        with self._lock:
            replica = self._replica and self._replica.state()
            shared = copy.deepcopy(self._shared)
            return {**vars(self), "_replica": replica, "_shared": shared, "_lock": None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.RLock()
        if (kept := state["_replica"]) is not None:
            problem = self._problem(kept.distributions, kept.directions)
            self._replica = Replica.restored(kept, self._make(problem))

    def reseed_rng(self) -> None:
        self._random.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        del trial
        if self._fixed is not None:
            return self._fixed
        with self._lock:
            return self._shared.of(study)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        with self._lock:
            if self._replica is None or not self._replica.fits(study, search_space):
                directions = [Direction[direction.name] for direction in study.directions]
                problem = self._problem(search_space, directions)
                self._replica = Replica(study.study_name, self._make(problem))
            return self._replica.propose(study, trial.number, self._seed)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        with self._lock:
            return self._random.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: optuna.trial.TrialState,
        values: Sequence[float] | None,
    ) -> None:
        del values
        if self._stop:
            with self._lock:
                self._stop_if_done(study, trial)
        if self._constraints_func is not None:
            # As every sampler of Optuna's stores them: there is no public way in version 4.
            from optuna.samplers._base import _process_constraints_after_trial

            _process_constraints_after_trial(self._constraints_func, study, trial, state)

    def _stop_if_done(self, study: Study, trial: FrozenTrial) -> None:
        """Stop where nothing is left to try, this trial counted; it is not yet stored."""
        if self._replica is None or not self._replica.has_tried_all(study, trial):
            return
        with contextlib.suppress(RuntimeError):  # outside of `optimize` there is nothing to stop
            study.stop()


def _apart(budgets: Sequence[object]) -> tuple[Budget, ...]:
    """The budgets with names of their own: costs and bounds find each other by them."""
    found: dict[str, Budget] = {}
    for budget in budgets:
        if not isinstance(budget, Budget):
            raise InvalidInputError(f"each of the budgets must be a Budget, got {budget!r:.80}")
        name, number = budget.name, 1
        while name in found:
            number += 1
            name = f"{budget.name}_{number}"
        found[name] = replace(budget, name=name)
    return tuple(found.values())


class _SharedSpace:
    """The distributions that all completed trials of a study share, as Optuna's samplers use them.

    Optuna's own class copies every distribution at every trial.
    """

    def __init__(self) -> None:
        self._found: dict[str, BaseDistribution] | None = None
        self._finished = Finished()

    def of(self, study: Study) -> dict[str, BaseDistribution]:
        """By name, those of more than one value; the same object till something changes."""
        for trial in self._finished.new(study.get_trials(deepcopy=False)):
            if trial.state == optuna.trial.TrialState.COMPLETE:
                self._intersect(trial.distributions)
        return self._found or {}

    def _intersect(self, distributions: Mapping[str, BaseDistribution]) -> None:
        if self._found is None:
            self._found = dict(sorted(searchable(distributions).items()))
            return
        shared = {n: d for n, d in self._found.items() if distributions.get(n) == d}
        if len(shared) < len(self._found):
            self._found = shared
