"""The Pareto front over everything that was evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.evaluations import Evaluations
from nastool.plots.axes import (
    EVALUATION,
    TEMPLATE,
    Axis,
    axis_of,
    format_metric,
    metric_names,
    plotly,
    sources,
)
from nastool.predictors.trust import Trust, is_predicted, trust
from nastool.problem import Problem
from nastool.space import Genotypes

if TYPE_CHECKING:
    import plotly.graph_objects as go

CLOUD = 4_000
"""Points of the cloud that are drawn per study: more only make the page slow."""

PALETTE = (
    "#3b82f6", "#f97316", "#10b981", "#a855f7", "#ef4444", "#eab308", "#06b6d4", "#ec4899",
    "#84cc16", "#a16207", "#64748b",
)  # fmt: skip
"""Colours that are told apart on white and on near-black."""


def translucent(colour: str) -> str:
    """A colour of the palette as the fill of a band."""
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"


class Outcome(Protocol):
    """The part of a study's result that figures read."""

    @property
    def problem(self) -> Problem:
        """What was searched."""

    @property
    def evaluations(self) -> Evaluations:
        """Everything evaluated, in order."""

    def front(self) -> Evaluations:
        """The feasible evaluations that nothing dominates."""

    def values(self, genotypes: Genotypes) -> dict[str, NDArray[np.float64]]:
        """Every reported metric of evaluated genotypes, natural sign and base unit."""


@dataclass(frozen=True)
class Points:
    """Architectures as points.

    Args:
        genotypes: Shape (n, d).
        x: Shape (n,), natural sign and base unit.
        y: Shape (n,).
        texts: Each architecture as text.
        details: For each, every metric as lines of text.
        values: Every metric by name, shape (n,) each.
    """

    genotypes: Genotypes
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    texts: tuple[str, ...]
    details: tuple[str, ...]
    values: Mapping[str, NDArray[np.float64]]

    def take(self, rows: NDArray[np.int64]) -> Points:
        """Some of the points, in the order of their indices."""
        return Points(
            self.genotypes[rows],
            self.x[rows],
            self.y[rows],
            tuple(self.texts[i] for i in rows),
            tuple(self.details[i] for i in rows),
            {name: values[rows] for name, values in self.values.items()},
        )


@dataclass(frozen=True)
class FrontSeries:
    """One study in the figure.

    Args:
        name: Shown in the legend.
        front: The front, from left to right.
        cloud: What else was evaluated and is allowed, thinned.
        evaluations: How many evaluations the study has.
    """

    name: str
    front: Points
    cloud: Points
    evaluations: int


