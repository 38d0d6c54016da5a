"""How runs come along: what has been gained, how fast, what failed and what is under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import strftime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nastool.comparison import Comparison
from nastool.pareto.indicators import Values
from nastool.plots.axes import TEMPLATE, Axis, axis_of, plotly
from nastool.plots.front import PALETTE, front_data
from nastool.plots.objectives import objectives_panels
from nastool.plots.page import Cell, Head, Member, Panel, Section, Table, Text, document
from nastool.plots.report import front_panel, head_of, members, members_table, shapes_panel
from nastool.results import STOP_MESSAGES, Result
from nastool.space import Genotypes, SearchSpace
from nastool.study import last_gain

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from nastool.store import StoredStudy
    from nastool.store.sharing import Lease

POINTS = 200
"""Places of a curve at most; spaced by factors, for most is gained early."""

FEW_POINTS = 40
"""The same of a hypervolume of more than three objectives, which takes long."""

LISTED = 50
"""Failures, and shapes under way, that a page lists at most."""


@dataclass(frozen=True, eq=False)
class Gain:
    """How one number of a run has developed.

    Args:
        name: ``hypervolume``, or an objective.
        x: Evaluations, shape (k,).
        values: Share of what is known now, or the best value; NaN before anything was allowed.
        axis: Of the values.
    """

    name: str
    x: Values
    values: Values
    axis: Axis


@dataclass(frozen=True, eq=False)
class Watched:
    """The state of something that goes on, as a page and a line.

    Args:
        head: Of the page.
        sections: Of the page.
        said: The same in a line for a terminal.
        ended: Whether nothing more will come.
        space: Of the shapes on the page; None where there are none.
        members: The rows of its table of shapes.
    """

    head: Head
    sections: tuple[Section, ...]
    said: str
    ended: bool
    space: SearchSpace | None = None
    members: tuple[Member, ...] = ()

    def page(self, refresh: float = 0) -> str:
        """The page as HTML.

        Args:
            refresh: Seconds after which it is to look whether it has been written anew.

        Raises:
            MissingDependencyError: plotly is not installed.
        """
        facts = {**self.head.facts, "written": strftime("%Y-%m-%d %H:%M:%S")}
        head = replace(self.head, facts=facts)
        return document(head, self.sections, self.space, self.members, refresh)


def gains(result: Result) -> tuple[Gain, ...]:
    """What a run has gained with its evaluations; nothing where none is allowed yet.

    Of several objectives hypervolume comes first, as a share of that of the front as it is: scaled
    and with a reference point as in a `Comparison`.

    Args:
        result: Of a run that may go on.
    """
    if not result.evaluations.feasible.any():
        return ()
    run = Comparison(result.problem, {"run": (result,)}, (0,), len(result))
    objectives = result.problem.objectives
    found = []
    if len(objectives) > 1:
        points = POINTS if len(objectives) <= 3 else FEW_POINTS
        curve = run.curve("hypervolume", points=points)
        found.append(Gain("hypervolume", curve.x, curve.values["run"][0], Axis("hypervolume")))
    for objective in objectives:
        curve = run.curve(f"best {objective.name}", points=POINTS)
        values = curve.values["run"][0]
        found.append(Gain(objective.name, curve.x, values, axis_of(objective, values)))
    return tuple(found)


def draw_gain(gain: Gain) -> go.Figure:
    """A number of a run over its evaluations; it stays until something better is found.

    Args:
        gain: From `gains`.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    figure = plotly().Figure()
    share = gain.name == "hypervolume"
    y = Axis(gain.name) if share else gain.axis
    hover = "%{y:.3%}" if share else y.hover("y").removeprefix(f"{y.name} ")
    figure.add_scatter(
        x=gain.x.tolist(),
        y=gain.values.tolist(),
        mode="lines",
        line={"shape": "hv", "color": PALETTE[0], "width": 2},
        hovertemplate=f"after %{{x:.4~s}} evaluations<br><b>{hover}</b><extra></extra>",
        showlegend=False,
    )
    title = "Hypervolume, of the front as it is now" if share else f"Best {gain.name}"
    figure.update_layout(
        title={"text": title},
        xaxis={"title": {"text": "evaluations"}, "type": "log", "dtick": 1, "tickformat": "~s"},
        yaxis={"tickformat": ".4~%"} if share else y.ticks,
        hovermode="closest",
        template=TEMPLATE,
    )
    return figure


