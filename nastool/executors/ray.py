"""Workers of a Ray cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from nastool.errors import InvalidInputError, MissingDependencyError, in_one_line
from nastool.executors.base import DEATHS_OF_NOTHING, Executor
from nastool.executors.loading import check_reached, positive, read_settings

_LOOK = 2.0
"""Seconds for which the size of the cluster is believed."""

_PATIENCE = 10.0
"""Seconds in which a cluster must answer."""


class RayCluster(Executor):
    """Evaluates on a Ray cluster, a task a call.

    Args:
        address: Of the cluster; one of this machine, for this run, by default.
        cpus: Processors of a task.
        gpus: GPUs of a task.
        chunk: Genotypes handed to a worker at a time; as many as take a moment by default.

    Raises:
        MissingDependencyError: Ray is not installed.
    """

    deaths = DEATHS_OF_NOTHING

    def __init__(
        self,
        address: str | None = None,
        cpus: float = 1.0,
        gpus: float = 0.0,
        chunk: int | None = None,
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError(
                "executor ray needs ray: pip install 'nastool[ray]'"
            ) from error
        if cpus <= 0 and gpus <= 0:
            raise InvalidInputError("a task of executor ray must take a part of a CPU or GPU")
        self._ray: Any = ray
        self._address, self._cpus, self._gpus, self.chunk = address, cpus, gpus, chunk
        self._is_ours = False
        self._call: Any = None
        self._references: dict[Future[Any], Any] = {}
        self._workers, self._seen = 1, float("-inf")

    def _open(self) -> None:
        if self._call is not None:
            return
        if not self._ray.is_initialized():
            if self._address not in (None, "auto", "local"):
                check_reached("ray", self._address, _PATIENCE)
            try:
                self._ray.init(
                    address=self._address or "local",
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **({} if self._address else {"include_dashboard": False}),
                )
            except Exception as error:
                where = self._address or "a cluster of this machine"
                raise InvalidInputError(
                    f"executor ray: cannot reach {where}: {in_one_line(error)}"
                ) from error
            self._is_ours = True
        # What died is ours to try again: shape by shape.
        self._call = self._ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_retries=0)(
            _call
        )

    @property
    def workers(self) -> int:
        self._open()
        now = time.monotonic()
        if now - self._seen > _LOOK:
            self._seen = now
            there = self._ray.cluster_resources()
            shares = [
                there.get(name, 0.0) / wanted
                for name, wanted in (("CPU", self._cpus), ("GPU", self._gpus))
                if wanted > 0
            ]
            self._workers = max(1, int(min(shares)))
        return self._workers

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        self._open()
        for done in [future for future in self._references if future.done()]:
            del self._references[done]
        reference = self._call.remote(function, arguments)
        future: Future[Any] = reference.future()
        self._references[future] = reference
        return future

    def died(self, error: BaseException) -> str:
        known = self._ray.exceptions
        lost = (known.WorkerCrashedError, known.NodeDiedError, known.OutOfMemoryError)
        return "the worker process died" if isinstance(error, lost) else ""

    def drop(self, future: Future[Any]) -> None:
        reference = self._references.pop(future, None)
        if reference is not None and not future.done():
            self._ray.cancel(reference, force=True)

    def close(self) -> None:
        for future in list(self._references):
            self.drop(future)
        if self._is_ours:
            self._ray.shutdown()
            self._is_ours = False
        self._call = None
        self._seen = float("-inf")


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What a task does: a function by its name, so that all share one description."""
    return function(*arguments)


def create(argument: str | None = None) -> RayCluster:
    """Evaluates on a Ray cluster: ``ray[ADDRESS,cpus=1,gpus=1]``."""
    known: dict[str, Callable[[str], Any]] = {
        "address": str,
        "cpus": float,
        "gpus": float,
        "chunk": positive,
    }
    return RayCluster(**read_settings("ray", argument, known, first="address"))
