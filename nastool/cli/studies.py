"""``nastool studies``: what a store holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from nastool.cli.options import format_option, storage_option
from nastool.cli.pages import help_page
from nastool.files.documents import json_document

if TYPE_CHECKING:
    from nastool.store import StudySummary


@help_page(
    "nastool studies",
    "nastool studies --storage postgresql://me@host/nastool",
)
@click.command()
@storage_option
@format_option
def studies(storage: str, output_format: str) -> None:
    """List the stored studies, oldest first; the runs of a comparison as one."""
    from nastool.store import open_store

    with open_store(storage, create=False) as store:
        found = store.list_studies()
    if output_format == "json":
        click.echo(json_document("studies", {"studies": [asdict(each) for each in found]}))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from nastool.cli.output import print_whole

    table = Table(box=None, pad_edge=False)
    table.add_column("study", no_wrap=True)
    table.add_column("objectives and constraints", overflow="fold")
    table.add_column("evaluations", justify="right")
    table.add_column("seconds", justify="right")
    for (name, is_comparison), runs in _grouped(found).items():
        wanted = ", ".join([*runs[0].texts("objectives"), *runs[0].texts("constraints")])
        if is_comparison:
            strategies = dict.fromkeys(run.comparison[1] for run in runs if run.comparison)
            wanted += f"; a comparison of {', '.join(strategies)}: {len(runs)} runs"
        cells = (
            name,
            wanted,
            f"{sum(run.evaluations for run in runs):,}",
            f"{sum(run.seconds for run in runs):,.1f}",
        )
        table.add_row(*map(Text, cells))
    console = Console(highlight=False, markup=False)
    if found:
        print_whole(console, table)
    else:
        console.print(f"no studies in {store.url}")


def _grouped(found: list[StudySummary]) -> dict[tuple[str, bool], list[StudySummary]]:
    """Studies by name, and the runs of a comparison under its name and True."""
    groups: dict[tuple[str, bool], list[StudySummary]] = {}
    for summary in found:
        comparison = summary.comparison
        key = (comparison[0], True) if comparison else (summary.name, False)
        groups.setdefault(key, []).append(summary)
    return groups
