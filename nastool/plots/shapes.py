"""The shapes of a front as a heat map: genes up, members of the front from left to right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nastool import pareto
from nastool.errors import InvalidInputError
from nastool.plots.axes import TEMPLATE, format_metric, plotly, sources
from nastool.plots.front import Outcome
from nastool.space import Genotypes

if TYPE_CHECKING:
    import plotly.graph_objects as go

MEMBERS = 60
"""Columns drawn: more are narrower than a finger on a phone."""


@dataclass(frozen=True)
class ShapesData:
    """Everything the figure shows.

    Args:
        genotypes: Shape (k, d): the members, from left to right.
        values: Shape (d, k): numeric choices, or indices of the others.
        choices: Shape (d, k): the choices as text.
        limits: Smallest and largest value a gene of the space can have.
        genes: Names of the d genes.
        metric: The metric the members are sorted by.
        labels: Each member's value of that metric as text.
        summaries: Each member's metrics as text.
        total: Members of the whole front.
        numeric: Whether every value is a number rather than an index.
        notes: Where the numbers come from.
    """

    genotypes: Genotypes
    values: NDArray[np.float64]
    choices: tuple[tuple[str, ...], ...]
    limits: tuple[float, float]
    genes: tuple[str, ...]
    metric: str
    labels: tuple[str, ...]
    summaries: tuple[str, ...]
    total: int
    numeric: bool
    notes: tuple[str, ...]


def shapes_data(result: Outcome, limit: int = MEMBERS) -> ShapesData:
    """Compute the figure.

    Args:
        result: Of a study.
        limit: Members at most; more are thinned evenly.

    Raises:
        InvalidInputError: The front is empty, or a limit below one.
    """
    if limit < 1:
        raise InvalidInputError(f"the number of members must be at least 1, got {limit}")
    problem, front = result.problem, result.front()
    if len(front) == 0:
        raise InvalidInputError("the front is empty: no evaluated architecture is allowed")
    space = problem.space
    # The last objective is the cost by convention; a front sorted by it reads from small to large.
    metric = problem.objectives[-1]
    natural = front.objectives * problem.signs
    order = np.argsort(natural[:, -1], kind="stable")
    kept = order[pareto.spread(len(order), limit)]
    genotypes, natural = front.genotypes[kept], natural[kept]
    summaries = tuple(
        ", ".join(
            f"{o.name} {format_metric(o, value)} ({o.provenance.kind.value})"
            for o, value in zip(problem.objectives, row, strict=True)
        )
        for row in natural
    )
    choices = [[str(choice) for choice in architecture] for architecture in space.decode(genotypes)]
    numeric = all(gene.is_numeric for gene in space.genes)
    table = [
        [float(choice) for choice in gene.choices] if numeric else list(range(len(gene.choices)))
        for gene in space.genes
    ]
    every = [value for row in table for value in row]
    return ShapesData(
        genotypes,
        np.array([[row[i] for i in taken] for row, taken in zip(table, genotypes.T, strict=True)]),
        tuple(zip(*choices, strict=True)),
        (min(every), max(every)),
        tuple(gene.name for gene in space.genes),
        metric.name,
        tuple(format_metric(metric, value) for value in natural[:, -1]),
        summaries,
        len(front),
        numeric,
        sources(problem.objectives),
    )


def draw_shapes(data: ShapesData, title: str = "Shapes of the front") -> go.Figure:
    """Draw the figure.

    Args:
        data: From `shapes_data`.
        title: Heading.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    members = len(data.labels)
    marked = np.unique(np.linspace(0, members - 1, min(members, 4)).round().astype(int))
    figure = plotly().Figure()
    figure.add_heatmap(
        z=data.values.tolist(),
        y=list(data.genes),
        text=[
            [f"{choice}<br>{summary}" for choice, summary in zip(row, data.summaries, strict=True)]
            for row in data.choices
        ],
        hovertemplate="%{y}: <b>%{text}</b><extra></extra>",
        colorscale="Viridis",
        # The whole range of the space, so that the colours of two figures mean the same.
        zmin=data.limits[0],
        zmax=data.limits[1],
        # Narrow cells would be mostly gap on a phone.
        xgap=1 if members <= MEMBERS // 2 else 0,
        ygap=1,
        colorbar={"title": {"text": "width" if data.numeric else "choice"}, "thickness": 12},
    )
    total = f" of {data.total:,}, evenly spread" if members < data.total else ""
    figure.update_layout(
        title={
            "text": title,
            "subtitle": {"text": f"{members}{total}; from small to large {data.metric}"},
        },
        xaxis={
            "title": {"text": data.metric},
            "tickvals": marked.tolist(),
            "ticktext": [data.labels[i] for i in marked],
            "showgrid": False,
        },
        yaxis={"automargin": True, "showgrid": False},
        template=TEMPLATE,
    )
    return figure
