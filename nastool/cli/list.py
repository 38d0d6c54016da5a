"""``nastool list``: what can be chosen by name, and where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nastool.cli.options import format_option, plugin_option
from nastool.cli.pages import help_page

if TYPE_CHECKING:
    from rich.table import Table

_SUMMARY = 24
"""Characters of a line that are few for what a plugin is."""


@help_page(
    "nastool list",
    "nastool list --format json",
)
@click.command("list")
@format_option
@plugin_option
def list_plugins(output_format: str) -> None:
    """List spaces, objectives, strategies, predictors and commands with their origin.

    Plugins are listed without being imported; one that cannot be loaded is listed too.
    """
    from nastool.discovery import GROUPS, available

    plugins = [plugin for group in GROUPS for plugin in available(group)]
    if output_format == "json":
        from nastool.files.documents import json_document

        rows = [
            {
                "kind": GROUPS[plugin.group],
                "name": plugin.name,
                "origin": plugin.origin,
                "summary": plugin.summary,
            }
            for plugin in plugins
        ]
        click.echo(json_document("plugins", {"plugins": rows}))
        return
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    cells = [
        (GROUPS[plugin.group], plugin.name, plugin.origin, plugin.summary) for plugin in plugins
    ]
    console = Console(highlight=False)
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    if console.width >= sum(widths) + 2 * len(widths) + _SUMMARY:
        console.print(_table(cells))
        return
    # Too narrow for columns: names whole, and under each what it is.
    previous = ""
    for kind, name, origin, summary in cells:
        if kind != previous:
            console.print(Text(kind, style="bold"))
        console.print(Text(f"  {name}", style="bold"), soft_wrap=True)
        console.print(Padding(Text(f"{summary} ({origin})".lstrip()), (0, 0, 0, 4)))
        previous = kind


def _table(cells: list[tuple[str, str, str, str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for header in ("kind", "name", "origin", "what"):
        table.add_column(header, no_wrap=header != "what", overflow="fold")
    previous = ""
    for kind, *rest in cells:
        table.add_row(*map(Text, ("" if kind == previous else kind, *rest)))
        previous = kind
    return table
