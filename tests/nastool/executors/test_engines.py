"""Every engine that is installed, started as its own documentation says."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from nastool.discovery import load_file
from nastool.executors import Serial, evaluated, load_executor
from nastool.testing import ExecutorConformance
from nastool.testing.executors import PLUGIN


class TestSerial(ExecutorConformance):
    def make(self):
        return Serial()


class TestProcesses(ExecutorConformance):
    def make(self):
        return load_executor("processes:2")


def two_processes():
    import multiprocessing

    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


class TestFutures(ExecutorConformance):
    def make(self):
        from nastool.executors.futures import Futures

        return Futures(two_processes)


@pytest.fixture(scope="module")  # idle workers look around all the time
def dask_scheduler():
    distributed = pytest.importorskip("distributed")
    import dask

    # A worker that dies is one retry, not three before it is told.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=3,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
        ) as cluster,
    ):
        yield cluster.scheduler_address


class TestDask(ExecutorConformance):
    @pytest.fixture(autouse=True)
    def scheduler(self, dask_scheduler):
        self.address = dask_scheduler

    def make(self):
        return load_executor(f"dask[{self.address}]")


def gather(executor, objective, n):
    values = np.full(n, np.inf)
    messages = {}
    with executor:
        for chunk in evaluated(executor, objective, np.arange(n)[:, None]):
            values[chunk.rows] = chunk.values
            messages |= {int(chunk.rows[k]): text for k, text in chunk.messages.items()}
    return values.tolist(), messages


@pytest.fixture
def scripted(tmp_path_factory):
    # The one file of the suites: two would offer one name.
    file = tmp_path_factory.getbasetemp() / "nastool_conformance_plugin.py"
    file.write_text(PLUGIN)
    load_file(file)
    return TestSerial().objective


def test_jobs_of_submitit_evaluate(tmp_path, scripted):
    pytest.importorskip("submitit")
    text = f"slurm[cluster=local,jobs=2,chunk=3,timeout_min=2,folder={tmp_path}/jobs]"
    values, messages = gather(load_executor(text), scripted("4:raise"), 6)
    assert values[:4] + values[5:] == [0.0, 2.0, 4.0, 6.0, 10.0]
    assert list(messages) == [4]
    assert messages[4].startswith("ValueError: no 4")


def test_a_node_of_ray_evaluates_and_loses_workers(tmp_path, scripted):
    ray = pytest.importorskip("ray")
    ray.init(
        address="local",
        num_cpus=3,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=80 * 2**20,
    )
    try:
        values, messages = gather(load_executor("ray"), scripted("4:raise;7:die"), 12)
    finally:
        ray.shutdown()
    assert [k for k, value in enumerate(values) if np.isnan(value)] == [4, 7]
    assert sorted(messages) == [4, 7]
    assert messages[4].startswith("ValueError: no 4")
    assert messages[7] == "the worker process died"
