"""What every strategy must fulfil."""

# ruff: noqa: S101 - a suite of tests asserts; nothing here runs outside of pytest
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.evaluations import Evaluations
from nastool.objective import read_only
from nastool.problem import Problem
from nastool.space import Genotypes
from nastool.store.encoding import decode_state, encode_state
from nastool.strategies.base import State, Strategy
from nastool.testing.examples import easy_problems, example_problems
from nastool.testing.surroundings import global_generators_kept


class StrategyConformance(ABC):
    """What every strategy must fulfil, on spaces of every kind.

    The fixture `problem` may be overridden by a strategy made for particular problems, and so may
    `failing` and `easy`.
    """

    @abstractmethod
    def make(self, problem: Problem, seed: int) -> Strategy:
        """A fresh instance of the strategy under test."""

    batch = 20
    """Genotypes asked for at once."""

    rounds = 6
    """Batches in a run."""

    lessons = 400
    """Evaluations after which a strategy that learns does better than chance on easy problems."""

    seeded = True
    """Whether another seed makes other proposals; False for a search without chance."""

    @pytest.fixture(params=[
        "single", "single-mixed", "single-hard", "single-soft", "failing",
        "pair", "pair-hard", "pair-soft", "triple-failing",
    ])  # fmt: skip
    def problem(self, request: pytest.FixtureRequest) -> Problem:
        """Every kind of problem in turn."""
        return example_problems()[request.param]

    def failing(self) -> Problem:
        """A problem of which a quarter fails; override it for a strategy that cannot solve it."""
        return example_problems()["quarter-failing"]

    def easy(self) -> Mapping[str, Problem]:
        """Problems that are easy to learn; override them for a strategy that cannot solve them."""
        return easy_problems()

    def test_asked_genotypes_are_canonical_and_admissible(self, problem: Problem) -> None:
        strategy = self.make(problem, 0)
        for n in (1, self.batch, 3, strategy.batch_size, self.batch, 7):
            asked = strategy.ask(n)
            assert len(asked) <= n
            check_asked(problem, asked)
            strategy.tell(_evaluated(problem, asked))

    def test_something_new_is_proposed(self, problem: Problem) -> None:
        strategy = self.make(problem, 0)
        asked = self._run(strategy, problem)
        members = np.array([row for _, row in strategy.named], dtype=np.int64)
        if not strategy.named or np.any(problem.admissible(members)):
            assert len(asked), "nothing is proposed"
        different = len(set(problem.space.keys(asked)))
        drawn = problem.sample(1_000, np.random.default_rng(0)) if len(asked) else asked
        possible = max(1, len(set(problem.space.keys(drawn))))
        assert different >= min(len(asked), possible) / 4, (
            f"of {len(asked)} proposals only {different} are different ones"
        )

    def test_search_follows_the_seed(self, problem: Problem) -> None:
        strategy = self.make(problem, 3)
        with global_generators_kept():
            first = self._run(strategy, problem)
        assert np.array_equal(self._run(self.make(problem, 3), problem), first)
        if self.seeded and not strategy.named:
            other = self._run(self.make(problem, 4), problem)
            assert not np.array_equal(other, first), "another seed makes the same proposals"

    def test_resuming_equals_never_having_stopped(self, problem: Problem) -> None:
        strategy = self.make(problem, 1)
        state = stored(strategy.state_dict())
        for _ in range(self.rounds):
            resumed = self.make(problem, 99)
            resumed.load_state_dict(state)
            asked = strategy.ask(self.batch)
            assert np.array_equal(resumed.ask(self.batch), asked)
            evaluations = _evaluated(problem, asked)
            strategy.tell(evaluations)
            resumed.tell(evaluations)
            # One goes on unbroken; the other is stopped after every batch.
            state = stored(resumed.state_dict())

    def test_state_is_a_snapshot(self, problem: Problem) -> None:
        strategy = self.make(problem, 5)
        self._run(strategy, problem)
        state = strategy.state_dict()
        before = encode_state(state)
        self._run(strategy, problem)
        assert encode_state(state) == before

    def test_unasked_evaluations_are_welcome(self, problem: Problem) -> None:
        rng = np.random.default_rng(4)
        strategy = self.make(problem, 2)
        for _ in range(3):
            strategy.tell(_evaluated(problem, problem.sample(self.batch, rng)))
            asked = strategy.ask(self.batch)
            check_asked(problem, asked)
            strategy.tell(_evaluated(problem, asked))

    def test_evaluations_may_come_late_and_in_parts(self, problem: Problem) -> None:
        strategy = self.make(problem, 6)
        late = strategy.ask(self.batch)
        for _ in range(self.rounds):
            asked = strategy.ask(self.batch)
            check_asked(problem, asked)
            evaluated = problem.evaluate(np.concatenate([late, asked]))
            half = len(evaluated) // 2
            strategy.tell(evaluated.take(slice(half, None)))
            strategy.tell(evaluated.take(slice(0, half // 2)))
            late = evaluated.genotypes[half // 2 : half]

    def test_what_has_failed_is_not_proposed_again(self) -> None:
        """A study skips what it knows, and ends where nothing else is proposed for long."""
        problem = self.failing()
        space = problem.space
        try:
            strategy = self.make(problem, 0)
        except InvalidInputError as error:
            pytest.skip(f"override `failing`: {error}")
        failed: set[object] = set()
        known: set[object] = set()
        for _ in range(40):
            asked = strategy.ask(self.batch)
            keys = space.keys(asked)
            assert failed.isdisjoint(keys), "a shape that has failed is proposed again"
            known |= set(keys)
            if len(known) >= 100 or not len(asked):
                break
            evaluations = problem.evaluate(asked)
            lost = np.flatnonzero(np.any(np.isnan(evaluations.objectives), axis=1))
            failed |= {keys[row] for row in lost.tolist()}
            strategy.tell(evaluations)
        assert len(known) >= 100 or not len(asked), f"only {len(known)} different shapes proposed"

    def test_learning_does_better_than_chance(self) -> None:
        """Whoever proposes something else when told something else must gain by what it learns."""
        refused = []
        for name, problem in self.easy().items():
            try:
                asked = self._lesson(problem, told=1)
            except InvalidInputError as error:
                refused.append(f"{name}: {error}")
                continue
            assert len(asked), f"nothing is proposed for problem {name!r}"
            chance = problem.evaluate(problem.sample(2_000, np.random.default_rng(0)))
            parts = [problem.evaluate(part) for part in np.array_split(asked, 4) if len(part)]
            if problem.constraints:
                # Whoever knows nothing of the constraint goes where the objective is best.
                usual = np.mean(chance.satisfied)
                shares = [np.mean(part.satisfied) for part in parts]
                learned = min(shares) >= usual / 2
            else:
                # The best part: once all that is good is known, the rest is left.
                mean, spread = chance.objectives.mean(axis=0), chance.objectives.std(axis=0)
                gains = [mean - part.objectives.mean(axis=0) for part in parts]
                learned = any(np.all(gain > spread) for gain in gains)
            if not learned:
                contrary = self._lesson(problem, told=-1)
                assert np.array_equal(contrary, asked), (
                    f"what it learns from problem {name!r} makes its proposals no better"
                )
        if len(refused) == len(self.easy()):
            pytest.skip(f"override `easy`: {'; '.join(refused)}")

    def _lesson(self, problem: Problem, told: int) -> Genotypes:
        """What a strategy proposes that is told the truth (1) or its contrary (-1)."""
        strategy = self.make(problem, 8)
        asked = []
        for _ in range(0, self.lessons, self.batch):
            asked.append(strategy.ask(self.batch))
            if not len(asked[-1]):
                break
            evaluations = problem.evaluate(asked[-1])
            strategy.tell(
                Evaluations(
                    evaluations.genotypes,
                    told * evaluations.objectives,
                    told * evaluations.violations,
                )
            )
        return np.concatenate(asked)

    def _run(self, strategy: Strategy, problem: Problem) -> Genotypes:
        asked = []
        for _ in range(self.rounds):
            asked.append(strategy.ask(self.batch))
            strategy.tell(_evaluated(problem, asked[-1]))
        return np.concatenate(asked)


def _evaluated(problem: Problem, asked: Genotypes) -> Evaluations:
    """What a study tells a strategy, which may look at it only."""
    made = problem.evaluate(asked)
    return Evaluations(
        read_only(made.genotypes), read_only(made.objectives), read_only(made.violations)
    )


def check_asked(problem: Problem, asked: Genotypes) -> None:
    """Fail unless genotypes (k, d) are valid, canonical and admissible."""
    assert asked.dtype == np.int64
    assert np.array_equal(problem.space.validate(asked), asked)
    assert np.array_equal(problem.space.canonicalize(asked), asked)
    assert np.all(problem.admissible(asked))


def stored(state: State) -> State:
    """What is left of a state after a store wrote and read it: JSON values and arrays."""
    return decode_state(encode_state(state))
