"""What a strategy of ours is told of a study of Optuna's, and what it proposes there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution

from nastool.constraint import Constraint
from nastool.errors import InvalidInputError
from nastool.evaluations import Evaluations, summed
from nastool.integrations.optuna_parameters import Parameters
from nastool.objective import Direction, Kind, Objective, Provenance
from nastool.problem import Problem
from nastool.runtime.quiet import quiet
from nastool.space import ChainBudget, Genotypes
from nastool.store.encoding import decode_state, encode_state
from nastool.strategies.base import Strategy

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

_ONE_BY_ONE = 64
"""Trials are proposed one by one till twice as many are known."""

_ENUMERABLE = 2**18
"""Spaces up to this size are counted point by point."""


class Finished:
    """Which trials have finished since one last looked.

    Args:
        open: Numbers of those that had not.
        next: Number of the first that had not begun.
    """

    def __init__(self, open: Sequence[int] = (), next: int = 0) -> None:  # noqa: A002
        self.open = list(open)
        self.next = next

    def new(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those that have, of all trials of a study, in order."""
        waiting = [trials[k] for k in (*self.open, *range(self.next, len(trials)))]
        finished = [trial.state.is_finished() for trial in waiting]
        self.open = [t.number for t, done in zip(waiting, finished, strict=True) if not done]
        self.next = len(trials)
        return [trial for trial, done in zip(waiting, finished, strict=True) if done]


@dataclass(frozen=True)
class ReplicaState:
    """A replica as plain values, to be copied and sent to other processes.

    Args:
        study: Name of the study.
        distributions: By parameter.
        directions: Of the study.
        strategy: State of the strategy, as a store keeps it.
        open: Numbers of the trials that were not finished when the strategy was told last.
        next: Number of the first trial that it was not told of.
        start: Number of the trial that the proposals at hand begin with.
        asked: Those, rows of indices.
    """

    study: str
    distributions: Mapping[str, BaseDistribution]
    directions: Sequence[Direction]
    strategy: str
    open: Sequence[int]
    next: int
    start: int
    asked: Sequence[Sequence[int]]


