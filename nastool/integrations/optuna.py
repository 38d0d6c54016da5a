"""Our strategies as samplers of Optuna, and our studies in its storages."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler

from nastool.constraint import Constraint
from nastool.errors import InvalidInputError
from nastool.evaluations import Evaluations
from nastool.integrations.optuna_export import export_study
from nastool.objective import Direction, Kind, Objective, Provenance
from nastool.plugins import load_strategy
from nastool.problem import Problem
from nastool.space import Gene, Genotypes, SearchSpace
from nastool.store.encoding import decode_state, encode_state
from nastool.strategies.base import Strategy

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["NastoolSampler", "export_study"]

_MOST_CHOICES = 1_000_000
"""Beyond that many values a parameter is as good as continuous."""


class NastoolSampler(BaseSampler):
    """A strategy of ours as a sampler: ``optuna.create_study(sampler=NastoolSampler("pareto"))``.

    It takes any number of objectives in both directions, constraints (`Trial.set_constraint` of
    Optuna 5, or `constraints_func`), trials that came from elsewhere, and studies that go on in
    another process: a proposal depends on the seed, the number of the trial and what is known by
    then. Copied or pickled, it goes on the same. Parameters must be categorical, integer, or floats
    with a step; integers and floats count as ordered.

    Args:
        strategy: Name of a strategy, as ``nastool list`` shows it, or what makes one from a
            problem and a seed.
        seed: Fixes every draw; random by default.
        settings: Of a strategy given by name.
        search_space: Distribution of each parameter. By default those that all finished trials
            share, which the first one draws at random.
        constraints_func: From a finished trial to violations, positive where it is infeasible;
            the way of Optuna 4.

    Raises:
        InvalidInputError: An unknown strategy or setting, or a continuous parameter.
    """

    def __init__(
        self,
        strategy: str | Callable[[Problem, int], Strategy] = "evolution",
        seed: int | None = None,
        *,
        settings: Mapping[str, object] | None = None,
        search_space: Mapping[str, BaseDistribution] | None = None,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
    ) -> None:
        self._strategy = strategy
        self._settings = dict(settings or {})
        self._seed = int(np.random.default_rng(seed).integers(2**31)) if seed is None else seed
        self._constraints_func = constraints_func
        self._fixed = _searchable(search_space) if search_space is not None else None
        self._shared = optuna.search_space.IntersectionSearchSpace()
        self._random = RandomSampler(seed=self._seed)
        self._replica: _Replica | None = None
        # Threads of one study (n_jobs) share their sampler.
        self._lock = threading.RLock()
        if settings and not isinstance(strategy, str):
            raise InvalidInputError(
                "settings must come with the name of a strategy, got what makes one"
            )
        if isinstance(strategy, str):
            self._check()

    def _check(self) -> None:
        """An unknown name must show at once and not at the second trial."""
        refused = []
        for objectives in (2, 1):  # of the study nothing is known yet: some take only one
            try:
                self._make(_problem(_Parameters({"x": _COIN}), [Direction.MINIMIZE] * objectives))
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
            return {**vars(self), "_replica": replica, "_lock": None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.RLock()
        if (kept := state["_replica"]) is not None:
            problem = _problem(_Parameters(kept.distributions), kept.directions)
            self._replica = _Replica.restored(kept, self._make(problem))

    def reseed_rng(self) -> None:
        self._random.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        del trial
        if self._fixed is not None:
            return self._fixed
        with self._lock:
            return _searchable(self._shared.calculate(study))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        with self._lock:
            if self._replica is None or not self._replica.fits(study, search_space):
                directions = [Direction[direction.name] for direction in study.directions]
                problem = _problem(_Parameters(search_space), directions)
                self._replica = _Replica(study.study_name, self._make(problem))
            return self._replica.propose(study, trial.number, self._seed)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        _searchable({param_name: param_distribution})
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
        if self._constraints_func is not None:
            # As every sampler of Optuna's stores them: there is no public way in version 4.
            from optuna.samplers._base import _process_constraints_after_trial

            _process_constraints_after_trial(self._constraints_func, study, trial, state)


@dataclass(frozen=True)
class _ReplicaState:
    """A replica as plain values, to be copied and sent to other processes.

    Args:
        study: Name of the study.
        distributions: By parameter.
        directions: Of the study.
        strategy: State of the strategy, as a store keeps it.
        open: Numbers of the trials that were not finished when the strategy was told last.
        next: Number of the first trial that it was not told of.
    """

    study: str
    distributions: Mapping[str, BaseDistribution]
    directions: Sequence[Direction]
    strategy: str
    open: Sequence[int]
    next: int


class _Replica:
    """A strategy that is told what a study of Optuna's knows.

    Args:
        study: Name of the study.
        strategy: A fresh one, for the parameters and directions of the study.
    """

    def __init__(self, study: str, strategy: Strategy) -> None:
        self._study = study
        self._strategy = strategy
        self._open: list[int] = []
        self._next = 0

    def state(self) -> _ReplicaState:
        """What `restored` makes an equal one from."""
        return _ReplicaState(
            self._study,
            self._space.distributions,
            [objective.direction for objective in self._strategy.problem.objectives],
            encode_state(self._strategy.state_dict()),
            tuple(self._open),
            self._next,
        )

    @classmethod
    def restored(cls, state: _ReplicaState, strategy: Strategy) -> _Replica:
        """The replica whose state that was, around a fresh strategy."""
        replica = cls(state.study, strategy)
        strategy.load_state_dict(decode_state(state.strategy))
        replica._open, replica._next = list(state.open), state.next
        return replica

    @property
    def _space(self) -> _Parameters:
        space = self._strategy.problem.space
        if not isinstance(space, _Parameters):
            raise InvalidInputError(
                f"a strategy must keep the problem it was made for, got {space.name}"
            )
        return space

    def fits(self, study: Study, search_space: Mapping[str, BaseDistribution]) -> bool:
        """Whether it was made for this study and these parameters."""
        return self._study == study.study_name and self._space.distributions == search_space

    def propose(self, study: Study, number: int, seed: int) -> dict[str, Any]:
        """Parameters of the trial of that number."""
        self._update(study)
        # Seeded by the trial: a study that goes on elsewhere draws what this process would have,
        # and processes that share a study draw differently.
        fresh = np.random.default_rng([seed, number])
        self._strategy.rng.bit_generator.state = fresh.bit_generator.state
        asked = self._strategy.ask(1)
        if len(asked) == 0:  # nothing new is left: Optuna asks for a trial all the same
            asked = self._strategy.problem.sample(1, fresh)
        return self._space.params(asked[0])

    def _update(self, study: Study) -> None:
        """Tell what has finished, trial by trial, as a study that never stopped would have."""
        trials = study.get_trials(deepcopy=False)
        waiting = [*self._open, *range(self._next, len(trials))]
        self._open, self._next = [], len(trials)
        for number in waiting:
            trial = trials[number]
            if not trial.state.is_finished():
                self._open.append(number)
                continue
            genotype = self._space.genotype(trial)
            if genotype is not None:
                self._strategy.tell(self._evaluation(trial, genotype))

    def _evaluation(self, trial: FrozenTrial, genotype: Genotypes) -> Evaluations:
        signs = self._strategy.problem.signs
        objectives = np.full((1, len(signs)), np.nan)
        if trial.state == optuna.trial.TrialState.COMPLETE:
            objectives[0] = np.array(trial.values, dtype=np.float64) * signs
        violation = sum(max(value, 0.0) for value in _violations(trial))
        return Evaluations(genotype, objectives, np.array([[violation]]))


class _Parameters(SearchSpace):
    """Parameters of a study as genes; choices are the indices of their values.

    Args:
        distributions: By parameter, all finite.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self.distributions = dict(distributions)
        self._genes = tuple(
            Gene(
                name,
                tuple(range(_count(distribution) or 0)),
                ordered=not isinstance(distribution, CategoricalDistribution),
            )
            for name, distribution in self.distributions.items()
        )

    @property
    def name(self) -> str:
        return "parameters"

    @property
    def genes(self) -> tuple[Gene, ...]:
        return self._genes

    def params(self, genotype: NDArray[np.int64]) -> dict[str, Any]:
        """Values of the parameters."""
        return {
            name: _value(distribution, index)
            for (name, distribution), index in zip(
                self.distributions.items(), genotype.tolist(), strict=True
            )
        }

    def genotype(self, trial: FrozenTrial) -> Genotypes | None:
        """Indices of a trial's values, shape (1, d); None where a parameter is missing."""
        row = []
        for name, distribution in self.distributions.items():
            if name not in trial.params:
                return None
            internal = distribution.to_internal_repr(trial.params[name])
            if not distribution._contains(internal):  # noqa: SLF001 - as Optuna's samplers check it
                return None
            row.append(_index(distribution, internal))
        return np.array([row], dtype=np.int64)


