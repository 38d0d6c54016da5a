"""Conformance of executors."""

# ruff: noqa: S101, ARG002 - tests assert, and take fixtures that they only need to be there.

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nastool.discovery import load_file
from nastool.errors import NastoolError
from nastool.executors import Executor, Serial, Work, evaluated
from nastool.objective import Objective
from nastool.plugins import load_objective, load_space
from nastool.problem import Problem
from nastool.space import Genotypes
from nastool.strategies.random import RandomSearch
from nastool.study import Study

PLUGIN = '''
"""A space of one gene and an objective that does what its argument says."""

import os
import pathlib
import sys
import time

from nastool.errors import NastoolError
from nastool.objective import Kind, Objective, Provenance
from nastool.plugins import register_objective, register_space
from nastool.space import Gene, SearchSpace


class Line(SearchSpace):
    name = "conformance_line"
    genes = (Gene("x", tuple(range(200)), ordered=True),)


class Scripted(Objective):
    provenance = Provenance(Kind.MEASURED, "a script")

    def __init__(self, script):
        self.name = self.fingerprint = f"conformance[{script}]"
        self.actions = dict(part.split(":", 1) for part in script.split(";") if part)
        if folder := self.actions.get("made"):
            with open(pathlib.Path(folder, str(os.getpid())), "a") as file:
                file.write("x")

    def evaluate(self, genotypes):
        for number in genotypes[:, 0].tolist():
            action = self.actions.get(str(number), "")
            if action == "raise":
                raise ValueError(f"no {number}")
            if action == "exit":
                sys.exit(0)
            if action == "die":
                os._exit(9)
            if action == "refuse":
                raise NastoolError("plug the device in")
            if action.startswith("sleep"):
                time.sleep(float(action.removeprefix("sleep")))
        return 2.0 * genotypes[:, 0]


@register_space("conformance_line")
def line(argument=None):
    return Line()


@register_objective("conformance")
def scripted(space, argument=None):
    return Scripted(argument or "")
'''


def shapes(n: int) -> Genotypes:
    """The first n genotypes of the space of the suite, shape (n, 1)."""
    return np.arange(n, dtype=np.int64)[:, None]