class Replica:
    """A strategy that is told what a study of Optuna's knows.

    Args:
        study: Name of the study.
        strategy: A fresh one, for the parameters and directions of the study.
    """

    def __init__(self, study: str, strategy: Strategy) -> None:
        self._study = study
        self._strategy = strategy
        self._finished = Finished()
        self._tried = _Tried(strategy.problem, self._space)
        self._last: Mapping[str, BaseDistribution] | None = None
        self._start = -1
        self._own: set[int] = set()
        self._asked: Genotypes = np.empty((0, len(self._space.genes)), dtype=np.int64)

    def state(self) -> ReplicaState:
        """What `restored` makes an equal one from."""
        return ReplicaState(
            self._study,
            self._space.distributions,
            [objective.direction for objective in self._strategy.problem.objectives],
            encode_state(self._strategy.state_dict()),
            tuple(self._finished.open),
            self._finished.next,
            self._start,
            self._asked.tolist(),
        )

    @classmethod
    def restored(cls, state: ReplicaState, strategy: Strategy) -> Replica:
        """The replica whose state that was, around a fresh strategy."""
        replica = cls(state.study, strategy)
        strategy.load_state_dict(decode_state(state.strategy))
        replica._finished = Finished(state.open, state.next)
        replica._start = state.start
        replica._asked = np.array(state.asked, dtype=np.int64).reshape(-1, replica._asked.shape[1])
        return replica

    @property
    def _space(self) -> Parameters:
        space = self._strategy.problem.space
        if not isinstance(space, Parameters):
            raise InvalidInputError(
                f"a strategy must keep the problem it was made for, got {space.name}"
            )
        return space

    def fits(self, study: Study, search_space: Mapping[str, BaseDistribution]) -> bool:
        """Whether it was made for this study and these parameters."""
        if self._study != study.study_name:
            return False
        if self._last is not search_space and self._space.distributions == search_space:
            self._last = search_space  # comparing takes longer than proposing
        return self._last is search_space

    def propose(self, study: Study, number: int, seed: int) -> dict[str, Any]:
        """Parameters of the trial of that number."""
        trials = study.get_trials(deepcopy=False)
        start, size = batch_of(number, self._strategy.batch_size)
        if start > self._start:
            self._tell(trials[:start])
            # Seeded by the trial: a study that goes on elsewhere draws what this process would
            # have, and processes that share a study draw differently.
            self._start, self._asked = start, self._ask(size, self._untold(trials), [seed, start])
            self._own = set()
        asked, own = self._asked[:0], set()
        if start == self._start:  # a thread may come late
            asked, own = self._asked[number - start :][:1], self._own
        # Others' trials may have been added since, or the same batch asked for elsewhere.
        asked = self._fresh(
            asked, self._genotypes([t for t in trials[start:] if t.number not in own])
        )
        own.add(number)
        untold = self._untold(trials) if len(asked) == 0 else asked
        for known in (np.concatenate([self._asked, untold]), untold):
            if len(asked) == 0:
                asked = self._ask(1, known, [seed, start, number])
        if len(asked) == 0:  # nothing new is left: Optuna asks for a trial all the same
            if self._space.is_whole:
                asked = self._strategy.problem.sample(1, self._strategy.rng)
            else:  # between the points of a grid there is more, for independent draws to find
                return {}
        return self._space.params(asked[0].tolist())

    def _untold(self, trials: Sequence[FrozenTrial]) -> Genotypes:
        """Of the trials that the strategy does not know of, shape (n, d)."""
        unfinished = [trials[k] for k in self._finished.open]
        return self._genotypes([*unfinished, *trials[self._finished.next :]])

    def _ask(self, n: int, known: Genotypes, seed: Sequence[int]) -> Genotypes:
        """Up to n proposals (k, d) that are not among the known."""
        fresh = np.random.default_rng(seed)
        self._strategy.rng.bit_generator.state = fresh.bit_generator.state
        return self._fresh(self._strategy.ask(n + len(known)), known)[:n]

    def _fresh(self, genotypes: Genotypes, known: Genotypes) -> Genotypes:
        if not len(known):
            return genotypes
        keys = set(self._space.keys(known))
        return genotypes[[key not in keys for key in self._space.keys(genotypes)]]

    def _genotypes(self, trials: Sequence[FrozenTrial]) -> Genotypes:
        """Of those that have all parameters, shape (n, d)."""
        found = [row for trial in trials if (row := self._space.indices(trial)) is not None]
        return np.array(found, dtype=np.int64).reshape(-1, len(self._space.genes))

    def has_tried_all(self, study: Study, last: FrozenTrial) -> bool:
        """Whether no point is left that the budgets allow, a trial that just ends counted."""
        return self._tried.all(study.get_trials(deepcopy=False), last)

    def _tell(self, trials: Sequence[FrozenTrial]) -> None:
        """Tell what has finished, batch by batch, as a study that never stopped would have."""
        limit = self._strategy.batch_size
        finished = self._finished.new(trials)
        for _, group in groupby(finished, key=lambda trial: batch_of(trial.number, limit)):
            told = [t for t in group if self._space.indices(t) is not None]
            if told:
                self._strategy.tell(self._evaluations(told))

    def _evaluations(self, trials: Sequence[FrozenTrial]) -> Evaluations:
        problem = self._strategy.problem
        genotypes = self._genotypes(trials)
        objectives = np.full((len(trials), len(problem.objectives)), np.nan)
        violations = np.empty((len(trials), len(problem.constraints)))
        for row, trial in enumerate(trials):
            if trial.state == optuna.trial.TrialState.COMPLETE:
                objectives[row] = trial.values
            violations[row, 0] = summed(np.array([_violations(trial)], dtype=np.float64))[0]
        for column, bound in enumerate(problem.constraints[1:], start=1):
            violations[:, column] = bound.violation(
                self._space.costs[bound.metric].evaluate(genotypes)
            )
        return Evaluations(genotypes, objectives * problem.signs, violations)


