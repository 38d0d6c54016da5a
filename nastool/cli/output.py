"""Where a front goes: to the terminal, into a file, onto a page of figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nastool.cli.tables import (
    TABLE_ROWS,
    FrontView,
    as_csv,
    as_json,
    as_table,
    front_view,
    proxies,
)
from nastool.errors import InvalidInputError

if TYPE_CHECKING:
    from nastool.results import Result

_FILE_WIDTH = 120
"""Characters of a line where the table goes into a file or a pipe."""

_SUFFIXES = {".json": "json", ".csv": "csv"}


@dataclass(frozen=True)
class Destination:
    """What the output options ask for.

    Args:
        output_format: ``table``, ``json``, ``csv`` or None to go by the output's suffix.
        limit: Rows shown at most, or None for the format's default.
        output: File that takes the place of stdout.
        plot: HTML page to write as well.

    Raises:
        InvalidInputError: A file in a folder that does not exist, or a plot that is no HTML file.
    """

    output_format: str | None = None
    limit: int | None = None
    output: Path | None = None
    plot: Path | None = None

    def __post_init__(self) -> None:
        if self.plot and self.plot.suffix.lower() not in (".html", ".htm"):
            raise InvalidInputError(f"--plot: must end in .html, got {str(self.plot)!r}")
        # A search may take long; that its result cannot be written must show before it starts.
        for option, file in (("--output", self.output), ("--plot", self.plot)):
            if file and not file.absolute().parent.is_dir():
                raise InvalidInputError(f"{option}: folder {str(file.parent)!r} must exist")

    @property
    def format(self) -> str:
        """The format to write."""
        suffix = self.output.suffix.lower() if self.output else ""
        return self.output_format or _SUFFIXES.get(suffix, "table")

    def write(self, result: Result, facts: Mapping[str, str | int]) -> None:
        """Show a result.

        Args:
            result: Of a study.
            facts: What to say about it, by label.
        """
        limit = self.limit
        if limit is None and self.format == "table" and len(result.problem.objectives) > 1:
            limit = TABLE_ROWS
        view = front_view(result, limit, facts)
        text = _render(view, self.format, plain=self.output is not None)
        if self.output:
            _write(self.output, text)
            click.echo(f"Wrote {self.output}", err=True)
        else:
            click.echo(text)
        if self.format != "table":
            for line in proxies(result.problem):
                click.echo(line, err=True)
        if self.plot:
            from nastool.plots.report import study_page

            run = {"evaluations": len(result), "seconds": result.seconds}
            _write(self.plot, study_page(result.name or "study", result, {**facts, **run}))
            click.echo(f"Wrote {self.plot}", err=True)


def _render(view: FrontView, output_format: str, *, plain: bool) -> str:
    if output_format == "json":
        return as_json(view)
    if output_format == "csv":
        return as_csv(view)
    from rich.console import Console

    console = Console(no_color=plain or None, highlight=False)
    if plain or not console.is_terminal:
        # Nobody's screen: rows stay whole.
        console.width = max(console.width, _FILE_WIDTH)
    with console.capture() as capture:
        console.print(as_table(view, console.width))
    text = capture.get()
    return "\n".join(line.rstrip() for line in text.rstrip("\n").split("\n"))


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"cannot write {file}: {error.strerror or error}") from error
