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

from nastool.errors import InvalidInputError, MissingDependencyError

if TYPE_CHECKING:
    import plotly.graph_objects as go

WINDOWS = 150
"""Points of a curve of losses at most: each is a mean, for single steps are noise."""

_COLOURS = {"largest": "#3b82f6", "smallest": "#ef4444", "random": "#10b981"}
_OTHER_COLOURS = ("#10b981", "#f97316", "#a855f7", "#eab308", "#06b6d4", "#ec4899", "#64748b")
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
        lines = _read_log(Path(run) / "log.jsonl")
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


def _read_log(path: Path) -> list[dict[str, Any]]:
    try:
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


def draw_trajectories(data: TrajectoriesData, title: str = "Super pre-training") -> go.Figure:
    """Draw the figure: training loss on the left, held-out perplexity on the right.

    Args:
        data: From `read_trajectories`.
        title: Heading.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    try:
        from plotly.subplots import make_subplots
    except ImportError as error:
        raise MissingDependencyError("figures need plotly: pip install plotly") from error
    figure = make_subplots(cols=2, subplot_titles=("Training loss", "Held-out perplexity"))
    curves = (data.losses, data.perplexities)
    runs = list(dict.fromkeys(curve.run for part in curves for curve in part))
    others = dict.fromkeys(c.name for part in curves for c in part if c.name not in _COLOURS)
    colours = _COLOURS | {
        name: _OTHER_COLOURS[i % len(_OTHER_COLOURS)] for i, name in enumerate(others)
    }
    shown: set[tuple[str, str]] = set()
    for column, part in enumerate(curves, 1):
        for curve in part:
            label = curve.name if len(runs) == 1 else f"{curve.run}: {curve.name}"
            figure.add_scatter(
                name=label,
                legendgroup=label,
                showlegend=(curve.run, curve.name) not in shown,
                x=(curve.tokens / 1e6).tolist(),
                y=curve.values.tolist(),
                mode="lines" if column == 1 else "lines+markers",
                line={
                    "color": colours[curve.name],
                    "width": 2,
                    "dash": _DASHES[runs.index(curve.run) % len(_DASHES)],
                },
                marker={"size": 5},
                hovertemplate=f"<b>{label}</b><br>%{{x:,.3g}}M tokens<br>%{{y:,.4g}}"
                "<extra></extra>",
                row=1,
                col=column,
            )
            shown.add((curve.run, curve.name))
    figure.update_xaxes(title_text="tokens (millions)", rangemode="tozero")
    figure.update_yaxes(title_text="cross-entropy (nats)", row=1, col=1)
    figure.update_yaxes(title_text="perplexity", type="log", row=1, col=2)
    figure.update_layout(title={"text": title}, template="plotly_white", hovermode="closest")
    return figure