def batch_of(number: int, limit: int) -> tuple[int, int]:
    """The batch of proposals that a trial is of: the number of its first trial, and its size.

    What was learnt from one trial changes little where thousands are known, and a batch costs
    hardly more than one: sizes grow with the number, up to the limit.
    """
    octave = max((number // _ONE_BY_ONE).bit_length() - 1, 0)
    first, end = (_ONE_BY_ONE << octave) if octave else 0, _ONE_BY_ONE << (octave + 1)
    size = max(min(1 << octave, limit), 1)
    start = first + (number - first) // size * size
    return start, min(size, end - start)


class _Tried:
    """How much of a space was tried.

    Args:
        problem: What is allowed.
        space: Where.
    """

    def __init__(self, problem: Problem, space: Parameters) -> None:
        self._problem = problem
        self._space = space
        self._keys: set[Any] = set()
        self._finished = Finished()

    def all(self, trials: Sequence[FrozenTrial], last: FrozenTrial) -> bool:
        """Whether every allowed point was tried; never where their number is not known.

        Args:
            trials: All of the study.
            last: One that is about to finish.
        """
        for trial in (*self._finished.new(trials), last):
            if (indices := self._space.indices(trial)) is not None:
                genotype = np.array([indices], dtype=np.int64)
                if self._problem.admissible(genotype)[0]:
                    self._keys.update(self._space.keys(genotype))
        return self._number is not None and len(self._keys) >= self._number

    @cached_property
    def _number(self) -> int | None:
        """How many points the budgets allow, where it can be said exactly."""
        bounds = self._problem.hard_constraints
        if self._space.size <= _ENUMERABLE:
            return int(self._problem.admissible(self._space.enumerate()).sum())
        if not bounds:
            return self._space.size
        if len({bound.metric for bound in bounds}) > 1:
            return None
        ends = {bound.sense: bound.bound for bound in bounds}
        cost = self._space.costs[bounds[0].metric]
        count = ChainBudget(cost, ends.get("<=", math.inf), ends.get(">=", -math.inf)).count
        return count.low if count.is_exact else None


class _Told(Objective):
    """A value that Optuna's objective function returns.

    Args:
        name: Of the value.
        direction: Which way is better.
    """

    name: str
    direction: Direction
    fingerprint: str
    provenance = Provenance(Kind.MEASURED, "an objective function of Optuna's")

    def __init__(self, name: str, direction: Direction) -> None:
        self.name, self.direction = name, direction
        self.fingerprint = f"optuna {name} {direction.value}"

    def evaluate(self, genotypes: Genotypes) -> NDArray[np.float64]:
        raise InvalidInputError(
            f"{len(genotypes)} trials must be evaluated by Optuna, got a strategy that evaluates"
        )


def problem_of(
    space: Parameters, directions: Sequence[Direction], budgets: Sequence[Constraint] = ()
) -> Problem:
    """The problem of a study: what its trials return, and that they are feasible."""
    objectives = tuple(_Told(f"value_{i}", direction) for i, direction in enumerate(directions))
    violation = _Told("violation", Direction.MINIMIZE)
    told = Constraint("violation", "<=", 0.0)
    return Problem(space, objectives, (told, *budgets), (violation,))


def _violations(trial: FrozenTrial) -> Sequence[float]:
    if not trial.system_attrs:  # where Optuna keeps them
        return ()
    if hasattr(trial, "constraints"):  # Optuna 5
        with quiet("optuna", warning=Warning):
            return tuple(trial.constraints.values())
    return tuple(trial.system_attrs.get("constraints") or ())
