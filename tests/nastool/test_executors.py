"""Executors: order, failures, dead workers and interrupts."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from nastool.errors import InvalidInputError, NastoolError
from nastool.executors import InProcess, ProcessPool
from nastool.objective import Kind, Objective, Provenance
from nastool.problem import Problem
from nastool.space import Gene, SearchSpace
from nastool.strategies.base import Strategy
from nastool.study import Study


class Scripted(Objective):
    """Twice the genotype; what else happens is written in it."""

    def __init__(self, actions: dict[int, str] | None = None) -> None:
        self.actions = actions or {}

    @property
    def name(self):
        return "scripted"

    @property
    def provenance(self):
        return Provenance(Kind.MEASURED, "a script")

    @property
    def fingerprint(self):
        return "scripted"

    def evaluate(self, genotypes):
        for number in genotypes[:, 0].tolist():
            action = self.actions.get(number)
            if action == "raise":
                raise ValueError(f"no {number}")
            if action == "die":
                os._exit(9)
            if action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if action == "exit":
                sys.exit(0)
            if action == "sleep":
                time.sleep(60)
            if action == "refuse":
                raise NastoolError("plug the device in")
        return 2.0 * genotypes[:, 0]


class Line(SearchSpace):
    @property
    def name(self):
        return "line"

    @property
    def genes(self):
        return (Gene("x", tuple(range(200)), ordered=True),)


class InOrder(Strategy):
    def __init__(self, problem, seed=0):
        super().__init__(problem, seed)
        self.next = 0

    def ask(self, n):
        begin, self.next = self.next, self.next + n
        return np.arange(begin, self.next)[:, None]

    def tell(self, evaluations):
        pass

    def state_dict(self):
        return {**super().state_dict(), "next": self.next}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.next = state["next"]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    # A worker imports the module of the objective by its name.
    monkeypatch.setenv(
        "PYTHONPATH",
        os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)]),
    )
    name = os.path.splitext(os.path.basename(__file__))[0]
    monkeypatch.setattr(Scripted, "__module__", name)
    monkeypatch.setitem(sys.modules, name, sys.modules[__name__])
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    assert importlib.util.find_spec(name) is not None


def gather(executor, objective, numbers):
    values, messages, expected = [], {}, 0
    for chunk in executor.run(objective, np.array(numbers)[:, None]):
        assert chunk.first == expected
        expected += len(chunk.values)
        messages.update({chunk.first + k: text for k, text in chunk.messages.items()})
        values += chunk.values.tolist()
    return values, messages


@pytest.fixture(params=["in process", "pool"])
def executor(request):
    made = InProcess(3) if request.param == "in process" else ProcessPool(2, 3)
    with made:
        yield made


def test_values_come_in_order(executor):
    assert gather(executor, Scripted(), range(20)) == ([2.0 * k for k in range(20)], {})
    assert gather(executor, Scripted(), [5]) == ([10.0], {})


def test_an_exception_costs_one_value(executor):
    values, messages = gather(executor, Scripted({4: "raise"}), range(8))
    assert np.isnan(values[4])
    assert values[:4] + values[5:] == [0, 2, 4, 6, 10, 12, 14]
    assert messages == {4: "ValueError: no 4"}


def test_errors_a_user_can_act_on_are_raised(executor):
    with pytest.raises(NastoolError, match="plug the device in"):
        gather(executor, Scripted({4: "refuse"}), range(8))


@pytest.mark.parametrize("chunk_size", [1, 4, 8])
def test_a_death_costs_the_shape_that_caused_it(chunk_size):
    with ProcessPool(2, chunk_size) as pool:
        values, messages = gather(pool, Scripted({3: "die", 5: "kill"}), range(12))
        assert np.isnan(values[3])
        assert np.isnan(values[5])
        good = [k for k in range(12) if k not in (3, 5)]
        assert [values[k] for k in good] == [2.0 * k for k in good]
        assert messages == {
            3: "the worker process died with exit code 9",
            5: "the worker process was ended by SIGKILL",
        }
        # And it goes on.
        assert gather(pool, Scripted(), range(3)) == ([0.0, 2.0, 4.0], {})


def test_sys_exit_in_a_worker_is_a_failure_and_no_death():
    with ProcessPool(1, 4) as pool:
        values, messages = gather(pool, Scripted({2: "exit"}), range(4))
    assert np.isnan(values[2])
    assert messages == {2: "sys.exit(): 0"}


def test_the_first_death_of_a_worker_names_the_guard(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(
        "import numpy as np\n"
        "from test_executors import Scripted\n"
        "from nastool.executors import ProcessPool\n"
        "open('runs', 'a').write('x')\n"
        "print(len(list(ProcessPool(2).run(Scripted(), np.zeros((9, 1), dtype=np.int64)))))\n"
    )
    command = [sys.executable, script.name]
    run = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 1
    assert '`if __name__ == "__main__":`' in run.stderr.strip().splitlines()[-1]
    assert run.stderr.count("Traceback") == 1
    assert len((tmp_path / "runs").read_text()) <= 3


def test_an_objective_that_a_worker_cannot_import_is_named(monkeypatch):
    monkeypatch.setattr(Scripted, "__module__", "nowhere_to_be_found")
    monkeypatch.setitem(sys.modules, "nowhere_to_be_found", sys.modules[__name__])
    with ProcessPool(1) as pool, pytest.raises(InvalidInputError, match="module that they can"):
        gather(pool, Scripted(), [1])


class Interrupting(ProcessPool):
    """Sends Ctrl-C to this process once the chunk before the sleeping one has come."""

    def run(self, objective, genotypes):
        for chunk in super().run(objective, genotypes):
            yield chunk
            if chunk.first == 6:
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_an_interrupt_ends_the_workers_and_keeps_what_is_done():
    problem = Problem(Line(), (Scripted({7: "sleep"}),))
    with Interrupting(2, 1) as pool:
        result = Study(problem, InOrder, executor=pool).run(20, batch_size=20)
    assert (len(result), result.stop_reason) == (7, "interrupted")


def test_a_study_is_the_same_in_worker_processes():
    problem = Problem(Line(), (Scripted({3: "raise"}),))
    here = Study(problem, InOrder).run(12, batch_size=6)
    with ProcessPool(2) as pool:
        there = Study(problem, InOrder, executor=pool).run(12, batch_size=6)
    np.testing.assert_array_equal(here.metrics, there.metrics)
    assert here.failures == there.failures


def test_an_objective_that_cannot_be_sent_is_named():
    objective = Scripted()
    objective.lock = threading.Lock()
    with ProcessPool(1) as pool, pytest.raises(InvalidInputError, match="must be picklable"):
        gather(pool, objective, [1])


@pytest.mark.parametrize(
    "make", [lambda: InProcess(0), lambda: ProcessPool(-1), lambda: ProcessPool(1, 0)]
)
def test_sizes_are_at_least_one(make):
    with pytest.raises(InvalidInputError, match="at least 1"):
        make()


PROGRAM = """
import sys, time

