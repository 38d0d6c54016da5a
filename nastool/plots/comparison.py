"""One self-contained HTML page of a comparison: table, fronts, curves, surfaces, shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from nastool.comparison import Comparison
from nastool.evaluations import Evaluations
from nastool.plots.anytime import anytime_data, draw_anytime
from nastool.plots.attainment import attainment_data, draw_attainment
from nastool.plots.front import PALETTE, front_data
from nastool.plots.objectives import objectives_panels
from nastool.plots.page import Cell, Member, Panel, Section, Table, document
from nastool.plots.report import front_panel, head_of, members, members_table, shapes_panel
from nastool.plots.standings import Standings, evaluations, label, standings
from nastool.results import Result

CLOUD = 8_000
"""Points of the clouds of all strategies together."""


def pooled(results: Sequence[Result]) -> Result:
    """Runs of one problem as one result: every architecture once, where it was first found.

    Args:
        results: At least one.
    """
    first = results[0]
    genotypes = np.concatenate([run.evaluations.genotypes for run in results])
    positions: dict[object, int] = {}
    for position, key in enumerate(first.problem.space.keys(genotypes)):
        positions.setdefault(key, position)
    rows = np.fromiter(positions.values(), dtype=np.int64)
    evaluations = Evaluations(
        genotypes[rows],
        np.concatenate([run.evaluations.objectives for run in results])[rows],
        np.concatenate([run.evaluations.violations for run in results])[rows],
    )
    return Result(
        first.problem,
        evaluations,
        np.concatenate([run.metrics for run in results])[rows],
        np.concatenate([run.elapsed for run in results])[rows],
        sum(run.seconds for run in results),
        "",
        tuple(failure for run in results for failure in run.failures),
    )


def comparison_page(comparison: Comparison, facts: Mapping[str, str | float]) -> str:
    """The page of a comparison as HTML.

    Args:
        comparison: Finished runs.
        facts: What to say about it, by label.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    problem = comparison.problem
    by_strategy = {strategy: pooled(runs) for strategy, runs in comparison.results.items()}
    everything = pooled(list(by_strategy.values()))
    fronts = front_data(by_strategy, cloud=max(CLOUD // len(by_strategy), 100))
    sections: list[Section] = [_table(standings(comparison), list(comparison.results))]
    seeds = len(comparison.seeds)
    title = f"Fronts of each strategy, {seeds} seed{'s' * (seeds != 1)} together"
    if fronts.choice:
        title += f": a projection of {len(fronts.choice)} metrics onto two"
    rows = _members(everything, by_strategy)
    sections += [front_panel(fronts, title), *objectives_panels(problem, rows)]
    shown = "hypervolume"
    if len(problem.objectives) == 1:
        shown = f"best {problem.objectives[0].name}"
    sections += [
        Panel("anytime-evaluations", draw_anytime(anytime_data(comparison, shown))),
        Panel("anytime-seconds", draw_anytime(anytime_data(comparison, shown, "seconds"))),
    ]
    if len(problem.objectives) == 2:
        sections.append(Panel("attainment", draw_attainment(attainment_data(comparison))))
    sections.append(shapes_panel("shapes", everything, "Shapes of the front of all runs"))
    sections.append(members_table(problem, rows, "found by", "Front of all runs"))
    known = {
        **facts,
        "strategies": len(by_strategy),
        "seeds": seeds,
        "evaluations a run": evaluations(comparison),
    }
    page = f"{problem.space.name}: {len(by_strategy)} strategies compared"
    return document(head_of(page, problem, known), sections, problem.space, rows)


def _members(everything: Result, by_strategy: Mapping[str, Result]) -> list[Member]:
    """The front of all runs, each member with the strategies that found it."""
    space = everything.problem.space
    rows = members("", everything)
    keys = space.keys(np.array([row.genotype for row in rows], dtype=np.int64))
    seen = {
        strategy: set(space.keys(result.front().genotypes))
        for strategy, result in by_strategy.items()
    }
    return [
        replace(row, study=", ".join(s for s, found in seen.items() if key in found))
        for row, key in zip(rows, keys, strict=True)
    ]


def _table(found: Standings, order: list[str]) -> Table:
    """The standings."""
    rows = tuple(
        (
            Cell(row.strategy, colour=PALETTE[order.index(row.strategy) % len(PALETTE)]),
            *(
                Cell(v.median, v.summary.median, note=v.interval, mark=v.letters)
                for v in row.verdicts
            ),
            Cell(f"{row.evaluations:,}", row.evaluations),
            Cell(f"{row.seconds:,.2f}", row.seconds),
        )
        for row in found.rows
    )
    names = ("strategy", *map(label, found.indicators), "evaluations", "seconds")
    return Table("standings", names, rows, "Standings", found.notes)
