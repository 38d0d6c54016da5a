"""Any executor of `concurrent.futures`: mpi4py's, one's own."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from concurrent.futures import Executor as Pool
from typing import Any

from nastool.errors import InvalidInputError, naming
from nastool.executors.base import Executor, at_least_one
from nastool.executors.loading import positive, read_settings


class Futures(Executor):
    """Evaluates in an executor of `concurrent.futures`.

    Where it breaks, another one is made; what was under way is tried again one by one.

    Args:
        make: Makes one.
        workers: Calls worth having under way; what the executor says by default.
        chunk: Genotypes handed over at a time; as many as take a moment by default.
    """

    dies_alone = False

    def __init__(
        self, make: Callable[[], Pool], workers: int | None = None, chunk: int | None = None
    ) -> None:
        self._make = make
        self._workers = None if workers is None else at_least_one("workers", workers)
        self.chunk = None if chunk is None else at_least_one("chunk", chunk)
        self._pool: Pool | None = None

    @property
    def workers(self) -> int:
        said = self._workers or getattr(self._running(), "_max_workers", None)
        return said if isinstance(said, int) and said > 0 else os.cpu_count() or 1

    def _running(self) -> Pool:
        if self._pool is None:
            with naming("executor futures", "could not be made", InvalidInputError):
                pool: object = self._make()
            if not callable(getattr(pool, "submit", None)):
                raise InvalidInputError(
                    "futures must be given what makes an executor of concurrent.futures, got "
                    f"{type(pool).__name__}"
                )
            self._pool = pool  # type: ignore[assignment]  # as good as one
        return self._pool  # type: ignore[return-value]  # just made

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        with naming("executor futures", "took no call"):
            try:
                return self._running().submit(function, *arguments)
            except BrokenExecutor:
                self.close()
                return self._running().submit(function, *arguments)

    def died(self, error: BaseException) -> str:
        return "a worker of the executor died" if isinstance(error, BrokenExecutor) else ""

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def create(argument: str | None = None) -> Futures:
    """Evaluates in any executor of `concurrent.futures`: ``futures[MODULE:FACTORY,workers=8]``.

    Raises:
        InvalidInputError: There is no such factory, or a setting that it has not.
    """
    known: dict[str, Callable[[str], Any]] = {
        "factory": str,
        "workers": positive,
        "chunk": positive,
    }
    settings = read_settings("futures", argument, known, first="factory")
    module, _, name = settings.get("factory", "").partition(":")
    if not module or not name:
        raise InvalidInputError(
            "futures takes MODULE:FACTORY, such as futures[mpi4py.futures:MPIPoolExecutor], got "
            f"{argument!r}"
        )
    with naming(f"futures[{argument}]", "cannot be loaded", InvalidInputError):
        factory = getattr(importlib.import_module(module), name)
    if not callable(factory):
        raise InvalidInputError(f"futures[{argument}] must name what can be called, got {factory}")
    return Futures(factory, settings.get("workers"), settings.get("chunk"))
