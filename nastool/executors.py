"""Where slow objectives run: in this process, or in several local processes."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.objective import Objective, evaluate
from nastool.space import Genotypes
from nastool.worker import Died, Worker, answers

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

        What goes wrong costs the shape it goes wrong with, see `nastool.objective.evaluate`.
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
            made = evaluate(objective, genotypes[first : first + self._chunk_size])
            yield Chunk(first, made.values, made.messages)


@dataclass(frozen=True)
class _Part:
    """Consecutive genotypes that a worker is given at once.

    Args:
        first: Row of the batch at which they begin.
        genotypes: Shape (k, d).
        suspect: Whether a worker died of them, or of more that they were among.
    """

    first: int
    genotypes: Genotypes
    suspect: bool = False

    def singles(self) -> list[_Part]:
        """Each by itself: whoever kills a worker again is known."""
        return [
            _Part(self.first + k, self.genotypes[k : k + 1], suspect=True)
            for k in range(len(self.genotypes))
        ]


class ProcessPool(Executor):
    """Evaluates in worker processes of this machine.

    The objective is sent to each worker once, so it must be picklable and its module importable.
    A shape that kills its worker twice has failed; those that were beside it have not.

    Args:
        workers: Number of processes, at least 1; as many as there are processors by default.
        chunk_size: Genotypes handed to a worker at a time; chosen by the batch by default.
    """

    def __init__(self, workers: int | None = None, chunk_size: int | None = None) -> None:
        count = (os.cpu_count() or 1) if workers is None else workers
        self._count = _at_least_one("workers", count)
        self._chunk_size = None if chunk_size is None else _at_least_one("chunk_size", chunk_size)
        self._workers: dict[str, list[Worker]] = {}

    def run(self, objective: Objective, genotypes: Genotypes) -> Generator[Chunk]:
        # A few chunks a worker even out their different durations.
        size = self._chunk_size or min(
            _LARGEST_CHUNK, max(1, math.ceil(len(genotypes) / (4 * self._count)))
        )
        waiting = deque(_Part(k, genotypes[k : k + size]) for k in range(0, len(genotypes), size))
        busy: dict[Worker, _Part] = {}
        known: dict[int, Chunk] = {}
        begin = 0
        try:
            while waiting or busy:
                self._hand_out(objective, waiting, busy)
                for worker, answer in answers(busy):
                    part = busy.pop(worker)
                    if isinstance(answer, Died):
                        self._workers[objective.fingerprint].remove(worker)
                        waiting.extendleft(reversed(_after_death(part, answer, known)))
                    else:
                        known[part.first] = Chunk(part.first, answer.values, answer.messages)
                while begin in known:
                    chunk = known.pop(begin)
                    begin += len(chunk.values)
                    yield chunk
        finally:
            # Reached early on an interrupt or an error: what still runs is not waited for.
            for worker in busy:
                worker.terminate()
                self._workers[objective.fingerprint].remove(worker)

    def _hand_out(
        self, objective: Objective, waiting: deque[_Part], busy: dict[Worker, _Part]
    ) -> None:
        """Give every idle worker a part, and start workers while there are too few."""
        workers = self._workers.setdefault(objective.fingerprint, [])
        while waiting and len(busy) < self._count:
            idle = next((worker for worker in workers if worker not in busy), None)
            if idle is None:
                idle = Worker(objective)
                workers.append(idle)
            busy[idle] = waiting.popleft()
            idle.send(busy[idle].genotypes)

    def close(self) -> None:
        for workers in self._workers.values():
            for worker in workers:
                worker.close()
        self._workers.clear()


def _after_death(part: _Part, died: Died, known: dict[int, Chunk]) -> list[_Part]:
    """What is to be tried again after a worker died of a part; notes whoever has failed."""
    if not part.suspect or len(part.genotypes) > 1:
        return part.singles()
    known[part.first] = Chunk(part.first, np.array([np.nan]), {0: str(died)})
    return []


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise InvalidInputError(f"{name} must be at least 1, got {value}")
    return value
