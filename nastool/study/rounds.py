"""Running a study batch by batch: ask, evaluate what is new, tell."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from nastool.results import StopReason
from nastool.runtime.interrupt import Interrupt
from nastool.space import Genotypes
from nastool.study.batches import BatchEvaluator
from nastool.study.course import STALE_LIMIT, Course


class Rounds:
    """Rounds of a study, which can end and go on within a batch.

    Args:
        course: What has been found so far.
        evaluator: Evaluates.
    """

    def __init__(self, course: Course, evaluator: BatchEvaluator) -> None:
        self._course = course
        self._evaluator = evaluator
        self._size = course.problem.space.count.high
        self._pending: tuple[Genotypes, list[Any]] | None = None

    @property
    def is_between(self) -> bool:
        """Whether no batch is begun of which the strategy is not told."""
        return self._pending is None

    def leave(self) -> None:
        """Leave the batch that is begun: the strategy is told of it like of all else."""
        if self._pending is not None:
            proposals, keys = self._pending
            self._course.left = proposals[self._course.archive.first_positions(keys)]
            self._pending = None

    def step(
        self, budget: int, batch_size: int, known: int, interrupt: Interrupt, zero: float
    ) -> StopReason:
        """One batch, or the rest of one; why to stop, empty to go on.

        Args:
            budget: Evaluations of the whole study.
            batch_size: How many genotypes the strategy is asked for.
            known: How many evaluations the study began with.
            interrupt: Cuts it short.
            zero: When the study would have begun, had it not been interrupted, by `perf_counter`.
        """
        course, archive, strategy = self._course, self._course.archive, self._course.strategy
        if len(archive) >= budget:
            return "budget"
        if course.stale >= STALE_LIMIT:
            return "stalled"
        if course.told < known:
            course.tell(slice(course.told, known))
            course.told = known
        if self._pending is None and len(course.left):
            # What a run one by one, or a process that shared the study, did not come to.
            self._pending = course.left, course.problem.space.keys(course.left)
            course.left = course.left[:0]
        if self._pending is None:
            if course.told >= self._size:
                return "exhausted"
            if not strategy.can_be_interrupted:
                proposals = course.ask(batch_size)
            else:
                try:
                    with interrupt.cutting_short():
                        proposals = course.ask(batch_size)
                except KeyboardInterrupt:
                    if not interrupt.requested:
                        raise
                    return "interrupted"
            if len(proposals) == 0:
                return "exhausted"
            self._pending = proposals, course.problem.space.keys(proposals)
        proposals, keys = self._pending
        new = archive.first_positions(keys)
        begin = len(archive)
        if len(new):
            chosen = new[: budget - begin]
            asked, names = proposals, keys
            if len(chosen) < len(keys):
                asked, names = proposals[chosen], [keys[k] for k in chosen.tolist()]
            values, failures = self._evaluator.evaluate(asked, interrupt)
            course.failures += failures
            done = len(values)
            archive.append(names[:done], asked[:done], values, time.perf_counter() - zero)
            if done < len(chosen):
                return "interrupted"
            if done < len(new):
                return "budget"
        if len(new) == len(keys):
            told = len(archive)
            course.tell(slice(begin, told))
        else:
            # After a kill the archive is ahead of the strategy: what it has not seen is new to it.
            rows = archive.rows(keys)
            told = max(course.told, int(rows.max()) + 1)
            course.tell(rows)
        self._pending = None
        course.stale = 0 if told > course.told else course.stale + 1
        course.told = told
        return ""

    def retry(self, interrupt: Interrupt) -> StopReason:
        """Evaluate again what has failed; why to stop, empty to go on."""
        course, archive = self._course, self._course.archive
        failed = np.flatnonzero(np.isnan(archive.values).any(axis=1))
        genotypes = archive.genotypes[failed]
        values, failures = self._evaluator.evaluate(genotypes, interrupt, archive.values[failed])
        retried = set(course.problem.space.texts(genotypes[: len(values)]))
        kept = [failure for failure in course.failures if failure.architecture not in retried]
        course.failures = kept + failures
        rows = failed[: len(values)]
        archive.replace(rows, values)
        # Of what the archive is ahead of it after a kill, the strategy will be told in its turn.
        told = rows[rows < course.told]
        if len(told):
            course.tell(told)
        return "interrupted" if len(rows) < len(failed) else ""
