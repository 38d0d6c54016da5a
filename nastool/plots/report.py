"""One self-contained HTML page: the front, its shapes and a table, for one study or several."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nastool.errors import MissingDependencyError
from nastool.plots.axes import Axis, format_metric
from nastool.plots.front import Outcome, draw_front, front_data
from nastool.plots.shapes import draw_shapes, shapes_data
from nastool.problem import Problem
from nastool.space import Genotypes

if TYPE_CHECKING:
    import plotly.graph_objects as go

TABLE_ROWS = 500
"""Rows of the table for each study; a longer front is thinned evenly."""

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Member:
    """A row of the table, and what a click on it shows.

    Args:
        study: Name of the study.
        text: The shape as text.
        genotype: Indices of the choices.
        values: Metrics in base units.
        formatted: The same for people.
        lines: What the panel says.
    """

    study: str
    text: str
    genotype: tuple[int, ...]
    values: tuple[float, ...]
    formatted: tuple[str, ...]
    lines: tuple[str, ...]


def members(name: str, result: Outcome, limit: int = TABLE_ROWS) -> tuple[Member, ...]:
    """The rows of a study, in the order of its front.

    Args:
        name: Name of the study.
        result: Of the study.
        limit: Rows at most; more are thinned evenly.
    """
    front = result.front()
    problem = result.problem
    if len(front) > limit:
        rows = np.unique(np.linspace(0, len(front) - 1, limit).round().astype(np.int64))
        front = front.take(rows)
    natural = front.objectives * problem.signs
    return _members(name, problem, front.genotypes, natural.tolist())


def _members(
    name: str, problem: Problem, genotypes: Genotypes, values: list[list[float]]
) -> tuple[Member, ...]:
    found = []
    for genotype, row in zip(genotypes, values, strict=True):
        formatted = tuple(
            format_metric(o, value) for o, value in zip(problem.objectives, row, strict=True)
        )
        lines = tuple(
            f"{o.name} {text} ({o.provenance.kind.value})"
            for o, text in zip(problem.objectives, formatted, strict=True)
        )
        text = problem.space.format(genotype)
        found.append(Member(name, text, tuple(genotype.tolist()), tuple(row), formatted, lines))
    return tuple(found)


def study_page(name: str, result: Outcome, facts: Mapping[str, str | float]) -> str:
    """The page of one study as HTML.

    Args:
        name: Name of the study.
        result: Of the study.
        facts: What to say about it, by label.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    return report_page(f"{result.problem.space.name}: {name}", {name: result}, facts)


def report_page(
    title: str, results: Mapping[str, Outcome], facts: Mapping[str, str | float]
) -> str:
    """The page of one study or several as HTML.

    Args:
        title: Heading.
        results: By name; all of the same space and objectives.
        facts: What to say about them, by label.

    Raises:
        InvalidInputError: No results, or results that cannot be drawn together.
        MissingDependencyError: plotly is not installed.
    """
    data = front_data(results)
    problem = next(iter(results.values())).problem
    figures: list[tuple[str, go.Figure]] = [("front", draw_front(data))]
    columns: dict[str, list[dict[str, Any]]] = {}
    for index, (name, result) in enumerate(results.items()):
        if len(result.front()) == 0:
            continue
        shapes = shapes_data(result)
        heading = "Shapes of the front" if len(results) == 1 else f"Shapes of the front of {name}"
        figures.append((f"shapes-{index}", draw_shapes(shapes, heading)))
        columns[f"shapes-{index}"] = [
            {"text": problem.space.format(g), "genotype": g.tolist(), "lines": s.split(", ")}
            for g, s in zip(shapes.genotypes, shapes.summaries, strict=True)
        ]
    rows = [row for name, result in results.items() for row in members(name, result)]
    content = {
        "figures": [
            {"id": name, "figure": {"data": raw["data"], "layout": _untitled(raw["layout"])}}
            for name, raw in ((name, json.loads(f.to_json())) for name, f in figures)
        ],
        "axes": {"x": _axis(data.x), "y": _axis(data.y)},
        "genes": [{"name": g.name, "choices": list(g.choices)} for g in problem.space.genes],
        "members": [
            {
                "text": row.text,
                "genotype": row.genotype,
                "lines": [*row.lines, *([f"found by {row.study}"] if len(results) > 1 else [])],
            }
            for row in rows
        ],
        "columns": columns,
    }
    sections = [_heading(title, problem, facts), _figure_section(figures), _table(problem, rows)]
    return _document(title, "\n".join(sections), content)


