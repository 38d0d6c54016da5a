"""``nastool list``: what can be chosen by name, and where it comes from."""

from __future__ import annotations

import click

from nastool.cli.options import format_option, plugin_option


@click.command("list")
@format_option
@plugin_option
def list_plugins(output_format: str) -> None:
    """List spaces, objectives, strategies, predictors and commands with their origin.

    Plugins are listed without being imported; one that cannot be loaded is listed too.
    """
    from nastool.plugins import GROUPS, available

    plugins = [plugin for group in GROUPS for plugin in available(group)]
    if output_format == "json":
        import json

        rows = [
            {
                "kind": GROUPS[plugin.group],
                "name": plugin.name,
                "origin": plugin.origin,
                "summary": plugin.summary,
            }
            for plugin in plugins
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for header in ("kind", "name", "origin", "what"):
        table.add_column(header, no_wrap=header in ("kind", "name"), overflow="fold")
    previous = ""
    for plugin in plugins:
        kind = GROUPS[plugin.group]
        cells = ("" if kind == previous else kind, plugin.name, plugin.origin, plugin.summary)
        table.add_row(*map(Text, cells))
        previous = kind
    Console(highlight=False).print(table)
