"""One frozen batch of evaluated genotypes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.space import Genotypes


@dataclass(frozen=True)
class Evaluations:
    """Genotypes with their values, inside the library: minimised, violation <= 0 is feasible.

    Args:
        genotypes: Shape (n, d).
        objectives: Shape (n, m), minimised; NaN where an evaluation failed.
        violations: Shape (n, c); <= 0 where the constraint holds.

    Raises:
        InvalidInputError: The arrays are not two-dimensional or differ in length.
    """

    genotypes: Genotypes
    objectives: NDArray[np.float64]
    violations: NDArray[np.float64]

    def __post_init__(self) -> None:
        genotypes, objectives, violations = self.genotypes, self.objectives, self.violations
        fit = genotypes.ndim == objectives.ndim == violations.ndim == 2
        if not fit or not len(genotypes) == len(objectives) == len(violations):
            arrays = genotypes, objectives, violations
            raise InvalidInputError(
                "evaluations must be two-dimensional arrays of one length, got shapes "
                + ", ".join(str(a.shape) for a in arrays)
            )

    def __len__(self) -> int:
        return len(self.genotypes)

    def __repr__(self) -> str:
        genes, objectives, constraints = (
            array.shape[1] for array in (self.genotypes, self.objectives, self.violations)
        )
        return (
            f"<Evaluations: {len(self):,} of {genes} genes, {objectives} objectives and "
            f"{constraints} constraints>"
        )

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Rows that satisfy every constraint and did not fail, shape (n,)."""
        feasible: NDArray[np.bool_] = self.satisfied & ~np.isnan(self.objectives).any(axis=1)
        return feasible

    @property
    def satisfied(self) -> NDArray[np.bool_]:
        """Rows that satisfy every constraint, shape (n,)."""
        satisfied: NDArray[np.bool_] = np.all(self.violations <= 0, axis=1)
        return satisfied

    @property
    def total_violation(self) -> NDArray[np.float64]:
        """Sum of the positive violations, shape (n,); infinite where an evaluation failed."""
        total = summed(self.violations)
        total[np.isnan(self.objectives).any(axis=1) | np.isnan(total)] = np.inf
        return total

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Evaluations:
        """The rows at these indices, under this mask or in this slice."""
        return Evaluations(self.genotypes[rows], self.objectives[rows], self.violations[rows])

    @staticmethod
    def concatenate(batches: Sequence[Evaluations], last: int | None = None) -> Evaluations:
        """Join at least one batch along the first axis.

        Args:
            batches: In order.
            last: How many of the last rows to keep, at least 1; all by default.
        """
        rows = slice(None if last is None else -last, None)
        return Evaluations(
            np.concatenate([b.genotypes for b in batches])[rows],
            np.concatenate([b.objectives for b in batches])[rows],
            np.concatenate([b.violations for b in batches])[rows],
        )


def summed(violations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of the positive violations (n, c), shape (n,)."""
    total = np.zeros(len(violations))
    # Column by column: there are few, often none, and a population is ranked very often.
    for violation in violations.T:
        total += np.maximum(violation, 0)
    return total
