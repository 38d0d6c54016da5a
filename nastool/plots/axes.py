"""What every figure says about a metric: its label, its ticks, where its numbers come from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.constraint import format_quantity
from nastool.errors import MissingDependencyError
from nastool.objective import Objective
from nastool.problem import Problem

TEMPLATE = "plotly_white"
"""Of figures that stand alone; on a page they follow the page's colours."""

EVALUATION = "evaluation"
"""Name of the axis that counts evaluations, for problems with a single metric."""


@dataclass(frozen=True)
class Axis:
    """A metric as an axis.

    Args:
        name: The metric's name.
        unit: Base unit; empty for plain numbers.
        kind: ``computed``, ``measured``, ``predicted`` or empty.
        minimized: Whether smaller is better.
        large: Whether values are written with SI prefixes.
    """

    name: str
    unit: str = ""
    kind: str = ""
    minimized: bool = True
    large: bool = False

    @property
    def label(self) -> str:
        """Title of the axis, e.g. ``latency (s, predicted)``."""
        notes = ", ".join(note for note in (self.unit, self.kind) if note)
        return f"{self.name} ({notes})" if notes else self.name

    @property
    def ticks(self) -> dict[str, Any]:
        """Layout keys of the axis in plotly's words."""
        if self.unit or self.large:
            return {"title": {"text": self.label}, "tickformat": "~s", "ticksuffix": self.unit}
        return {"title": {"text": self.label}}

    def hover(self, variable: str) -> str:
        """A line of a hover box.

        Args:
            variable: ``x`` or ``y``.
        """
        number = ".4~s" if self.unit or self.large else ".4~g"
        kind = f" ({self.kind})" if self.kind else ""
        return f"{self.name} %{{{variable}:{number}}}{self.unit}{kind}"


def axis_of(metric: Objective, values: NDArray[np.float64]) -> Axis:
    """The axis of a metric.

    Args:
        metric: The metric.
        values: What is drawn on it, of any shape; decides how numbers are written.
    """
    finite = np.abs(values[np.isfinite(values)])
    return Axis(
        metric.name,
        metric.unit,
        metric.provenance.kind.value,
        metric.direction.sign > 0,
        large=bool(finite.size and finite.max() >= 1e4),
    )


def sources(metrics: Iterable[Objective]) -> tuple[str, ...]:
    """One line a metric: where its numbers come from, proxies included."""
    return tuple(f"{metric.name}: {metric.provenance}" for metric in metrics)


def metric_names(problem: Problem, x: str | None = None, y: str | None = None) -> tuple[str, str]:
    """Which two metrics to draw when the caller leaves it open.

    The first objective goes up, the next metric that is known goes right: another objective, a
    constrained metric, a cost of the space, and where there is none the number of evaluations.
    """
    up = y or next(o.name for o in problem.objectives if o.name != x)
    known = [*(m.name for m in problem.reported), *problem.space.costs, EVALUATION]
    return x or next(name for name in known if name != up), up


def format_metric(metric: Objective, value: float) -> str:
    """A value for people, e.g. ``65.98M``."""
    return format_quantity(float(value), metric.unit)


def plotly() -> Any:
    """The drawing module.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise MissingDependencyError("figures need plotly: pip install plotly") from error
    return go