class _Told(Objective):
    """A value that Optuna's objective function returns.

    Args:
        name: Of the value.
        direction: Which way is better.
    """

    def __init__(self, name: str, direction: Direction) -> None:
        self._name = name
        self._direction = direction

    @property
    def name(self) -> str:
        return self._name

    @property
    def direction(self) -> Direction:
        return self._direction

    @property
    def provenance(self) -> Provenance:
        return Provenance(Kind.MEASURED, "an objective function of Optuna's")

    @property
    def fingerprint(self) -> str:
        return f"optuna {self._name} {self._direction.value}"

    def evaluate(self, genotypes: Genotypes) -> NDArray[np.float64]:
        raise InvalidInputError(
            f"{len(genotypes)} trials must be evaluated by Optuna, got a strategy that evaluates"
        )


def _problem(space: _Parameters, directions: Sequence[Direction]) -> Problem:
    """The problem of a study: what its trials return, and that they are feasible."""
    objectives = tuple(_Told(f"value_{i}", direction) for i, direction in enumerate(directions))
    violation = _Told("violation", Direction.MINIMIZE)
    return Problem(space, objectives, (Constraint("violation", "<=", 0.0),), (violation,))


def _violations(trial: FrozenTrial) -> Sequence[float]:
    if hasattr(trial, "constraints"):  # Optuna 5
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return tuple(trial.constraints.values())
    return tuple(trial.system_attrs.get("constraints") or ())


