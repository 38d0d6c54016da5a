"""Figures of a device study: objective over latency, importances, predicted against measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nastool.plots.axes import TEMPLATE, Axis, plotly
from nastool.plots.front import PALETTE
from nastool.plots.page import Head, Panel, Section, Text, document
from nastool.plots.predictor import draw_agreement, draw_importances, importances_table
from nastool_objectives.latency.device_study import DeviceStudy

if TYPE_CHECKING:
    import plotly.graph_objects as go


def draw_families(study: DeviceStudy) -> go.Figure:
    """The objective over latency, for shapes found in different ways (SuperShaper, figure 5).

    Args:
        study: Of a device.
    """
    figure = plotly().Figure()
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
        xaxis=Axis(study.name, "s", "predicted").ticks,
        yaxis={"title": {"text": study.quality}},
        template=TEMPLATE,
    )
    return figure


def study_page(studies: Sequence[DeviceStudy]) -> str:
    """One self-contained HTML page with the figures of every device.

    Args:
        studies: One for each device.
    """
    sections: list[Section] = []
    for place, study in enumerate(studies):
        said = (str(study.sensitivity), *(f"{n}: {source}" for n, source in study.sources.items()))
        listens = draw_importances(study.importances, "What the predictors listen to")
        sections += [
            Text(said, heading=study.name),
            Panel(f"families-{place}", draw_families(study)),
            Panel(f"importances-{place}", listens),
            Panel(f"agreement-{place}", draw_agreement(study.held_out, study.name, "s")),
            importances_table(f"shares-{place}", study.importances),
        ]
    return document(Head("Does the shape matter on these devices?"), sections)
