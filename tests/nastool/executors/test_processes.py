"""Executors: order, failures, dead workers and interrupts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from nastool.errors import InvalidInputError, NastoolError
from nastool.executors import Serial, evaluated, load_executor
from nastool.executors.futures import Futures
from nastool.executors.processes import Processes
from nastool.problem import Problem
from nastool.space import Gene, SearchSpace
from nastool.store import open_store
from nastool.strategies.base import Strategy
from nastool.study import Study
from tests.nastool.executors import scripted
from tests.nastool.executors.scripted import Scripted


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


def gather(executor, objective, numbers):
    genotypes = np.array(numbers)[:, None]
    values, messages = np.full(len(genotypes), np.inf), {}
    for chunk in evaluated(executor, objective, genotypes):
        assert np.isinf(values[chunk.rows]).all()
        values[chunk.rows] = chunk.values
        messages |= {int(chunk.rows[k]): text for k, text in chunk.messages.items()}
    return values.tolist(), messages


@pytest.fixture(params=["in process", "pool"], scope="module")
def executor(request):
    made = Serial(3) if request.param == "in process" else Processes(2, 3)
    with made:
        yield made


def test_values_come_in_order(executor):
    assert gather(executor, Scripted(), range(20)) == ([2.0 * k for k in range(20)], {})
    assert gather(executor, Scripted(), [5]) == ([10.0], {})


def test_an_exception_costs_one_value(executor):
    values, messages = gather(executor, Scripted({4: "raise"}), range(8))
    assert np.isnan(values[4])
    assert values[:4] + values[5:] == [0, 2, 4, 6, 10, 12, 14]
    assert list(messages) == [4]
    assert messages[4].startswith("ValueError: no 4 (")


def test_errors_a_user_can_act_on_are_raised(executor):
    with pytest.raises(NastoolError, match="plug the device in"):
        gather(executor, Scripted({4: "refuse"}), range(8))


def test_a_death_costs_the_shape_that_caused_it():
    with Processes(2, 4) as pool:
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
    with Processes(1, 4) as pool:
        values, messages = gather(pool, Scripted({2: "exit"}), range(4))
    assert np.isnan(values[2])
    assert list(messages) == [2]
    assert messages[2].startswith("sys.exit(): 0 (")


def test_a_script_needs_no_guard(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(
        "import numpy as np\n"
        "from nastool.executors import evaluated\n"
        "from nastool.executors.processes import Processes\n"
        "from nastool.objective import Kind, Objective, Provenance\n"
        "class Mine(Objective):\n"
        "    name = fingerprint = 'mine'\n"
        "    provenance = Provenance(Kind.MEASURED, 'a script')\n"
        "    def evaluate(self, genotypes):\n"
        "        return genotypes.sum(axis=1) * 1.0\n"
        "open('runs', 'a').write('x')\n"
        "shapes = np.ones((9, 1), dtype=np.int64)\n"
        "with Processes(2) as executor:\n"
        "    print(sum(len(chunk.rows) for chunk in evaluated(executor, Mine(), shapes)))\n"
    )
    command = [sys.executable, script.name]
    run = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "9\n", "")
    assert (tmp_path / "runs").read_text() == "x"


def test_an_objective_that_a_worker_cannot_import_is_named(monkeypatch):
    monkeypatch.setattr(Scripted, "__module__", "nowhere_to_be_found")
    monkeypatch.setitem(sys.modules, "nowhere_to_be_found", scripted)
    with Processes(1) as pool, pytest.raises(InvalidInputError, match="module that they can"):
        gather(pool, Scripted(), [1])


class Interrupting(Processes):
    """Sends Ctrl-C to this process once all before the sleeping one have been handed out."""

    asked = 0

    def submit(self, function, /, *arguments):
        self.asked += 1
        if self.asked == 10:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        return super().submit(function, *arguments)


def test_an_interrupt_ends_the_workers_and_keeps_what_is_done(tmp_path):
    problem = Problem(Line(), (Scripted({7: "sleep"}),))
    with Interrupting(2, 1) as pool, open_store(f"sqlite:///{tmp_path}/a.db") as store:
        result = Study(problem, InOrder, store, executor=pool).run(20, batch_size=20)
        assert (len(result), result.stop_reason) == (7, "interrupted")
        # What was evaluated behind it is not lost: it is in the ledger.
        known = store.measurements(problem.space.fingerprint, "scripted", np.arange(20)[:, None])
    assert (known[:7] == 2.0 * np.arange(7)).all()
    assert np.isnan(known[7])
    assert known[8] == 16.0


def test_a_shape_that_takes_too_long_has_failed_and_holds_nobody_up():
    with load_executor("processes:2", timeout=1.0) as pool:
        values, messages = gather(pool, Scripted({3: "sleep"}), range(6))
        assert values[:3] + values[4:] == [0.0, 2.0, 4.0, 8.0, 10.0]
        assert messages == {3: "took longer than 1 s"}
        assert gather(pool, Scripted(), range(3)) == ([0.0, 2.0, 4.0], {})


def test_what_cannot_be_left_behind_has_no_time_to_keep():
    executor = load_executor("serial", timeout=1.0)
    with pytest.raises(InvalidInputError, match=r"such as processes:2, got serial"):
        gather(executor, Scripted(), [1])


def test_a_model_does_not_travel():
    objective = Scripted()
    objective.weights = np.zeros(3 * 2**20)
    with Processes(1) as pool, pytest.raises(InvalidInputError, match=r"made by name.* 24 MiB"):
        gather(pool, objective, [1])


def test_any_executor_of_the_standard_library_will_do():
    text = "futures[concurrent.futures:ThreadPoolExecutor,workers=3]"
    with load_executor(text) as pool:
        assert (pool.workers, gather(pool, Scripted(), range(9))[0][:3]) == (3, [0.0, 2.0, 4.0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("processes:0", "at least 1"),
        ("processes:many", "at least 1"),
        ("serial:2", "takes no argument"),
        ("futures", "MODULE:FACTORY"),
        ("futures[os]", "MODULE:FACTORY"),
        ("futures[os:nothing]", "cannot be loaded"),
        ("futures[os:sep]", "must name what can be called"),
        ("futures[os:getpid,workers=0]", "at least 1"),
        ("futures[os:getpid,threads=2]", "has no setting 'threads'"),
        ("proceses:2", "did you mean processes"),
    ],
)
def test_arguments_are_checked(text, said):
    with pytest.raises(InvalidInputError, match=said):
        load_executor(text)


def test_what_makes_no_executor_is_named():
    with Futures(os.getpid) as pool, pytest.raises(InvalidInputError, match="got int"):
        gather(pool, Scripted(), [1])


def test_a_study_is_the_same_in_worker_processes():
    problem = Problem(Line(), (Scripted({3: "raise"}),))
    here = Study(problem, InOrder).run(12, batch_size=6)
    with Processes(2) as pool:
        there = Study(problem, InOrder, executor=pool).run(12, batch_size=6)
    np.testing.assert_array_equal(here.metrics, there.metrics)
    assert here.failures == there.failures


def test_an_objective_that_cannot_be_sent_is_named():
    objective = Scripted()
    objective.lock = threading.Lock()
    with Processes(1) as pool, pytest.raises(InvalidInputError, match="must be picklable"):
        gather(pool, objective, [1])


@pytest.mark.parametrize(
    "make", [lambda: Serial(0), lambda: Processes(-1), lambda: Processes(1, 0)]
)
def test_sizes_are_at_least_one(make):
    with pytest.raises(InvalidInputError, match="at least 1"):
        make()


PROGRAM = r"""
import os, sys, time

