"""Studies that are told one by one."""

from __future__ import annotations

import numpy as np
import pytest

from nastool.errors import InvalidInputError, NastoolError
from nastool.executors import Serial
from nastool.executors.futures import Futures
from nastool.objective import Kind, Objective, Provenance
from nastool.problem import Problem
from nastool.store import open_store
from nastool.study import Study
from nastool.testing import Widths


class Counted(Objective):
    provenance = Provenance(Kind.MEASURED, "a count")

    def __init__(self, name="counted", stop_after=None):
        self.name = self.fingerprint = name
        self.asked = []
        self.stop_after = stop_after

    def evaluate(self, genotypes):
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked += map(tuple, genotypes.tolist())
        return genotypes.sum(axis=1) * 1.0


def threads():
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(3)


@pytest.mark.parametrize("strategy", ["random", "evolution", "pareto"])
def test_so_many_are_under_way_and_each_is_evaluated_once(strategy):
    objective, other = Counted(), Counted("other")
    problem = Problem(Widths(), (objective, other))
    with Futures(threads) as executor:
        result = Study(problem, strategy, executor=executor).run(60, pending=5)
    assert (len(result), result.stop_reason) == (60, "budget")
    for metric in (objective, other):
        assert len(metric.asked) == len(set(metric.asked)) == 60
    np.testing.assert_array_equal(result.metrics[:, 0], result.evaluations.genotypes.sum(axis=1))


def test_the_strategy_is_told_each_and_knows_what_is_pending():
    seen = []

    class Watching(Counted):
        pass

    problem = Problem(Widths(), (Watching(),))
    study = Study(problem, "random", executor=Serial(1))
    ask = study.strategy.ask

    def watched(n):
        seen.append((n, len(study.strategy.pending)))
        return ask(n)

    study.strategy.ask = watched
    study.run(10, pending=4)
    assert seen[0] == (4, 0)
    assert all(n + pending <= 4 for n, pending in seen)
    assert any(pending == 3 for _, pending in seen)


def test_what_was_under_way_when_it_ended_is_evaluated_by_the_next_run(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    first = Counted(stop_after=7)
    with open_store(url) as store:
        study = Study(Problem(Widths(), (first,)), "random", store, "a", executor=Serial(1))
        assert study.run(20, pending=4).stop_reason == "interrupted"
        assert len(study) == 7
        second = Counted()
        again = Study(Problem(Widths(), (second,)), "random", store, "a", executor=Serial(1))
        left = [tuple(row) for row in again._course.left.tolist()]
        assert len(left) == 4
        result = again.run(20, pending=4)
    assert len(result) == 20
    assert second.asked[:4] == left
    assert not set(first.asked) & set(second.asked)


def test_a_study_may_be_told_by_batches_after_it_was_told_one_by_one(tmp_path):
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        problem = Problem(Widths(), (Counted(),))
        Study(problem, "evolution", store, "a").run(15, pending=4)
        result = Study(problem, "evolution", store, "a").run(40)
    assert len(result) == len(set(map(tuple, result.evaluations.genotypes.tolist()))) == 40


def test_none_under_way_is_no_number():
    with pytest.raises(InvalidInputError, match="pending must be at least 1"):
        Study(Problem(Widths(), (Counted(),)), "random").run(5, pending=0)


@pytest.mark.parametrize("settings", [{"pending": 2}, {"join": True}])
@pytest.mark.parametrize("kind", [Kind.COMPUTED, Kind.MEASURED])
def test_an_objective_that_always_fails_does_not_eat_the_budget(tmp_path, settings, kind):
    class Failing(Counted):
        provenance = Provenance(kind, "nothing")

        def evaluate(self, genotypes):
            raise OSError("no device")

    counted = Counted()
    problem = Problem(Widths(), (counted, Failing("failing")))
    url = f"sqlite:///{tmp_path}/studies.db"
    study = Study(problem, "random", url, "failing", executor=Serial(1))
    message = r"failing failed on all of the first \d+ architectures, .* with OSError: no device"
    with pytest.raises(NastoolError, match=message):
        study.run(200, **settings)
    assert len(counted.asked) < 50
