"""Workers of a Dask cluster."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from nastool.errors import InvalidInputError, MissingDependencyError, NastoolError, in_one_line
from nastool.executors.base import DEATHS_OF_NOTHING, Executor
from nastool.executors.loading import check_reached, positive, read_settings

_LOOK = 2.0
"""Seconds for which the number of workers is believed."""

_PATIENCE = 10.0
"""Seconds in which a scheduler must answer."""


class DaskCluster(Executor):
    """Evaluates on the workers of a Dask cluster, which may come and go.

    The scheduler notices a worker that dies and has what it held done by others; a shape of which
    several die has failed. It blames what only waited on the worker, too.

    Args:
        address: Of the scheduler; a cluster of this machine, for this run, by default.
        chunk: Genotypes handed to a worker at a time; as many as take a moment by default.

    Raises:
        MissingDependencyError: Dask is not installed.
    """

    dies_alone = False

    def __init__(self, address: str | None = None, chunk: int | None = None) -> None:
        try:
            import distributed
        except ImportError as error:
            raise MissingDependencyError(
                "executor dask needs distributed: pip install 'nastool[dask]'"
            ) from error
        self._distributed: Any = distributed
        self._address = address
        self.chunk = chunk
        self._client: Any = None
        self._tasks: dict[Future[Any], Any] = {}
        self._workers, self._seen = 1, float("-inf")

    def _open(self) -> Any:
        if self._client is None:
            import dask

            if self._address is not None:
                check_reached("dask", self._address, _PATIENCE)
            # It says in many lines what is said here in one, each part with a level of its own.
            for name in [n for n in logging.root.manager.loggerDict if n.startswith("distributed")]:
                logging.getLogger(name).setLevel(logging.CRITICAL)
            where = self._address or "a cluster of this machine"
            given: dict[str, Any] = {}
            if self._address is None:
                given = {"processes": True, "threads_per_worker": 1}
                # Its usual port may be another cluster's.
                given["dashboard_address"] = "127.0.0.1:0"
            # Of one's own cluster: what died is ours to try again, shape by shape.
            tries = {"distributed.scheduler.allowed-failures": 0}
            try:
                with dask.config.set(tries if self._address is None else {}):
                    self._client = self._distributed.Client(
                        self._address, timeout=_PATIENCE, set_as_default=False, **given
                    )
            except Exception as error:
                raise InvalidInputError(
                    f"executor dask: cannot reach {where}: {in_one_line(error)}"
                ) from error
        return self._client

    @property
    def workers(self) -> int:
        client, now = self._open(), time.monotonic()
        if now - self._seen > _LOOK:
            self._seen = now
            try:
                # One call at a time in each thread; none yet, and what is handed out waits.
                self._workers = max(1, sum(client.nthreads().values()))
            except Exception as error:
                raise self._gone(error) from error
        return self._workers

    def _gone(self, error: BaseException) -> NastoolError:
        return NastoolError(
            f"executor dask: the scheduler {self._address or ''} is gone ({in_one_line(error)}); "
            "what was evaluated is kept where there is a store"
        )

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        client = self._open()
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self._tasks[future] = task = client.submit(function, *arguments, pure=False, retries=0)

        async def pass_on() -> None:
            # Not by Dask's own executor: its futures never end where a result is lost on its way,
            # with the worker that had it, and computing it again fails.
            try:
                value = await client.gather(task, asynchronous=True)
            except BaseException as error:  # noqa: BLE001  # whatever it was is the future's
                future.set_exception(error)
            else:
                future.set_result(value)
            self._tasks.pop(future, None)

        client.loop.add_callback(pass_on)
        return future

    def drop(self, future: Future[Any]) -> None:
        task = self._tasks.pop(future, None)
        if task is not None:
            task.cancel()

    def died(self, error: BaseException) -> str:
        if isinstance(error, self._distributed.KilledWorker):
            self.deaths = max(2, math.ceil(DEATHS_OF_NOTHING / (error.allowed_failures + 1)))
            return "every worker that was given it died"
        if isinstance(error, self._distributed.client.FutureCancelledError):
            raise self._gone(error)
        return ""

    def close(self) -> None:
        if self._client is not None:
            for future in list(self._tasks):
                self.drop(future)
            self._client.close()
            self._client = None
            self._seen = float("-inf")


def create(argument: str | None = None) -> DaskCluster:
    """Evaluates on a Dask cluster: ``dask[tcp://127.0.0.1:8786]``."""
    known: dict[str, Callable[[str], Any]] = {"address": str, "chunk": positive}
    return DaskCluster(**read_settings("dask", argument, known, first="address"))
