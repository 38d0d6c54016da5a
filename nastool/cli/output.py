"""Where a front goes: to the terminal, into a file, onto a page of figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click

from nastool.cli.config import CONFIG_FILES
from nastool.cli.options import PLUGIN_FILES
from nastool.cli.tables import (
    TABLE_ROWS,
    as_csv,
    as_json,
    as_table,
    everything_view,
    front_view,
    proxies,
)
from nastool.errors import InvalidInputError
from nastool.files.reading import is_database, is_file, is_folder
from nastool.files.writing import write_whole

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from nastool.plots.front import Cloud
    from nastool.predictors.trust import Trust
    from nastool.problem import Problem
    from nastool.results import Result

_FILE_WIDTH = 120
"""Characters of a line where the table goes into a file or a pipe."""

_WIDEST = 1000
"""Characters that no name has."""

_READ = {"plugin": PLUGIN_FILES, "config": CONFIG_FILES}
"""Options that leave what they read in the context's ``meta``."""

_SUFFIXES = {".json": "json", ".csv": "csv"}


class Formats(TypedDict):
    """How a thing is made in each format; the table for a width in characters."""

    table: Callable[[int], RenderableType]
    json: Callable[[], str]
    csv: Callable[[], str]


@dataclass(frozen=True)
class Destination:
    """What the output options ask for.

    Args:
        output_format: ``table``, ``json``, ``csv`` or None to go by the output's suffix.
        limit: Rows shown at most, or None for the format's default.
        output: File that takes the place of stdout.
        plot: HTML page to write as well.
        everything: Whether all evaluations are shown instead of the best of them.
        corrected: Whether to show corrected predictions, too; see `FrontView`.

    Raises:
        InvalidInputError: A file in a folder that does not exist, or a plot that is no HTML file.
    """

    output_format: str | None = None
    limit: int | None = None
    output: Path | None = None
    plot: Path | None = None
    everything: bool = False
    corrected: bool = False

    def __post_init__(self) -> None:
        # A search may take long; that its result cannot be written must show before it starts.
        check_page(self.plot)
        check_output("--output", self.output)

    def check_cloud(self, cloud: Path | None) -> None:
        """Raise InvalidInputError where a table is to be drawn and no page is wanted."""
        if cloud is not None and self.plot is None:
            raise InvalidInputError(f"--cloud: is drawn on a page, which needs --plot, got {cloud}")

    def clouds(self, cloud: Path | None, problem: Problem) -> tuple[Cloud, ...]:
        """What ``--cloud`` names, read before anything takes long."""
        self.check_cloud(cloud)
        if cloud is None:
            return ()
        from nastool.plots.axes import metric_names
        from nastool.plots.clouds import measured_cloud

        return (measured_cloud(cloud, problem, *metric_names(problem)),)

    @property
    def format(self) -> str:
        """The format to write."""
        suffix = self.output.suffix.lower() if self.output else ""
        return self.output_format or _SUFFIXES.get(suffix, "table")

    def write(
        self,
        result: Result,
        facts: Mapping[str, str | int],
        verification: Mapping[str, Any] | None = None,
        clouds: Sequence[Cloud] = (),
    ) -> None:
        """Show a result.

        Args:
            result: Of a study.
            facts: What to say about it, by label.
            verification: What the store knows of measurements of its front.
            clouds: Further points for the figure of the front.
        """
        from nastool.verification.verification import holds, verification_status

        if status := verification_status(result, verification):
            facts = {**facts, "verified": status}
        limit = self.limit
        several = len(result.problem.objectives) > 1
        if self.everything:
            view = everything_view(result, limit, facts)
        else:
            if limit is None and self.format == "table" and several and not result.named:
                limit = TABLE_ROWS
            view = front_view(result, limit, facts, corrected=self.corrected)
        if holds(result, verification):
            view = replace(view, verification=verification)
        formats: Formats = {
            "json": lambda: as_json(view),
            "csv": lambda: as_csv(view),
            "table": lambda width: as_table(view, width),
        }

        def page() -> str:
            from nastool.plots.report import study_page
            from nastool.results import failed_note

            run: dict[str, Any] = {"evaluations": len(result), "seconds": result.seconds}
            if failed := failed_note(result):
                run["failed"] = failed
            return study_page(result.name or "study", result, {**facts, **run}, clouds)

        self.send(formats, page, result.problem)
        if self.format != "table":
            echo_warnings(result.trust(view.genotypes))

    def send(self, formats: Formats, page: Callable[[], str], problem: Problem) -> None:
        """Write what was found in the format that is wanted.

        Args:
            formats: How each one is made.
            page: Makes the page of figures.
            problem: What was searched; its proxies are named whatever the format.
        """
        plain = self.output is not None
        if self.format == "table":
            text = _rendered(formats["table"], plain=plain)
        else:
            text = formats["json" if self.format == "json" else "csv"]()
        if self.output:
            write_file(self.output, text)
            click.echo(f"Wrote {self.output}", err=True)
        else:
            click.echo(text)
        if self.format != "table":
            for line in proxies(problem):
                click.echo(line, err=True)
        if self.plot:
            write_file(self.plot, page())
            click.echo(f"Wrote {self.plot}", err=True)


