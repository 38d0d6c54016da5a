"""Fine-tuned shapes beside the models of the paper's tables 1, 4, 5 and 8."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from nastool.plots.axes import TEMPLATE, plotly
from nastool.plots.front import PALETTE
from nastool.plots.page import Panel
from nastool_supershaper.paper.items import Item, Status, Value, missing, published, published_notes
from nastool_supershaper.paper.sources import Sources

GLUE = ("mnli", "qqp", "qnli", "cola", "sst2", "stsb", "rte", "mrpc")

_BASE = 0.8
"""Share of the largest shape's parameters from which a shape stands beside BERT-base."""


@dataclass(frozen=True)
class Tuned:
    """A shape that was fine-tuned.

    Args:
        shape: As text.
        mode: Where fine-tuning started.
        params: Its parameter count.
        scores: By task, in percent; `squad` is exact match, and ``squad_f1`` beside it.
        perplexity: Predicted or measured, as the report says; None where it does not.
    """

    shape: str
    mode: str
    params: float
    scores: Mapping[str, float]
    perplexity: float | None

    @property
    def average(self) -> float | None:
        """Mean over GLUE; None where a task is missing."""
        if not all(task in self.scores for task in GLUE):
            return None
        return float(np.mean([self.scores[task] for task in GLUE]))

    def cell(self, column: str) -> Value:
        """Its value in a column of the published tables."""
        if column == "model":
            return f"{self.shape} ({self.mode}, ours)"
        if column == "params":
            return f"{self.params / 1e6:.1f}M"
        if column == "average":
            return self.average
        if column == "squad":
            both = self.scores.get("squad"), self.scores.get("squad_f1")
            return None if both[0] is None else f"{both[0]:.2f} / {both[1] or 0:.2f}"
        return self.scores.get(column)


def tuned(sources: Sources) -> list[Tuned]:
    """Every shape of every report, by size."""
    found = []
    for report in sources.reports:
        for entry in report["shapes"]:
            genotype = sources.space.parse(entry["shape"])
            scores = {}
            for task, metrics in entry["scores"].items():
                values = [metric["mean"] for metric in metrics.values()]
                if values:
                    scores[task] = values[0]
                if task == "squad" and len(values) > 1:
                    scores["squad_f1"] = values[1]
            size = float(sources.params.evaluate(genotype)[0])
            perplexity = entry.get("perplexity")
            found.append(Tuned(entry["shape"], entry["mode"], size, scores, perplexity))
    return sorted(found, key=lambda one: one.params)


def _missing(
    sources: Sources, key: str, columns: Sequence[str], rows: Sequence[tuple[Value, ...]]
) -> Item:
    return missing(
        key,
        f"nastool validate STUDY --supernet {sources.weights} --pick 8 --tasks "
        f"{','.join((*GLUE, 'squad'))} --format json --output validation.json\n"
        f"nastool paper {sources.argument} --to DIR --validation validation.json",
        "about an hour a shape on a GPU, days on two cores; one task with --max-steps 500: minutes",
        tuple(columns),
        tuple(rows),
        "Nothing has been fine-tuned from this net.",
    )


def table1(sources: Sources) -> Item:
    """Our rows beside the published models, with their footnotes."""
    package = resources.files("nastool_supernets.finetuning")
    text = package.joinpath("published_glue.csv").read_text("utf-8")
    known = list(csv.DictReader(io.StringIO(text)))
    columns = tuple(known[0])
    marks = published()["table1"]["marks"]
    rows: list[tuple[Value, ...]] = [
        tuple(
            f"{row[c]}{marks.get(row[c], '')}"
            if c == "model"
            else _number(row[c]) for c in columns
        )
        for row in known
    ]  # fmt: skip
    ours = tuned(sources)
    if not ours:
        return _missing(sources, "table1", columns, rows)
    said = [_best(ours, "average", 82.7)] if any(one.average for one in ours) else []
    said += [_best(ours, task, None) for task in GLUE if any(task in o.scores for o in ours)]
    notes = (*published_notes("table1"), *_departures(sources))
    return Item(
        "table1",
        Status.MEASURED,
        tuple(said),
        columns,
        (*rows, *(tuple(map(one.cell, columns)) for one in ours)),
        (_picture(ours, rows, columns),),
        notes=notes,
    )


def _departures(sources: Sources) -> tuple[str, ...]:
    """How our scores came about otherwise than the published ones."""
    lines = dict.fromkeys(line for r in sources.reports for line in r.get("departures", ()))
    return tuple(f"ours: {line}" for line in lines)


