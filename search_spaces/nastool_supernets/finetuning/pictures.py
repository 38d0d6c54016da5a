"""What fine-tuning found, as a page: scores over parameters beside the published ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nastool.constraint import format_quantity
from nastool.plots.axes import TEMPLATE, plotly
from nastool.plots.front import PALETTE
from nastool.plots.page import Cell, Member, Panel, Section, Table, document
from nastool.plots.report import head_of
from nastool.problem import Problem
from nastool_supernets.finetuning.report import AVERAGE, Report, Row

if TYPE_CHECKING:
    import plotly.graph_objects as go

_PUBLISHED = {"size": 8, "symbol": "diamond-open", "color": "#94a3b8"}


def validation_page(report: Report, problem: Problem) -> str:
    """The page as HTML.

    Args:
        report: What was found.
        problem: Of the study whose shapes were fine-tuned.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    found = report.validation
    seconds = sum(row.seconds for row in report.rows)
    facts: dict[str, str | float] = {
        "supernet": report.supernet,
        "shapes": len(found.shapes),
        "tasks": len(found.tasks),
        "seeds": len(found.seeds),
        "fine-tuning": f"{seconds / 60:,.1f} minutes",
    }
    head = head_of(f"{report.study}: fine-tuned", problem, facts)
    if departures := report.departures():
        otherwise = ("Otherwise than published.", "; ".join(departures))
        head = replace(head, warnings=(*head.warnings, otherwise))
    columns, members = _columns(report), _members(report, problem)
    sections: list[Section] = [
        Panel(
            f"score-{place}", draw_scores(report, column, members), small=len(_columns(report)) > 1
        )
        for place, column in enumerate(_columns(report))
    ]
    if correlations := report.correlations():
        first = columns[0]
        told = ", ".join(
            f"{mode} {'undefined' if values[first] is None else format(values[first], '+.2f')}"
            for mode, values in correlations.items()
        )
        figure = draw_promise(report, members)
        notes = (f"rank correlation {told}; -1 is a promise kept",)
        sections.append(Panel("promise", figure, notes=notes, small=bool(found.trajectories)))
    if found.trajectories:
        sections.append(Panel("pretraining", draw_pretraining(report), small=True))
    sections.append(_table(report, members))
    if published := report.published():
        sections.append(_published_table(published))
    return document(head, sections, problem.space, members)


def _columns(report: Report) -> list[str]:
    """What is drawn: the average of several tasks, then each."""
    names = [task.name for task in report.validation.tasks]
    return [AVERAGE, *names] if len(report.averaged) > 1 else names


def _value(report: Report, row: Row, column: str) -> tuple[float, float | None]:
    """A score in percent, and its deviation over seeds."""
    if column == AVERAGE:
        return report.average(row), None
    task = next(task for task in report.validation.tasks if task.name == column)
    score = row.scores[column][task.metrics[0]]
    return score.mean, score.deviation


def _label(report: Report, column: str) -> str:
    if column == AVERAGE:
        return f"average of {len(report.averaged)} tasks (%)"
    task = next(task for task in report.validation.tasks if task.name == column)
    return f"{column}, {task.metrics[0].replace('_', ' ')} (%)"


def _members(report: Report, problem: Problem) -> tuple[Member, ...]:
    """A shape and start each, in the order of the report's rows."""
    several = len(report.validation.modes) > 1
    members = []
    for row in report.rows:
        text, metrics = report.names[row.shape], report.metrics[row.shape]
        units = {metric.name: metric.unit for metric in problem.reported}
        known = [
            f"{name} {format_quantity(value, units.get(name, ''))}"
            for name, value in metrics.items()
        ]
        scores = [
            f"{task.name} {row.scores[task.name][task.metrics[0]]}"
            for task in report.validation.tasks
        ]
        genotype = tuple(problem.space.parse(text)[0].tolist())
        lines = (*known, *scores, *((f"start {row.mode.value}",) * several))
        members.append(Member("", text, genotype, (), (), lines))
    return tuple(members)


def _drawn(
    report: Report,
    members: Sequence[Member],
    x: Callable[[Row], float],
    column: str,
) -> go.Figure:
    """Our scores in one column over something, a colour a start."""
    figure = plotly().Figure()
    several = len(report.validation.modes) > 1
    for colour, mode in zip(PALETTE, report.validation.modes, strict=False):
        shown = [
            (x(row), *_value(report, row, column), member)
            for row, member in zip(report.rows, members, strict=True)
            if row.mode is mode
        ]
        shown.sort(key=lambda one: one[0])
        bars = {"type": "data", "array": [one[2] or 0 for one in shown], "width": 3, "thickness": 1}
        figure.add_scatter(
            name=f"from {mode.value}" if several else "our shapes",
            x=[one[0] for one in shown],
            y=[one[1] for one in shown],
            error_y=bars if any(one[2] for one in shown) else None,
            mode="markers",
            marker={"size": 9, "color": colour},
            customdata=[
                [m.text, "".join(f"<br>{line}" for line in m.lines), list(m.genotype)]
                for *_, m in shown
            ],
            hovertemplate="<b>%{customdata[0]}</b>%{customdata[1]}<extra></extra>",
        )
    figure.update_layout(
        yaxis={"title": {"text": _label(report, column)}},
        hovermode="closest",
        showlegend=True,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        template=TEMPLATE,
    )
    return figure


