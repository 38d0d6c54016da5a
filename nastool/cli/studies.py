"""``nastool studies``: what a store holds."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from nastool.cli.options import storage_option


@click.command()
@storage_option
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
)
def studies(storage: str, output_format: str) -> None:
    """List the stored studies, oldest first."""
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
    for summary in found:
        description = summary.description
        wanted = ", ".join([*description["objectives"], *description["constraints"]])
        cells = (
            summary.name,
            wanted,
            f"{summary.evaluations:,}",
            f"{summary.seconds:,.1f}",
        )
        table.add_row(*map(Text, cells))
    console = Console(highlight=False)
    console.print(table if found else f"no studies in {storage}")
