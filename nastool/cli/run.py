"""``nastool run``: what a file says."""

from __future__ import annotations

from pathlib import Path

import click

from nastool.cli.config import invoke_file
from nastool.cli.pages import help_page


@help_page(
    "nastool run study.toml",
    "nastool run study.toml --budget 100k",
)
@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("arguments", metavar="[OPTION]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(ctx: click.Context, file: Path, arguments: tuple[str, ...]) -> None:
    """Run what a file says: a search, or the command that it names.

    FILE is TOML or JSON with the names of options as its keys, as 'nastool show STUDY --recipe' and
    --dump-config of any command print it. Options after it win over what it says.
    """
    invoke_file(ctx, file, list(arguments))
