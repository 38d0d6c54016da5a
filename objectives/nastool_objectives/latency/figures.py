"""Figures of a device study: objective over latency, importances, predicted against measured."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from nastool.errors import MissingDependencyError
from nastool.plots.front import PALETTE
from nastool_objectives.latency.device_study import DeviceStudy

if TYPE_CHECKING:
    import plotly.graph_objects as go

_TEMPLATE = "plotly_white"
_SECONDS = {"tickformat": "~s", "ticksuffix": "s"}


def draw_families(study: DeviceStudy) -> go.Figure:
    """The objective over latency, for shapes found in different ways (SuperShaper, figure 5).

    Args:
        study: Of a device.
    """
    figure = _plotly().Figure()
    for colour, family in zip(PALETTE, study.families, strict=False):
        figure.add_scatter(
            name=f"{family.name} ({len(family.latency)})",
            x=family.latency.tolist(),
            y=family.quality.tolist(),
            text=list(family.texts),
            mode="markers",
            marker={"size": 6, "color": colour},
            hovertemplate="%{text}<br>%{x:.4~s}s, %{y:.4g}<extra></extra>",
        )
    figure.update_layout(
        title={"text": f"{study.quality} over {study.name}"},
        xaxis={"title": {"text": f"{study.name} (predicted)"}, **_SECONDS},
        yaxis={"title": {"text": study.quality}},
        template=_TEMPLATE,
    )
    return figure


def draw_importances(study: DeviceStudy) -> go.Figure:
    """What the predictors listen to (SuperShaper, figure 8).

    Args:
        study: Of a device.
    """
    figure = _plotly().Figure()
    for colour, (name, shares) in zip(PALETTE, study.importances.items(), strict=False):
        figure.add_bar(name=name, x=list(shares), y=list(shares.values()), marker={"color": colour})
    figure.update_layout(
        title={"text": "What the predictors listen to"},
        yaxis={"title": {"text": "share of the importance"}, "tickformat": ".0%"},
        barmode="group",
        template=_TEMPLATE,
    )
    return figure


def draw_agreement(study: DeviceStudy) -> go.Figure:
    """Predicted against measured latency of shapes not fitted on (SuperShaper, figure 9).

    Args:
        study: Of a device.
    """
    held = study.held_out
    both = np.concatenate([held.targets, held.predictions])
    ends = [float(both.min()), float(both.max())]
    figure = _plotly().Figure()
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": "#94a3b8", "dash": "dash"}, name="equal"
    )
    figure.add_scatter(
        x=held.targets.tolist(),
        y=held.predictions.tolist(),
        mode="markers",
        marker={"size": 5, "color": PALETTE[0]},
        name=f"{held.scores.n:,} held-out shapes",
    )
    figure.update_layout(
        title={"text": f"{study.name}: {held.scores}"},
        xaxis={"title": {"text": "measured"}, **_SECONDS},
        yaxis={"title": {"text": "predicted"}, **_SECONDS},
        template=_TEMPLATE,
    )
    return figure


def study_page(studies: Sequence[DeviceStudy]) -> str:
    """One self-contained HTML page with the figures of every device.

    Args:
        studies: One for each device.
    """
    parts = []
    library: bool = True
    for study in studies:
        parts.append(f"<h2>{escape(study.name)}</h2>\n<p>{escape(str(study.sensitivity))}</p>")
        for draw in (draw_families, draw_importances, draw_agreement):
            parts.append(draw(study).to_html(full_html=False, include_plotlyjs=library))
            # Once is enough for the whole page.
            library = False
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<title>Devices</title>\n</head>\n"
        '<body style="font-family: system-ui, sans-serif; max-width: 1100px; margin: auto">\n'
        "<h1>Does the shape matter on these devices?</h1>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _plotly() -> Any:
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise MissingDependencyError("figures need plotly: pip install plotly") from error
    return go