def draw_scores(report: Report, column: str, members: Sequence[Member]) -> go.Figure:
    """Scores over parameters, with the published models where the task is one of theirs.

    Args:
        report: What was found.
        column: A task, or ``average``.
        members: One for each of the report's rows.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    figure = _drawn(report, members, lambda row: report.metrics[row.shape]["params"], column)
    known = [
        (entry["model"], published_size(entry["params"]), published_score(entry.get(column, "")))
        for entry in report.published()
    ]
    known = [one for one in known if one[2] is not None]
    if known:
        figure.add_scatter(
            name="published",
            x=[size for _, size, _ in known],
            y=[score for *_, score in known],
            text=[name for name, *_ in known],
            mode="markers",
            marker=_PUBLISHED,
            hovertemplate="<b>%{text}</b> (published)<br>%{y:.1f}<br>params %{x:.3~s}"
            "<extra></extra>",
        )
    title = "Average score over parameters" if column == AVERAGE else f"{column} over parameters"
    figure.update_layout(
        title={"text": title}, xaxis={"title": {"text": "params"}, "tickformat": "~s"}
    )
    return figure


def draw_promise(report: Report, members: Sequence[Member]) -> go.Figure:
    """Scores over what was to tell them: the study's perplexity.

    Args:
        report: With a quality.
        members: One for each of the report's rows.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    quality = report.quality or ""
    figure = _drawn(
        report, members, lambda row: report.metrics[row.shape][quality], _columns(report)[0]
    )
    name = quality.partition("[")[0].replace("_", " ")
    figure.update_layout(
        title={"text": f"What {name} promised"}, xaxis={"title": {"text": quality}}
    )
    return figure


def draw_pretraining(report: Report) -> go.Figure:
    """Perplexity of subnets while they were trained further (SuperShaper, figure 3c).

    Args:
        report: With trajectories.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    figure = plotly().Figure()
    modes = [mode.value for mode in report.validation.modes]
    for place, entry in enumerate(report.pretraining()):
        name = f"{entry['shape']}, {entry['mode']}"
        dashes = ("solid", "dash", "dot")
        figure.add_scatter(
            name=name,
            x=entry["steps"],
            y=entry["perplexities"],
            mode="lines+markers",
            marker={"size": 5},
            line={
                "color": PALETTE[place % len(PALETTE)],
                "dash": dashes[modes.index(entry["mode"]) % len(dashes)],
            },
            hovertemplate=f"<b>{name}</b><br>%{{x:,}} steps<br>perplexity %{{y:,.4g}}"
            "<extra></extra>",
            showlegend=place < len(PALETTE),
        )
    figure.update_layout(
        title={"text": "Training further"},
        xaxis={"title": {"text": "steps"}, "rangemode": "tozero"},
        yaxis={"title": {"text": "perplexity"}, "type": "log"},
        hovermode="closest",
        showlegend=True,
        legend={"orientation": "h", "yanchor": "top", "y": -0.25, "x": 0},
        template=TEMPLATE,
    )
    return figure


def _table(report: Report, members: Sequence[Member]) -> Table:
    """Our rows; every metric of every task."""
    first = next(iter(report.metrics.values()))
    scored = [(task.name, metric) for task in report.validation.tasks for metric in task.metrics]
    several = len(report.averaged) > 1
    columns = (
        "shape",
        "start",
        *first,
        *(f"{task} {metric}".replace("_", " ") for task, metric in scored),
        *((AVERAGE,) * several),
        "seconds",
    )
    rows = []
    for row, member in zip(report.rows, members, strict=True):
        cells = [Cell(member.text), Cell(row.mode.value)]
        cells += [
            Cell(format_quantity(value), value) for value in report.metrics[row.shape].values()
        ]
        scores = [row.scores[task][metric] for task, metric in scored]
        cells += [Cell(str(score), score.mean) for score in scores]
        if several:
            cells.append(Cell(f"{report.average(row):.1f}", report.average(row)))
        rows.append((*cells, Cell(f"{row.seconds:,.0f}", row.seconds)))
    seeds = len(report.validation.seeds)
    what = f"mean and standard deviation of {seeds} seeds" if seeds > 1 else "scores of 1 seed"
    notes = (f"{what} on the dev sets, in percent, best epoch of each",)
    return Table("members", columns, tuple(rows), "Shapes", notes, members=True)


def _published_table(published: Sequence[Mapping[str, str]]) -> Table:
    columns = tuple(published[0])
    rows = tuple(tuple(_published_cell(row[column]) for column in columns) for row in published)
    notes = ("SuperShaper, table 1: with all examples, on the dev sets",)
    return Table("published", columns, rows, "Published", notes)


def _published_cell(text: str) -> Cell:
    if not text:
        return Cell("", "")
    if text[0].isdigit() and text.endswith("M"):
        return Cell(text, published_size(text))
    score = published_score(text)
    return Cell(text) if score is None else Cell(text, score)


def published_size(text: str) -> float:
    """Parameters as the paper's table has them: ``66M``, or ``59-67M``, which is its middle."""
    ends = [1e6 * float(end) for end in text.removesuffix("M").split("-")]
    return sum(ends) / len(ends)


def published_score(text: str) -> float | None:
    """A score as the paper's table has it, the first of two; None where there is none."""
    try:
        return float(text.partition("/")[0])
    except ValueError:
        return None