def _axis(axis: Axis) -> dict[str, Any]:
    return {"name": axis.name, "unit": axis.unit, "kind": axis.kind, "large": axis.large}


def _untitled(layout: dict[str, Any]) -> dict[str, Any]:
    """Headings are the page's: text there wraps on a narrow screen, in a figure it is cut off."""
    return {key: value for key, value in layout.items() if key not in ("title", "template")}


def _heading(title: str, problem: Problem, facts: Mapping[str, str | float]) -> str:
    shown = dict(facts)
    if problem.constraints:
        shown["allowed"] = " and ".join(map(str, problem.constraints))
    listed = "".join(
        f"<span><b>{escape(label)}</b> {escape(_fact(value))}</span>"
        for label, value in shown.items()
    )
    warnings = "".join(
        f'<p class="proxy"><b>Proxy.</b> {escape(metric.name)}: '
        f"{escape(metric.provenance.proxy)}</p>"
        for metric in problem.reported
        if metric.provenance.proxy
    )
    origins = "".join(
        f"<p>{escape(metric.name)}: {escape(str(replace(metric.provenance, proxy='')))}</p>"
        for metric in problem.reported
    )
    return (
        f'<h1>{escape(title)}</h1>\n<div class="facts">{listed}</div>\n{warnings}'
        f'<div class="sources">{origins}</div>'
    )


def _fact(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if float(value).is_integer() else f"{value:,.2f}"


def _figure_section(figures: list[tuple[str, go.Figure]]) -> str:
    parts = []
    for name, figure in figures:
        subtitle = figure.layout.title.subtitle.text or ""
        note = "" if name == "front" else f'<p class="subtitle">{escape(subtitle)}</p>'
        box = f'<div class="figure" id="{name}"></div>'
        if name == "front":
            box = (
                f'<div class="columns">{box}'
                '<aside class="shape" id="shape" aria-live="polite"></aside></div>'
            )
        parts.append(f"<h2>{escape(figure.layout.title.text)}</h2>\n{note}{box}")
    return "\n".join(parts)


def _table(problem: Problem, rows: list[Member]) -> str:
    several = len({row.study for row in rows}) > 1
    names = ["shape", *(o.name for o in problem.objectives), *(["study"] if several else [])]
    head = "".join(f"<th><button>{escape(name)}</button></th>" for name in names)
    body = []
    for index, row in enumerate(rows):
        cells = [f'<td data-value="{escape(row.text)}">{escape(row.text)}</td>']
        cells += [
            f'<td data-value="{value!r}">{escape(text)}</td>'
            for value, text in zip(row.values, row.formatted, strict=True)
        ]
        if several:
            cells.append(f'<td data-value="{escape(row.study)}">{escape(row.study)}</td>')
        body.append(f'<tr data-member="{index}">{"".join(cells)}</tr>')
    return (
        f'<h2>Members of the front</h2>\n<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _document(title: str, body: str, content: dict[str, Any]) -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingDependencyError("figures need plotly: pip install plotly") from error
    # No sign that could end the script element survives in the data.
    data = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n"
        f'<script type="application/json" id="page-data">{data}</script>\n'
        f"<script>{get_plotlyjs()}</script>\n<script>\n{script}</script>\n</body>\n</html>"
    )