_COIN = CategoricalDistribution((False, True))


def _count(distribution: BaseDistribution) -> int | None:
    """Number of values; None where they are not finite."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    if not isinstance(distribution, IntDistribution | FloatDistribution):
        return None
    if distribution.step is None:
        return None
    return round((distribution.high - distribution.low) / distribution.step) + 1


def _index(distribution: BaseDistribution, internal: float) -> int:
    if isinstance(distribution, IntDistribution | FloatDistribution):
        return round((internal - distribution.low) / (distribution.step or 1))
    return int(internal)


def _value(distribution: BaseDistribution, index: int) -> Any:
    if isinstance(distribution, IntDistribution):
        return distribution.low + index * distribution.step
    if isinstance(distribution, FloatDistribution):
        # In decimals, as Optuna counts: in binary 3 * 0.1 lies above 0.3, outside the range.
        return float(Decimal(str(distribution.low)) + index * Decimal(str(distribution.step)))
    return distribution.to_external_repr(index)


def _searchable(distributions: Mapping[str, BaseDistribution]) -> dict[str, BaseDistribution]:
    """The distributions of more than one value.

    Raises:
        InvalidInputError: One of them is continuous.
    """
    found = {name: d for name, d in distributions.items() if not d.single()}
    for name, distribution in found.items():
        count = _count(distribution)
        if count is None or count > _MOST_CHOICES:
            raise InvalidInputError(
                f"parameter {name!r} must be categorical, an integer or a float with a step, of at "
                f"most {_MOST_CHOICES:,} values, got {distribution}"
            )
    return found
