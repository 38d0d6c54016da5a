"""Whether a measurement says the same twice: the noise gate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nastool.arrays import Floats
from nastool.errors import InvalidInputError
from nastool.numbers import score_text
from nastool.predictors.evaluation import spearman


@dataclass(frozen=True)
class Repeatability:
    """How two measurements of the same shapes agree.

    Args:
        n: Number of shapes.
        spearman: Rank correlation; NaN where either side is constant or n is below 2.
        error: Median over the shapes of their relative difference.
        error_p90: 90th percentile of it.
        shift: Median signed relative difference: how much slower the second one was.
    """

    n: int
    spearman: float
    error: float
    error_p90: float
    shift: float

    def __str__(self) -> str:
        return (
            f"{self.n} shapes, Spearman {score_text(self.spearman, 3)}, relative difference "
            f"{self.error:.1%} (median), {self.error_p90:.1%} (p90), shift {self.shift:+.1%}"
        )

    def as_dict(self) -> dict[str, float | None]:
        """Plain numbers for JSON, None where one is not defined."""
        return {k: v if math.isfinite(v) else None for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Repeatability:
        """What `as_dict` wrote."""
        numbers: dict[str, Any] = {k: math.nan if v is None else v for k, v in content.items()}
        return cls(**numbers)


def repeatability(first: Floats, second: Floats) -> Repeatability:
    """Compare two measurements of the same shapes.

    Args:
        first: Shape (n,), positive.
        second: Shape (n,), of the same shapes in the same order.

    Raises:
        InvalidInputError: Different lengths, or no shapes.
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise InvalidInputError(
            "repeatability needs two measurements of each shape, "
            f"got {first.shape} and {second.shape}"
        )
    relative = (second - first) / ((first + second) / 2)
    return Repeatability(
        n=len(first),
        spearman=spearman(first, second) if len(first) > 1 else math.nan,
        error=float(np.median(np.abs(relative))),
        error_p90=float(np.quantile(np.abs(relative), 0.9)),
        shift=float(np.median(relative)),
    )


@dataclass(frozen=True)
class NoiseGate:
    """What a measurement must fulfil before shapes may be ranked by it.

    Two halves that agree at a rank correlation of 0.9 bound what any predictor of one of them can
    reach at about 0.95.

    Args:
        spearman: Lowest rank correlation between two halves.
        error: Largest median relative difference between two halves.

    Raises:
        InvalidInputError: A threshold that nothing or everything passes.
    """

    spearman: float = 0.9
    error: float = 0.05

    def __post_init__(self) -> None:
        if not (-1 <= self.spearman < 1 and self.error > 0):
            raise InvalidInputError(
                "a noise gate needs -1 <= rank correlation < 1 and a relative difference > 0, "
                f"got {self.spearman:g} and {self.error:g}"
            )

    def refusal(self, found: Repeatability) -> str:
        """Why a measurement may not become an objective; empty where it may."""
        reasons = []
        # Written so that NaN does not pass.
        if not found.spearman >= self.spearman:
            reasons.append(
                f"rank correlation between repeats must be at least {self.spearman:g}, "
                f"got {found.spearman:.6g}"
            )
        if not found.error <= self.error:
            reasons.append(
                f"relative difference between repeats must be at most {self.error:.0%}, "
                f"got {found.error:.1%}"
            )
        return "; ".join(reasons)
