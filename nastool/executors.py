"""Where slow objectives run: in this process, or in several local processes."""

from __future__ import annotations

import math
import multiprocessing
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError, NastoolError
from nastool.leftovers import follow_parent, workers_begin
from nastool.objective import Objective, checked_values
from nastool.space import Genotypes

_LARGEST_CHUNK = 8
"""Evaluations lost at most when a process is killed; small beside what each of them costs."""


@dataclass(frozen=True)
class Chunk:
    """Values of consecutive genotypes of a batch.

    Args:
        first: Row of the batch at which it begins.
        values: Shape (k,), natural sign and base unit; NaN where the evaluation failed.
        messages: What went wrong, by row of the chunk.
    """

    first: int
    values: NDArray[np.float64]
    messages: dict[int, str]


class Executor(ABC):
    """Runs one objective on a batch and returns the values as they come in."""

    @abstractmethod
    def run(self, objective: Objective, genotypes: Genotypes) -> Generator[Chunk]:
        """Evaluate a batch (n, d), yielding its chunks in order.

        An exception of the objective becomes NaN and a message, except errors of nastool, which
        a user can act on: those are raised.
        """

    def close(self) -> None:  # noqa: B027  # most executors hold nothing
        """Give back what the executor holds; it can be used again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class InProcess(Executor):
    """Evaluates in this process.

    Args:
        chunk_size: Genotypes handed to the objective at a time, at least 1.
    """

    def __init__(self, chunk_size: int = _LARGEST_CHUNK) -> None:
        self._chunk_size = _at_least_one("chunk_size", chunk_size)

    def run(self, objective: Objective, genotypes: Genotypes) -> Generator[Chunk]:
        for first in range(0, len(genotypes), self._chunk_size):
            yield _chunk(objective, first, genotypes[first : first + self._chunk_size])


class ProcessPool(Executor):
    """Evaluates in worker processes of this machine.

    The objective is sent to each worker once, so it must be picklable and its module importable.

    Args:
        workers: Number of processes, at least 1; as many as there are processors by default.
        chunk_size: Genotypes handed to a worker at a time; chosen by the batch by default.
    """

    def __init__(self, workers: int | None = None, chunk_size: int | None = None) -> None:
        self._workers = _at_least_one("workers", workers or os.cpu_count() or 1)
        self._chunk_size = None if chunk_size is None else _at_least_one("chunk_size", chunk_size)
        self._pools: dict[str, ProcessPoolExecutor] = {}

    def run(self, objective: Objective, genotypes: Genotypes) -> Generator[Chunk]:
        # A few chunks a worker even out their different durations.
        size = self._chunk_size or min(
            _LARGEST_CHUNK, max(1, math.ceil(len(genotypes) / (4 * self._workers)))
        )
        waiting = deque((k, genotypes[k : k + size]) for k in range(0, len(genotypes), size))
        running: deque[tuple[int, Genotypes, Future[Chunk]]] = deque()
        alone = False
        try:
            while waiting or running:
                # Two chunks a worker keep all of them busy; after a death, one at a time shows
                # which chunk kills its worker.
                while waiting and len(running) < (1 if alone else 2 * self._workers):
                    first, part = waiting[0]
                    try:
                        running.append((first, part, self._submit(objective, first, part)))
                    except BrokenProcessPool:
                        # A worker has just died: the future of its chunk says so below.
                        break
                    waiting.popleft()
                if not running:
                    self._terminate(objective)
                    continue
                first, part, future = running[0]
                try:
                    chunk = future.result()
                except BrokenProcessPool:
                    self._terminate(objective)
                    waiting.extendleft((k, p) for k, p, _ in reversed(running))
                    running.clear()
                    if alone:
                        waiting.popleft()
                        yield _lost(first, part)
                    alone = not alone
                    continue
                running.popleft()
                alone = False
                yield chunk
        finally:
            # Reached early on an interrupt: what still runs would be waited for otherwise.
            if running:
                self._terminate(objective)

    def _submit(self, objective: Objective, first: int, part: Genotypes) -> Future[Chunk]:
        pool = self._pools.get(objective.fingerprint)
        if pool is None:
            # Forked copies of a process with threads (torch, BLAS) can hang: start fresh ones.
            pool = ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_initialize_worker,
                initargs=(objective,),
            )
            self._pools[objective.fingerprint] = pool
        try:
            with workers_begin():
                return pool.submit(_work, first, part)
        except BrokenProcessPool:
            raise
        except (TypeError, AttributeError, RuntimeError) as error:
            self._terminate(objective)
            raise InvalidInputError(
                f"an objective must be picklable to run in worker processes, got "
                f"{objective.name}: {error}"
            ) from error

    def _terminate(self, objective: Objective) -> None:
        pool = self._pools.pop(objective.fingerprint, None)
        if pool is None:
            return
        # Before Python 3.14 (terminate_workers) there is no public way to end running calls.
        processes = list((pool._processes or {}).values())  # noqa: SLF001
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()

    def close(self) -> None:
        for pool in self._pools.values():
            pool.shutdown(cancel_futures=True)
        self._pools.clear()


_objective: Objective
"""What a worker process evaluates; set once, by its initializer."""


def _initialize_worker(objective: Objective) -> None:
    global _objective
    _objective = objective
    follow_parent(lambda: os._exit(1))


def _work(first: int, part: Genotypes) -> Chunk:
    return _chunk(_objective, first, part)


def _lost(first: int, part: Genotypes) -> Chunk:
    message = "the worker process died (the objective's module must be importable in it)"
    return Chunk(first, np.full(len(part), np.nan), dict.fromkeys(range(len(part)), message))


def _chunk(objective: Objective, first: int, part: Genotypes) -> Chunk:
    try:
        return Chunk(first, checked_values(objective, objective.evaluate(part), len(part)), {})
    except NastoolError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever one architecture raises is its own
        if len(part) == 1:
            message = f"{type(error).__name__}: {error}"
            return Chunk(first, np.array([np.nan]), {0: message})
    # One of several failed: one at a time, the others keep their values.
    singles = [_chunk(objective, first + k, part[k : k + 1]) for k in range(len(part))]
    messages = {k: single.messages[0] for k, single in enumerate(singles) if single.messages}
    return Chunk(first, np.concatenate([single.values for single in singles]), messages)


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise InvalidInputError(f"{name} must be at least 1, got {value}")
    return value