from nastool.executors import ProcessPool
from nastool.objective import Kind, Objective, Provenance
from nastool.problem import Problem
from nastool.store import open_store
from nastool.strategies.random import RandomSearch
from nastool.study import Study, load_result
from nastool.testing import Widths


class Slow(Objective):
    name = "slow"
    provenance = Provenance(Kind.MEASURED, "a clock")
    fingerprint = "slow"

    def evaluate(self, genotypes):
        print("evaluating", flush=True)
        time.sleep(0.02)
        return genotypes.sum(axis=1) * 1.0


if __name__ == "__main__":
    with ProcessPool(2, chunk_size=1) as pool:
        study = Study(Problem(Widths(), (Slow(),)), RandomSearch, sys.argv[1], "a", executor=pool)
        result = study.run(500, batch_size=500)
    print(result.stop_reason, len(result))
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs groups of processes")
def test_ctrl_c_to_the_whole_group_keeps_what_is_evaluated(tmp_path):
    """A terminal sends it to the workers too."""
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    command = [sys.executable, str(file), f"sqlite:///{tmp_path}/a.db"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        for _ in range(12):
            assert process.stdout.readline() == "evaluating\n"
        os.killpg(process.pid, signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    reason, count = out.splitlines()[-1].split()
    assert (reason, errors, process.returncode) == ("interrupted", "", 0)
    assert 0 < int(count) < 500
