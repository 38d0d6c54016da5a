"""One self-contained HTML page: the front, its shapes and a table, for one study or several."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nastool import pareto
from nastool.errors import MissingDependencyError
from nastool.objective import Objective
from nastool.plots.axes import Axis, format_metric
from nastool.plots.front import Cloud, FrontData, Outcome, draw_front, front_data
from nastool.plots.shapes import draw_shapes, shapes_data
from nastool.problem import Problem
from nastool.space import Genotypes
from nastool.trust import Trust, is_predicted, trust

if TYPE_CHECKING:
    import plotly.graph_objects as go

TABLE_ROWS = 500
"""Rows of the table for each study; a longer front is thinned evenly."""


@dataclass(frozen=True)
class Member:
    """A row of the table, and what a click on it shows.

    Args:
        study: Name of the study; empty where there is one.
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
    front = front.take(pareto.spread(len(front), limit))
    natural = front.objectives * problem.signs
    return _members(name, problem, front.genotypes, natural)


def _members(
    name: str, problem: Problem, genotypes: Genotypes, values: NDArray[np.float64]
) -> tuple[Member, ...]:
    found = []
    worth = [
        trust(o, genotypes, column) if is_predicted(o) else None
        for o, column in zip(problem.objectives, values.T, strict=True)
    ]
    for place, (genotype, row) in enumerate(zip(genotypes, values.tolist(), strict=True)):
        formatted = tuple(
            f"{format_metric(o, value)} {w.text(place) if w else ''}".rstrip()
            for o, value, w in zip(problem.objectives, row, worth, strict=True)
        )
        lines = tuple(
            f"{o.name} {text} ({o.provenance.kind.value}"
            + (", outside of what the predictor has seen)" if w and w.outside[place] else ")")
            for o, text, w in zip(problem.objectives, formatted, worth, strict=True)
        )
        text = problem.space.format(genotype)
        found.append(Member(name, text, tuple(genotype.tolist()), tuple(row), formatted, lines))
    return tuple(found)


def study_page(
    name: str,
    result: Outcome,
    facts: Mapping[str, str | float],
    clouds: Sequence[Cloud] = (),
) -> str:
    """The page of one study as HTML.

    Args:
        name: Name of the study.
        result: Of the study.
        facts: What to say about it, by label.
        clouds: Further points for the figure of the front.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    return report_page(f"{result.problem.space.name}: {name}", {name: result}, facts, clouds)


def report_page(
    title: str,
    results: Mapping[str, Outcome],
    facts: Mapping[str, str | float],
    clouds: Sequence[Cloud] = (),
) -> str:
    """The page of one study or several as HTML.

    Args:
        title: Heading.
        results: By name; all of the same space and objectives.
        facts: What to say about them, by label.
        clouds: Further points for the figure of the fronts.

    Raises:
        InvalidInputError: No results, or results that cannot be drawn together.
        MissingDependencyError: plotly is not installed.
    """
    data = front_data(results, clouds=clouds)
    problem = next(iter(results.values())).problem
    several = len(results) > 1
    rows = [
        row for name, result in results.items() for row in members(name if several else "", result)
    ]
    panels = [Panel("front", draw_front(data), beside_shape=True)]
    for index, (name, result) in enumerate(results.items()):
        if len(result.front()):
            text = "Shapes of the front" + (f" of {name}" if several else "")
            panels.append(shapes_panel(f"shapes-{index}", result, text))
    of = "study" if several else ""
    sections: list[str | Panel] = [heading(title, problem, facts), *panels]
    sections += [
        f'<p class="subtitle">{escape(f"{o.name}: {note}")}</p>'
        for result in results.values()
        for o in problem.objectives
        if is_predicted(o)
        for note in _worth(result, o).notes
    ]
    sections.append(members_table(problem, rows, of))
    return document(title, sections, data, problem, rows)


def _worth(result: Outcome, metric: Objective) -> Trust:
    """How far the predicted values of a front are to be trusted."""
    front = result.front().genotypes
    return trust(metric, front, result.values(front)[metric.name])


@dataclass(frozen=True, eq=False)
class Panel:
    """A figure of a page.

    Args:
        name: Its id.
        figure: Drawn.
        beside_shape: Whether the selected shape stands beside it; for one panel of a page.
        columns: What a click on each column of a heat map selects.
    """

    name: str
    figure: go.Figure
    beside_shape: bool = False
    columns: tuple[dict[str, Any], ...] = ()


def shapes_panel(name: str, result: Outcome, title: str) -> Panel:
    """The heat map of a front's shapes.

    Args:
        name: Id of the panel.
        result: With a front that is not empty.
        title: Heading.
    """
    shapes = shapes_data(result)
    space = result.problem.space
    columns = tuple(
        {"text": space.format(g), "genotype": g.tolist(), "lines": s.split(", ")}
        for g, s in zip(shapes.genotypes, shapes.summaries, strict=True)
    )
    return Panel(name, draw_shapes(shapes, title), columns=columns)


def document(
    title: str,
    sections: Sequence[str | Panel],
    data: FrontData,
    problem: Problem,
    rows: Sequence[Member],
) -> str:
    """A whole page.

    Args:
        title: Of the browser's window.
        sections: HTML and figures, from top to bottom.
        data: The front figure's, for the words of its axes.
        problem: What was searched.
        rows: What the rows of the members' table select.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    panels = [section for section in sections if isinstance(section, Panel)]
    raw = [(panel.name, json.loads(panel.figure.to_json())) for panel in panels]
    content = {
        "figures": [
            {"id": name, "figure": {"data": figure["data"], "layout": _untitled(figure["layout"])}}
            for name, figure in raw
        ],
        "axes": {"x": _axis(data.x), "y": _axis(data.y)},
        "genes": [{"name": g.name, "choices": list(g.choices)} for g in problem.space.genes],
        "members": [
            {
                "text": row.text,
                "genotype": row.genotype,
                "lines": [*row.lines, *([f"found by {row.study}"] if row.study else [])],
            }
            for row in rows
        ],
        "columns": {panel.name: panel.columns for panel in panels if panel.columns},
    }
    body = [s if isinstance(s, str) else _figure_section(s) for s in sections]
    return _document(title, "\n".join(body), content)