@dataclass(frozen=True)
class Cloud:
    """Further points of the figure: what was measured elsewhere, or shapes that have a name.

    Args:
        name: Shown in the legend.
        x: Shape (n,), base unit.
        y: Shape (n,).
        texts: What each point is called.
        marked: Whether every point is worth a look, or all are the background.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    texts: tuple[str, ...]
    marked: bool = False


@dataclass(frozen=True)
class Bound:
    """A constraint as a line: it bounds the axis ``x`` or ``y`` at a value."""

    axis: str
    value: float
    text: str


@dataclass(frozen=True)
class FrontData:
    """Everything the figure shows.

    Args:
        x: Horizontal axis.
        y: Vertical axis.
        series: One for each study.
        bounds: Constraints on either axis.
        notes: Where the numbers of each axis come from.
        connected: Whether a staircase through the fronts means anything: two objectives.
        clouds: Points of other origin behind the fronts and on them.
        choice: Every metric that the axes can show, where there are more than two objectives.
    """

    x: Axis
    y: Axis
    series: tuple[FrontSeries, ...]
    bounds: tuple[Bound, ...]
    notes: tuple[str, ...]
    connected: bool
    clouds: tuple[Cloud, ...] = ()
    choice: tuple[Axis, ...] = ()

    @property
    def heading(self) -> str:
        """What the figure shows; of many objectives only a projection."""
        text = "Pareto fronts" if len(self.series) > 1 else "Pareto front"
        if not self.choice:
            return text
        return f"{text}: a projection of {len(self.choice)} metrics onto two"


def front_data(
    results: Mapping[str, Outcome],
    x: str | None = None,
    y: str | None = None,
    cloud: int | None = None,
    clouds: Sequence[Cloud] = (),
) -> FrontData:
    """Compute the figure.

    Args:
        results: By the name shown; all of the same space and metrics.
        x: Metric on the horizontal axis; an objective, a constrained metric or a cost.
        y: Metric on the vertical axis; by default the first objective.
        cloud: Points drawn of each study besides its front, at most; `CLOUD` by default.
        clouds: Further points of the same two metrics.

    Raises:
        InvalidInputError: No results, or results of different spaces.
    """
    if not results:
        raise InvalidInputError("a figure needs at least one result, got none")
    problems = [result.problem for result in results.values()]
    problem = problems[0]
    if len({p.space.fingerprint for p in problems}) > 1:
        spaces = ", ".join(p.space.name for p in problems)
        raise InvalidInputError(f"a figure compares results of one space, got {spaces}")
    names = metric_names(problem, x, y)
    series = tuple(
        _series(name, result, names, CLOUD if cloud is None else cloud)
        for name, result in results.items()
    )
    axes = [
        _axis(problem, name, np.concatenate([*(p for s in series for p in _column(s, i)), *more]))
        for i, (name, more) in enumerate(
            zip(names, ([c.x for c in clouds], [c.y for c in clouds]), strict=True)
        )
    ]
    bounds = {
        Bound("xy"[names.index(c.metric)], c.bound, str(c)): None
        for p in problems
        for c in p.constraints
        if c.metric in names
    }
    metrics = [problem.metric(name) for name in reversed(names) if name != EVALUATION]
    return FrontData(
        axes[0],
        axes[1],
        series,
        tuple(bounds),
        sources(metrics),
        connected={o.name for o in problem.objectives} == set(names),
        clouds=tuple(clouds),
        choice=_choice(problem, series) if len(problem.objectives) > 2 else (),
    )


def _choice(problem: Problem, series: Sequence[FrontSeries]) -> tuple[Axis, ...]:
    """Every metric that all points have, as an axis."""
    return tuple(
        _axis(
            problem,
            name,
            np.concatenate([p.values[name] for s in series for p in (s.front, s.cloud)]),
        )
        for name in series[0].front.values
    )


def _column(series: FrontSeries, column: int) -> tuple[NDArray[np.float64], ...]:
    attribute = "xy"[column]
    return getattr(series.front, attribute), getattr(series.cloud, attribute)


def _axis(problem: Problem, name: str, values: NDArray[np.float64]) -> Axis:
    if name == EVALUATION:
        return Axis(EVALUATION, large=bool(values.size and values.max() >= 1e4))
    return axis_of(problem.metric(name), values)


def _series(name: str, result: Outcome, names: tuple[str, str], cloud: int) -> FrontSeries:
    problem, evaluations = result.problem, result.evaluations
    keys = problem.space.keys(evaluations.genotypes)
    front_keys = problem.space.keys(result.front().genotypes)
    first = {key: row for row, key in reversed(list(enumerate(keys)))}
    on_front = np.array([first[key] for key in dict.fromkeys(front_keys)], dtype=np.int64)
    rest = np.array(sorted(set(first.values()) - set(on_front.tolist())), dtype=np.int64)
    rest = rest[evaluations.feasible[rest]]
    if len(rest) > cloud:
        rest = np.sort(np.random.default_rng(0).choice(rest, cloud, replace=False))
    front = _points(result, on_front, names)
    order = np.lexsort((front.y, front.x))
    return FrontSeries(
        name,
        front.take(order),
        _points(result, rest, names),
        len(evaluations),
    )


def _points(result: Outcome, rows: NDArray[np.int64], names: tuple[str, str]) -> Points:
    problem, genotypes = result.problem, result.evaluations.genotypes[rows]
    values = dict(result.values(genotypes))
    for name in names:
        if name == EVALUATION:
            values[name] = (rows + 1).astype(np.float64)
        elif name not in values:
            values[name] = problem.metric(name).evaluate(genotypes)
    # What goes up first, then what goes right, as in the headings of the page.
    shown = dict.fromkeys((names[1], names[0], *values))
    worth = [
        trust(problem.metric(name), genotypes, values[name])
        for name in values
        if name != EVALUATION and is_predicted(problem.metric(name))
    ]
    details = tuple(
        "".join(_line(problem, name, values[name][i]) for name in shown)
        + "".join(_interval(judged, i) for judged in worth)
        for i in range(len(rows))
    )
    texts = tuple(problem.space.format(genotype) for genotype in genotypes)
    return Points(genotypes, values[names[0]], values[names[1]], texts, details, values)


def _line(problem: Problem, name: str, value: float) -> str:
    """A metric as a line of a hover box."""
    if name == EVALUATION:
        return f"<br>{name} {value:,.0f}"
    metric = problem.metric(name)
    return f"<br>{name} {format_metric(metric, value)} ({metric.provenance.kind.value})"


def _interval(worth: Trust, row: int) -> str:
    """A line of a hover box; empty where nothing is known."""
    name = worth.metric.name
    if worth.outside[row]:
        return f"<br>{name}: outside of what the predictor has seen"
    ends = worth.interval(row)
    if ends is None:
        return ""
    low, high = (format_metric(worth.metric, end) for end in ends)
    return f"<br>{name}: {low} to {high} holds 90%"


def draw_front(data: FrontData, title: str = "") -> go.Figure:
    """Draw the figure.

    Args:
        data: From `front_data`.
        title: Heading; by default what the figure shows. The subtitle says where the numbers
            come from.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    figure = plotly().Figure()
    hover = "<b>%{customdata[0]}</b>%{customdata[1]}"
    several = len(data.series) > 1
    for cloud in data.clouds:
        if not cloud.marked:
            style = {"size": 3, "opacity": 0.3, "color": "#64748b"}
            figure.add_scatter(
                name=f"{cloud.name} ({len(cloud.x):,})", **_cloud(data, cloud, style)
            )
    for index, series in enumerate(data.series):
        colour = PALETTE[index % len(PALETTE)]
        shown = len(series.cloud.x)
        if shown:
            thinned = shown + len(series.front.x) < series.evaluations
            count = f"{shown:,} of {series.evaluations:,}" if thinned else f"{shown:,}"
            figure.add_scatter(
                name=f"{series.name} evaluated" if several else f"evaluated ({count})",
                legendgroup=series.name if several else None,  # a group stands in a column
                showlegend=not several,
                mode="markers",
                marker={
                    "size": 3 if several else 4,
                    "opacity": 0.2 if several else 0.35,
                    "color": colour if several else "#94a3b8",
                },
                hovertemplate=f"{hover}<extra>{series.name}</extra>",
                **_trace(data, series.cloud),
            )
    # Fronts come last, so that no cloud covers them.
    for index, series in enumerate(data.series):
        colour = PALETTE[index % len(PALETTE)]
        figure.add_scatter(
            name=f"{series.name} ({len(series.front.x)})" if several else _front_name(series),
            legendgroup=series.name if several else None,
            mode="lines+markers" if data.connected else "markers",
            line={"shape": _staircase(data), "width": 1.5, "color": colour},
            marker={"size": 5 if several else 7, "color": colour},
            hovertemplate=f"{hover}<extra>{series.name}, front</extra>",
            **_trace(data, series.front),
        )
    for index, cloud in enumerate(cloud for cloud in data.clouds if cloud.marked):
        colour = PALETTE[-1 - index % len(PALETTE)]
        style = {"size": 9, "symbol": "diamond-open", "color": colour, "line": {"width": 2}}
        figure.add_scatter(name=cloud.name, **_cloud(data, cloud, style))
    for bound in data.bounds:
        line = {"line_dash": "dash", "line_width": 1.5, "line_color": "#ef4444"}
        label: dict[str, Any] = {"annotation_text": bound.text, **line}
        if bound.axis == "x":
            figure.add_vline(bound.value, annotation_position="top left", **label)
        else:
            figure.add_hline(bound.value, annotation_position="top right", **label)
    figure.update_layout(
        title={
            "text": title or data.heading,
            "subtitle": {"text": "<br>".join(data.notes)},
        },
        xaxis=data.x.ticks,
        yaxis=data.y.ticks,
        hovermode="closest",
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        template=TEMPLATE,
    )
    return figure


