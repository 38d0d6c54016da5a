"""Studies that several processes share."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest

from nastool.errors import InvalidInputError, StoreError
from nastool.executors import Serial
from nastool.objective import Kind, Objective, Provenance
from nastool.problem import CostObjective, Problem
from nastool.store import open_store
from nastool.store.sharing import NOBODY, new_owner
from nastool.strategies.base import Strategy
from nastool.study import Study, flowing
from nastool.testing import Widths


class Counted(Objective):
    """Says in a file who evaluated what."""

    provenance = Provenance(Kind.MEASURED, "a count")
    name = fingerprint = "counted"

    def __init__(self, log, seconds=0.005, stop_after=None):
        self.log, self.seconds, self.stop_after = log, seconds, stop_after

    def evaluate(self, genotypes):
        for genotype in genotypes.tolist():
            if self.stop_after is not None and len(asked(self.log)) >= self.stop_after:
                raise KeyboardInterrupt
            time.sleep(self.seconds)
            with self.log.open("a") as file:
                file.write(f"{genotype} {os.getpid()}\n")
        return genotypes.sum(axis=1) * 1.0


class Listed(Strategy):
    """Proposes each of twenty shapes once, as a fixed family or a proven front does."""

    batch_size = 10

    def __init__(self, problem, seed=0):
        super().__init__(problem, seed)
        self.members, self.at = problem.space.enumerate()[::17][:20], 0

    def ask(self, n):
        self.at += n
        return self.members[self.at - n : self.at]

    def tell(self, evaluations):
        pass

    def state_dict(self):
        return {**super().state_dict(), "at": self.at}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.at = state["at"]


def asked(log):
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.rpartition(" ")[0] for line in lines]


def study(url, log, strategy="evolution", **settings):
    problem = Problem(Widths(), (Counted(log, **settings),))
    return Study(problem, strategy, url, "shared", executor=Serial(1))


def run(url, log, budget, **settings):
    study(url, log, **settings).run(budget, join=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/studies.db"
    return request.getfixturevalue("postgresql")


@pytest.mark.parametrize("strategy", ["random", "evolution", "pareto"])
def test_processes_share_a_study_and_all_end_with_everything(tmp_path, strategy):
    url, log = f"sqlite:///{tmp_path}/studies.db", tmp_path / "log"
    results = []

    def work():
        results.append(study(url, log, strategy).run(40, join=True))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(len(r), r.stop_reason) for r in results] == 3 * [(40, "budget")]
    assert len(asked(log)) == len(set(asked(log))) == 40
    for result in results:
        genotypes = result.evaluations.genotypes
        np.testing.assert_array_equal(genotypes, results[0].evaluations.genotypes)
        np.testing.assert_array_equal(result.metrics[:, 0], genotypes.sum(axis=1))
    with open_store(url) as store:
        stored = store.load("shared")
        assert store.leases(stored.key) == []
    assert (stored.summary.evaluations, stored.summary.stop_reason) == (40, "budget")
    assert stored.summary.description["asynchronous"] == "several processes"


def test_what_killed_processes_had_is_evaluated_by_the_others(url, tmp_path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=run, args=(url, log, 60)) for _ in range(4)]
    for worker in workers:
        worker.start()
    while len(asked(log)) < 8:
        time.sleep(0.01)
    for worker in workers[:2]:
        os.kill(worker.pid, signal.SIGKILL)
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers[2:]] == [0, 0]
    with open_store(url) as store:
        found = store.load("shared").batch.genotypes.tolist()
        assert store.leases(store.load("shared").key) == []
    assert len(found) == len(set(map(tuple, found))) == 60
    assert {str(genotype) for genotype in found} == set(asked(log))
    # Only what came in the moment in which its process died may have been evaluated before.
    assert len(asked(log)) <= 60 + 2


def test_who_joins_comes_when_another_one_has_begun(tmp_path):
    url, log = f"sqlite:///{tmp_path}/studies.db", tmp_path / "log"
    late = study(url, log, "random")
    begun = study(url, log, "random").run(20, 5)
    result = late.run(20, join=True)
    np.testing.assert_array_equal(result.evaluations.genotypes, begun.evaluations.genotypes)
    assert len(asked(log)) == 20
    # Where nobody has begun, a study that cannot be made is said to be one.
    with pytest.raises(InvalidInputError, match="a study's name must have 1 to"):
        Study(Problem(Widths(), (Counted(log),)), "random", url, "x" * 999).run(20, join=True)


def test_a_process_that_is_not_heard_of_any_more_loses_what_it_had(tmp_path, monkeypatch):
    url, log = f"sqlite:///{tmp_path}/studies.db", tmp_path / "log"
    monkeypatch.setattr(flowing, "LEASE_SECONDS", 0.4)
    # One that lives on another machine, say, and was cut off from the store.
    monkeypatch.setattr(flowing.Shared, "_renew", lambda self: None)
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Counted):
        def evaluate(self, genotypes):
            begun.set()
            go_on.wait(10)
            return super().evaluate(genotypes)

    def cut_off():
        problem = Problem(Widths(), (Slow(log),))
        late.append(Study(problem, "random", url, "shared").run(20, join=True))

    late = []
    thread = threading.Thread(target=cut_off)
    thread.start()
    begun.wait(10)
    result = study(url, log, "random").run(20, join=True)
    assert len(result) == len(set(asked(log))) == 20
    go_on.set()
    thread.join()
    # What it came to after all was known by then.
    np.testing.assert_array_equal(late[0].evaluations.genotypes, result.evaluations.genotypes)
    assert len(asked(log)) == 21


def test_a_process_that_lives_keeps_what_it_has(tmp_path, monkeypatch):
    url, log = f"sqlite:///{tmp_path}/studies.db", tmp_path / "log"
    monkeypatch.setattr(flowing, "LEASE_SECONDS", 0.5)
    first = threading.Thread(target=run, args=(url, log, 4), kwargs={"seconds": 0.8})
    first.start()
    second = threading.Thread(target=run, args=(url, log, 4), kwargs={"seconds": 0.8})
    second.start()
    first.join()
    second.join()
    assert len(asked(log)) == len(set(asked(log))) == 4


def test_who_is_interrupted_leaves_what_it_had_to_others(tmp_path):
    url, log = f"sqlite:///{tmp_path}/studies.db", tmp_path / "log"
    first = study(url, log, "random", stop_after=7)
    assert first.run(20, join=True, pending=4).stop_reason == "interrupted"
    assert len(first) == 7
    with open_store(url) as store:
        (left,) = store.leases(store.load("shared").key)
    assert (left.owner, left.is_live) == (NOBODY, False)
    n = len(left.genotypes)
    assert 0 < n <= 4
    again = study(url, log, "random")
    assert len(again.run(20, join=True)) == 20
    assert asked(log)[7 : 7 + n] == [str(genotype) for genotype in left.genotypes.tolist()]
    assert len(asked(log)) == len(set(asked(log))) == 20


def test_a_shared_study_goes_on_alone_and_what_was_left_is_evaluated(tmp_path):
    url, log = f"sqlite:///{tmp_path}/studies.db", tmp_path / "log"
    study(url, log, "random", stop_after=7).run(20, join=True, pending=4)
    assert len(study(url, log, "random").run(12, pending=2)) == 12
    assert len(study(url, log, "random").run(30)) == 30
    assert len(study(url, log, "random").run(34, join=True)) == 34
    assert len(asked(log)) == len(set(asked(log))) == 34


@pytest.mark.parametrize("first", [{"pending": 8}, {"join": True}, {"join": True, "pending": 8}])
@pytest.mark.parametrize("then", [{}, {"pending": 3}, {"join": True}])
def test_nothing_is_left_out_that_was_under_way_however_it_goes_on(tmp_path, first, then):
    url, log = f"sqlite:///{tmp_path}/studies.db", tmp_path / "log"
    ended = study(url, log, Listed, stop_after=6).run(100, **first)
    assert (len(ended), ended.stop_reason) == (6, "interrupted")
    # Also not where the budget ends among it.
    assert len(study(url, log, Listed).run(8, **then)) == 8
    result = study(url, log, Listed).run(100, **then)
    members = {str(genotype) for genotype in Listed(result.problem).members.tolist()}
    assert set(asked(log)) == members
    assert (len(asked(log)), len(result), result.stop_reason) == (20, 20, "exhausted")


def test_nothing_is_left_out_of_a_batch_that_goes_on_one_by_one(tmp_path):
    log = tmp_path / "log"
    made = Study(Problem(Widths(), (Counted(log),)), Listed)
    assert len(made.run(5)) == 5
    assert len(made.run(100, pending=3)) == len(asked(log)) == 20


def test_what_is_left_is_under_way_as_far_as_budget_and_pending_allow(tmp_path):
    url, log = f"sqlite:///{tmp_path}/studies.db", tmp_path / "log"
    assert len(study(url, log, Listed, stop_after=6).run(100, pending=8)) == 6
    smaller = study(url, log, Listed)
    assert len(smaller._course.left) == 8
    stream, sizes = flowing.Stream, []
    add = stream.add

    def counted(self, keys, genotypes):
        add(self, keys, genotypes)
        sizes.append(len(self))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stream, "add", counted)
        assert len(smaller.run(9, pending=2)) == 9
    assert max(sizes) == 2
    assert len(study(url, log, Listed).run(100, pending=2)) == len(asked(log)) == 20


def test_what_one_process_has_found_by_batches_is_shared(tmp_path):
    url, log = f"sqlite:///{tmp_path}/studies.db", tmp_path / "log"
    study(url, log).run(15)
    assert len(study(url, log).run(40, join=True)) == 40
    assert len(asked(log)) == len(set(asked(log))) == 40


def test_failures_go_with_what_failed(tmp_path):
    class Failing(Counted):
        def evaluate(self, genotypes):
            if int(genotypes[0, 0]) == 1:
                raise ValueError("one is too few")
            return super().evaluate(genotypes)

    url, log = f"sqlite:///{tmp_path}/studies.db", tmp_path / "log"
    problem = Problem(Widths(), (Failing(log),))
    result = Study(problem, "random", url, "shared", executor=Serial(1)).run(30, join=True)
    again = Study(problem, "random", url, "shared").run(30, join=True)
    expected = int((result.evaluations.genotypes[:, 0] == 1).sum())
    assert 0 < expected == result.failed.sum() == len(result.failures) == len(again.failures)


def test_a_small_space_is_shared_to_its_end(tmp_path):
    url, log = f"sqlite:///{tmp_path}/studies.db", tmp_path / "log"
    problem = Problem(Widths(2, (1, 2, 3)), (Counted(log, 0.0),))
    result = Study(problem, "random", url, "shared").run(1000, join=True)
    assert (len(result), result.stop_reason) == (problem.space.size, "exhausted")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"store": None}, "that other processes see"),
        ({"store": "sqlite://"}, "that other processes see"),
        ({"name": None}, "joined by its name"),
        ({"retry_failed": True}, "by one process"),
    ],
)
def test_what_cannot_be_shared_is_refused(tmp_path, change, message):
    retry = change.pop("retry_failed", False)
    given = {"store": f"sqlite:///{tmp_path}/studies.db", "name": "shared", **change}
    made = Study(Problem(Widths(), (Counted(tmp_path / "log"),)), "random", **given)
    with pytest.raises(InvalidInputError, match=message):
        made.run(5, join=True, retry_failed=retry)


def test_who_does_not_join_must_wait_for_those_who_share(tmp_path):
    url, log = f"sqlite:///{tmp_path}/studies.db", tmp_path / "log"
    study(url, log, "random").run(5, join=True)
    with open_store(url) as store:
        key = store.load("shared").key
        with store.turn(key, 5, "elsewhere") as turn:
            held = {"elsewhere": (np.zeros((1, len(Widths().genes)), dtype=np.int64), 60.0)}
            turn.commit(turn.stored.batch, None, 1.0, "", held)
        assert [lease.is_live for lease in store.leases(key)] == [True]
        with pytest.raises(InvalidInputError, match="shared by 1 processes at work: join them"):
            study(url, log, "random").run(9)
        # A deleted study ends who shares it, in one line.
        store.delete("shared")
        with pytest.raises(StoreError, match="continued or deleted"), store.turn(key, 5, "x"):
            pass


def test_a_lease_is_of_one_study(tmp_path):
    url = f"sqlite:///{tmp_path}/studies.db"
    space = Widths()
    problem = Problem(space, (CostObjective(space.costs["params"], space),))
    with open_store(url) as store:
        keys = []
        for name in ("first", "second"):
            Study(problem, "random", store, name).run(5, join=True)
            keys.append(store.load(name).key)
        # A process of one name in both: what it has of one says nothing of the other.
        for key in (*keys, keys[0]):
            with store.turn(key, 5, "elsewhere") as turn:
                held = {"elsewhere": (space.smallest[None], 60.0)}
                turn.commit(turn.stored.batch, None, 1.0, "", held)
            with store.turn(key, 5, "elsewhere") as turn:
                assert turn.leases == []
        assert [len(store.leases(key)) for key in keys] == [1, 1]


def test_a_process_of_this_machine_that_has_ended_is_known_to_have(tmp_path):
    url, log = f"sqlite:///{tmp_path}/studies.db", tmp_path / "log"
    study(url, log, "random").run(5, join=True)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(new_owner()))
    child.start()
    child.join()
    genotypes = np.zeros((1, len(Widths().genes)), dtype=np.int64)
    with open_store(url) as store:
        key = store.load("shared").key
        with store.turn(key, 5, "me") as turn:
            held = dict.fromkeys((queue.get(), new_owner()), (genotypes, 60.0))
            turn.commit(turn.stored.batch, None, 1.0, "", held)
        assert sorted(lease.is_live for lease in store.leases(key)) == [False, True]


def test_a_damaged_lease_is_named(tmp_path):
    url, log = f"sqlite:///{tmp_path}/studies.db", tmp_path / "log"
    study(url, log, "random", stop_after=7).run(20, join=True, pending=4)
    import sqlite3

    with sqlite3.connect(tmp_path / "studies.db") as connection:
        connection.execute("UPDATE leases SET genotypes = x'00'")
    connection.close()
    with pytest.raises(StoreError, match=r"damaged row of table leases \(study 'shared'"):
        study(url, log, "random").run(20, join=True)


def test_as_many_as_take_a_moment_are_taken(tmp_path):
    url, log = f"sqlite:///{tmp_path}/studies.db", tmp_path / "log"
    fast = study(url, log, "random", seconds=0.0)
    asks, ask = [], fast.strategy.ask
    fast.strategy.ask = lambda n: asks.append(n) or ask(n)
    fast.run(100, join=True)
    assert asks[0] == 1 < 4 < max(asks)
