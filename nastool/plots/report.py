"""One self-contained HTML page: the front, its shapes and a table, for one study or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nastool import pareto
from nastool.objective import Objective
from nastool.plots.axes import format_metric
from nastool.plots.front import Cloud, FrontData, Outcome, draw_front, front_data
from nastool.plots.objectives import objectives_panels
from nastool.plots.page import Cell, Head, Member, Panel, Section, Table, document
from nastool.plots.shapes import draw_shapes, shapes_data
from nastool.predictors.trust import Trust, is_predicted, trust
from nastool.problem import Problem
from nastool.space import Genotypes

TABLE_ROWS = 500
"""Rows of the table for each study; a longer front is thinned evenly."""


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
    sections: list[Section] = [front_panel(data), *objectives_panels(problem, rows)]
    for index, (name, result) in enumerate(results.items()):
        if len(result.front()):
            text = "Shapes of the front" + (f" of {name}" if several else "")
            sections.append(shapes_panel(f"shapes-{index}", result, text))
    notes = tuple(
        f"{o.name}: {note}"
        for result in results.values()
        for o in problem.objectives
        if is_predicted(o)
        for note in _worth(result, o).notes
    )
    sections.append(members_table(problem, rows, "study" if several else "", notes=notes))
    return document(head_of(title, problem, facts), sections, problem.space, rows)


def _worth(result: Outcome, metric: Objective) -> Trust:
    """How far the predicted values of a front are to be trusted."""
    front = result.front().genotypes
    return trust(metric, front, result.values(front)[metric.name])


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


def front_panel(data: FrontData, title: str = "") -> Panel:
    """The figure of fronts; of more than two objectives a projection with axes to choose.

    Args:
        data: From `front_data`.
        title: Heading; by default what the figure shows.
    """
    # Where numbers come from stands in the head of the page.
    return Panel("front", draw_front(data, title), notes=(), choice=data.choice)


def head_of(title: str, problem: Problem, facts: Mapping[str, str | float]) -> Head:
    """The head of a page: title, facts, and where every number comes from.

    Args:
        title: Heading.
        problem: What was searched.
        facts: What to say about it, by label.
    """
    shown = dict(facts)
    if problem.constraints:
        shown["allowed"] = " and ".join(map(str, problem.constraints))
    known = [(metric.name, metric.provenance) for metric in problem.reported]
    return Head(
        title,
        shown,
        (
            *(("", f"{name} {p.contradiction}") for name, p in known if p.contradiction),
            *(("Proxy.", f"{name}: {p.proxy}") for name, p in known if p.proxy),
        ),
        tuple(f"{name}: {replace(p, proxy='')}" for name, p in known),
    )


def members_table(
    problem: Problem,
    rows: Sequence[Member],
    of: str,
    title: str = "Members of the front",
    notes: tuple[str, ...] = (),
) -> Table:
    """The members of fronts as a table.

    Args:
        problem: What was searched.
        rows: Its rows.
        of: Heading of the column that names each one's study; empty for no such column.
        title: Heading.
        notes: What to know of the numbers.
    """
    names = ("shape", *(o.name for o in problem.objectives), *((of,) if of else ()))
    cells = tuple(
        (
            Cell(row.text),
            *(Cell(text, value) for value, text in zip(row.values, row.formatted, strict=True)),
            *((Cell(row.study),) if of else ()),
        )
        for row in rows
    )
    return Table("members", names, cells, title, notes, members=True)