from nastool.executors.processes import Processes
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
        os.write(1, b"evaluating\n")
        time.sleep(0.02)
        return genotypes.sum(axis=1) * 1.0


if __name__ == "__main__":
    with Processes(2, chunk=1) as pool:
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


def test_a_study_takes_an_executor_by_its_name():
    problem = Problem(Line(), (Scripted(),))
    study = Study(problem, "random", executor="processes:1")
    assert len(study.run(4, 2)) == 4
    # It can be used again, and is closed after each run.
    assert len(study.run(6, 2)) == 6
    assert not study._executor._idle
    with pytest.raises(InvalidInputError, match="pending must be a whole number, got '3'"):
        study.run(9, pending="3")
    with pytest.raises(InvalidInputError, match="unknown executor 'nonsense'"):
        Study(problem, "random", executor="nonsense")
    with pytest.raises(InvalidInputError, match=r"an executor must be one .* got 4"):
        Study(problem, "random", executor=4).run(2, 2)


def test_addresses_are_tried_before_an_engine_is():
    from nastool.executors.loading import check_reached

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        check_reached("dask", f"tcp://127.0.0.1:{port}", 1)
        check_reached("ray", f"127.0.0.1:{port}", 1)
    with pytest.raises(InvalidInputError, match=f"executor ray: cannot reach 127.0.0.1:{port}: "):
        check_reached("ray", f"127.0.0.1:{port}", 0)
    for wrong in ("nonsense", "tcp://host", "host:x", "host:0", "host:70000", ":80"):
        with pytest.raises(InvalidInputError, match="expected an address HOST:PORT, got"):
            check_reached("dask", wrong, 0)
    check_reached("dask", "ucx://anything", 0)
