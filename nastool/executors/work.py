"""Shapes on their way through an executor: who has which, what comes back, what is tried again."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError, NastoolError, in_one_line
from nastool.executors.base import Executor
from nastool.executors.serving import Answer, Errand, serve
from nastool.objective import Objective, order_of
from nastool.space import Genotypes

_FIRST = 8
"""Shapes that a worker is handed at a time while nobody knows how long one takes."""

MOMENT = 2.0
"""Seconds that what a worker is handed should take: lost when it dies, waited for at the end."""

_MOST = 64
"""Shapes that a worker is handed at a time at most."""


@dataclass(frozen=True)
class Chunk:
    """Values of some genotypes of a batch.

    Args:
        rows: Which, shape (k,).
        values: Shape (k,), natural sign and base unit; NaN where the evaluation failed.
        messages: What went wrong, by place in the chunk.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float64]
    messages: dict[int, str]


@dataclass(frozen=True)
class _Part:
    """What a worker is handed at once.

    Args:
        rows: Rows (k,) of the batch.
        genotypes: Shape (k, d).
        deaths: Workers that died of them, or of more that they were among.
    """

    rows: NDArray[np.int64]
    genotypes: Genotypes
    deaths: int = 0

    def singles(self) -> list[_Part]:
        """Each by itself: whoever ends a worker again is known."""
        return [
            _Part(self.rows[k : k + 1], self.genotypes[k : k + 1], self.deaths + 1)
            for k in range(len(self.rows))
        ]


