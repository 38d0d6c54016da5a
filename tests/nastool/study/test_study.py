"""Studies: budgets, duplicates, stopping and going on, and what they refuse.

Run as a program, this file runs one study, for the test that kills it.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nastool
from nastool import pareto
from nastool.constraint import Constraint, parse_constraint
from nastool.errors import InvalidInputError, NastoolError, StoreError
from nastool.executors import Serial
from nastool.objective import Direction, Kind, Objective, Provenance
from nastool.problem import Problem
from nastool.results import failed_note
from nastool.space import Gene, SearchSpace
from nastool.store import Store, open_store
from nastool.strategies.base import Strategy
from nastool.study import Study, load_result
from nastool.study import study as study_module


class Grid(SearchSpace):
    def __init__(self, genes: int = 4, choices: int = 5) -> None:
        self._genes = tuple(Gene(f"g{k}", tuple(range(choices)), True) for k in range(genes))

    @property
    def name(self):
        return "grid"

    @property
    def genes(self):
        return self._genes


class Distance(Objective):
    """Squared distance to a corner; may fail, sleep or count what it is asked."""

    def __init__(self, name="distance", target=1.0, kind=Kind.COMPUTED, maximize=False, delay=0.0):
        self._name, self._target, self._kind = name, target, kind
        self._maximize, self._delay = maximize, delay
        self.asked = []

    @property
    def name(self):
        return self._name

    @property
    def direction(self):
        return Direction.MAXIMIZE if self._maximize else Direction.MINIMIZE

    @property
    def provenance(self):
        return Provenance(self._kind, "closed form")

    @property
    def fingerprint(self):
        return f"{self._name} {self._target}"

    def evaluate(self, genotypes):
        self.asked += genotypes.tolist()
        time.sleep(self._delay * len(genotypes))
        return ((genotypes - self._target) ** 2).sum(axis=1)


class Uniform(Strategy):
    def ask(self, n):
        return self.problem.sample(n, self.rng)

    def tell(self, evaluations):
        pass


class Climber(Strategy):
    """Mutates the best so far: what it asks depends on all it was told, and how it was batched."""

    def __init__(self, problem, seed=0, batch_size=8):
        super().__init__(problem, seed)
        self._batch_size = batch_size
        self.best = None
        self.told = 0

    @property
    def batch_size(self):
        return self._batch_size

    def ask(self, n):
        if self.best is None:
            return self.problem.sample(n, self.rng)
        children = np.repeat(self.best[None], n, axis=0)
        rows, columns = np.arange(n), self.rng.integers(0, children.shape[1], n)
        children[rows, columns] = self.rng.integers(0, self.problem.space.cardinalities[columns])
        return children

    def tell(self, evaluations):
        self.told += len(evaluations)
        scores = evaluations.objectives.sum(axis=1) + self.told % 3
        if not np.isnan(scores).all():
            self.best = evaluations.genotypes[int(np.nanargmin(scores))]

    def state_dict(self):
        return {**super().state_dict(), "best": self.best, "told": self.told}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.best, self.told = state["best"], state["told"]


def make_problem(**options):
    space = Grid()
    return Problem(space, (Distance(**options), Distance("other", 3.0, maximize=False)))


def same(a, b):
    np.testing.assert_array_equal(a.evaluations.genotypes, b.evaluations.genotypes)
    np.testing.assert_array_equal(a.metrics, b.metrics)
    return True


# The loop


def test_the_budget_counts_distinct_genotypes():
    study = Study(make_problem(), Uniform)
    result = study.run(500, batch_size=64)
    assert len(result) == 500
    assert len(np.unique(result.evaluations.genotypes, axis=0)) == 500
    assert np.array_equal(study.evaluations.genotypes, result.evaluations.genotypes)
    assert result.stop_reason == "budget"
    assert np.all(np.diff(result.elapsed) >= 0)
    assert 0 < result.elapsed[-1] <= result.seconds


def test_no_genotype_is_evaluated_twice_but_every_proposal_is_told():
    told = []

    class Recording(Uniform):
        def tell(self, evaluations):
            told.append(evaluations)

    problem = make_problem()
    result = Study(problem, Recording).run(400, batch_size=100)
    asked = problem.objectives[0].asked
    assert len(asked) == 400
    assert len({tuple(row) for row in asked}) == 400
    assert all(len(evaluations) == 100 for evaluations in told)
    values = result.values(told[-1].genotypes)
    np.testing.assert_array_equal(told[-1].objectives[:, 0], values["distance"])


def test_a_space_is_exhausted():
    problem = Problem(Grid(2, 3), (Distance(),))
    result = Study(problem, Uniform).run(100)
    assert (len(result), result.stop_reason) == (9, "exhausted")


def test_a_strategy_that_proposes_nothing_more_is_exhausted():
    class Once(Uniform):
        def ask(self, n):
            return np.arange(4)[:, None].repeat(4, 1)[: 0 if self.rng.random() > 0.9 else n]

    result = Study(make_problem(), Once).run(100)
    assert (len(result), result.stop_reason) == (4, "exhausted")


def test_a_strategy_that_repeats_itself_is_stalled_for_good(tmp_path):
    class Same(Uniform):
        def ask(self, n):
            return np.zeros((n, 4), dtype=np.int64)

    store = f"sqlite:///{tmp_path}/a.db"
    result = Study(make_problem(), Same, store, "a").run(10)
    assert (len(result), result.stop_reason) == (1, "stalled")
    assert Study(make_problem(), Same, store, "a").run(20).stop_reason == "stalled"


def test_maximised_objectives_and_constraints_keep_their_natural_sign():
    space = Grid()
    metric = Distance("size", 0.0, kind=Kind.MEASURED)
    problem = Problem(
        space, (Distance(maximize=True),), (parse_constraint("size<=10"),), metrics=(metric,)
    )
    result = Study(problem, Uniform).run(300)
    values = result.values()
    np.testing.assert_array_equal(result.evaluations.objectives[:, 0], -values["distance"])
    np.testing.assert_array_equal(result.evaluations.feasible, values["size"] <= 10)
    best = result.best("distance")
    natural = result.values(best.genotypes)
    assert natural["distance"] == values["distance"][values["size"] <= 10].max()


def test_progress_is_told_after_every_batch():
    calls = []
    Study(make_problem(), Uniform).run(250, 100, lambda *numbers: calls.append(numbers))
    assert calls[-1] == (250, 250)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


# Going on


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=5),
    st.integers(1, 12),
    st.sampled_from([Uniform, Climber]),
)
@settings(max_examples=20)
def test_split_budgets_equal_one_run(tmp_path_factory, parts, batch_size, kind):
    problem = make_problem()
    whole = Study(problem, kind, seed=5).run(sum(parts), batch_size)
    in_memory = Study(problem, kind, seed=5)
    url = f"sqlite:///{tmp_path_factory.mktemp('split')}/a.db"
    budgets = np.cumsum(parts).tolist()
    for budget in budgets:
        first = in_memory.run(budget, batch_size)
        # A new object each time, as in a new process.
        with open_store(url) as store:
            second = Study(problem, kind, store, "a", seed=5).run(budget, batch_size)
    assert same(first, whole)
    assert same(second, whole)
    assert second.stop_reason == whole.stop_reason


def test_a_small_budget_is_the_beginning_of_a_large_one():
    small = Study(make_problem(), Climber).run(37)
    large = Study(make_problem(), Climber).run(150)
    np.testing.assert_array_equal(
        small.evaluations.genotypes, large.evaluations.genotypes[: len(small)]
    )


def test_the_first_evaluations_of_a_result_are_those_of_a_smaller_budget():
    large = Study(make_problem(), Climber).run(150)
    assert same(large.first(37), Study(make_problem(), Climber).run(37))
    assert len(large.first(37).values()["distance"]) == 37
    assert large.first(200) is large
    with pytest.raises(InvalidInputError, match="at least 1"):
        large.first(0)


def test_a_finished_study_is_not_run_again(tmp_path):
    store = f"sqlite:///{tmp_path}/a.db"
    first = Study(make_problem(), Climber, store, "a").run(60)
    problem = make_problem()
    again = Study(problem, Climber, store, "a").run(50)
    assert same(first, again)
    assert problem.objectives[0].asked == []
    assert again.seconds >= first.seconds


def test_results_reopen_without_a_strategy(tmp_path):
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        result = Study(make_problem(), Climber, store, "a", description={"note": 1}).run(60)
        reopened = load_result(store, "a", make_problem())
        assert same(result, reopened)
        assert (reopened.stop_reason, reopened.name) == ("budget", "a")
        np.testing.assert_array_equal(reopened.elapsed, result.elapsed)
        description = store.load("a").summary.description
        assert (description["note"], description["space"]) == (1, "grid")
        assert description["metrics"][0]["provenance"] == "computed (closed form)"
        with pytest.raises(InvalidInputError, match="made with objectives"):
            load_result(store, "a", make_problem(target=2.0))


def test_the_last_digit_of_a_bound_is_not_another_problem(tmp_path):
    def bounded(bound):
        return Problem(Grid(), make_problem().objectives, (Constraint("other", "<=", bound),))

    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        Study(bounded(66.1 * 1e6), Uniform, store, "a").run(10)
        assert len(load_result(store, "a", bounded(66_100_000))) == 10
        with pytest.raises(InvalidInputError, match="made with constraints"):
            load_result(store, "a", bounded(66_100_000.000001))


def test_studies_without_a_name_get_new_ones(tmp_path):
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        for _ in range(2):
            Study(make_problem(), Uniform, store).run(10)
        names = [study.name for study in store.list_studies()]
    assert names == ["grid-Uniform-1", "grid-Uniform-2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": make_problem(target=2.0)}, "objectives"),
        (
            {
                "problem": Problem(
                    Grid(), make_problem().objectives, (Constraint("other", "<=", 9),)
                )
            },
            "constraints",
        ),
        ({"problem": Problem(Grid(5), make_problem().objectives)}, "space"),
        ({"strategy": Uniform}, "strategy Climber"),
        ({"strategy": lambda p, s: Climber(p, s + 1)}, "starting state"),
        ({"seed": 1}, "seed 0, got 1"),
        ({"description": {"settings": {"k": 1}}}, "settings"),
    ],
)
def test_another_problem_strategy_or_seed_is_not_mixed_in(tmp_path, change, message):
    store = f"sqlite:///{tmp_path}/a.db"
    arguments = {"problem": make_problem(), "strategy": Climber, "store": store, "name": "a"}
    Study(**arguments).run(20)
    with pytest.raises(InvalidInputError, match=message):
        Study(**{**arguments, **change})
    with pytest.raises(InvalidInputError, match="batch_size must stay 8"):
        Study(**arguments).run(30, batch_size=9)


def run_as_program(url: str, budget: int, kind: str) -> None:
    problem = make_problem(kind=Kind(kind), delay=0.002)
    Study(problem, Climber, url, "a", seed=2).run(budget, batch_size=7)


@pytest.mark.parametrize("kind", ["computed", "measured"])
@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_killing_at_any_instant_changes_nothing(tmp_path, kind, signal_name):
    budget = 330
    whole = Study(make_problem(), Climber, seed=2).run(budget, batch_size=7)
    url = f"sqlite:///{tmp_path}/a.db"
    command = [sys.executable, __file__, url, str(budget), kind]
    rng = random.Random(signal_name)
    number = getattr(signal, signal_name)
    killed = 0
    for _ in range(1 if signal_name == "SIGTERM" else 2):
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            # From the start of the loop on: before it there is nothing to interrupt.
            deadline = time.monotonic() + 60
            while not os.path.exists(tmp_path / "a.db") and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(rng.uniform(0.05, 0.7))
            process.send_signal(number)
            process.wait(timeout=60)
            killed += process.returncode != 0 or signal_name == "SIGINT"
    assert killed
    run_as_program(url, budget, kind)
    with open_store(url) as store:
        assert same(load_result(store, "a", make_problem()), whole)


def test_an_interrupt_keeps_what_is_evaluated(tmp_path):
    class Interrupted(Distance):
        def evaluate(self, genotypes):
            if len(self.asked) >= 16 and self.armed:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
                pytest.fail("it went on")
            return super().evaluate(genotypes)

    objective = Interrupted(kind=Kind.MEASURED)
    objective.armed = True
    problem = Problem(Grid(), (objective,))
    url = f"sqlite:///{tmp_path}/a.db"
    for store in (None, url):
        objective.armed, objective.asked = True, []
        study = Study(problem, Uniform, store, "a")
        result = study.run(40, batch_size=20)
        assert (len(result), result.stop_reason) == (16, "interrupted")
        objective.armed = False
        whole = Study(problem, Uniform).run(40, batch_size=20)
        assert same(study.run(40), whole)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_between_evaluations_waits_for_the_end_of_the_batch():
    class Slow(Uniform):
        def tell(self, evaluations):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            self.finished = True

    study = Study(make_problem(), Slow)
    result = study.run(100, batch_size=10)
    assert (len(result), result.stop_reason) == (10, "interrupted")
    assert study.strategy.finished


@pytest.mark.parametrize(("can_be", "found"), [(False, 10), (True, 0)])
def test_only_proposals_that_can_be_are_interrupted(can_be, found):
    class Slow(Uniform):
        can_be_interrupted = can_be

        def ask(self, n):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            return super().ask(n)

    result = Study(make_problem(), Slow).run(100, batch_size=10)
    assert (len(result), result.stop_reason) == (found, "interrupted")


def test_a_second_interrupt_raises():
    class Stuck(Uniform):
        def tell(self, evaluations):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        Study(make_problem(), Stuck).run(100, batch_size=10)


def test_what_is_evaluated_survives_an_error_of_the_strategy(tmp_path):
    class Broken(Climber):
        def tell(self, evaluations):
            super().tell(evaluations)
            if self.told >= 24 and self.problem.broken:
                raise RuntimeError("broken")

    url = f"sqlite:///{tmp_path}/a.db"
    problem = make_problem()
    object.__setattr__(problem, "broken", True)
    with pytest.raises(
        NastoolError, match="strategy Broken failed: RuntimeError: broken"
    ) as raised:
        Study(problem, Broken, url, "a").run(60)
    assert isinstance(raised.value.__cause__, RuntimeError)
    object.__setattr__(problem, "broken", False)
    with open_store(url) as store:
        assert len(load_result(store, "a", problem)) > 0
    whole = Study(problem, Broken).run(60)
    assert same(Study(problem, Broken, url, "a").run(60), whole)


def test_the_state_of_a_strategy_is_kept_between_batches_and_never_within(tmp_path):
    class Broken(Climber):
        def ask(self, n):
            self.rng.integers(9)
            if self.told >= 24 and self.problem.broken:
                raise RuntimeError("broken")  # its generator has moved on
            places = np.arange(self.told, self.told + n)  # never one twice
            return np.stack(np.unravel_index(places, (5, 5, 5, 5)), axis=1)

    url = f"sqlite:///{tmp_path}/a.db"
    problem = make_problem()
    object.__setattr__(problem, "broken", False)
    with open_store(url) as store:
        Study(problem, Broken, store, "a").run(16, batch_size=8)
        between = store.load("a").state
        assert between["told"] == between["strategy"]["told"] == 16
        object.__setattr__(problem, "broken", True)
        with pytest.raises(NastoolError, match="RuntimeError: broken"):
            Study(problem, Broken, store, "a").run(60, batch_size=8)
        stored = store.load("a")
        assert len(stored.batch.genotypes) == 24
        # As it was before: what its generator has drawn since is of no batch.
        assert stored.state["strategy"]["rng"] == between["strategy"]["rng"]


def test_a_strategy_that_raises_is_named_as_it_was_asked_for():
    class Broken(Uniform):
        def ask(self, n):
            raise KeyError("best")

    with pytest.raises(NastoolError, match=r"^strategy mine failed: KeyError: 'best' \(test"):
        Study(make_problem(), Broken, description={"strategy": "mine"}).run(10)


def test_a_cheap_objective_that_raises_costs_what_it_raises_for(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    problem = Problem(Grid(), (Fragile(),))
    result = Study(problem, Uniform, url, "a").run(60)
    failed = result.evaluations.genotypes[:, 0] == 0
    assert 0 < failed.sum() < 60
    np.testing.assert_array_equal(np.isnan(result.metrics[:, 0]), failed)
    assert len(result.failures) == failed.sum()
    assert result.failures[0].message.startswith("ValueError: zero width (test_study.py:")
    with open_store(url) as store:
        assert load_result(store, "a", problem).failures == result.failures


def test_a_bounded_metric_that_raises_allows_nothing_there():
    problem = Problem(Grid(), (Fragile(),), (Constraint("distance", "<=", 100.0),))
    result = Study(problem, Uniform).run(60)
    assert len(result) == 60
    assert result.evaluations.genotypes[:, 0].all()
    assert not result.failed.any()


@pytest.mark.parametrize("code", [0, 1, "out of memory"])
def test_sys_exit_in_an_objective_is_a_failure(code):
    class Leaving(Distance):
        def evaluate(self, genotypes):
            if np.any(genotypes[:, 0] == 0):
                sys.exit(code)
            return super().evaluate(genotypes)

    for kind in (Kind.COMPUTED, Kind.MEASURED):
        result = Study(Problem(Grid(), (Leaving(kind=kind),)), Uniform).run(60)
        assert len(result) == 60
        assert result.failures[0].message.startswith(f"sys.exit(): {code} (")


def test_sys_exit_in_a_strategy_is_one_line():
    class Leaving(Uniform):
        def tell(self, evaluations):
            sys.exit()

    with pytest.raises(NastoolError, match=r"^strategy Leaving failed: sys\.exit\(\) \(test"):
        Study(make_problem(), Leaving).run(20, batch_size=5)


# Measurements and failures


def test_an_expensive_measurement_is_paid_for_once_across_studies(tmp_path):
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        first = make_problem(kind=Kind.MEASURED)
        Study(first, Uniform, store, "a").run(50)
        assert len(first.objectives[0].asked) == 50
        second = make_problem(kind=Kind.MEASURED)
        result = Study(second, Uniform, store, "b").run(80)
        assert len(second.objectives[0].asked) == 30
        np.testing.assert_array_equal(
            result.values()["distance"],
            make_problem().objectives[0].evaluate(result.evaluations.genotypes),
        )
        assert len(second.objectives[1].asked) == 80  # cheap: computed again, not stored


class Fragile(Distance):
    def evaluate(self, genotypes):
        if np.any(genotypes[:, 0] == 0):
            raise ValueError("zero width")
        return super().evaluate(genotypes)


def test_failed_evaluations_are_kept_with_their_message(tmp_path):
    problem = Problem(Grid(), (Fragile(kind=Kind.MEASURED),))
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        result = Study(problem, Uniform, store, "a").run(100)
        reopened = load_result(store, "a", problem)
    failed = result.evaluations.genotypes[:, 0] == 0
    assert failed.any()
    np.testing.assert_array_equal(np.isnan(result.metrics[:, 0]), failed)
    assert not result.evaluations.feasible[failed].any()
    assert len(result.failures) == failed.sum()
    assert reopened.failures == result.failures
    assert result.failures[0].message.startswith("ValueError: zero width (test_study.py:")
    assert result.failures[0].architecture.startswith("0-")


def test_an_objective_that_always_fails_does_not_eat_the_budget():
    class Hopeless(Distance):
        def evaluate(self, genotypes):
            raise OSError("no device")

    problem = Problem(Grid(), (Hopeless(kind=Kind.MEASURED),))
    with pytest.raises(NastoolError, match=r"failed on all of the first 20 .*OSError: no device"):
        Study(problem, Uniform).run(1000, batch_size=20)


def test_infinite_values_count_as_failed():
    class Infinite(Distance):
        def evaluate(self, genotypes):
            return np.where(genotypes[:, 0] == 0, -np.inf, 1.0)

    result = Study(Problem(Grid(), (Infinite(),)), Uniform).run(100)
    assert np.isnan(result.metrics[:, 0]).any()
    assert not np.isinf(result.metrics).any()


# Failures that are tried again


class Repaired(Distance):
    """Fails for a quarter of the grid until it is mended; counts what it is asked."""

    def __init__(self, kind=Kind.MEASURED):
        super().__init__(kind=kind)
        self.broken = True

    def evaluate(self, genotypes):
        values = super().evaluate(genotypes)
        return np.where(self.broken & (genotypes[:, 0] == 0), np.nan, values)


@pytest.mark.parametrize("kind", [Kind.COMPUTED, Kind.MEASURED])
@pytest.mark.parametrize("strategy", [Uniform, Climber])
def test_what_has_failed_is_evaluated_again_once(tmp_path, kind, strategy):
    url = f"sqlite:///{tmp_path}/a.db"
    objective = Repaired(kind)
    problem = Problem(Grid(), (objective,))
    first = Study(problem, strategy, url, "a").run(60)
    failed = first.evaluations.genotypes[first.failed]
    assert 0 < len(failed) < 60
    objective.broken, objective.asked = False, []
    assert Study(problem, strategy, url, "a").run(60).failed.sum() == len(failed)
    result = Study(problem, strategy, url, "a").run(60, retry_failed=True)
    assert objective.asked == failed.tolist()
    assert not result.failed.any()
    assert result.failures == ()
    expected = ((result.evaluations.genotypes - 1.0) ** 2).sum(axis=1)
    np.testing.assert_array_equal(result.metrics[:, 0], expected)
    np.testing.assert_array_equal(result.evaluations.genotypes, first.evaluations.genotypes)
    with open_store(url) as store:
        stored = load_result(store, "a", problem)
    np.testing.assert_array_equal(stored.metrics, result.metrics)
    assert stored.failures == ()


def test_what_fails_again_is_counted_once(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    problem = Problem(Grid(), (Fragile(kind=Kind.MEASURED),))
    first = Study(problem, Uniform, url, "a").run(60)
    again = Study(problem, Uniform, url, "a").run(60, retry_failed=True)
    assert sorted(f.architecture for f in again.failures) == sorted(
        f.architecture for f in first.failures
    )
    assert again.failed.sum() == len(again.failures) > 0


def test_a_study_goes_on_after_a_retry_as_if_it_had_never_stopped(tmp_path):
    def begun(name):
        objective = Repaired()
        problem = Problem(Grid(), (objective,))
        Study(problem, Climber, f"sqlite:///{tmp_path}/{name}.db", "a").run(40)
        objective.broken = False
        return problem, f"sqlite:///{tmp_path}/{name}.db"

    problem, url = begun("whole")
    whole = Study(problem, Climber, url, "a").run(100, retry_failed=True)
    problem, url = begun("parts")
    Study(problem, Climber, url, "a").run(40, retry_failed=True)
    Study(problem, Climber, url, "a").run(64)
    assert same(Study(problem, Climber, url, "a").run(100), whole)


def test_a_retry_beside_another_process_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    objective = Repaired()
    problem = Problem(Grid(), (objective,))
    Study(problem, Uniform, url, "a").run(40)
    stale = Study(problem, Uniform, url, "a")
    Study(problem, Uniform, url, "a").run(60)
    objective.broken = False
    with pytest.raises(StoreError, match="continued or deleted by another process"):
        stale.run(40, retry_failed=True)
    with open_store(url) as store:
        assert len(load_result(store, "a", problem)) == 60


def test_what_is_stored_is_not_written_again(tmp_path, monkeypatch):
    written, commit = [], Store.commit

    def noted(store, key, first, batch, *arguments, **options):
        written.append((first, len(batch.genotypes)))
        return commit(store, key, first, batch, *arguments, **options)

    monkeypatch.setattr(Store, "commit", noted)
    for budget in (40, 100):
        Study(make_problem(), Uniform, f"sqlite:///{tmp_path}/a.db", "a").run(budget)
    assert sum(count for _, count in written) == 100
    assert all(
        first == sum(count for _, count in written[:k]) for k, (first, _) in enumerate(written)
    )


# What counts as failed


def test_failures_are_counted_alike_whether_they_raise_or_not():
    class Silent(Distance):
        def evaluate(self, genotypes):
            return np.where(genotypes[:, 0] == 0, np.nan, super().evaluate(genotypes))

    silent = Study(Problem(Grid(), (Silent(),)), Uniform).run(60)
    loud = Study(Problem(Grid(), (Fragile(),)), Uniform).run(60)
    count = int((silent.evaluations.genotypes[:, 0] == 0).sum())
    assert silent.failed.sum() == loud.failed.sum() == count > 0
    shape = silent.problem.space.format(silent.evaluations.genotypes[silent.failed][0])
    assert failed_note(silent) == (
        f"{count} failed, the first {shape} (distance: no finite number)"
    )
    assert f"{shape} (distance: ValueError: zero width (" in failed_note(loud)
    content = json.loads(silent.to_json(silent.evaluations.genotypes))
    assert content["failed"] == count
    assert content["first_failure"]["architecture"] == shape
    empty = [line for line in silent.to_csv().splitlines() if ",," in line]
    assert len(empty) == count
    assert failed_note(silent.first(1)) == ("" if shape != silent.columns()["shape"][0] else shape)


def test_an_objective_without_a_number_for_anything_does_not_eat_the_budget():
    class Nothing(Distance):
        def evaluate(self, genotypes):
            return np.full(len(genotypes), np.nan)

    with pytest.raises(NastoolError, match=r"failed on all of the first 20 .*: no finite number"):
        Study(Problem(Grid(), (Nothing(),)), Uniform).run(1000, batch_size=20)


@pytest.mark.parametrize("kind", [Kind.COMPUTED, Kind.MEASURED])
def test_arrays_reach_plugins_read_only(kind):
    class Sorting(Distance):
        def evaluate(self, genotypes):
            genotypes.sort(axis=1)
            return genotypes[:, 0]

    with pytest.raises(NastoolError, match="read-only"):
        Study(Problem(Grid(), (Sorting(kind=kind),)), Uniform).run(20)

    class Greedy(Uniform):
        def tell(self, evaluations):
            evaluations.objectives[:] = 0.0

    with pytest.raises(NastoolError, match=r"strategy Greedy failed: .*read-only"):
        Study(make_problem(), Greedy).run(20, batch_size=5)


# What is refused


@pytest.mark.parametrize(
    ("proposals", "message"),
    [
        (np.zeros((3, 5), dtype=np.int64), r"strategy Odd: .* must have shape \(n, 4\)"),
        (np.zeros(4, dtype=np.int64), "must have shape"),
        (np.zeros((3, 4)), "must be integers"),
        (np.full((3, 4), 5), "index below 5, got 5"),
        (np.zeros((30, 4), dtype=np.int64), "at most 10 genotypes, got 30"),
    ],
)
def test_a_strategy_must_propose_genotypes(proposals, message):
    class Odd(Uniform):
        def ask(self, n):
            return proposals

    with pytest.raises(InvalidInputError, match=message):
        Study(make_problem(), Odd).run(100, batch_size=10)


@pytest.mark.parametrize(
    "returned", [np.zeros(3), np.zeros((10, 1)), 1.0, ["a"] * 10, None, np.zeros(10, complex)]
)
def test_an_objective_must_return_a_number_each(returned):
    class Odd(Distance):
        def evaluate(self, genotypes):
            return returned

    with pytest.raises(NastoolError, match=r"must return 1 real numbers of shape \(1,\)"):
        Study(Problem(Grid(), (Odd(),)), Uniform).run(100, batch_size=10)


def test_bad_arguments_are_refused(tmp_path):
    study = Study(make_problem(), Uniform)
    with pytest.raises(InvalidInputError, match="budget must be at least 1"):
        study.run(0)
    with pytest.raises(InvalidInputError, match="batch_size must be at least 1"):
        study.run(1, batch_size=0)
    with pytest.raises(InvalidInputError, match="made for the problem"):
        Study(make_problem(target=2.0), Uniform(make_problem()))
    with pytest.raises(InvalidInputError, match="must derive from"):
        Study(make_problem(), lambda problem, seed: object())
    with pytest.raises(InvalidInputError, match="JSON values only"):
        Study(make_problem(), Uniform, description={"a": object()})
    with pytest.raises(InvalidInputError, match=r"a budget must be a whole number, got '1k'"):
        study.run("1k")
    with pytest.raises(InvalidInputError, match="until must be a function"):
        study.run(1, until=3)
    for seed in (None, 1.5, "1", True, -1):
        with pytest.raises(InvalidInputError, match="a seed must be"):
            Study(make_problem(), Uniform, seed=seed)


def test_numbers_of_numpy_are_taken_as_pythons_own(tmp_path):
    url = f"sqlite:///{tmp_path / 'a.db'}"
    plain = Study(make_problem(), Uniform, url, "plain", 3).run(30, 10)
    with open_store(url) as store:
        study = Study(make_problem(), Uniform, store, "mine", np.int64(3))
        result = study.run(np.int32(30), np.uint8(10))
        assert store.load("mine").summary.identity == store.load("plain").summary.identity
    assert type(study.seed) is int
    assert np.array_equal(result.evaluations.genotypes, plain.evaluations.genotypes)


@pytest.mark.parametrize("name", [" mine", "a\nb", "a\x1b[31m", "\t", 3])
def test_a_new_study_is_kept_under_a_name_that_can_be_read(tmp_path, name):
    store = open_store(f"sqlite:///{tmp_path / 'a.db'}")
    with pytest.raises(InvalidInputError, match="a study's name must"):
        Study(make_problem(), Uniform, store, name)
    assert not store.names()


# Results


def test_the_front_is_feasible_non_dominated_and_sorted():
    problem = Problem(Grid(), make_problem().objectives, (Constraint("distance", ">=", 4.0),))
    result = Study(problem, Uniform).run(200)
    front = result.front()
    assert front.feasible.all()
    assert np.all(np.diff(front.objectives[:, 0]) >= 0)
    feasible = result.evaluations.take(result.evaluations.feasible)
    assert len(front) == pareto.non_dominated(feasible.objectives).sum()
    assert result.best().objectives[0, 0] == front.objectives[0, 0]
    assert result.best("other").objectives[0, 1] == feasible.objectives[:, 1].min()


def test_nothing_feasible_is_said():
    class Never(Distance):
        @property
        def is_cheap(self):
            return False

    problem = Problem(Grid(), (Never(),), (Constraint("distance", "<=", -1.0),))
    result = Study(problem, Uniform).run(20)
    assert len(result.front()) == 0
    with pytest.raises(NastoolError, match="none of 20"):
        result.best()
    with pytest.raises(InvalidInputError, match="one of distance"):
        result.best("speed")


def test_records_frames_and_files_agree():
    problem = Problem(Grid(), (Fragile(kind=Kind.MEASURED), Distance("other", 3.0)))
    result = Study(problem, Uniform).run(40)
    records = result.records()
    assert len(records) == 40
    first = result.evaluations.genotypes[0]
    assert records[0]["shape"] == problem.space.format(first)
    assert records[0]["other"] == result.values(first[None])["other"][0]
    frame = result.to_frame()
    assert list(frame.columns) == ["shape", "distance", "other", "feasible"]
    assert frame["distance"].isna().sum() == np.isnan(result.metrics[:, 0]).sum() > 0
    lines = result.to_csv().splitlines()
    assert lines[0] == "shape,distance,other,feasible"
    assert lines[1].split(",")[0] == records[0]["shape"]
    assert not any("nan" in line for line in lines)
    front = result.front().genotypes
    content = json.loads(result.to_json(front))
    assert len(content["architectures"]) == len(front)
    assert content["metrics"][0]["kind"] == "measured"
    assert None in [row["distance"] for row in json.loads(result.to_json())["architectures"]]
    missing = next(
        g
        for g in problem.space.sample(99, np.random.default_rng(1))
        if problem.space.format(g) not in {r["shape"] for r in records}
    )
    with pytest.raises(InvalidInputError, match="must be evaluated"):
        result.values(missing[None])


def test_time_goes_on_after_a_resume(tmp_path, monkeypatch):
    """A second passes at every look at the clock, which begins anew with every process."""
    url = f"sqlite:///{tmp_path}/a.db"

    def run(budget, start):
        clock = itertools.count(start)
        monkeypatch.setattr(study_module.time, "perf_counter", lambda: float(next(clock)))
        return Study(make_problem(), Climber, url, "a").run(budget, batch_size=8)

    first = run(16, 1_000)
    second = run(32, 5)
    assert np.array_equal(second.elapsed[:16], first.elapsed)
    assert 0 < first.elapsed[0] < first.elapsed[-1] <= first.seconds < 50
    assert first.seconds < second.elapsed[16] < second.elapsed[-1] <= second.seconds < 100


class Folded(Grid):
    """The last gene means nothing where the first is 0."""

    def canonicalize(self, genotypes):
        return np.column_stack(
            [genotypes[:, :-1], np.where(genotypes[:, 0] == 0, 0, genotypes[:, -1])]
        )


def test_an_interrupt_keeps_canonical_forms_and_failures(tmp_path):
    class Drawn(Uniform):
        def ask(self, n):
            # Not in canonical form, which is the study's business too.
            return self.problem.space.sample(n, self.rng)

    class Odd(Distance):
        armed = False

        def evaluate(self, genotypes):
            if self.armed and len(self.asked) >= 24:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
                pytest.fail("it went on")
            self.asked += genotypes.tolist()
            if genotypes[0, 1] == 2:
                raise ValueError("two is odd")
            return (genotypes**2).sum(axis=1) * 1.0

    def problem(armed):
        objective = Odd(kind=Kind.MEASURED)
        objective.armed = armed
        return Problem(Folded(), (objective,))

    def run(armed, store=None):
        study = Study(problem(armed), Drawn, store, "a", executor=Serial(1))
        return study.run(60, batch_size=15)

    whole = run(armed=False)
    url = f"sqlite:///{tmp_path}/a.db"
    cut = run(True, url)
    assert cut.stop_reason == "interrupted"
    assert 15 < len(cut) < 30
    for result in (cut, whole):
        genotypes = result.evaluations.genotypes
        assert np.array_equal(result.problem.space.canonicalize(genotypes), genotypes)
        failed = np.isnan(result.metrics).any(axis=1)
        assert np.array_equal(failed, genotypes[:, 1] == 2)
        texts = result.problem.space.texts(genotypes[failed])
        assert [failure.architecture for failure in result.failures] == texts
        (message,) = {failure.message for failure in result.failures}
        assert message.startswith("ValueError: two is odd (")
    resumed = run(False, url)
    assert same(resumed, whole)
    assert resumed.failures == whole.failures


if __name__ == "__main__":
    run_as_program(sys.argv[1], int(sys.argv[2]), sys.argv[3])


def _raise(*_):
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"batch_size": "7"}, "strategy Wrong: batch_size must be a whole number, got '7'"),
        ({"revision": "2"}, "strategy Wrong: revision must be a whole number, got '2'"),
        ({"batch_size": 2.5}, "strategy Wrong: batch_size must be a whole number, got 2.5"),
        ({"batch_size": property(_raise)}, "strategy Wrong failed: KeyError: 'lost'"),
        ({"state_dict": _raise}, "strategy Wrong failed: KeyError: 'lost'"),
        ({"named": property(_raise)}, "strategy Wrong failed: KeyError: 'lost'"),
        ({"named": [1, 2]}, "strategy Wrong failed: TypeError"),
        ({"named": [("one", [0])]}, r"must have shape \(n, 4\), got \(1, 1\)"),
    ],
)
def test_what_a_strategy_says_of_itself_is_checked(tmp_path, said, message):
    wrong = type("Wrong", (Uniform,), said)
    with pytest.raises(NastoolError, match=message) as raised:
        Study(Problem(Grid(), (Distance(),)), wrong, f"sqlite:///{tmp_path}/studies.db")
    assert "\n" not in str(raised.value)


def test_a_state_that_is_lost_later_is_one_line_and_what_was_evaluated_is_kept(tmp_path):
    class Forgetful(Uniform):
        def state_dict(self):
            if self.rng.bit_generator.state != np.random.default_rng(0).bit_generator.state:
                raise KeyError("lost")
            return super().state_dict()

    url = f"sqlite:///{tmp_path}/studies.db"
    with pytest.raises(NastoolError, match="strategy Forgetful failed: KeyError: 'lost'"):
        Study(Problem(Grid(), (Distance(),)), Forgetful, url, "short").run(10, 5)
    with open_store(url) as store:
        assert store.load("short").summary.evaluations > 0


def test_a_batch_size_may_be_a_number_of_numpy(tmp_path):
    sized = type("Sized", (Uniform,), {"batch_size": np.int64(3)})
    url = f"sqlite:///{tmp_path}/studies.db"
    assert len(Study(Problem(Grid(), (Distance(),)), sized, url, "sized").run(7)) == 7
    assert len(Study(Problem(Grid(), (Distance(),)), sized, url, "sized").run(9)) == 9


@pytest.mark.parametrize("settings", [{}, {"pending": 2}])
def test_a_study_runs_once_at_a_time(settings):
    study = Study(Problem(Grid(), (Distance(),)), "random", seed=1)
    message = "a study runs once at a time, and this one is running"
    with pytest.raises(InvalidInputError, match=message):
        study.run(300, until=lambda study: bool(study.run(50)), **settings)
    assert len(study) < 300
    assert len(study.run(300, **settings)) == 300


@pytest.mark.parametrize("strategy", [None, 3, {"random": 1}])
def test_what_is_no_strategy_is_refused_in_one_line(strategy):
    problem = Problem(Grid(), (Distance(),))
    for run in (
        lambda: Study(problem, strategy),
        lambda: nastool.search(Grid(), [Distance()], strategy=strategy),
    ):
        with pytest.raises(InvalidInputError, match=r"a strategy must derive from .*, got "):
            run()


@pytest.mark.parametrize("known", [3, {}, [], np.zeros((2, 4))])
def test_what_cannot_be_known_is_refused_in_one_line(known):
    with pytest.raises(InvalidInputError, match=r"known evaluations must be .*, got \w+$"):
        Study(Problem(Grid(), (Distance(),)), "random", known=known)
