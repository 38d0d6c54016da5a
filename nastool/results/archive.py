"""The archive of a study: every distinct genotype with its values, in order of evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.evaluations import Evaluations
from nastool.problem import Problem
from nastool.space import Genotypes

_CAPACITY = 1024


class Archive:
    """Growing arrays and an index from genotype to row.

    Args:
        problem: Says which metrics a row has.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._length = 0
        self._rows: dict[Any, int] = {}
        self._genotypes = np.empty((_CAPACITY, len(problem.space.genes)), dtype=np.int64)
        self._values = np.empty((_CAPACITY, len(problem.reported)))
        self._elapsed = np.empty(_CAPACITY)

    def __len__(self) -> int:
        return self._length

    def __contains__(self, key: object) -> bool:
        """Whether a key of `SearchSpace.keys` is there."""
        return key in self._rows

    @property
    def genotypes(self) -> Genotypes:
        """Shape (n, d); a view."""
        return self._genotypes[: self._length]

    @property
    def values(self) -> NDArray[np.float64]:
        """Every reported metric in its natural sign and base unit, shape (n, r); a view."""
        return self._values[: self._length]

    @property
    def elapsed(self) -> NDArray[np.float64]:
        """Seconds of the study after which each row was known, shape (n,); a view."""
        return self._elapsed[: self._length]

    def rows(self, keys: Sequence[Any]) -> NDArray[np.int64]:
        """Row of each key of `SearchSpace.keys`, all of which are there, shape (n,)."""
        return np.fromiter(map(self._rows.__getitem__, keys), dtype=np.int64, count=len(keys))

    def first_positions(self, keys: Sequence[Any]) -> NDArray[np.int64]:
        """Where in a sequence of keys each new one occurs first, ascending."""
        if self._rows.keys().isdisjoint(keys) and len(set(keys)) == len(keys):
            return np.arange(len(keys))
        positions: dict[Any, int] = {}
        for position, key in enumerate(keys):
            if key not in self._rows:
                positions.setdefault(key, position)
        return np.fromiter(positions.values(), dtype=np.int64)

    def append(
        self,
        keys: Sequence[Any],
        genotypes: Genotypes,
        values: NDArray[np.float64],
        elapsed: NDArray[np.float64] | float,
    ) -> None:
        """Add rows whose keys are new and distinct.

        Args:
            keys: Identities of the genotypes, length n.
            genotypes: Shape (n, d).
            values: Shape (n, r).
            elapsed: Seconds, shape (n,) or one number for all.
        """
        begin, end = self._length, self._length + len(genotypes)
        if end > len(self._genotypes):
            capacity = max(end, 2 * len(self._genotypes))
            self._genotypes = _grown(self._genotypes, capacity)
            self._values = _grown(self._values, capacity)
            self._elapsed = _grown(self._elapsed, capacity)
        self._genotypes[begin:end] = genotypes
        self._values[begin:end] = values
        self._elapsed[begin:end] = elapsed
        self._rows.update(zip(keys, range(begin, end), strict=True))
        self._length = end

    def replace(self, rows: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Give rows (k,) other values (k, r)."""
        self._values[rows] = values

    def evaluations(self, rows: NDArray[np.int64] | slice) -> Evaluations:
        """These rows as a strategy sees them: minimised, with violations; copies."""
        return self.problem.evaluations(self.genotypes[rows].copy(), self.values[rows])


def _grown(array: NDArray[Any], capacity: int) -> NDArray[Any]:
    larger = np.empty((capacity, *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger
