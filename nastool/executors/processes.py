"""Worker processes of this machine, by loky."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from nastool.errors import InvalidInputError
from nastool.executors.base import Executor, at_least_one
from nastool.runtime.leftovers import workers_begin

_LOOK = 0.5
"""Seconds between two looks of a worker whether its parent is there."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables by which libraries are told how many threads they may have."""


class Processes(Executor):
    """Evaluates in worker processes of this machine.

    Each is a pool of its own: where one dies it is known which, and of what. Their libraries share
    the processors, unless the environment says how many threads they may have.

    Args:
        workers: Number of processes, at least 1; as many as there are processors by default.
        chunk: Genotypes handed to a worker at a time; as many as take a moment by default.
    """

    def __init__(self, workers: int | None = None, chunk: int | None = None) -> None:
        count = (os.cpu_count() or 1) if workers is None else workers
        self._count = at_least_one("workers", count)
        self.chunk = None if chunk is None else at_least_one("chunk", chunk)
        self._idle: list[Any] = []
        self._busy: dict[Future[Any], Any] = {}

    @property
    def workers(self) -> int:
        return self._count

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        from concurrent.futures.process import BrokenProcessPool

        self._tidy()
        while True:
            pool = self._idle.pop() if self._idle else self._new()
            try:
                with workers_begin():
                    future: Future[Any] = pool.submit(function, *arguments)
            except BrokenProcessPool:
                # Its worker died while it had nothing to do.
                pool.shutdown(wait=False, kill_workers=True)
            else:
                self._busy[future] = pool
                return future

    def _new(self) -> Any:
        from loky.process_executor import ProcessPoolExecutor

        share = str(max(1, (os.cpu_count() or 1) // self._count))
        env = {name: share for name in _THREADS if name not in os.environ}
        return ProcessPoolExecutor(1, timeout=None, initializer=_begin, env=env)

    def _tidy(self) -> None:
        """Take back the workers that have answered, and forget those that died."""
        for future in [future for future in self._busy if future.done()]:
            pool = self._busy.pop(future)
            if future.cancelled() or self.died(future.exception()):
                pool.shutdown(wait=False, kill_workers=True)
            else:
                self._idle.append(pool)

    def died(self, error: BaseException | None) -> str:
        from concurrent.futures.process import BrokenProcessPool

        if not isinstance(error, BrokenProcessPool):
            return ""
        # loky says it in words: {SIGKILL(-9)} or {EXIT(9)}.
        match = re.search(r"\{(\w+)\((-?\d+)\)", str(error))
        if match is None:
            return "the worker process died"
        if int(match[2]) < 0:
            return f"the worker process was ended by {match[1]}"
        return f"the worker process died with exit code {match[2]}"

    def drop(self, future: Future[Any]) -> None:
        pool = self._busy.pop(future, None)
        if pool is not None:
            pool.shutdown(wait=True, kill_workers=True)

    def close(self) -> None:
        self._tidy()
        for future in list(self._busy):
            self.drop(future)
        for pool in self._idle:
            pool.shutdown(wait=True)
        self._idle.clear()


def _begin() -> None:
    """In a worker: Ctrl-C is the parent's, and nothing outlives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK)
        os._exit(1)

    threading.Thread(target=watch, name="follow-parent", daemon=True).start()


def create(argument: str | None = None) -> Processes:
    """Evaluates in worker processes of this machine: ``processes:4``.

    Raises:
        InvalidInputError: The argument is no number of processes.
    """
    if argument is not None and not (argument.isascii() and argument.isdigit() and int(argument)):
        raise InvalidInputError(
            f"processes takes a whole number of at least 1, such as processes:4, got {argument!r}"
        )
    return Processes(None if argument is None else int(argument))
