"""How an indicator develops over the runs of each strategy: median and interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nastool.comparison import Comparison
from nastool.pareto.indicators import Axis, Values, median_interval
from nastool.plots.axes import TEMPLATE, plotly
from nastool.plots.front import PALETTE, translucent
from nastool.plots.standings import CONFIDENCE, basis, label, spoken_interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

_FLOOR = 1e-5
"""Smallest missing share that is drawn: a logarithmic axis has no zero."""


@dataclass(frozen=True, eq=False)
class Line:
    """A strategy in the figure.

    Args:
        strategy: Its name.
        x: Evaluations or seconds, shape (k,); only where every run had found something.
        median: Shape (k,).
        low: Lower end of the interval, shape (k,).
        high: Upper end of the interval, shape (k,).
    """

    strategy: str
    x: Values
    median: Values
    low: Values
    high: Values


@dataclass(frozen=True, eq=False)
class AnytimeData:
    """Everything the figure shows.

    Args:
        name: Of the indicator.
        heading: The same for people.
        unit: Base unit.
        axis: What x counts.
        lines: One a strategy, in the comparison's order.
        seeds: How many runs a line stands for.
        basis: The objectives, and what their numbers are.
    """

    name: str
    heading: str
    unit: str
    axis: Axis
    lines: tuple[Line, ...]
    seeds: int
    basis: str


def anytime_data(
    comparison: Comparison, indicator: str = "hypervolume", axis: Axis = "evaluations"
) -> AnytimeData:
    """Compute the figure.

    Args:
        comparison: Finished runs.
        indicator: Name of an indicator.
        axis: Evaluations, or seconds of a run.

    Raises:
        InvalidInputError: Unknown indicator or axis.
    """
    curve = comparison.curve(indicator, axis)
    lines = []
    for strategy, values in curve.values.items():
        runs = comparison.results[strategy]
        # A line ends where the last of its runs ended: what comes after is no finding.
        ends = [len(run) if axis == "evaluations" else run.elapsed[-1] for run in runs if len(run)]
        shown = (curve.x <= max(ends, default=0)) & np.isfinite(values).all(axis=0)
        kept = values[:, shown]
        low, high, _ = median_interval(kept, CONFIDENCE)
        median = np.median(kept, axis=0)
        lines.append(Line(strategy, curve.x[shown], median, low, high))
    chosen = curve.indicator
    return AnytimeData(
        chosen.name,
        label(chosen),
        chosen.unit,
        axis,
        tuple(lines),
        len(comparison.seeds),
        basis(comparison),
    )


def draw_anytime(data: AnytimeData) -> go.Figure:
    """Draw the figure; hypervolume as the share that is missing, so that the last percent shows.

    Args:
        data: From `anytime_data`.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    figure = plotly().Figure()
    missing = data.name == "hypervolume"
    share = missing or data.name in ("igd_plus", "additive_epsilon")

    def height(values: Values) -> list[float]:
        drawn = 1 - values if missing else values
        return [float(v) for v in (np.maximum(drawn, _FLOOR) if share else drawn)]

    for index, line in enumerate(data.lines):
        colour = PALETTE[index % len(PALETTE)]
        there_and_back = np.concatenate([line.x, line.x[::-1]])
        figure.add_scatter(
            x=there_and_back.tolist(),
            y=height(np.concatenate([line.low, line.high[::-1]])),
            fill="toself",
            fillcolor=translucent(colour),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            legendgroup=line.strategy,
        )
    number = ".3%" if missing else ".4~g"
    unit = "s" if data.axis == "seconds" else " evaluations"
    for index, line in enumerate(data.lines):
        ends = np.zeros(len(line.x))
        ends[-1:] = 7
        figure.add_scatter(
            name=line.strategy,
            legendgroup=line.strategy,
            x=line.x.tolist(),
            y=height(line.median),
            customdata=np.stack([line.median, line.low, line.high], axis=1).tolist(),
            mode="lines+markers",
            marker={"size": ends.tolist(), "opacity": 1, "line": {"width": 0}},
            line={"color": PALETTE[index % len(PALETTE)], "width": 2},
            hovertemplate=f"<b>{line.strategy}</b> after %{{x:.4~s}}{unit}<br>{data.heading} "
            f"%{{customdata[0]:{number}}}{data.unit} (%{{customdata[1]:{number}}} to "
            f"%{{customdata[2]:{number}}})<extra></extra>",
        )
    what = "hypervolume that is missing" if missing else data.heading
    vertical: dict[str, Any] = {
        "title": {"text": what + (f" ({data.unit})" if data.unit else ""), "standoff": 12},
        "automargin": True,
    }
    if share:
        vertical |= {"type": "log", "dtick": 1}
    if missing:
        vertical["tickformat"] = "~%"
    subtitle = f"Median of {data.seeds} seeds{spoken_interval(data.seeds)}"
    if data.seeds == 1:
        subtitle = "A single seed"
    subtitle += f", from {data.basis}; a line ends with its budget"
    if missing:
        subtitle += f"; less is better, and what is below {_FLOOR:.3%} is drawn there"
    figure.update_layout(
        title={
            "text": f"{data.heading[:1].upper()}{data.heading[1:]} over {data.axis}",
            "subtitle": {"text": subtitle},
        },
        xaxis={
            "title": {"text": "seconds of a run" if data.axis == "seconds" else data.axis},
            "type": "log",
            "dtick": "D2" if data.axis == "seconds" else 1,
            # 10 ms are no "10m", which reads as minutes.
            "tickformat": "~g" if data.axis == "seconds" else "~s",
        },
        yaxis=vertical,
        hovermode="closest",
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        template=TEMPLATE,
    )
    return figure
