"""What a predicted value is worth: its interval, where that was earned, and how it flatters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Floats
from nastool.constraint import format_quantity
from nastool.objective import Kind, Objective, half_widths_of, outside_of
from nastool.space import Genotypes

_POSITIVE = ("s", "J", "B")
"""Units of what every pass takes."""

COVERAGE = 0.9
"""Share of new measurements that the intervals of predicted values are to hold."""


@dataclass(frozen=True, eq=False)
class Trust:
    """How far predicted values of some shapes are to be trusted.

    Args:
        metric: What is predicted.
        values: Predicted, shape (n,).
        halves: Half-widths of intervals that hold 90% of new measurements, shape (n,), or None.
        outside: Shapes outside of what the predictor has seen, where no error is known; (n,).
    """

    metric: Objective
    values: Floats
    halves: Floats | None
    outside: NDArray[np.bool_]

    @cached_property
    def corrected(self) -> Floats | None:
        """Values worse by what the best of many predictions flatters, (n,); None if not known."""
        optimism = self.metric.optimism
        if optimism is None:
            return None
        sign = self.metric.direction.sign
        worse: Floats = self.values + sign * optimism * np.abs(self.values)
        return worse

    def interval(self, row: int) -> tuple[float, float] | None:
        """The interval of a shape; None where it is not known, outside of the region included."""
        if self.halves is None or self.outside[row] or not np.isfinite(self.values[row]):
            return None
        value, half = float(self.values[row]), float(self.halves[row])
        return value - half, value + half

    def text(self, row: int) -> str:
        """What stands behind the value of a shape: ``±9.1``, or ``!`` outside of the region."""
        if self.outside[row]:
            return "!"
        if self.halves is None or not np.isfinite(self.values[row]):
            return ""
        return f"±{rounded(float(self.halves[row]), self.metric.unit)}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What to say below the values."""
        found = []
        if self.halves is not None:
            found.append(f"± holds {COVERAGE:.0%} of new measurements of shapes like the measured")
        if self.metric.optimism is not None and self.metric.optimism > 0:
            share = self.metric.optimism
            found.append(
                f"the best of many predictions is likely about {share:.1%} worse (mostly 0% to "
                f"{2 * share:.1%})"
            )
        return (*found, *self.warnings)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to say of values that are not to be relied on, whatever else is shown."""
        found, n = [], len(self.values)
        if self.outside.any():
            found.append(
                f"! {int(self.outside.sum()):,} of {n:,} shapes lie outside of what the predictor "
                "has seen: how far off it is there is not known"
            )
        if few := int(_impossible(self.metric, self.values).sum()):
            found.append(
                f"{few:,} of {n:,} shapes are predicted at zero or less, which none can be: the "
                "predictor does not reach that far; bound it from below by what was measured"
            )
        return tuple(found)

    def as_dict(self, row: int) -> dict[str, Any]:
        """What JSON says of a shape."""
        ends = self.interval(row)
        corrected = self.corrected
        return {
            "interval": None if ends is None else list(ends),
            "outside": bool(self.outside[row]),
            "corrected": None if corrected is None else _number(corrected[row]),
        }


def trust(metric: Objective, genotypes: Genotypes, values: Floats) -> Trust:
    """Judge predicted values.

    Args:
        metric: Predicted.
        genotypes: Shape (n, d).
        values: What is predicted of them, shape (n,).
    """
    # No table holds what cannot be, even one of which no region is known.
    outside = outside_of(metric, genotypes) | _impossible(metric, values)
    return Trust(metric, values, half_widths_of(metric, values), outside)


def _impossible(metric: Objective, values: Floats) -> NDArray[np.bool_]:
    """Which predicted values (n,) no shape can have: no time, no energy and no memory, (n,)."""
    impossible: NDArray[np.bool_] = (values <= 0) & (metric.unit in _POSITIVE)
    return impossible


def is_predicted(metric: Objective) -> bool:
    """Whether the values of a metric are predictions."""
    return metric.provenance.kind is Kind.PREDICTED


def rounded(half: float, unit: str) -> str:
    """A half-width for people, two digits."""
    return format_quantity(float(f"{half:.2g}"), unit)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
