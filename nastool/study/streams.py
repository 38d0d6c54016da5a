"""Evaluations that are under way at once and come back one by one, in whatever order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nastool.executors import MOMENT, Chunk, Executor, Work, wait_for_any
from nastool.objective import Objective
from nastool.results import Failure
from nastool.results.archive import Archive
from nastool.space import Genotypes
from nastool.study.batches import BatchEvaluator

if TYPE_CHECKING:
    from nastool.store import Store


@dataclass
class _Row:
    """A genotype on its way.

    Args:
        key: Its identity.
        genotype: Shape (d,).
        values: Shape (r,); NaN for what is not known yet.
        missing: Columns that are to be measured.
        failures: What has gone wrong.
    """

    key: Any
    genotype: NDArray[np.int64]
    values: NDArray[np.float64]
    missing: set[int]
    failures: list[Failure] = field(default_factory=list)


@dataclass(frozen=True)
class Finished:
    """Genotypes that are evaluated, in order of completion.

    Args:
        keys: Their identities, length k.
        genotypes: Shape (k, d).
        values: Every reported metric, shape (k, r).
        failures: What went wrong with them.
    """

    keys: list[Any]
    genotypes: Genotypes
    values: NDArray[np.float64]
    failures: list[Failure]


class Stream(BatchEvaluator):
    """Evaluates genotypes that are added while others are under way.

    Cheap metrics are computed at once. Slow ones share the workers, so that all of them are busy;
    what is measured is kept at once.

    Args:
        archive: What is evaluated already, with its problem.
        store: Knows what was measured before, and keeps what is.
        executor: Where metrics run that are not cheap.
        moment: Seconds that what a worker is handed should take.
    """

    def __init__(
        self, archive: Archive, store: Store | None, executor: Executor, moment: float = MOMENT
    ) -> None:
        super().__init__(archive, store, executor)
        self._rows: dict[int, _Row] = {}
        self._complete: list[int] = []
        self._next = 0
        reported = self._problem.reported
        crew: list[Work] = []
        self._works = {
            column: Work(executor, metric, crew, moment)
            for column, metric in enumerate(reported)
            if not metric.is_cheap
        }

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._rows)

    @property
    def keys(self) -> set[Any]:
        """Identities of what is under way."""
        return {row.key for row in self._rows.values()}

    @property
    def genotypes(self) -> Genotypes:
        """What is under way, in the order in which it was added, shape (n, d)."""
        if not self._rows:
            return np.empty((0, len(self._problem.space.genes)), dtype=np.int64)
        return np.stack([row.genotype for row in self._rows.values()])

    def add(self, keys: list[Any], genotypes: Genotypes) -> None:
        """Have genotypes (n, d) evaluated, none of which is under way or in the archive."""
        values = np.full((len(genotypes), len(self._problem.reported)), np.nan)
        numbers = np.arange(self._next, self._next + len(genotypes))
        self._next += len(genotypes)
        for number, key, genotype, known in zip(
            numbers.tolist(), keys, genotypes, values, strict=True
        ):
            self._rows[number] = _Row(key, genotype, known, set())
        for column, metric in enumerate(self._problem.reported):
            if metric.is_cheap:
                made = self._problem.compute(metric, genotypes)
                values[:, column] = made.values
                for row, failure in self._failed(
                    metric, genotypes, made.messages, np.arange(len(genotypes))
                ):
                    self._rows[int(numbers[row])].failures.append(failure)
            else:
                values[:, column] = self._known(metric, genotypes)
                missing = np.flatnonzero(np.isnan(values[:, column]))
                for row in missing.tolist():
                    self._rows[int(numbers[row])].missing.add(column)
                self._works[column].add(numbers[missing], genotypes[missing])
        self._complete += [n for n in numbers.tolist() if not self._rows[n].missing]

    def _known(self, metric: Objective, genotypes: Genotypes) -> NDArray[np.float64]:
        if self._store is None:
            return np.full(len(genotypes), np.nan)
        from nastool.store.ledger import known_values

        return known_values(self._store, self._problem.space, metric, genotypes)

    def collect(self) -> Finished:
        """Wait until something is evaluated, unless nothing is under way; what is.

        Raises:
            NastoolError: An objective raised one, or failed for all architectures so far.
        """
        while not self._complete and self._rows:
            works = [work for work in self._works.values() if work]
            wait_for_any(works)
            for column, work in self._works.items():
                for chunk in work.take():
                    self._note(column, chunk)
        rows = [self._rows.pop(number) for number in self._complete]
        self._complete = []
        values = np.stack([row.values for row in rows]) if rows else np.empty((0, 0))
        found = Finished(
            [row.key for row in rows],
            np.array([row.genotype for row in rows], dtype=np.int64),
            values,
            [failure for row in rows for failure in row.failures],
        )
        for column in range(values.shape[1]):
            if column not in self._promising:
                self._check_hope(column, values[:, column], list(enumerate(found.failures)))
        return found

    def _note(self, column: int, chunk: Chunk) -> None:
        metric = self._problem.reported[column]
        rows = [self._rows[int(number)] for number in chunk.rows]
        genotypes = np.stack([row.genotype for row in rows])
        places = np.arange(len(rows))
        for place, failure in self._failed(metric, genotypes, chunk.messages, places):
            rows[place].failures.append(failure)
        for number, row, value in zip(chunk.rows.tolist(), rows, chunk.values, strict=True):
            row.values[column] = value
            row.missing.discard(column)
            if not row.missing:
                self._complete.append(number)
        self._save(metric, genotypes, chunk.values, [places])

    def close(self) -> None:
        """Leave what is under way."""
        for work in self._works.values():
            work.close()