def _front_name(series: FrontSeries) -> str:
    return f"Pareto front ({len(series.front.x):,})"


def _staircase(data: FrontData) -> str:
    """The staircase that bounds what is dominated, for the directions of the axes."""
    return "hv" if data.x.minimized else "vh"


def _cloud(data: FrontData, cloud: Cloud, marker: dict[str, Any]) -> dict[str, Any]:
    """The parts of a trace that a cloud gives; no click selects its points."""
    # The axes say how the front's numbers came about, which is not how these did.
    y, x = (replace(axis, kind="") for axis in (data.y, data.x))
    return {
        "mode": "markers",
        "marker": marker,
        "x": cloud.x.tolist(),
        "y": cloud.y.tolist(),
        "text": list(cloud.texts),
        "hovertemplate": f"<b>%{{text}}</b><br>{y.hover('y')}<br>{x.hover('x')}"
        f"<extra>{cloud.name}</extra>",
    }


def _trace(data: FrontData, points: Points) -> dict[str, Any]:
    every = {axis.name: points.values[axis.name].tolist() for axis in data.choice}
    return {
        # Read by the page when another axis is chosen.
        **({"meta": every} if every else {}),
        "x": points.x.tolist(),
        "y": points.y.tolist(),
        "customdata": [
            list(row)
            for row in zip(points.texts, points.details, points.genotypes.tolist(), strict=True)
        ],
    }
