"""Running a study one by one: so many under way, by this process or by several that share it."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import StoreError
from nastool.results import StopReason
from nastool.runtime.interrupt import Interrupt
from nastool.space import Genotypes
from nastool.study.course import STALE_LIMIT, Course
from nastool.study.keeping import Keeper
from nastool.study.reopening import fill, restore, stored_failures
from nastool.study.streams import Finished, Stream

if TYPE_CHECKING:
    from nastool.store.sharing import Turn

LEASE_SECONDS = 20.0
"""How long what a process has taken stays its own after it was last heard of; four signs of life.

One of the same machine that has ended is known to have.
"""

MOMENT_SHARED = 0.25
"""Seconds that what a worker is handed should take where processes share: others wait for it."""

_TURN_SECONDS = 0.5
"""Between two turns of a process, while its workers have enough to do."""

_HORIZON = 2.0
"""Seconds for which a process takes architectures, unless it is told how many."""

_MOST = 64
"""Architectures that a process takes a worker at most, unless it is told how many."""

_LOOK = (0.05, 1.0)
"""Shortest and longest wait for others who have taken all there is."""


class Flow(ABC):
    """Keeps some architectures under way, and tells the strategy what has come.

    Args:
        course: What has been found so far.
        stream: Evaluates.
    """

    commits = False
    """Whether it writes to the store by itself."""

    def __init__(self, course: Course, stream: Stream) -> None:
        self._course = course
        self._stream = stream

    @property
    def under_way(self) -> Genotypes:
        """What is being evaluated, and what is left to be, shape (k, d)."""
        return np.concatenate([self._stream.genotypes, self._course.left])

    @abstractmethod
    def step(self, budget: int, interrupt: Interrupt, zero: float) -> StopReason:
        """Go on until something has come; why to stop, empty to go on.

        Args:
            budget: Evaluations of the whole study.
            interrupt: Cuts it short.
            zero: When the study would have begun, had it not been interrupted, by `perf_counter`.
        """

    def close(self, stop_reason: StopReason) -> None:
        """Leave what is under way."""
        del stop_reason
        self._course.left = self.under_way
        self._stream.close()


class Alone(Flow):
    """A flow of this process alone.

    Args:
        course: What has been found so far.
        stream: Evaluates.
        pending: How many are under way at any time.
    """

    def __init__(self, course: Course, stream: Stream, pending: int) -> None:
        super().__init__(course, stream)
        self._pending = pending

    def step(self, budget: int, interrupt: Interrupt, zero: float) -> StopReason:
        course, stream = self._course, self._stream
        if len(course.archive) >= budget:
            return "budget"
        course.tell_new()
        if course.stale >= STALE_LIMIT and not stream:
            return "stalled"
        free = min(self._pending, budget - len(course.archive)) - len(stream)
        if free > 0 and len(course.left):
            keys, left = course.news(course.left, stream.keys)
            stream.add(keys[:free], left[:free])
            course.left = left[free:]
            free -= len(keys)
        if free > 0:
            course.strategy.pending = stream.genotypes
            proposals = course.ask(free)
            if not len(proposals) and not stream:
                return "exhausted"
            keys, new = course.news(proposals, stream.keys)
            # What waits for what is under way proposes nothing new until then.
            course.stale = 0 if keys or stream else course.stale + 1
            stream.add(keys, new)
        if not stream:
            return ""
        try:
            with interrupt.cutting_short():
                found = stream.collect()
        except KeyboardInterrupt:
            return "interrupted"
        course.failures += found.failures
        elapsed = time.perf_counter() - zero
        course.archive.append(found.keys, found.genotypes, found.values, elapsed)
        course.tell_new()
        return ""


class Shared(Flow):
    """A flow of one of several processes that share a study, each with a store of its own.

    They take turns. Whose turn it is has the study's row locked: it learns what others have found,
    adds what it has found itself, tells the strategy, whose state goes from hand to hand with the
    study, takes over what a process had that is not heard of any more, asks for the rest, and
    writes all that at once. What it takes is its own for as long as it renews its lease. So what a
    process that dies had is evaluated by another, and nothing is told twice.

    Args:
        course: What has been found so far.
        stream: Evaluates.
        keeper: Keeps the study, which exists.
        pending: How many it has under way at any time; what takes a moment by default.
        workers: How many can be evaluated at once.
    """

    commits = True

    def __init__(
        self,
        course: Course,
        stream: Stream,
        keeper: Keeper,
        pending: int | None = None,
        workers: int = 1,
    ) -> None:
        super().__init__(course, stream)
        # Here, for what has no store need not load what stores are made of.
        from nastool.store.sharing import new_owner

        self._keeper = keeper
        self._owner = new_owner()
        self._most = pending or workers
        self._is_told_most = pending is not None
        self._workers = workers
        self._finished: list[Finished] = []
        self._zero, self._seconds = time.perf_counter(), 0.0
        self._pause = _LOOK[0]
        self._over = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="nastool-lease", daemon=True)
        self._renewing.start()

    def _renew(self) -> None:
        while not self._over.wait(LEASE_SECONDS / 4):
            # A store that is away for a moment is asked again; for longer, and others take over.
            with contextlib.suppress(StoreError):
                self._keeper.renew(self._owner, LEASE_SECONDS)

    def step(self, budget: int, interrupt: Interrupt, zero: float) -> StopReason:
        stream, self._zero = self._stream, zero
        reason = self._turn(budget)
        if reason:
            return reason
        try:
            with interrupt.cutting_short():
                if stream:
                    self._collect()
                    self._pause = _LOOK[0]
                else:
                    time.sleep(self._pause)
                    self._pause = min(2 * self._pause, _LOOK[1])
        except KeyboardInterrupt:
            return "interrupted"
        return ""

    def _collect(self) -> None:
        """Take what comes until it is worth a turn: at once, unless there is more to do."""
        began = time.perf_counter()
        count = 0
        while True:
            found = self._stream.collect()
            self._finished.append(found)
            count += len(found.keys)
            taken = time.perf_counter() - began
            if taken >= _TURN_SECONDS or len(self._stream) <= self._workers:
                break
        if not self._is_told_most and count:
            wanted = math.ceil(count / max(taken, 1e-6) * _HORIZON)
            self._most = max(self._workers, min(wanted, _MOST * self._workers, 2 * self._most))

    def _turn(self, budget: int) -> StopReason:
        """Give what has come, and take what is next; why to stop, empty to go on."""
        course, stream = self._course, self._stream
        reason: StopReason = ""
        with self._keeper.turn(self._owner, course) as turn:
            begin = self._learn(turn)
            busy = stream.keys.union(*(self._keys(o.genotypes) for o in turn.leases if o.is_live))
            left = self._left(turn, busy)
            count = len(course.archive)
            # What others have come to in the meantime is under way no more.
            busy = {key for key in busy if key not in course.archive}
            free = min(self._most - len(stream), budget - count - len(busy))
            chosen = {key: left.pop(key) for key in list(left)[: max(free, 0)]}
            if count >= budget:
                reason = "budget"
            elif free > len(chosen):
                more, reason = self._ask(free - len(chosen), turn, {*busy, *chosen})
                chosen |= more
            taken = self._stacked(chosen.values())
            gone = any(not lease.is_live for lease in turn.leases)
            if chosen or gone or begin[0] < count:
                held = np.concatenate([stream.genotypes, taken])
                self._write(turn, begin, held, self._stacked(left.values()), reason)
        stream.add(list(chosen), taken)
        return reason

    def _stacked(self, genotypes: Iterable[NDArray[np.int64]]) -> Genotypes:
        rows = np.array(list(genotypes), dtype=np.int64)
        return rows.reshape(-1, len(self._course.problem.space.genes))

    def _learn(self, turn: Turn) -> tuple[int, int]:
        """Take over what others have found and add what this process has; how much there was.

        What others came to first is left out.
        """
        course, stored = self._course, turn.stored
        space, archive, failures = course.problem.space, course.archive, course.failures
        if not self._keeper.knows(stored):
            fill(archive, stored)
            failures += stored_failures(stored)
            if stored.state is not None:
                restore(course, stored)
        begin = len(archive), len(failures)
        self._seconds = max(time.perf_counter() - self._zero, stored.summary.seconds)
        for found in self._finished:
            rows = archive.first_positions(found.keys)
            shapes = set(space.texts(found.genotypes[rows]))
            failures += [f for f in found.failures if f.architecture in shapes]
            keys = [found.keys[row] for row in rows.tolist()]
            archive.append(keys, found.genotypes[rows], found.values[rows], self._seconds)
        self._finished.clear()
        course.tell_new()
        return begin

    def _keys(self, genotypes: Genotypes) -> list[Any]:
        space = self._course.problem.space
        return space.keys(space.validate(genotypes))

    def _left(self, turn: Turn, busy: set[Any]) -> dict[Any, NDArray[np.int64]]:
        """What is left by processes that are gone, by key."""
        course = self._course
        over = [course.left, *(lease.genotypes for lease in turn.leases if not lease.is_live)]
        course.left = course.left[:0]
        left = np.concatenate(over)
        return {
            key: row
            for key, row in zip(self._keys(left), left, strict=True)
            if key not in busy and key not in course.archive
        }

    def _ask(
        self, n: int, turn: Turn, busy: set[Any]
    ) -> tuple[dict[Any, NDArray[np.int64]], StopReason]:
        """Up to n new proposals by key, and why there are none any more."""
        course = self._course
        others = [lease.genotypes for lease in turn.leases if lease.is_live]
        course.strategy.pending = np.concatenate([self._stream.genotypes, *others])
        proposals = course.ask(n)
        keys, new = course.news(proposals, busy)
        course.stale = 0 if keys or busy else course.stale + 1
        reason: StopReason = ""
        if not keys and not busy:
            if not len(proposals):
                reason = "exhausted"
            elif course.stale >= STALE_LIMIT:
                reason = "stalled"
        return dict(zip(keys, new, strict=True)), reason

    def _write(
        self,
        turn: Turn,
        begin: tuple[int, int],
        held: Genotypes,
        left: Genotypes,
        reason: StopReason,
    ) -> None:
        from nastool.store import Batch
        from nastool.store.sharing import NOBODY

        course, (first, failed) = self._course, begin
        archive = course.archive
        batch = Batch(
            archive.genotypes[first:],
            archive.values[first:],
            archive.elapsed[first:],
            [list(asdict(failure).values()) for failure in course.failures[failed:]],
        )
        commits = turn.commit(
            batch,
            course.state(course.left),
            self._seconds,
            reason,
            {self._owner: (held, LEASE_SECONDS), NOBODY: (left, 0.0)},
        )
        self._keeper.followed(course, commits, reason)

    def close(self, stop_reason: StopReason) -> None:
        """Keep what has come, and leave to others what is under way."""
        self._over.set()
        self._renewing.join()
        stream = self._stream
        try:
            with self._keeper.turn(self._owner, self._course) as turn:
                begin = self._learn(turn)
                left = self._left(turn, set())
                left |= dict(zip(self._keys(stream.genotypes), stream.genotypes, strict=True))
                left = {key: row for key, row in left.items() if key not in self._course.archive}
                rest = self._stacked(left.values())
                self._write(turn, begin, rest[:0], rest, stop_reason)
        finally:
            stream.close()
