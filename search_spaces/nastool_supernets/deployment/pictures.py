"""What was measured of exported models, as a page: latency over quality of each form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from nastool.constraint import format_quantity
from nastool.plots.axes import TEMPLATE, plotly
from nastool.plots.front import PALETTE
from nastool.plots.page import Cell, Head, Panel, Section, Table, document
from nastool_supernets.deployment.bench import Row

if TYPE_CHECKING:
    import plotly.graph_objects as go

_TICKS = [float(f"{digit}e{power}") for power in range(-6, 4) for digit in (1, 2, 5)]
"""Of a logarithmic axis of seconds."""

_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star")


def bench_page(rows: Sequence[Row], facts: Mapping[str, object]) -> str:
    """The page as HTML.

    Args:
        rows: What was measured.
        facts: What to say about it, by label.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    scores = scored(rows)
    sections: list[Section] = [
        Panel(f"quality-{place}", draw_quality(rows, name), small=len(scores) > 1)
        for place, name in enumerate(scores)
    ]
    bars = [
        ("latency", "Latency", "median of all passes; the line ends at the 90th percentile", "s"),
        ("disk", "Disk", "the weights' file", "B"),
    ]
    if any(row.memory is not None for row in rows):
        bars.append(("memory", "Memory", "what running adds to a process", "B"))
    values: dict[str, Callable[[Row], float | None]] = {
        "latency": lambda row: row.median,
        "disk": lambda row: row.disk,
        "memory": lambda row: row.memory,
    }
    for name, title, note, unit in bars:
        figure = draw_bars(rows, values[name], title, unit, whiskers=name == "latency")
        sections.append(Panel(name, figure, notes=(note,), small=name != "latency"))
    sections.append(_table(rows, scores))
    known = {key.replace("_", " "): _fact(value) for key, value in facts.items()}
    return document(Head("Deployed models: speed, size and quality", known), sections)


def _fact(value: object) -> str | float:
    if value is None:
        return "not known"
    return value if isinstance(value, str | float | int) else str(value)


def scored(rows: Sequence[Row]) -> list[str]:
    """Names of what was scored of any form."""
    return list(dict.fromkeys(name for row in rows for name in row.quality))


def _models(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.model for row in rows))


def _colour(rows: Sequence[Row], model: str) -> str:
    return PALETTE[_models(rows).index(model) % len(PALETTE)]


