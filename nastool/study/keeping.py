"""How a study is kept in its store: made once, then whatever is new, a transaction at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from nastool.errors import InvalidInputError
from nastool.results import Failure, StopReason
from nastool.results.archive import Archive
from nastool.space import Genotypes
from nastool.study.course import Course
from nastool.study.known import Known

if TYPE_CHECKING:
    from nastool.store import Store, StoredStudy
    from nastool.store.sharing import Turn

_COMMIT_SECONDS = 0.5
"""Oldest work that a kill can undo; a commit every batch would cost more than fast objectives."""


class Keeper:
    """Knows what of a study its store has already.

    Args:
        store: Where the study is kept.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.exists = False
        self._key = 0
        self._commits = 0
        self._evaluations = 0
        self._failures = 0
        self._state: tuple[int, int, str] | None = None
        self._written_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the oldest work that is not written has waited long enough."""
        return time.perf_counter() - self._written_at >= _COMMIT_SECONDS

    def follow(self, stored: StoredStudy, state: tuple[int, int, str] | None) -> None:
        """Go on with what is stored.

        Args:
            stored: As it was read.
            state: What `commit` was told with the strategy's state, if that is stored.
        """
        self.exists = True
        self._key, self._commits = stored.key, stored.commits
        self._evaluations = len(stored.batch.genotypes)
        self._failures = len(stored.batch.failures)
        self._state = state

    def turn(self, owner: str, course: Course) -> AbstractContextManager[Turn]:
        """A turn on the study, see `nastool.store.Store.turn`."""
        return self.store.turn(self._key, len(course.archive), owner)

    def renew(self, owner: str, lease_s: float) -> None:
        """Let what a process has taken be its own for some more seconds."""
        self.store.renew(self._key, owner, lease_s)

    def left(self, name: str) -> list[Genotypes]:
        """What processes that shared the study have left, arrays (k, d).

        Args:
            name: What the study is called in messages.

        Raises:
            InvalidInputError: Some are working on it now, each of which takes its turns.
        """
        leases = self.store.leases(self._key) if self.exists else []
        if others := sum(lease.is_live for lease in leases):
            raise InvalidInputError(
                f"study {name!r} is shared by {others} processes at work: join them, or wait for "
                "their end"
            )
        return [lease.genotypes for lease in leases]

    def knows(self, stored: StoredStudy) -> bool:
        """Whether nobody else has committed to the study since."""
        return self._commits == stored.commits

    def followed(self, course: Course, commits: int, stop_reason: StopReason) -> None:
        """A turn has written all there is."""
        self._commits = commits
        self._evaluations, self._failures = len(course.archive), len(course.failures)
        self._state = course.told, course.stale, stop_reason

    def begin(self) -> None:
        """What is evaluated from now on is not written yet."""
        self._written_at = time.perf_counter()

    def create(
        self,
        name: str,
        base: str,
        identity: Mapping[str, Any],
        description: Mapping[str, Any],
        known: Known | None = None,
    ) -> str:
        """Make the study, unless it is there.

        Args:
            name: Its name; empty to find one.
            base: What a name that is found begins with.
            identity: What must not change between runs.
            description: What else is kept of it.
            known: What it begins with.

        Returns:
            Its name.

        Raises:
            InvalidInputError: The name is taken, or cannot be one.
        """
        from nastool.store import Batch

        batch = None
        if known is not None:
            batch = Batch(known.genotypes, known.values, np.zeros(len(known)))
        while not self.exists:
            chosen = name or self._free_name(base)
            try:
                self._key = self.store.create_study(chosen, identity, description, batch)
            except InvalidInputError:
                # Where it was found here, another process has taken it in the meantime.
                if name or chosen not in self.store.names():
                    raise
            else:
                self.exists = True
                if known is not None:
                    self._evaluations, self._commits = len(known), 1
                return chosen
        return name

    def _free_name(self, base: str) -> str:
        taken = set(self.store.names())
        numbers = range(1, len(taken) + 2)
        return next(name for k in numbers if (name := f"{base}-{k}") not in taken)

    def commit(
        self,
        archive: Archive,
        failures: Sequence[Failure],
        state: Mapping[str, Any] | None,
        seconds: float,
        stop_reason: StopReason,
        *,
        revise: bool = False,
    ) -> None:
        """Write what is new, or everything anew; the strategy's state too, where there is one.

        Args:
            archive: All evaluations.
            failures: All messages.
            state: Of the strategy, with how much it was ``told`` and how ``stale`` it is; None
                within a batch.
            seconds: What the study has taken.
            stop_reason: Why the run ended; empty while it goes on.
            revise: Whether evaluations that the store has are others now.
        """
        from nastool.store import Batch

        self.begin()
        if not self.exists:
            return
        begin, failed = (0, 0) if revise else (self._evaluations, self._failures)
        new = [list(asdict(failure).values()) for failure in failures[failed:]]
        kept = self._state if state is None else (state["told"], state["stale"], stop_reason)
        if begin == len(archive) and not new and kept == self._state:
            return
        self._commits = self.store.commit(
            self._key,
            self._evaluations,
            Batch(archive.genotypes[begin:], archive.values[begin:], archive.elapsed[begin:], new),
            state,
            seconds,
            stop_reason,
            self._commits,
            anew=revise,
        )
        self._evaluations, self._failures, self._state = len(archive), len(failures), kept