def _axis(axis: Axis) -> dict[str, Any]:
    return {"name": axis.name, "unit": axis.unit, "kind": axis.kind, "large": axis.large}


def _untitled(layout: dict[str, Any]) -> dict[str, Any]:
    """Headings are the page's: text there wraps on a narrow screen, in a figure it is cut off."""
    return {key: value for key, value in layout.items() if key not in ("title", "template")}


def heading(title: str, problem: Problem, facts: Mapping[str, str | float]) -> str:
    """The head of a page: title, facts, and where every number comes from.

    Args:
        title: Heading.
        problem: What was searched.
        facts: What to say about it, by label.
    """
    shown = dict(facts)
    if problem.constraints:
        shown["allowed"] = " and ".join(map(str, problem.constraints))
    listed = "".join(
        f"<span><b>{escape(label)}</b> {escape(_fact(value))}</span>"
        for label, value in shown.items()
    )
    warnings = "".join(
        f'<p class="proxy">{escape(metric.name)} {escape(metric.provenance.contradiction)}</p>'
        for metric in problem.reported
        if metric.provenance.contradiction
    )
    warnings += "".join(
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


def _figure_section(panel: Panel) -> str:
    layout = panel.figure.layout.title
    subtitle = "" if panel.beside_shape else layout.subtitle.text or ""
    note = f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else ""
    box = f'<div class="figure" id="{panel.name}"></div>'
    if panel.beside_shape:
        box = (
            f'<div class="columns">{box}'
            '<aside class="shape" id="shape" aria-live="polite"></aside></div>'
        )
    return f"<h2>{escape(layout.text)}</h2>\n{note}{box}"


def members_table(
    problem: Problem, rows: Sequence[Member], of: str, title: str = "Members of the front"
) -> str:
    """The members of fronts as a table.

    Args:
        problem: What was searched.
        rows: Its rows.
        of: Heading of the column that names each one's study; empty for no such column.
        title: Heading.
    """
    names = ["shape", *(o.name for o in problem.objectives), *([of] if of else [])]
    head = "".join(f"<th><button>{escape(name)}</button></th>" for name in names)
    body = []
    for index, row in enumerate(rows):
        cells = [f'<td data-value="{escape(row.text)}">{escape(row.text)}</td>']
        cells += [
            f'<td data-value="{value!r}">{escape(text)}</td>'
            for value, text in zip(row.values, row.formatted, strict=True)
        ]
        if of:
            cells.append(f'<td data-value="{escape(row.study)}">{escape(row.study)}</td>')
        body.append(f'<tr data-member="{index}">{"".join(cells)}</tr>')
    return (
        f'<h2>{escape(title)}</h2>\n<div class="scroll members"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _document(title: str, body: str, content: dict[str, Any]) -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingDependencyError("figures need plotly: pip install plotly") from error
    # No sign that could end the script element survives in the data.
    data = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    # Not as files: the package may lie in an archive.
    here = resources.files("nastool.plots")
    style = here.joinpath("page.css").read_text(encoding="utf-8")
    script = here.joinpath("page.js").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n"
        f'<script type="application/json" id="page-data">{data}</script>\n'
        f"<script>{get_plotlyjs()}</script>\n<script>\n{script}</script>\n</body>\n</html>"
    )
