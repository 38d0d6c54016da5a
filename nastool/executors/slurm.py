"""Jobs of SLURM, by submitit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from nastool.errors import InvalidInputError, MissingDependencyError, in_one_line, naming
from nastool.executors.base import Executor
from nastool.executors.loading import positive, read_settings

_LOOK = 0.2
"""Seconds between two looks at the jobs; submitit asks SLURM itself less often."""

_JOBS = 16
"""Jobs under way, unless it is said."""

_RENAMED = {"gpus": "gpus_per_node", "cpus": "cpus_per_task", "memory": "mem_gb"}
"""Settings that submitit calls otherwise, the same for SLURM and for a trial on this machine."""

_COMMON = (
    "name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node",
    "stderr_to_stdout",
)  # fmt: skip


class Slurm(Executor):
    """Evaluates in jobs of SLURM, one for what a worker is handed; it makes the objective first.

    Args:
        cluster: ``slurm``, or ``local`` for processes of this machine, as a trial.
        jobs: Jobs under way at a time.
        folder: Where submitit keeps the jobs' files; workers must see it, too.
        chunk: Genotypes of a job; as many as take a moment by default, which is little beside a
            job's start.
        parameters: Of the jobs, as submitit or ``sbatch`` call them.

    Raises:
        MissingDependencyError: submitit is not installed.
    """

    def __init__(
        self,
        cluster: str = "slurm",
        jobs: int = _JOBS,
        folder: str = "nastool-jobs",
        chunk: int | None = None,
        **parameters: Any,
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise MissingDependencyError(
                "executor slurm needs submitit: pip install 'nastool[slurm]'"
            ) from error
        self._submitit: Any = submitit
        self._cluster, self._jobs, self._folder, self.chunk = cluster, jobs, folder, chunk
        self._parameters = parameters
        self._engine: Any = None
        self._running: dict[Future[Any], Any] = {}
        self._lock = threading.Lock()
        self._watching: threading.Thread | None = None

    @property
    def workers(self) -> int:
        self._open()
        return self._jobs

    def _open(self) -> Any:
        if self._engine is None:
            given = {_RENAMED.get(key, key): value for key, value in self._parameters.items()}
            named = {k if k in _COMMON else f"slurm_{k}": v for k, v in given.items()}
            with naming("executor slurm", "cannot be used", InvalidInputError):
                engine = self._submitit.AutoExecutor(folder=self._folder, cluster=self._cluster)
                engine.update_parameters(**named)
            self._engine = engine
        return self._engine

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        engine = self._open()
        with naming("executor slurm", "took no job"):
            job = engine.submit(function, *arguments)
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            self._running[future] = job
            if self._watching is None:
                self._watching = threading.Thread(target=self._watch, daemon=True)
                self._watching.start()
        return future

    def _watch(self) -> None:
        """Pass on what jobs have come to, until none is under way."""
        while True:
            with self._lock:
                if not self._running:
                    self._watching = None
                    return
                looked_at = list(self._running.items())
            for future, job in looked_at:
                try:
                    if not job.done():
                        continue
                    result, error = job.result(), None
                except Exception as raised:  # noqa: BLE001  # whatever it was is the future's
                    result, error = None, raised
                with self._lock:
                    if self._running.pop(future, None) is None:
                        continue
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)
            time.sleep(_LOOK)

    def died(self, error: BaseException) -> str:
        if isinstance(error, self._submitit.core.utils.FailedJobError):
            return ""
        if isinstance(error, self._submitit.core.utils.UncompletedJobError):
            return f"the job ended without an answer: {in_one_line(error)}"
        return ""

    def drop(self, future: Future[Any]) -> None:
        with self._lock:
            job = self._running.pop(future, None)
        if job is not None:
            job.cancel()

    def close(self) -> None:
        for future in list(self._running):
            self.drop(future)
        self._engine = None


def create(argument: str | None = None) -> Slurm:
    """Evaluates in jobs of SLURM: ``slurm[partition=gpu,gpus=1,timeout_min=60,jobs=8]``."""
    numbers = dict.fromkeys(
        ("jobs", "chunk", "gpus", "cpus", "memory", "nodes", "timeout_min"), positive
    )
    return Slurm(**read_settings("slurm", argument, {**numbers, "": str}))
