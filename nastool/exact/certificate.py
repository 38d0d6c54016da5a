"""What an exact search has proven."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nastool.errors import InvalidInputError


@dataclass(frozen=True)
class Certificate:
    """Which part of a space is accounted for, and how.

    Everything is in one of three counts once the search is complete: it breaks a constraint, or a
    bound proves that it improves on nothing found, or it was evaluated.

    Args:
        size: Number of architectures of the space, or of what `counted` says.
        excluded: Cut off because a whole part of the space breaks a constraint.
        pruned: Cut off by bounds.
        evaluated: Evaluated one by one.
        best: Least value of the objective found, in its natural sign.
        bound: Nothing in the space that is allowed can be better than that; equals `best` when
            complete.
        gap: How much better than what was found anything still unseen can be: for a front, at
            equal cost; infinite where that is not known.
        front: Number of points found.
        seconds: Time the search has taken, over all its runs.
        done: Share of the work units that is done, from 0 to 1.
        counted: What is accounted for; genotypes, where a space does not say which of them are one
            architecture.

    Raises:
        InvalidInputError: The counts do not add up to the space.
    """

    size: int
    excluded: int
    pruned: int
    evaluated: int
    best: float
    bound: float
    gap: float
    front: int
    seconds: float
    done: float
    counted: str = "architectures"

    def __post_init__(self) -> None:
        if self.covered > self.size or (self.done == 1.0 and self.covered != self.size):
            raise InvalidInputError(
                f"a certificate must account for {self.size:,} {self.counted}, got {self.covered:,}"
            )

    @property
    def covered(self) -> int:
        """How many are accounted for."""
        return self.excluded + self.pruned + self.evaluated

    @property
    def is_complete(self) -> bool:
        """Whether the whole space is accounted for."""
        return self.covered == self.size

    @property
    def remaining(self) -> float:
        """Estimate of the seconds left; the units come in random order, so early ones tell."""
        return self.seconds * (1 - self.done) / self.done if self.done else float("inf")

    def __str__(self) -> str:
        shares = (
            f"{self.evaluated:,} evaluated, {self.pruned:,} pruned by bounds, "
            f"{self.excluded:,} excluded by constraints"
        )
        if self.is_complete:
            few = {0: "no architecture satisfies the constraints", 1: "the optimum"}
            what = few.get(self.front, f"all {self.front:,} points of the front")
            return (
                f"proven: {what}; {self.size:,} {self.counted} accounted for in "
                f"{self.seconds:,.1f} s ({shares})"
            )
        gap = f", nothing unseen is better by more than {self.gap:.3g}"
        return (
            f"not proven: {self.covered:,} of {self.size:,} {self.counted} accounted for in "
            f"{self.seconds:,.1f} s ({shares}); best {self.best:.7g}, lower bound "
            f"{self.bound:.7g}{gap if self.gap < math.inf else ''}"
        )
