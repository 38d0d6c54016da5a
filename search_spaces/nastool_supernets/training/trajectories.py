"""Loss and perplexity of the largest, the smallest and random subnets over training, from the log.

SuperShaper, figure 2: sandwich and random rule, each with its subnets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.files.reading import is_file, read_text
from nastool.plots.axes import TEMPLATE, plotly
from nastool.plots.page import Cell, Head, Panel, Section, Table, document

if TYPE_CHECKING:
    import plotly.graph_objects as go

WINDOWS = 150
"""Points of a curve of losses at most: each is a mean, for single steps are noise."""

_TITLE = "Super pre-training"
_COLOURS = {"largest": "#3b82f6", "smallest": "#ef4444", "random": "#10b981"}
_OTHER_COLOURS = (
    "#f97316", "#a855f7", "#eab308", "#06b6d4", "#ec4899", "#64748b", "#84cc16", "#b45309",
    "#6366f1", "#14b8a6", "#be123c",
)  # fmt: skip
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One curve.

    Args:
        run: Name of the run.
        name: Role of the subnets (largest, smallest, random), or name of one shape.
        tokens: Tokens seen, shape (n,).
        values: Mean training loss, or held-out perplexity, shape (n,).
    """

    run: str
    name: str
    tokens: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TrajectoriesData:
    """Everything the figure shows.

    Args:
        losses: Training loss by role; means over neighbouring steps.
        perplexities: Held-out perplexity by shape; the shapes stay the same through a run.
    """

    losses: tuple[Trajectory, ...]
    perplexities: tuple[Trajectory, ...]


def read_trajectories(runs: Sequence[str | Path]) -> TrajectoriesData:
    """Read the curves of training runs.

    Args:
        runs: Folders that `nastool pretrain` wrote.

    Raises:
        InvalidInputError: If a folder holds no log, or an unreadable one.
    """
    losses: list[Trajectory] = []
    perplexities: list[Trajectory] = []
    names = _names([Path(run) for run in runs])
    for run, name in zip(runs, names, strict=True):
        lines = read_log(Path(run) / "log.jsonl")
        losses += [
            Trajectory(name, role, _means(tokens), _means(values))
            for role, (tokens, values) in _curves(lines, "loss").items()
        ]
        perplexities += [
            Trajectory(name, shape, tokens, values)
            for shape, (tokens, values) in _curves(lines, "perplexity").items()
        ]
    return TrajectoriesData(tuple(losses), tuple(perplexities))