def _number(text: str) -> Value:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def _best(ours: Sequence[Tuned], column: str, theirs: float | None) -> str:
    """The best of ours in a column, as a sentence."""
    known = [(float(v), one) for one in ours if isinstance(v := one.cell(column), float)]
    value, one = max(known, key=lambda pair: pair[0])
    beside = f" (published {theirs} at 63M)" if theirs else ""
    return f"{column}: {value:.1f} with {one.shape}, {one.params / 1e6:.1f}M{beside}."


def _picture(
    ours: Sequence[Tuned], rows: Sequence[tuple[Value, ...]], columns: tuple[str, ...]
) -> Panel:
    """Scores over parameters: the average where it is known, else the first task that is."""
    task = next(
        c
        for c in ("average", *GLUE, "squad")
        if any(isinstance(one.cell(c), float) for one in ours)
        or (c == "squad" and any("squad" in one.scores for one in ours))
    )
    figure = plotly().Figure()
    place, size = columns.index(task), columns.index("params")
    known = [
        (str(row[0]), float(str(row[size]).rstrip("M").split("-")[0]) * 1e6, row[place])
        for row in rows
        if isinstance(row[place], float)
    ]
    figure.add_scatter(
        name="published",
        x=[k[1] for k in known],
        y=[k[2] for k in known],
        text=[k[0] for k in known],
        mode="markers",
        marker={"size": 8, "symbol": "diamond-open", "color": "#94a3b8"},
        hovertemplate="<b>%{text}</b><br>%{y:.1f}<extra></extra>",
    )
    for colour, mode in zip(PALETTE, dict.fromkeys(one.mode for one in ours), strict=False):
        of = [o for o in ours if o.mode == mode and task in (*o.scores, "average")]
        figure.add_scatter(
            name=f"ours, {mode}",
            x=[one.params for one in of],
            y=[one.average if task == "average" else one.scores[task] for one in of],
            text=[one.shape for one in of],
            mode="lines+markers",
            marker={"size": 8, "color": colour},
            line={"width": 1},
            hovertemplate="<b>%{text}</b><br>%{y:.1f}<extra></extra>",
        )
    figure.update_layout(
        title={"text": ""},
        xaxis={"title": {"text": "params"}, "tickformat": "~s"},
        yaxis={"title": {"text": f"{task} (%)"}},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        template=TEMPLATE,
    )
    return Panel("table1-picture", figure)


def table4(sources: Sources) -> Item:
    """The largest shapes beside BERT-base."""
    columns, rows = _published("table4")
    top = sources.space.costs["params"].maximum[0]
    ours = [one for one in tuned(sources) if one.params >= _BASE * top]
    if not ours:
        return _missing(sources, "table4", columns, rows)
    own = [tuple(map(one.cell, columns)) for one in ours]
    said = tuple(_best(ours, t, None) for t in GLUE if any(t in o.scores for o in ours))
    return Item("table4", Status.MEASURED, said, columns, (*rows, *own))


def table5(sources: Sources) -> Item:
    """Scores size by size."""
    columns, rows = _published("table5")
    columns = ("model", *columns)
    rows = [("published", *row) for row in rows]
    ours = tuned(sources)
    if not ours:
        return _missing(sources, "table5", columns, rows)

    def cell(one: Tuned, column: str) -> Value:
        # The paper heads what a shape scores without more training by its start.
        if column in ("partial", "scratch"):
            return one.perplexity if one.mode == column else None
        return one.cell(column)

    own: list[tuple[Value, ...]] = [tuple(cell(one, c) for c in columns) for one in ours]
    said = (
        (
            f"{len(ours)} shapes of {ours[0].params / 1e6:.1f}M to "
            f"{ours[-1].params / 1e6:.1f}M are fine-tuned."
        ),
    )
    return Item("table5", Status.MEASURED, said, columns, (*rows, *own))


def table8(sources: Sources) -> Item:
    """The shapes nearest to three quarters and to half of the largest."""
    columns, rows = _published("table8")
    ours = [one for one in tuned(sources) if set(one.scores) & {"mrpc", "sst2", "rte"}]
    if not ours:
        return _missing(sources, "table8", columns, rows)
    top = sources.space.costs["params"].maximum[0]
    own: list[tuple[Value, ...]] = []
    said = []
    for ratio in (0.75, 0.5):
        one = min(ours, key=lambda o: abs(o.params / top - ratio))
        scores = [one.scores.get(task) for task in ("mrpc", "sst2", "rte")]
        own.append((f"{one.shape} ({one.mode}, ours)", round(one.params / top, 3), *scores))
        said.append(f"The shape nearest to {ratio} of the largest has {one.params / top:.2f}.")
    notes = published_notes("table8")
    return Item("table8", Status.MEASURED, tuple(said), columns, (*rows, *own), notes=notes)


def _published(key: str) -> tuple[tuple[str, ...], list[tuple[Value, ...]]]:
    content = published()[key]
    return tuple(content["columns"]), [tuple(row) for row in content["rows"]]