def draw_pace(result: Result) -> go.Figure:
    """Evaluations, and failures among them, over the seconds of a run.

    Args:
        result: With at least one evaluation.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    figure = plotly().Figure()
    rows = np.unique(np.linspace(0, len(result) - 1, POINTS).round().astype(np.int64))
    seconds = result.elapsed[rows].tolist()
    lines: list[tuple[str, NDArray[Any], str]] = [("evaluated", rows + 1, PALETTE[0])]
    if result.failed.any():
        lines.append(("failed", np.cumsum(result.failed)[rows], PALETTE[4]))
    for name, counts, colour in lines:
        figure.add_scatter(
            name=name,
            x=[0.0, *seconds],
            y=[0, *counts.tolist()],
            mode="lines",
            line={"color": colour, "width": 2},
            hovertemplate=f"<b>%{{y:,}}</b> {name} after %{{x:,.3~g}} s<extra></extra>",
            showlegend=len(lines) > 1,
        )
    figure.update_layout(
        title={"text": "Pace"},
        xaxis={"title": {"text": "seconds of the run"}, "rangemode": "tozero"},
        yaxis={"title": {"text": "evaluations"}, "tickformat": "~s", "rangemode": "tozero"},
        hovermode="closest",
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        template=TEMPLATE,
    )
    return figure


def progress_panels(result: Result) -> tuple[Panel, ...]:
    """The pictures of a run's progress.

    Args:
        result: Of a run that may go on.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    if not len(result):
        return ()
    panels = [
        Panel(f"gain-{place}", draw_gain(gain), small=True)
        for place, gain in enumerate(gains(result))
    ]
    return (*panels, Panel("pace", draw_pace(result), small=True))


def watched_study(result: Result, stored: StoredStudy, leases: Sequence[Lease] = ()) -> Watched:
    """A stored study as it is.

    Args:
        result: What it has found.
        stored: As its store has it.
        leases: What processes that share it evaluate.
    """
    problem, summary = result.problem, stored.summary
    # Of processes that share a study one may have ended while others go on.
    ended = bool(result.stop_reason) and not any(lease.is_live for lease in leases)
    budget = summary.description.get("budget")
    count = f"{len(result):,}"
    if isinstance(budget, int) and budget >= len(result) and not ended:
        count += f" of {budget:,}"
    front = result.front()
    failed = int(result.failed.sum())
    waiting = pending(stored, problem.space, leases)
    facts: dict[str, str | float] = {
        "state": STOP_MESSAGES[result.stop_reason] if ended else "running, or killed",
        "evaluations": count,
        "seconds": round(result.seconds, 1),
        "strategy": summary.text("strategy"),
        "seed": summary.number("seed"),
    }
    if len(result):
        gained = last_gain(result.evaluations) + 1
        facts["last gain"] = (
            f"{len(result) - gained:,} evaluations ago" if gained else "nothing allowed yet"
        )
    if failed:
        facts["failed"] = failed
    if len(waiting):
        facts["under way"] = len(waiting)
    sections: list[Section] = list(progress_panels(result))
    rows: tuple[Member, ...] = ()
    if len(front):
        rows = members("", result)
        sections += [
            front_panel(front_data({result.name or "study": result})),
            *objectives_panels(problem, rows),
            shapes_panel("shapes", result, "Shapes of the front"),
            members_table(problem, rows, ""),
        ]
    elif len(result):
        sections.append(Text(("Nothing that was evaluated keeps every constraint so far.",)))
    else:
        sections.append(Text(("Nothing has been evaluated yet.",)))
    sections += _waiting_table(waiting, problem.space)
    sections += _failures_table(result)
    said = f"{count} evaluations, {len(front):,} on the front"
    said += f", {failed:,} failed" if failed else ""
    return Watched(
        head_of(f"{problem.space.name}: {result.name}", problem, facts),
        tuple(sections),
        f"{said}; {STOP_MESSAGES[result.stop_reason]}" if ended else said,
        ended,
        problem.space if rows else None,
        rows,
    )


def pending(stored: StoredStudy, space: SearchSpace, leases: Sequence[Lease] = ()) -> Genotypes:
    """What a stored study has under way as far as its store knows, (k, d).

    Args:
        stored: As its store has it; batches of one synchronous process are not listed.
        space: Of the study.
        leases: What processes that share it evaluate; what is left by others is under way no more.

    Raises:
        InvalidInputError: The store holds something else.
    """
    state = stored.state or {}
    none = np.empty((0, len(space.genes)), dtype=np.int64)
    parts = [np.asarray(state.get("pending", none)), *(o.genotypes for o in leases if o.is_live)]
    valid = space.validate(np.concatenate([part for part in parts if len(part)] or [none]))
    return valid[np.sort(np.unique(valid, axis=0, return_index=True)[1])]


def _waiting_table(genotypes: Genotypes, space: SearchSpace) -> Sequence[Table]:
    if not len(genotypes):
        return ()
    rows = tuple((Cell(text),) for text in space.texts(genotypes[:LISTED]))
    more = len(genotypes) - LISTED
    notes = (f"and {more:,} more",) if more > 0 else ()
    return (Table("pending", ("shape",), rows, "Under way", notes, words=True),)


def _failures_table(result: Result) -> Sequence[Table]:
    """The latest failures with their messages, newest first."""
    if not result.failures:
        return ()
    rows = tuple(
        (Cell(f.architecture), Cell(f.metric), Cell(" ".join(f.message.split())))
        for f in result.failures[: -LISTED - 1 : -1]
    )
    notes = (f"the latest {LISTED} of {len(result.failures):,}",) * (len(result.failures) > LISTED)
    return (Table("failures", ("shape", "metric", "why"), rows, "Failures", notes, words=True),)
