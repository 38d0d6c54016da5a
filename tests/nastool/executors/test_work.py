"""Works that share the workers of an executor, whose calls end when the test says so."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np

from nastool.executors import Executor, Work
from tests.nastool.executors.scripted import Scripted


class ByHand(Executor):
    """Keeps what it is asked to call."""

    workers = 3
    chunk = 1

    def __init__(self) -> None:
        self.calls = []

    def submit(self, function, /, *arguments):
        self.calls.append((Future(), function, arguments))
        return self.calls[-1][0]

    def died(self, error):
        return "it died" if isinstance(error, EOFError) else ""

    def end(self, future, error=None):
        call = next(call for call in self.calls if call[0] is future)
        self.calls.remove(call)
        if error is None:
            future.set_result(call[1](*call[2]))
        else:
            future.set_exception(error)


def two_works(executor):
    crew = []
    works = [Work(executor, Scripted(), crew) for _ in range(2)]
    for work in works:
        work.add(range(4), np.arange(4)[:, None])
    works[0].hand_out()
    return works


def test_workers_that_one_objective_leaves_idle_are_the_others():
    executor = ByHand()
    quick, slow = two_works(executor)
    found = []
    while quick:
        assert len(executor.calls) == len(quick.running) + len(slow.running) == 3
        executor.end(quick.running[0])
        found += quick.take()
    assert len(slow.running) == 3
    assert sorted(int(row) for chunk in found for row in chunk.rows) == [0, 1, 2, 3]


def test_a_shape_that_may_have_ended_all_workers_is_tried_beside_nothing():
    executor = ByHand()
    executor.dies_alone = False
    works = two_works(executor)
    for future in [future for work in works for future in work.running]:
        executor.end(future, EOFError())
    for suspects in range(3):
        del suspects
        for work in works:
            work.take()
        assert len(executor.calls) == 1
        executor.end(executor.calls[0][0])
    for work in works:
        work.take()
    assert len(executor.calls) == 3
    while executor.calls:
        executor.end(executor.calls[0][0])
        for work in works:
            work.take()
    assert not any(works)
