"""Batches of a study: every reported metric of some genotypes, as far as they can be had."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nastool.errors import NastoolError
from nastool.executors import Executor, evaluated
from nastool.objective import NO_NUMBER, Objective
from nastool.results import Failure
from nastool.results.archive import Archive
from nastool.runtime.interrupt import Interrupt
from nastool.space import Genotypes

if TYPE_CHECKING:
    from nastool.store import Store

_SAVE_SECONDS = 0.5
"""Oldest measurement that a kill can undo."""

_HOPELESS = 8
"""Number of architectures of which one at least must not raise."""


class BatchEvaluator:
    """Evaluates the metrics of a problem: cheap ones here, slow ones in an executor.

    Args:
        archive: What is evaluated already, with its problem.
        store: Knows what was measured before, and keeps what is.
        executor: Where metrics run that are not cheap.
    """

    def __init__(self, archive: Archive, store: Store | None, executor: Executor) -> None:
        self._archive = archive
        self._problem = archive.problem
        self._store = store
        self._executor = executor
        reported = archive.problem.reported
        self._cheap = [objective.is_cheap for objective in reported]
        # The slow ones last: where they are cut short, their first rows are complete.
        self._order = sorted(range(len(reported)), key=lambda column: not self._cheap[column])
        self._promising: set[int] = set()

    def evaluate(
        self,
        genotypes: Genotypes,
        interrupt: Interrupt,
        known: NDArray[np.float64] | None = None,
    ) -> tuple[NDArray[np.float64], list[Failure]]:
        """Values (k, r) of the first k genotypes (n, d), and what went wrong with them.

        Args:
            genotypes: Shape (n, d).
            interrupt: Cuts it short.
            known: Values that are kept, shape (n, r); NaN for what is to be evaluated.

        Returns:
            All of them, k = n, unless interrupted.

        Raises:
            NastoolError: An objective raised one, or failed for all architectures so far.
        """
        reported = self._problem.reported
        values = np.empty((len(genotypes), len(reported)))
        values[:] = np.nan if known is None else known
        missing: slice | NDArray[np.int64] = slice(None)
        ready = [0] * len(reported)
        failures: list[tuple[int, Failure]] = []
        with contextlib.suppress(KeyboardInterrupt), interrupt.cutting_short():
            for column in self._order:
                objective = reported[column]
                if self._cheap[column]:
                    if known is not None:
                        missing = np.flatnonzero(np.isnan(values[:, column]))
                    given = genotypes[missing]
                    made = self._problem.compute(objective, given)
                    values[missing, column] = made.values
                    if made.messages:
                        rows = np.arange(len(genotypes))[missing]
                        failures += self._failed(objective, given, made.messages, rows)
                    ready[column] = len(genotypes)
                else:
                    counts = self._measure(objective, genotypes, values[:, column], failures)
                    for count in counts:
                        ready[column] = count
                if column not in self._promising:
                    self._check_hope(column, values[:, column], failures)
        done = min(ready)
        # Whoever was evaluated first: what is said of a batch must not depend on the machines.
        failures.sort(key=lambda failure: failure[0])
        return values[:done], [failure for row, failure in failures if row < done]

    def _failed(
        self,
        objective: Objective,
        genotypes: Genotypes,
        messages: Mapping[int, str],
        rows: NDArray[np.int64],
    ) -> list[tuple[int, Failure]]:
        """What went wrong with some of the genotypes (k, d), by their rows (k,) in the batch."""
        if not messages:
            return []
        shapes = self._problem.space.texts(genotypes[list(messages)])
        return [
            (int(rows[k]), Failure(shape, objective.name, message))
            for shape, (k, message) in zip(shapes, messages.items(), strict=True)
        ]

    def _measure(
        self,
        objective: Objective,
        genotypes: Genotypes,
        values: NDArray[np.float64],
        failures: list[tuple[int, Failure]],
    ) -> Iterator[int]:
        """Fill in values (n,) of a slow objective, yielding how many first rows are known."""
        if self._store is not None:
            from nastool.store.ledger import known_values

            known = known_values(self._store, self._problem.space, objective, genotypes)
            values[:] = np.where(np.isnan(values), known, values)
        missing = np.flatnonzero(np.isnan(values))
        # Rows before the first that is not there are what an interrupt leaves.
        left = np.zeros(len(genotypes), dtype=bool)
        left[missing] = True
        unsaved: list[NDArray[np.int64]] = []
        saved_at = time.perf_counter()
        try:
            # Closing ends what still runs when an interrupt leaves the loop early.
            with contextlib.closing(
                evaluated(self._executor, objective, genotypes[missing])
            ) as chunks:
                for chunk in chunks:
                    rows = missing[chunk.rows]
                    values[rows] = chunk.values
                    left[rows] = False
                    unsaved.append(rows)
                    failures += self._failed(objective, genotypes[rows], chunk.messages, rows)
                    if time.perf_counter() - saved_at >= _SAVE_SECONDS:
                        self._save(objective, genotypes, values, unsaved)
                        saved_at = time.perf_counter()
                    if left.any():
                        yield int(left.argmax())
            yield len(genotypes)
        finally:
            self._save(objective, genotypes, values, unsaved)

    def _save(
        self,
        objective: Objective,
        genotypes: Genotypes,
        values: NDArray[np.float64],
        unsaved: list[NDArray[np.int64]],
    ) -> None:
        """Keep what has come, in whatever order it came."""
        if self._store is not None and unsaved:
            from nastool.store.ledger import keep_values

            rows = np.concatenate(unsaved)
            space = self._problem.space
            keep_values(self._store, space, objective, genotypes[rows], values[rows])
        unsaved.clear()

    def _check_hope(
        self, column: int, values: NDArray[np.float64], failures: list[tuple[int, Failure]]
    ) -> None:
        """Refuse to spend a whole budget on an objective that always fails."""
        count = len(self._archive) + len(values)
        if count < _HOPELESS:
            return
        if np.isfinite(values).any() or np.isfinite(self._archive.values[:, column]).any():
            self._promising.add(column)
            return
        name = self._problem.reported[column].name
        mine = [failure for _, failure in failures if failure.metric == name]
        which = f", {mine[-1].architecture} with {mine[-1].message}" if mine else f": {NO_NUMBER}"
        raise NastoolError(f"{name} failed on all of the first {count} architectures{which}")
