"""Which values the runs of each strategy reach together, in two objectives (Fonseca 1996)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nastool.comparison import Comparison
from nastool.pareto.indicators import Values
from nastool.plots.axes import TEMPLATE, Axis, axis_of, plotly, sources
from nastool.plots.front import PALETTE, translucent

if TYPE_CHECKING:
    import plotly.graph_objects as go

LEVELS = (0.25, 0.5, 0.75)
"""Shares of the runs: the middle one is drawn as a line, the outer ones bound a band."""


@dataclass(frozen=True, eq=False)
class Boundary:
    """A staircase, natural sign and base unit, from the worst value of x to the best.

    Args:
        x: Second objective, shape (k,).
        y: First objective, shape (k,).
    """

    x: Values
    y: Values


@dataclass(frozen=True, eq=False)
class Attained:
    """A strategy in the figure.

    Args:
        strategy: Its name.
        boundaries: One for each of `LEVELS`; empty where fewer runs found anything.
    """

    strategy: str
    boundaries: tuple[Boundary, ...]


@dataclass(frozen=True, eq=False)
class AttainmentData:
    """Everything the figure shows.

    Args:
        x: The second objective.
        y: The first objective.
        strategies: In the comparison's order.
        seeds: How many runs each has.
        notes: Where the numbers of each axis come from.
    """

    x: Axis
    y: Axis
    strategies: tuple[Attained, ...]
    seeds: int
    notes: tuple[str, ...]


def attainment_data(comparison: Comparison) -> AttainmentData:
    """Compute the figure.

    Args:
        comparison: Finished runs with two objectives.

    Raises:
        InvalidInputError: Other than two objectives.
    """
    surfaces = [comparison.attainment(strategy, LEVELS) for strategy in comparison.results]
    first, second = comparison.problem.objectives
    seen = np.concatenate([surface.y[np.isfinite(surface.y)] for surface in surfaces])
    signs = comparison.problem.signs
    worst = (seen * signs[1]).max() * signs[1] if len(seen) else np.nan
    attained = [
        Attained(
            surface.strategy, tuple(_staircase(surface.x, row, float(worst)) for row in surface.y)
        )
        for surface in surfaces
    ]
    heights = np.concatenate([surface.x for surface in surfaces])
    return AttainmentData(
        axis_of(second, seen),
        axis_of(first, heights),
        tuple(attained),
        len(comparison.seeds),
        sources((first, second)),
    )


def _staircase(first: Values, second: Values, worst: float) -> Boundary:
    """The corners of a surface that steps at `first`, only where it does step."""
    reached = np.isfinite(second)
    y, x = first[reached], second[reached]
    if len(x) == 0:
        return Boundary(x, y)
    steps = np.append(True, x[1:] != x[:-1])
    corners_x, corners_y = x[steps], y[steps]
    # Up to a step the value before it holds; the first one is reached coming from the worst.
    return Boundary(
        np.append(np.repeat(np.append(worst, corners_x), 2)[1:-1], corners_x[-1]),
        np.append(np.repeat(corners_y, 2), y[-1]),
    )


def draw_attainment(data: AttainmentData) -> go.Figure:
    """Draw the figure.

    Args:
        data: From `attainment_data`.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    figure = plotly().Figure()
    for index, strategy in enumerate(data.strategies):
        low, _, high = strategy.boundaries
        if data.seeds > 1 and len(low.x) and len(high.x):
            figure.add_scatter(
                x=np.concatenate([low.x, high.x[::-1]]).tolist(),
                y=np.concatenate([low.y, high.y[::-1]]).tolist(),
                fill="toself",
                fillcolor=translucent(PALETTE[index % len(PALETTE)]),
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                showlegend=False,
                legendgroup=strategy.strategy,
            )
    for index, strategy in enumerate(data.strategies):
        middle = strategy.boundaries[1]
        figure.add_scatter(
            name=strategy.strategy,
            legendgroup=strategy.strategy,
            x=middle.x.tolist(),
            y=middle.y.tolist(),
            mode="lines",
            line={"color": PALETTE[index % len(PALETTE)], "width": 2},
            hovertemplate=f"<b>{strategy.strategy}</b>: half of the runs reach<br>"
            f"{data.y.hover('y')}<br>{data.x.hover('x')}<extra></extra>",
        )
    figure.update_layout(
        title={
            "text": "Attainment surfaces",
            "subtitle": {
                "text": f"What half of the {data.seeds} runs of a strategy reach (line), and what "
                f"{LEVELS[0]:.0%} to {LEVELS[2]:.0%} of them do (band)"
                if data.seeds > 1
                else "What the run of each strategy reaches"
            },
        },
        xaxis=data.x.ticks,
        yaxis=data.y.ticks,
        hovermode="closest",
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        template=TEMPLATE,
    )
    return figure
