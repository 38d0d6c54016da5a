"""``nastool studies``: what a store holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from nastool.cli.options import format_option, storage_option

if TYPE_CHECKING:
    from nastool.store import StudySummary


@click.command()
@storage_option
@format_option
def studies(storage: str, output_format: str) -> None:
    """List the stored studies, oldest first; the runs of a comparison as one."""
    from nastool.store import open_store

    with open_store(storage, create=False) as store:
        found = store.list_studies()
    if output_format == "json":
        click.echo(json.dumps([asdict(summary) for summary in found], indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("study", no_wrap=True)
    table.add_column("objectives and constraints", overflow="fold")
    table.add_column("evaluations", justify="right")
    table.add_column("seconds", justify="right")
    for name, runs in _grouped(found).items():
        description = runs[0].description
        wanted = ", ".join([*description["objectives"], *description["constraints"]])
        if "comparison" in description:
            strategies = dict.fromkeys(run.description["comparison"]["strategy"] for run in runs)
            wanted += f"; a comparison of {', '.join(strategies)}: {len(runs)} runs"
        cells = (
            name,
            wanted,
            f"{sum(run.evaluations for run in runs):,}",
            f"{sum(run.seconds for run in runs):,.1f}",
        )
        table.add_row(*map(Text, cells))
    console = Console(highlight=False, markup=False)
    console.print(table if found else f"no studies in {storage}")


def _grouped(found: list[StudySummary]) -> dict[str, list[StudySummary]]:
    """Studies by name, the runs of a comparison under its name."""
    groups: dict[str, list[StudySummary]] = {}
    for summary in found:
        origin = summary.description.get("comparison") or {}
        groups.setdefault(origin.get("name", summary.name), []).append(summary)
    return groups
