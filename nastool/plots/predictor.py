"""What a predictor listens to, and how its predictions agree with measurements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from nastool.plots.axes import TEMPLATE, Axis, plotly
from nastool.plots.front import PALETTE
from nastool.plots.page import Cell, Head, Panel, Table, document
from nastool.predictors.base import Card
from nastool.predictors.fitting import Fitted, maker_of
from nastool.predictors.importance import importances
from nastool.predictors.selection import HeldOut

if TYPE_CHECKING:
    import plotly.graph_objects as go


def draw_importances(
    shares: Mapping[str, Mapping[str, float]], title: str = "What the predictor listens to"
) -> go.Figure:
    """Importances as grouped bars (SuperShaper, figure 8).

    Args:
        shares: By what they are, then by feature.
        title: Heading.
    """
    figure = plotly().Figure()
    for number, (name, of) in enumerate(shares.items()):
        colour = PALETTE[number % len(PALETTE)]
        figure.add_bar(name=name, x=list(of), y=list(of.values()), marker={"color": colour})
    figure.update_layout(
        title={"text": title},
        yaxis={"title": {"text": "share of the importance"}, "tickformat": ".0%"},
        barmode="group",
        template=TEMPLATE,
        showlegend=True,
    )
    return figure


def draw_agreement(held: HeldOut, metric: str, unit: str = "") -> go.Figure:
    """Predicted against measured values of shapes not fitted on (SuperShaper, figure 9).

    Args:
        held: Both, with the half-widths that are to hold 90% of new shapes.
        metric: What they are of.
        unit: Base unit; empty for plain numbers.
    """
    both = np.concatenate([held.targets, held.predictions])
    ends = np.array([both.min(), both.max()])
    figure = plotly().Figure()
    if held.widths is not None:
        # Around predictions, which go up: measured values lie to the left and right of them.
        up = np.unique([*ends, *np.clip(held.widths.values, *ends)])
        halves = held.widths.at(up)
        figure.add_scatter(
            x=[*(up - halves), *(up + halves)[::-1]],
            y=[*up, *up[::-1]],
            fill="toself",
            fillcolor="rgba(148,163,184,0.2)",
            mode="lines",  # With markers, its corners look like shapes.
            line={"width": 0},
            hoverinfo="skip",
            name="90% interval",
        )
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
        title={"text": f"{metric}: {held.scores}"},
        xaxis=Axis(metric, unit, "measured").ticks,
        yaxis=Axis(metric, unit, "predicted").ticks,
        template=TEMPLATE,
    )
    return figure


def predictor_page(fitted: Fitted, card: Card, seed: int = 0) -> str:
    """One self-contained HTML page on a predictor.

    Args:
        fitted: The predictor with its table.
        card: What it is worth.
        seed: Fixes shuffles and draws.
    """
    data = fitted.data
    shares = importances(
        maker_of(fitted.predictor),
        data.features,
        data.targets,
        card.features,
        genes=len(data.genes),
        seed=seed,
    )
    head = Head(f"Predictor of {card.metric}", sources=(str(card),))
    return document(
        head,
        [
            Panel("agreement", draw_agreement(fitted.held_out, card.metric, card.unit)),
            Panel("importances", draw_importances(shares)),
            importances_table("shares", shares),
        ],
    )


def importances_table(name: str, shares: Mapping[str, Mapping[str, float]]) -> Table:
    """Importances as numbers.

    Args:
        name: Id of the table.
        shares: By what they are, then by feature.
    """
    features = list(dict.fromkeys(feature for of in shares.values() for feature in of))
    rows = tuple(
        (
            Cell(feature),
            *(Cell(f"{of.get(feature, 0):.1%}", of.get(feature, 0)) for of in shares.values()),
        )
        for feature in features
    )
    return Table(name, ("feature", *shares), rows, "Importances")