def echo_warnings(worths: Mapping[str, Trust]) -> None:
    """Say beside a format for programs what predicted values are not to be relied on, by metric."""
    for name, worth in worths.items():
        for warning in worth.warnings:
            click.echo(f"{name}: {warning}", err=True)


def wide_console(*, plain: bool = False) -> Console:
    """Return a console for tables; where there is no terminal, rows stay whole.

    Args:
        plain: Whether the table goes into a file.
    """
    from rich.console import Console

    console = Console(no_color=plain or None, highlight=False)
    if plain or not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    return console


def print_whole(console: Console, what: RenderableType) -> None:
    """Print a table; in a narrow window lines become longer than it, so that no name is cut."""
    from rich.measure import Measurement

    options = console.options.update(max_width=_WIDEST)
    console.width = max(console.width, Measurement.get(console, options, what).minimum)
    console.print(what, crop=False)


def _rendered(make: Callable[[int], RenderableType], *, plain: bool) -> str:
    console = wide_console(plain=plain)
    with console.capture() as capture:
        print_whole(console, make(console.width))
    text = capture.get()
    return "\n".join(line.rstrip() for line in text.rstrip("\n").split("\n"))


def check_page(plot: Path | None, option: str = "--plot") -> None:
    """Check that a page of figures can be written there.

    Args:
        plot: The file, or None where none is wanted.
        option: Names it.

    Raises:
        InvalidInputError: It is no HTML file, or its folder does not exist.
    """
    if plot and plot.suffix.lower() not in (".html", ".htm"):
        raise InvalidInputError(f"{option}: must end in .html, got {str(plot)!r}")
    check_output(option, plot)


def check_output(option: str, file: Path | None) -> None:
    """Check that a file can be written, and that what it replaces is nothing of the command's.

    Args:
        option: Names it.
        file: The file, or None where none is wanted.

    Raises:
        InvalidInputError: Its folder does not exist or may not be written to, it is a database, or
            the command reads or writes it by another option, too.
    """
    if file is None:
        return
    folder = Path(os.path.realpath(file)).parent
    if not is_folder(folder):
        named = folder if file.is_symlink() else file.parent
        raise InvalidInputError(f"{option}: folder {str(named)!r} must exist")
    if is_folder(file):
        raise InvalidInputError(f"{option}: expected a file, got the folder {str(file)!r}")
    # Replaced whole, a file needs its folder to be written to; a device or a pipe does not.
    special = not is_file(file) and os.access(file, os.F_OK)
    if not os.access(file if special else folder, os.W_OK):
        raise InvalidInputError(f"{option}: {str(file)!r} must lie where one may write")
    if is_file(file) and is_database(file):
        raise InvalidInputError(
            f"{option}: expected a file that may be replaced, got the database {str(file)!r}"
        )
    if other := _other_use(option, Path(os.path.realpath(file))):
        raise InvalidInputError(
            f"{option}: expected a file of its own, got {str(file)!r}, which {other} names, too"
        )


def _other_use(option: str, file: Path) -> str | None:
    """Which other option or argument of the running command names a file."""
    context = click.get_current_context(silent=True)
    if context is None:
        return None
    names = {param.name: param.opts[0] for param in context.command.params}
    uses = [(f"--{use}", context.meta.get(key, ())) for use, key in _READ.items()]
    for name, value in context.params.items():
        uses.append((names.get(name, name), value if isinstance(value, tuple) else (value,)))
    for use, paths in uses:
        for path in paths:
            if use != option and isinstance(path, Path) and Path(os.path.realpath(path)) == file:
                return use
    return None


def write_file(file: Path, text: str) -> None:
    """Write a text, names that are no UTF-8 as the bytes they are.

    Raises:
        WriteError: It cannot be written; an earlier file is as it was.
    """
    write_whole(file, f"{text}\n".encode("utf-8", "surrogateescape"))