def draw_quality(rows: Sequence[Row], name: str) -> go.Figure:
    """Latency over a score: a colour is a model, a sign is a form, a line joins a model's forms.

    What was not scored, such as a baseline of random weights, is a line at its latency.

    Args:
        rows: What was measured.
        name: Of the score.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    figure = plotly().Figure()
    forms = list(dict.fromkeys(row.shown_form for row in rows))
    for model in _models(rows):
        of = [row for row in rows if row.model == model and name in row.quality]
        of.sort(key=lambda row: row.median)
        if not of:
            continue
        colour = _colour(rows, model)
        figure.add_scatter(
            name=model,
            x=[row.quality[name] for row in of],
            y=[row.median for row in of],
            error_y={
                "type": "data",
                "array": [row.p90 - row.median for row in of],
                "arrayminus": [0.0] * len(of),
                "width": 0,
                "thickness": 1,
            },
            text=[row.shown_form for row in of],
            mode="lines+markers+text",
            textposition="middle right",
            textfont={"color": colour, "size": 12},
            line={"color": colour, "width": 1},
            marker={
                "color": colour,
                "size": 11,
                "symbol": [_SYMBOLS[forms.index(row.shown_form) % len(_SYMBOLS)] for row in of],
            },
            hovertemplate=f"<b>{model}</b>, %{{text}}<br>%{{y:.4~s}}s<br>{name} %{{x:.4~g}}"
            "<extra></extra>",
        )
    shown = name.replace("_", " ")
    scores = [row.quality[name] for row in rows if name in row.quality]
    # Room for the names of forms to the right of their points.
    room = (max(scores) - min(scores)) or abs(scores[0]) * 0.1 or 1.0
    ends = [min(scores) - 0.08 * room, max(scores) + 0.2 * room]
    for row in rows:
        if not row.quality:
            label = f"{row.model}, {row.shown_form}"
            figure.add_scatter(
                name=label,
                x=[ends[0], ends[0] + 0.02 * room, ends[1]],
                y=[row.median] * 3,
                text=["", label, ""],
                mode="lines+text",
                textposition="top right",
                textfont={"size": 11, "color": _colour(rows, row.model)},
                line={"dash": "dot", "width": 1, "color": _colour(rows, row.model)},
                hovertemplate=f"<b>{label}</b><br>%{{y:.4~s}}s<extra></extra>",
                showlegend=False,
            )
    figure.update_layout(
        title={
            "text": f"Latency over {shown}",
            "subtitle": {"text": "lines across: what was timed and not scored"}
            if any(not row.quality for row in rows)
            else {},
        },
        xaxis={
            "title": {"text": shown},
            "range": ends,
        },
        # Models differ by factors.
        yaxis={
            "title": {"text": "latency of a pass (measured)"},
            "type": "log",
            "tickvals": _TICKS,
            "ticktext": [format_quantity(tick, "s") for tick in _TICKS],
        },
        hovermode="closest",
        showlegend=True,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        template=TEMPLATE,
    )
    return figure


def draw_bars(
    rows: Sequence[Row],
    value: Callable[[Row], float | None],
    title: str,
    unit: str,
    *,
    whiskers: bool = False,
) -> go.Figure:
    """A number of every form, model by model.

    Args:
        rows: What was measured.
        value: The number; None where it is not known.
        title: Heading.
        unit: Base unit.
        whiskers: Whether a line goes on to the 90th percentile of the passes.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    figure = plotly().Figure()
    for model in _models(rows):
        of = [row for row in rows if row.model == model and value(row) is not None]
        ends = [row.p90 - row.median for row in of]
        figure.add_bar(
            name=model,
            x=[row.shown_form for row in of],
            y=[value(row) for row in of],
            error_y={
                "type": "data",
                "array": ends,
                "arrayminus": [0.0] * len(ends),
                "width": 0,
                "thickness": 1,
            }
            if whiskers
            else None,
            marker={"color": _colour(rows, model)},
            hovertemplate=f"<b>{model}</b>, %{{x}}<br>%{{y:.4~s}}{unit}<extra></extra>",
        )
    figure.update_layout(
        title={"text": title},
        yaxis={"tickformat": "~s", "ticksuffix": unit},
        barmode="group",
        bargap=0.3,
        showlegend=True,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        template=TEMPLATE,
    )
    return figure


def _table(rows: Sequence[Row], scores: Sequence[str]) -> Table:
    columns = ("model", "form", "params", "disk", "memory", "median", "p90", "spread", "texts/s")
    cells = tuple(
        (
            Cell(row.model, colour=_colour(rows, row.model)),
            Cell(row.shown_form),
            Cell(format_quantity(row.parameters), row.parameters),
            Cell(format_quantity(row.disk, "B"), row.disk),
            _known(row.memory, "B"),
            Cell(format_quantity(row.median, "s"), row.median),
            Cell(format_quantity(row.p90, "s"), row.p90),
            Cell(f"{row.spread:.0%}", row.spread),
            Cell(format_quantity(row.throughput), row.throughput),
            *(_known(row.quality.get(name)) for name in scores),
        )
        for row in rows
    )
    notes = ("spread: how far the medians of the rounds lie apart",)
    names = (*columns, *(name.replace("_", " ") for name in scores))
    return Table("forms", names, cells, "Every form", notes)


def _known(value: float | None, unit: str = "") -> Cell:
    return Cell("", "") if value is None else Cell(format_quantity(value, unit), value)