class ExecutorConformance(ABC):
    """What every executor must do; pytest collects the test methods of a subclass.

    Workers are given an objective of a plugin file, by its recipe: they need not be able to import
    the test.
    """

    survives = True
    """Whether a worker that dies costs no more than what it was busy with."""

    @abstractmethod
    def make(self) -> Executor:
        """An executor with two workers or more, if it has workers; it is closed afterwards."""

    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        """One from `make`."""
        with self.make() as made:
            yield made

    @pytest.fixture
    def plugin(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The file that defines what is evaluated, loaded."""
        file = tmp_path_factory.getbasetemp() / "nastool_conformance_plugin.py"
        if not file.exists():
            file.write_text(PLUGIN, encoding="utf-8")
        load_file(file)
        return file

    def objective(self, script: str = "") -> Objective:
        """An objective that does at some shapes what a script says, e.g. ``3:die;5:raise``."""
        return load_objective(f"conformance[{script};]", load_space("conformance_line"))

    def gather(self, executor: Executor, script: str, n: int) -> tuple[list[float], dict[int, str]]:
        """Values of the first n shapes, and messages by shape; fails where one comes twice."""
        values = np.full(n, np.inf)
        messages: dict[int, str] = {}
        for chunk in evaluated(executor, self.objective(script), shapes(n)):
            assert np.isinf(values[chunk.rows]).all(), "a row came twice"
            values[chunk.rows] = chunk.values
            messages |= {int(chunk.rows[k]): text for k, text in chunk.messages.items()}
        assert not np.isinf(values).any(), "a row never came"
        return values.tolist(), messages

    def test_every_shape_comes_back_once(self, executor: Executor, plugin: Path) -> None:
        assert executor.workers >= 1
        assert self.gather(executor, "", 40) == ([2.0 * k for k in range(40)], {})
        assert self.gather(executor, "", 1) == ([0.0], {})
        assert self.gather(executor, "", 0) == ([], {})

    def test_what_is_raised_costs_one_shape(self, executor: Executor, plugin: Path) -> None:
        values, messages = self.gather(executor, "4:raise;6:exit", 9)
        assert [k for k, value in enumerate(values) if np.isnan(value)] == [4, 6]
        assert sorted(messages) == [4, 6]
        assert messages[4].startswith("ValueError: no 4")
        assert messages[6].startswith("sys.exit(): 0")

    def test_errors_that_a_user_can_act_on_end_the_run(
        self, executor: Executor, plugin: Path
    ) -> None:
        with pytest.raises(NastoolError, match="plug the device in"):
            self.gather(executor, "4:refuse", 8)
        assert self.gather(executor, "", 3)[0] == [0.0, 2.0, 4.0]

    def test_a_worker_that_dies_costs_its_shape_only(
        self, executor: Executor, plugin: Path
    ) -> None:
        if not self.survives or not executor.is_elsewhere:
            pytest.skip("its workers are not expected to be lost one by one")
        values, messages = self.gather(executor, "3:die", 10)
        assert [k for k, value in enumerate(values) if np.isnan(value)] == [3]
        assert list(messages) == [3]
        assert "d" in messages[3]
        assert self.gather(executor, "", 3)[0] == [0.0, 2.0, 4.0]

    def test_what_takes_too_long_costs_its_shape_only(
        self, executor: Executor, plugin: Path
    ) -> None:
        if not executor.is_elsewhere:
            pytest.skip("it has no workers, which could be left behind")
        self.gather(executor, "2:sleep4", 2)
        executor.timeout = 1.0
        values, messages = self.gather(executor, "2:sleep4", 8)
        assert [k for k, value in enumerate(values) if np.isnan(value)] == [2]
        assert messages == {2: "took longer than 1 s"}

    def test_shapes_may_be_added_while_others_are_under_way(
        self, executor: Executor, plugin: Path
    ) -> None:
        work = Work(executor, self.objective())
        work.add([10, 11], shapes(2))
        found = {int(row) for chunk in work.collect() for row in chunk.rows}
        work.add([12], shapes(3)[2:])
        while work:
            found |= {int(row) for chunk in work.collect() for row in chunk.rows}
        assert found == {10, 11, 12}
        work.close()

    def test_a_worker_makes_an_objective_once(
        self, executor: Executor, plugin: Path, tmp_path: Path
    ) -> None:
        if executor.workers > 1 and not executor.is_elsewhere:
            pytest.skip("it has no workers of its own")
        script = f"made:{tmp_path}"
        executor.chunk = 1
        self.gather(executor, script, 12)
        counts = {file.name: len(file.read_text()) for file in tmp_path.iterdir()}
        counts.pop(str(os.getpid()), None)
        assert all(count == 1 for count in counts.values())

    def test_a_study_is_the_same_as_in_one_process(self, executor: Executor, plugin: Path) -> None:
        problem = Problem(load_space("conformance_line"), (self.objective("3:raise"),))
        here = Study(problem, RandomSearch, executor=Serial()).run(30, 10)
        there = Study(problem, RandomSearch, executor=executor).run(30, 10)
        np.testing.assert_array_equal(here.evaluations.genotypes, there.evaluations.genotypes)
        np.testing.assert_array_equal(here.metrics, there.metrics)
        assert here.failures == there.failures

    def test_what_is_under_way_can_be_left(self, executor: Executor, plugin: Path) -> None:
        if not executor.is_elsewhere:
            pytest.skip("it has no workers")
        work = Work(executor, self.objective("5:sleep2"))
        work.add([5], shapes(6)[5:])
        work.hand_out()
        work.close()
        assert not work

    def test_closing_twice_is_closing_once(self, executor: Executor, plugin: Path) -> None:
        self.gather(executor, "", 2)
        executor.close()
        executor.close()
        assert self.gather(executor, "", 2)[0] == [0.0, 2.0]
