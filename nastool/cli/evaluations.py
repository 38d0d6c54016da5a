"""Every evaluation of a comparison, as a table for people, as JSON or as CSV."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nastool.cli.output import Formats
from nastool.cli.tables import plain_table
from nastool.comparison import Comparison
from nastool.files.documents import json_document
from nastool.files.tables import csv_of, json_record, rows_of
from nastool.results import describe_metrics

if TYPE_CHECKING:
    from rich.console import RenderableType


def everything_of(comparison: Comparison, facts: Mapping[str, str]) -> Formats:
    """What all runs evaluated, run by run, in each format.

    Args:
        comparison: Finished runs.
        facts: What else to say, by label.
    """
    columns = evaluations_of(comparison)
    total = len(columns["shape"])
    problem = comparison.problem

    def as_json() -> str:
        content = {
            **facts,
            "space": problem.space.name,
            "constraints": [str(constraint) for constraint in problem.constraints],
            "metrics": describe_metrics(problem),
            "total": total,
            "architectures": [json_record(record) for record in rows_of(columns)],
        }
        return json_document("evaluations", content)

    def as_table(width: int) -> RenderableType:
        del width
        from rich.text import Text

        title = f"All {total:,} evaluations, run by run"
        return Text(f"{title}\n\n{plain_table(columns, problem)}", no_wrap=True, overflow="ignore")

    return {
        "json": as_json,
        "csv": lambda: csv_of(columns).removesuffix("\n"),
        "table": as_table,
    }


def evaluations_of(comparison: Comparison) -> dict[str, list[Any]]:
    """The columns of `Result.columns` over all runs, with the ``seed`` of each."""
    columns: dict[str, list[Any]] = {}
    any_named = any(run.named for runs in comparison.results.values() for run in runs)
    for strategy, runs in comparison.results.items():
        for seed, run in zip(comparison.seeds, runs, strict=True):
            found = run.columns(everything=True)
            rows = len(found["shape"])
            if any_named:
                found = {"name": [""] * rows, **found}
            found = {**found, "strategy": [strategy] * rows, "seed": [seed] * rows}
            for name, cells in found.items():
                columns.setdefault(name, []).extend(cells)
    return columns
