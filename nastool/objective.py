"""Objectives: how good an architecture is."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError, naming
from nastool.space import Genotypes


class Direction(enum.Enum):
    """Which way is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    @property
    def sign(self) -> int:
        """Factor that turns a value into one to be minimised."""
        return 1 if self is Direction.MINIMIZE else -1


class Kind(enum.Enum):
    """How a number came about."""

    COMPUTED = "computed"
    MEASURED = "measured"
    PREDICTED = "predicted"


@dataclass(frozen=True)
class Provenance:
    """What a value is worth: every table and figure shows it.

    Args:
        kind: Computed in closed form, measured, or predicted.
        by: What produced it, e.g. ``closed form`` or ``XGBoost on 3,000 shapes of minilm-12``.
        error: How far off it is, in words, e.g. ``held-out R2 0.99``; empty where exact.
        proxy: What it stands in for and why that matters; empty when it is the thing itself.
    """

    kind: Kind
    by: str
    error: str = ""
    proxy: str = ""

    def __str__(self) -> str:
        parts = [f"{self.kind.value} ({self.by}", f", {self.error})" if self.error else ")"]
        return "".join(parts) + (f"; PROXY: {self.proxy}" if self.proxy else "")


class Objective(ABC):
    """A number for every architecture of a space.

    A subclass defines the abstract members; `nastool.testing.ObjectiveConformance` checks it.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The metric's name as users type it, e.g. ``latency[pixel7]``."""

    @property
    def unit(self) -> str:
        """SI base unit of the values: ``s``, ``B``, ``J``; empty for plain numbers."""
        return ""

    @property
    def direction(self) -> Direction:
        """Which way is better; minimised unless overridden."""
        return Direction.MINIMIZE

    @property
    @abstractmethod
    def provenance(self) -> Provenance:
        """How the values come about."""

    @property
    def is_cheap(self) -> bool:
        """Whether evaluating costs so little that a constraint on it is enforced beforehand."""
        return self.provenance.kind is not Kind.MEASURED

    @property
    def interval(self) -> float | None:
        """Half-width that holds 90% of new measurements; None where it is not known."""
        return None

    def half_widths(self, values: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Half-widths that hold 90% of new measurements, where they differ by value.

        Args:
            values: Of this metric, shape (n,).

        Returns:
            Shape (n,); `interval` everywhere unless overridden; None where it is not known.
        """
        return None if self.interval is None else np.full(len(values), self.interval)

    def outside(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        """Which shapes of (n, d) lie outside of what the values were learned from, shape (n,)."""
        return np.zeros(len(genotypes), dtype=bool)

    @property
    def optimism(self) -> float | None:
        """By which share of its value the best of many is likely worse; None if not known."""
        return None

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Identity of the values: equal fingerprints promise equal values."""

    @abstractmethod
    def evaluate(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """Values in the natural sign and base unit.

        Args:
            genotypes: Shape (n, d), valid for the space the objective was made for.

        Returns:
            Shape (n,); NaN where the evaluation failed.
        """


def evaluate(objective: Objective, genotypes: Genotypes) -> NDArray[np.float64]:
    """Values of an objective that nobody has checked, shape (n,); NaN where it failed.

    Args:
        objective: One of which no evaluation may raise.
        genotypes: Shape (n, d).

    Raises:
        InvalidInputError: It returned something else than n real numbers.
        NastoolError: It raised; the message names it.
    """
    with naming(f"objective {objective.name}"):
        returned = objective.evaluate(genotypes)
    return checked_values(objective, returned, len(genotypes))


def checked_values(objective: Objective, values: object, n: int) -> NDArray[np.float64]:
    """What an objective returned, as floats; infinite values count as failed (NaN).

    Args:
        objective: What returned them.
        values: What it returned for n genotypes.
        n: Number of genotypes.

    Raises:
        InvalidInputError: The values are not n real numbers.
    """
    array = np.asarray(values)
    if array.shape != (n,) or array.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"objective {objective.name} must return {n} real numbers of shape ({n},), "
            f"got {array.dtype} of shape {array.shape}"
        )
    finite = np.isfinite(array)
    if finite.all():
        return array.astype(np.float64, copy=False)
    return np.where(finite, array, np.nan).astype(np.float64)
