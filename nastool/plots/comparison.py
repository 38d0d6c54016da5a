"""One self-contained HTML page of a comparison: table, fronts, curves, surfaces, shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

import numpy as np

from nastool.comparison import Comparison
from nastool.evaluations import Evaluations
from nastool.plots.anytime import anytime_data, draw_anytime
from nastool.plots.attainment import attainment_data, draw_attainment
from nastool.plots.front import PALETTE, draw_front, front_data
from nastool.plots.report import (
    Member,
    Panel,
    document,
    heading,
    members,
    members_table,
    shapes_panel,
)
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
    sections: list[str | Panel] = [_table(standings(comparison), list(comparison.results))]
    seeds = len(comparison.seeds)
    title = f"Fronts of each strategy, {seeds} seed{'s' * (seeds != 1)} together"
    sections.append(Panel("front", draw_front(fronts, title), beside_shape=True))
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
    rows = _members(everything, by_strategy)
    sections.append(members_table(problem, rows, "found by", "Front of all runs"))
    known = {
        **facts,
        "strategies": len(by_strategy),
        "seeds": seeds,
        "evaluations a run": evaluations(comparison),
    }
    page = f"{problem.space.name}: {len(by_strategy)} strategies compared"
    return document(page, [heading(page, problem, known), *sections], fronts, problem, rows)


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


def _table(found: Standings, order: list[str]) -> str:
    """The standings; a click on a heading sorts by it."""
    headings = [label(indicator) for indicator in found.indicators]
    names = ["strategy", *headings, "evaluations", "seconds"]
    head = "".join(f"<th><button>{escape(name)}</button></th>" for name in names)
    body = []
    for row in found.rows:
        colour = PALETTE[order.index(row.strategy) % len(PALETTE)]
        name = escape(row.strategy)
        shown = f'<i style="background:{colour}"></i>{name.replace(",", ",<wbr>")}'
        cells = [f'<td data-value="{name}">{shown}</td>']
        cells += [
            f'<td data-value="{verdict.summary.median!r}">{escape(verdict.median)} '
            f"<sup>{escape(verdict.letters)}</sup><small>{escape(verdict.interval)}</small></td>"
            for verdict in row.verdicts
        ]
        cells.append(f'<td data-value="{row.evaluations}">{row.evaluations:,}</td>')
        cells.append(f'<td data-value="{row.seconds!r}">{row.seconds:,.2f}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    notes = "".join(f"<p>{escape(note)}</p>" for note in found.notes)
    return (
        '<h2>Standings</h2>\n<div class="scroll standings"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        f'<div class="sources">{notes}</div>'
    )
