"""A comparison as a table for people, as JSON or as CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nastool.cli.tables import sources
from nastool.comparison import Comparison
from nastool.files.documents import json_document
from nastool.files.tables import csv_text
from nastool.plots.standings import CONFIDENCE, Standings, evaluations, label, seconds
from nastool.results import describe_metrics

if TYPE_CHECKING:
    from rich.console import RenderableType

_GAP = 2


def as_table(
    comparison: Comparison, found: Standings, width: int, facts: Mapping[str, str]
) -> RenderableType:
    """A block of columns under another, as many a block as fit.

    Args:
        comparison: Finished runs.
        found: Its standings.
        width: Characters of a line.
        facts: What else to say, by label.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    names = [row.strategy for row in found.rows]
    columns: list[tuple[str, list[tuple[str, str]]]] = [
        (
            label(indicator).replace(" ", "\n", 1).replace(" under", "\nunder"),
            [_cell(row.verdicts[k]) for row in found.rows],
        )
        for k, indicator in enumerate(found.indicators)
    ]
    columns.append(("evaluations", [(f"{row.evaluations:,}", "") for row in found.rows]))
    columns.append(("seconds", [(f"{row.seconds:,.2f}", "") for row in found.rows]))
    first = max(map(len, ["strategy", *names]))
    blocks: list[list[int]] = [[]]
    room = width - first
    for k, (heading, cells) in enumerate(columns):
        needed = (
            max(*map(len, heading.split("\n")), *(len(line) for cell in cells for line in cell))
            + _GAP
        )
        if needed > room and blocks[-1]:
            blocks.append([])
            room = width - first
        blocks[-1].append(k)
        room -= needed
    parts: list[RenderableType] = [Text(_title(comparison), style="bold"), Text("")]
    for block in blocks:
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
        table.add_column("strategy", no_wrap=True, min_width=first)
        for k in block:
            table.add_column(Text(columns[k][0]), justify="right", no_wrap=True)
        for row, name in enumerate(names):
            cells = [columns[k][1][row] for k in block]
            table.add_row(
                Text(name),
                *(
                    Text.assemble(median, *([("\n" + interval, "dim")] if interval else []))
                    for median, interval in cells
                ),
            )
        parts += [table, Text("")]
    parts += [Text(note) for note in found.notes]
    return Group(*parts, Text(""), _caption(comparison, facts))


def _cell(verdict: Any) -> tuple[str, str]:
    return f"{verdict.median} {verdict.letters}", verdict.interval


def _title(comparison: Comparison) -> str:
    what = (
        f"{len(comparison.results)} strategies, {len(comparison.seeds)} seeds, "
        f"{evaluations(comparison)} evaluations a run"
    )
    return ", ".join([what, *map(str, comparison.problem.constraints)])


def _caption(comparison: Comparison, facts: Mapping[str, str]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for name, line in sources(comparison.problem):
        grid.add_row(name, line)
    for key, fact in facts.items():
        grid.add_row(Text(key), Text(fact))
    return grid


def as_json(comparison: Comparison, found: Standings, facts: Mapping[str, str]) -> str:
    """Everything the table shows, each run's values and every test.

    Args:
        comparison: Finished runs.
        found: Its standings.
        facts: What else to say, by label.
    """
    problem = comparison.problem
    content = {
        **facts,
        "space": problem.space.name,
        "constraints": [str(constraint) for constraint in problem.constraints],
        "metrics": describe_metrics(problem),
        "budget": comparison.budget,
        "seeds": list(comparison.seeds),
        "confidence": CONFIDENCE,
        "reference": {
            "front": "given" if comparison.true_front is not None else "of all runs",
            "points": len(comparison.reference_front),
            "hypervolume_from": (comparison.reference_point * problem.signs).tolist(),
        },
        "strategies": [
            {
                "strategy": row.strategy,
                "evaluations": [len(run) for run in comparison.results[row.strategy]],
                "seconds": [seconds(run) for run in comparison.results[row.strategy]],
                "indicators": {
                    indicator.name: {
                        "median": _number(verdict.summary.median),
                        "low": _number(verdict.summary.low),
                        "high": _number(verdict.summary.high),
                        "coverage": verdict.summary.coverage,
                        "letters": verdict.letters,
                        "values": [_number(v) for v in verdict.summary.values.tolist()],
                    }
                    for indicator, verdict in zip(found.indicators, row.verdicts, strict=True)
                },
            }
            for row in found.rows
        ],
        "tests": [
            {"indicator": indicator.name, **asdict(test)}
            for indicator, tests in zip(found.indicators, found.tests, strict=True)
            for test in tests
        ],
        "notes": list(found.notes),
    }
    return json_document("comparison", content)


def as_csv(comparison: Comparison, found: Standings) -> str:
    """A line a run: strategy, seed, evaluations, seconds, every indicator in its base unit.

    Args:
        comparison: Finished runs.
        found: Its standings.
    """
    names = [indicator.name for indicator in found.indicators]
    lines: list[list[Any]] = []
    for row in found.rows:
        runs = comparison.results[row.strategy]
        for k, (seed, run) in enumerate(zip(comparison.seeds, runs, strict=True)):
            values = [_number(float(verdict.summary.values[k])) for verdict in row.verdicts]
            lines.append([row.strategy, seed, len(run), seconds(run), *values])
    header = ["strategy", "seed", "evaluations", "seconds", *names]
    return csv_text(header, lines).removesuffix("\n")


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