class Work:
    """Evaluates one objective on shapes that may be added while others are under way.

    A shape whose worker dies is tried once more by itself; if that one dies too, the shape has
    failed (where workers may die of nothing, after more of them). Those beside it have not.

    Args:
        executor: Where.
        objective: What is evaluated.
        crew: Works that share the workers, which this one joins; alone by default.
        moment: Seconds that what a worker is handed should take.

    Raises:
        InvalidInputError: The objective cannot be sent to workers, or is to be given up after a
            time by an executor that has none.
    """

    def __init__(
        self,
        executor: Executor,
        objective: Objective,
        crew: list[Work] | None = None,
        moment: float = MOMENT,
    ) -> None:
        if not isinstance(executor, Executor):
            raise InvalidInputError(
                "an executor must be one (nastool.executors.load_executor makes one from its "
                f"name), got {executor!r}"
            )
        self._executor = executor
        self._moment = moment
        self._crew = [] if crew is None else crew
        self._crew.append(self)
        self._name = objective.name
        self._errand = Errand(objective)
        if executor.is_elsewhere:
            _ = self._errand.content
        elif executor.timeout is not None:
            raise InvalidInputError(
                "a time a shape needs an executor with workers, which can be left behind, such as "
                f"processes:2, got {type(executor).__name__.lower()}"
            )
        self._waiting: deque[tuple[int, NDArray[np.int64]]] = deque()
        self._suspects: deque[_Part] = deque()
        self._running: dict[Future[Answer], _Part] = {}
        self._pace: float | None = None

    def __len__(self) -> int:
        """How many shapes have been added and not come back."""
        return self.waiting + sum(len(part.rows) for part in self._running.values())

    @property
    def waiting(self) -> int:
        """How many shapes no worker has."""
        return len(self._waiting) + len(self._suspects)

    @property
    def suspects(self) -> int:
        """How many shapes are to be tried by themselves, or are being tried."""
        tried = sum(part.deaths > 0 for part in self._running.values())
        return len(self._suspects) + tried

    @property
    def running(self) -> list[Future[Answer]]:
        """What is under way."""
        return list(self._running)

    def add(self, rows: Sequence[int] | NDArray[np.int64], genotypes: Genotypes) -> None:
        """Add genotypes (n, d), to come back by these rows (n,)."""
        self._waiting.extend(zip(map(int, rows), genotypes, strict=True))

    def collect(self) -> list[Chunk]:
        """Wait until something has come back, or nothing is left; what has.

        Raises:
            NastoolError: The objective raised one, or the engine cannot go on.
        """
        while self:
            wait_for_any([self])
            if found := self.take():
                return found
        return []

    def take(self) -> list[Chunk]:
        """What has come back since, in the order in which it was handed out; waits for nothing.

        Raises:
            NastoolError: As `collect`.
        """
        chunks = [self._take(future) for future in list(self._running) if future.done()]
        # Before anybody looks at these: an idle worker costs more.
        if self._executor.is_elsewhere:
            self.hand_out()
        return [chunk for chunk in chunks if chunk is not None]

    def close(self) -> None:
        """Leave what is under way."""
        for future in self._running:
            self._executor.drop(future)
        self._running.clear()
        self._waiting.clear()
        self._suspects.clear()

    def hand_out(self) -> None:
        """Give every idle worker a part, of whichever work of the crew has the fewest under way."""
        executor, crew = self._executor, self._crew
        while waiting := [work for work in crew if work.waiting]:
            busy = sum(len(work.running) for work in crew)
            if busy >= executor.workers:
                return
            work = min(waiting, key=lambda work: (len(work.running), -work.waiting))
            if not executor.dies_alone and any(work.suspects for work in crew):
                # One after the other, where it would not be known who was it.
                if busy:
                    return
                work = max(waiting, key=lambda work: work.suspects)
            work.begin()
            if not executor.is_elsewhere:
                return

    def begin(self) -> None:
        """Give one worker a part of what waits."""
        part = self._suspects.popleft() if self._suspects else self._next()
        future = self._executor.submit(serve, self._errand, part.genotypes, self._executor.timeout)
        self._running[future] = part

    def _next(self) -> _Part:
        taken = [self._waiting.popleft() for _ in range(self._size(self._executor.workers))]
        return _Part(np.array([row for row, _ in taken]), np.stack([shape for _, shape in taken]))

    def _size(self, workers: int) -> int:
        left = len(self._waiting)
        if self._executor.timeout is not None:
            return 1
        if self._executor.chunk is not None:
            return min(self._executor.chunk, left)
        # A few parts a worker even out their different durations.
        if self._pace is None:
            return max(1, min(_FIRST, math.ceil(left / (4 * workers))))
        fair = left if workers == 1 else math.ceil(left / (2 * workers))
        return max(1, min(_MOST, fair, int(self._moment / max(self._pace, 1e-6))))

    def _take(self, future: Future[Answer]) -> Chunk | None:
        """What came of a part; None where it is to be tried again."""
        part = self._running.pop(future)
        error = None if future.cancelled() else future.exception()
        if error is not None or future.cancelled():
            why = "its worker was lost" if error is None else self._executor.died(error)
            if not why:
                if isinstance(error, NastoolError):
                    raise error
                raise NastoolError(f"{self._name}: {in_one_line(error)}") from error  # type: ignore[arg-type]  # one of the two
            if part.deaths + 1 < self._executor.deaths:
                self._suspects.extend(part.singles())
                return None
            return _failed(part, why)
        answer = future.result()
        if answer.error is not None:
            raise answer.error
        if answer.is_late:
            self._executor.drop(future)
            return _failed(part, f"took longer than {self._executor.timeout:g} s")
        self._pace = answer.seconds / len(part.rows)
        return Chunk(part.rows, answer.values, answer.messages)


def wait_for_any(works: Sequence[Work]) -> None:
    """Have what waits begin, and wait until something of these works has come back."""
    for work in works:
        work.hand_out()
    wait([future for work in works for future in work.running], return_when=FIRST_COMPLETED)


def _failed(part: _Part, why: str) -> Chunk:
    n = len(part.rows)
    return Chunk(part.rows, np.full(n, np.nan), dict.fromkeys(range(n), why))


def evaluated(executor: Executor, objective: Objective, genotypes: Genotypes) -> Generator[Chunk]:
    """Evaluate a batch (n, d), yielding what has come as it comes, in whatever order.

    What goes wrong costs the shape it goes wrong with, see `nastool.objective.evaluate`.
    """
    if not len(genotypes):
        return
    order = order_of(objective, genotypes)
    with contextlib.closing(Work(executor, objective)) as work:
        work.add(order, genotypes[order])
        while work:
            yield from work.collect()
