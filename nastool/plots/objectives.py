"""Three objectives and more at once: parallel coordinates, and every pair of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nastool.plots.axes import TEMPLATE, Axis, axis_of, plotly
from nastool.plots.front import PALETTE
from nastool.plots.page import Member, Panel
from nastool.problem import Problem

if TYPE_CHECKING:
    import plotly.graph_objects as go

MATRIX = 5
"""Objectives of which every pair is drawn at most: more are too small to be read."""


def objectives_panels(problem: Problem, rows: Sequence[Member]) -> tuple[Panel, ...]:
    """What a page shows of fronts of more than two objectives; nothing of others.

    Args:
        problem: What was searched.
        rows: The page's shapes.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    count = len(problem.objectives)
    if count < 3 or not rows:
        return ()
    panels = [Panel("parallel", draw_parallel(problem, rows), brushes=True)]
    if count <= MATRIX:
        panels.append(Panel("matrix", draw_matrix(problem, rows)))
    return tuple(panels)


def _axes(problem: Problem, rows: Sequence[Member]) -> tuple[Axis, ...]:
    values = np.array([row.values for row in rows])
    return tuple(axis_of(o, column) for o, column in zip(problem.objectives, values.T, strict=True))


def _studies(rows: Sequence[Member]) -> list[str]:
    """Studies by first appearance; empty where rows tell of none, or of many at once."""
    names = list(dict.fromkeys(row.study for row in rows))
    return names if 1 < len(names) <= len(PALETTE) and not any("," in n for n in names) else []


def draw_parallel(problem: Problem, rows: Sequence[Member]) -> go.Figure:
    """Every objective as an axis, every shape as a line; coloured by study or first objective.

    Args:
        problem: With objectives.
        rows: Shapes with their values, at least one.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    figure = plotly().Figure()
    values = np.array([row.values for row in rows])
    if studies := _studies(rows):
        colour: dict[str, Any] = {
            "color": [studies.index(row.study) for row in rows],
            "cmin": 0,
            "cmax": len(studies) - 1,
            "colorscale": [
                [i / (len(studies) - 1), PALETTE[i % len(PALETTE)]] for i in range(len(studies))
            ],
        }
    else:
        colour = {"color": values[:, 0].tolist(), "colorscale": "Portland"}
    figure.add_parcoords(
        line=colour,
        dimensions=[
            {
                "label": axis.name,
                "values": column.tolist(),
                "tickformat": "~s" if axis.unit or axis.large else "~g",
            }
            for axis, column in zip(_axes(problem, rows), values.T, strict=True)
        ],
    )
    of = f"; colours are {', '.join(studies)}" if studies else f"; by {problem.objectives[0].name}"
    figure.update_layout(
        title={
            "text": "Every objective",
            "subtitle": {
                "text": "A line is a shape of the front" + of + ". Drag along an axis, or type a "
                "range, and the table below lists what lies within; click the axis for all."
            },
        },
        template=TEMPLATE,
    )
    return figure


def draw_matrix(problem: Problem, rows: Sequence[Member]) -> go.Figure:
    """Every pair of objectives, each a projection of the front.

    Args:
        problem: With objectives.
        rows: Shapes with their values, at least one.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    figure = plotly().Figure()
    axes = _axes(problem, rows)
    studies = _studies(rows) or [""]
    for colour, study in zip(PALETTE, studies, strict=False):
        shown = [row for row in rows if len(studies) == 1 or row.study == study]
        values = np.array([row.values for row in shown])
        figure.add_splom(
            name=study or "front",
            showlegend=len(studies) > 1,
            dimensions=[
                {"label": axis.name, "values": column.tolist()}
                for axis, column in zip(axes, values.T, strict=True)
            ],
            customdata=[
                [row.text, "".join(f"<br>{line}" for line in row.lines), list(row.genotype)]
                for row in shown
            ],
            hovertemplate="<b>%{customdata[0]}</b>%{customdata[1]}<extra></extra>",
            marker={"size": 5, "color": colour, "opacity": 0.75},
            diagonal={"visible": False},
            showupperhalf=False,
        )
    # Those along the top and the right stay empty: a pair is drawn once.
    for place, axis in enumerate(axes, 1):
        suffix = "" if place == 1 else str(place)
        ticks = {"tickformat": "~s", "ticksuffix": axis.unit} if axis.unit or axis.large else {}
        figure.update_layout({f"xaxis{suffix}": ticks, f"yaxis{suffix}": ticks})
    figure.update_layout(
        title={
            "text": "Every pair of objectives",
            "subtitle": {
                "text": f"Each is a projection: what lies within it may be on the front of all "
                f"{len(axes)}"
            },
        },
        hovermode="closest",
        template=TEMPLATE,
    )
    return figure
