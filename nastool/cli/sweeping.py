"""A sweep over the limits of a metric: its searches, and what they found in each format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from nastool.cli.output import Destination, Formats, echo_warnings
from nastool.cli.plan import Plan
from nastool.cli.proofs import certificate_of, prove_fully
from nastool.cli.tables import bars, formatted, sources
from nastool.cli.tracking import Tracking
from nastool.constraint import format_quantity
from nastool.exact.certificate import Certificate
from nastool.executors import Executor
from nastool.files.documents import json_document
from nastool.files.tables import csv_of, json_record
from nastool.plots.front import Cloud
from nastool.recipes.study_recipe import StudyRecipe
from nastool.results import Result, describe_metrics
from nastool.searching.sweeps import Found, Sweep, check_found, columns, worth_of
from nastool.store.urls import showable
from nastool.study import NO_END, Ending

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nastool.predictors.trust import Trust
    from nastool.problem import Problem


def run(
    sweep: Sweep,
    storage: str,
    ending: Ending = NO_END,
    executor: Executor | None = None,
    tracking: Tracking | None = None,
) -> list[Found]:
    """Search under each limit, or take what the store holds of it.

    Args:
        sweep: What is asked for.
        storage: Where each search is kept, or ``none``.
        ending: When each of them ends before its budget.
        executor: Where what is not cheap is evaluated; in this process by default.
        tracking: Where curves go, of each search by itself; nowhere by default.

    Raises:
        KeyboardInterrupt: Ctrl-C; what was evaluated is kept.
        NastoolError: Nothing was found under any limit.
    """
    found: list[Found] = []

    def search(recipe: StudyRecipe, label: str) -> tuple[Result, Certificate | None]:
        where = tracking or Tracking()
        plan = Plan(recipe, storage, ending=ending, executor=executor, tracking=where)
        study = plan.study()
        # A part of a proof is no row: the study would go on from what is not the answer.
        prove_fully(study.strategy)
        result = plan.run(study, label=label)
        if result.stop_reason == "interrupted":
            raise KeyboardInterrupt
        # Without a store it goes by a name, too.
        return replace(result, name=study.name), certificate_of(study.strategy)

    for bound in sweep.bounds:
        try:
            found.append(sweep.run_one(bound, search))
        except KeyboardInterrupt:
            kept = "nothing is kept" if storage == "none" else "the same command goes on"
            raise KeyboardInterrupt(
                f"{len(found)} of {len(sweep.bounds)} limits are done; {kept}"
            ) from None
    check_found(found)
    return found


def show(
    destination: Destination,
    sweep: Sweep,
    found: Sequence[Found],
    storage: str,
    clouds: Sequence[Cloud],
) -> None:
    """Show a sweep.

    Args:
        destination: What the output options ask for.
        sweep: What was asked for.
        found: What each search found.
        storage: Where the searches are kept.
        clouds: Measured points for the figure.
    """
    recipe = sweep.recipe
    facts: dict[str, str | int] = {
        "strategy": ", ".join([recipe.strategy, *map("=".join, recipe.options.items())]),
        "seed": recipe.seed,
        "storage": "memory" if storage == "none" else showable(storage),
    }

    def page() -> str:
        from nastool.plots.clouds import named_shapes
        from nastool.plots.sweep import sweep_page

        metric, name = sweep.metric.name, sweep.problem.objectives[0].name
        drawn = (*clouds, *named_shapes(sweep.problem, metric, name))
        return sweep_page(sweep.best(found), metric, facts, drawn)

    formats: Formats = {
        "table": lambda width: as_table(sweep, found, facts, width),
        "json": lambda: as_json(sweep, found, facts),
        "csv": lambda: csv_of(columns(sweep, found)).removesuffix("\n"),
    }
    destination.send(formats, page, sweep.problem)
    if destination.format != "table":
        echo_warnings(worths_of(sweep.problem, found))


def worths_of(problem: Problem, found: Sequence[Found]) -> dict[str, Trust]:
    """How far predicted values are to be trusted, by metric."""
    worths = {metric.name: worth_of(metric, found) for metric in problem.reported}
    return {name: worth for name, worth in worths.items() if worth is not None}


def as_json(sweep: Sweep, found: Sequence[Found], facts: Mapping[str, str | int]) -> str:
    """The rows, what their numbers are, and what is proven."""
    table = columns(sweep, found)
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    content = {
        **facts,
        "space": sweep.problem.space.name,
        "metric": sweep.metric.name,
        "sense": sweep.bounds[0].sense,
        "budget": sweep.recipe.budget,
        "constraints": [str(constraint) for constraint in sweep.recipe.constraints],
        "metrics": describe_metrics(sweep.problem),
        "limits": [
            {
                **json_record(row),
                "note": f.note or None,
                "certificate": None if f.certificate is None else asdict(f.certificate),
            }
            for row, f in zip(rows, found, strict=True)
        ],
    }
    return json_document("sweep", content)


def as_table(
    sweep: Sweep, found: Sequence[Found], facts: Mapping[str, str | int], width: int
) -> RenderableType:
    """The rows for people.

    Args:
        sweep: What was asked for.
        found: What each search found.
        facts: What else to say, by label.
        width: Characters of a line; where they are few, the bars are left out.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    problem, objective = sweep.problem, sweep.problem.objectives[0]
    rows = [row for row in found if row.genotype is not None]
    genotypes = np.concatenate([row.genotype for row in rows if row.genotype is not None])
    cells: dict[str, list[str]] = {
        "limit": [format_quantity(row.limit.bound, sweep.metric.unit) for row in rows]
    }
    for metric in problem.reported:
        values = np.array([row.values[metric.name] for row in rows])
        cells[metric.name] = formatted(values, metric.unit)
    worths = worths_of(problem, found)
    for name, worth in worths.items():
        cells[name] = [f"{text} {worth.text(row)}".rstrip() for row, text in enumerate(cells[name])]
    cells["shape"] = [problem.space.format(genotype) for genotype in genotypes]
    glyphs = bars(problem, genotypes)
    if any(glyphs):
        cells[""] = glyphs
    if any(row.proof for row in rows):
        cells["proof"] = [row.proof for row in rows]
    if sum(max(map(len, [name, *column])) + 2 for name, column in cells.items()) > width:
        cells.pop("", None)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in cells:
        left = name in ("shape", "", "proof")
        table.add_column(
            Text(name),
            justify="left" if left else "right",
            overflow="fold",
            no_wrap=name != "shape",
        )
    for line in zip(*cells.values(), strict=True):
        table.add_row(*map(Text, line))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for label, source in sources(problem):
        grid.add_row(label, source)
        for note in worths[label.plain].notes if label.plain in worths else ():
            grid.add_row("", Text(note))
    for row in found:
        if row.genotype is None:
            grid.add_row(Text(str(row.limit)), Text(row.note))
    grid.add_row("search", Text(f"{sum(row.evaluations for row in found):,} evaluations"))
    for key, value in facts.items():
        grid.add_row(key, Text(str(value)))
    sense = "most" if sweep.bounds[0].sense == "<=" else "least"
    title = f"Best {objective.name} at {len(found)} limits: {sweep.metric.name} at {sense}"
    title = ", ".join([title, *map(str, sweep.recipe.constraints)])
    return Group(Text(title, style="bold"), Text(""), table, Text(""), grid)