def _names(runs: Sequence[Path]) -> list[str]:
    """The folders' own names, or whole paths where these are the same."""
    names = [run.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a run's log, without one that is being written.

    Args:
        path: ``log.jsonl``; packed, ``log.jsonl.gz`` takes its place.

    Raises:
        InvalidInputError: There is none, or it is unreadable.
    """
    packed = path.with_name(f"{path.name}.gz")
    try:
        # As a run writes it, or packed as one that ships.
        if is_file(packed) and not is_file(path):
            lines = read_text(packed).splitlines()
        else:
            lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InvalidInputError(
            f"expected the folder of a training run, with log.jsonl: {error}"
        ) from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            for field in ("loss", "perplexity"):
                for value in (record["tokens"], *record.get(field, {}).values()):
                    float(value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number == len(lines) > 1:
                break  # the line that a run is writing, or was when it was killed
            raise InvalidInputError(
                f"{path}, line {number}: expected a JSON record with tokens, losses and "
                f"perplexities that are numbers, got {line[:60]!r}"
            ) from error
        found.append(record)
    return found


def _curves(
    lines: Sequence[Mapping[str, Any]], field: str
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    names = dict.fromkeys(name for line in lines for name in line.get(field, {}))
    curves = {}
    for name in names:
        points = [(x["tokens"], x[field][name]) for x in lines if name in x.get(field, {})]
        tokens, values = np.array(points, np.float64).T
        curves[name] = (tokens, values)
    return curves


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    parts = np.array_split(values, min(len(values), WINDOWS))
    return np.array([part.mean() for part in parts])


def draw_curves(
    curves: Sequence[Trajectory], title: str, unit: str, logarithmic: bool = False
) -> go.Figure:
    """Curves over tokens; a colour is a subnet, a dash is a run.

    Args:
        curves: Of any runs.
        title: Heading.
        unit: What goes up.
        logarithmic: Whether it goes up by factors.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    figure = plotly().Figure()
    runs = list(dict.fromkeys(curve.run for curve in curves))
    others = dict.fromkeys(c.name for c in curves if c.name not in _COLOURS)
    colours = _COLOURS | {
        name: _OTHER_COLOURS[i % len(_OTHER_COLOURS)] for i, name in enumerate(others)
    }
    for curve in curves:
        label = curve.name if len(runs) == 1 else f"{curve.run}: {curve.name}"
        figure.add_scatter(
            name=label,
            x=(curve.tokens / 1e6).tolist(),
            y=curve.values.tolist(),
            mode="lines+markers" if logarithmic else "lines",
            line={
                "color": colours[curve.name],
                "width": 2,
                "dash": _DASHES[runs.index(curve.run) % len(_DASHES)],
            },
            marker={"size": 5},
            hovertemplate=f"<b>{label}</b><br>%{{x:,.3g}}M tokens<br>%{{y:,.4g}}<extra></extra>",
        )
    figure.update_layout(
        title={"text": title},
        xaxis={"title": {"text": "tokens (millions)"}, "rangemode": "tozero"},
        yaxis={"title": {"text": unit}, **({"type": "log"} if logarithmic else {})},
        hovermode="closest",
        showlegend=True,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        template=TEMPLATE,
    )
    return figure


def draw_losses(data: TrajectoriesData) -> go.Figure:
    """Training loss of each role over tokens.

    Args:
        data: From `read_trajectories`.
    """
    return draw_curves(data.losses, "Training loss", "cross-entropy (nats)")


def draw_perplexities(data: TrajectoriesData) -> go.Figure:
    """Held-out perplexity of each shape over tokens.

    Args:
        data: From `read_trajectories`.
    """
    return draw_curves(data.perplexities, "Held-out perplexity", "perplexity", logarithmic=True)


def trajectories_page(data: TrajectoriesData) -> str:
    """Both figures as one self-contained HTML page.

    Args:
        data: From `read_trajectories`.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    return document(Head(_TITLE), trajectories_sections(data))


def trajectories_sections(data: TrajectoriesData) -> tuple[Section, ...]:
    """Both figures, and where their curves end, as parts of a page.

    Args:
        data: From `read_trajectories`.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    panels = [
        Panel(name, draw(data), small=True)
        for name, draw, curves in (
            ("losses", draw_losses, data.losses),
            ("perplexities", draw_perplexities, data.perplexities),
        )
        if curves
    ]
    curves = (("training loss", data.losses), ("held-out perplexity", data.perplexities))
    rows = tuple(
        (
            Cell(curve.run),
            Cell(curve.name),
            Cell(what),
            Cell(f"{curve.tokens[-1]:,.0f}", float(curve.tokens[-1])),
            Cell(f"{curve.values[-1]:,.4g}", float(curve.values[-1])),
        )
        for what, part in curves
        for curve in part
    )
    columns = ("run", "subnet", "what", "tokens", "last value")
    return (*panels, Table("ends", columns, rows, "Where the curves end"))


def draw_trajectories(data: TrajectoriesData) -> go.Figure:
    """Both figures as one picture: training loss on the left, held-out perplexity on the right.

    Args:
        data: From `read_trajectories`.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    plotly()
    from plotly.subplots import make_subplots

    parts = (draw_losses(data), draw_perplexities(data))
    figure = make_subplots(cols=2, subplot_titles=[part.layout.title.text for part in parts])
    shown: set[str] = set()
    for column, part in enumerate(parts, 1):
        for trace in part.data:
            trace.update(legendgroup=trace.name, showlegend=trace.name not in shown)
            shown.add(trace.name)
            figure.add_trace(trace, row=1, col=column)
        figure.update_xaxes(part.layout.xaxis, col=column)
        figure.update_yaxes(part.layout.yaxis, col=column)
    figure.update_layout(title={"text": _TITLE}, template=TEMPLATE, hovermode="closest")
    return figure
