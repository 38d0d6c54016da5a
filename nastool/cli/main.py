"""The ``nastool`` command: finds the commands, loads the one that is called, reports errors."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import IO, Any

import click

from nastool import __version__
from nastool.cli.options import plugin_option
from nastool.cli.streams import BROKEN_PIPE, OUTPUT, give_up_output, standard_streams
from nastool.errors import InvalidInputError, NastoolError
from nastool.interrupt import INTERRUPTED, signals_interrupt, unraised_interrupts

_CORE = {
    "compare": ("nastool.cli.compare:compare", "Compare strategies over several seeds."),
    "fit": ("nastool.cli.fit:fit", "Fit a predictor to a table of measured architectures."),
    "list": ("nastool.cli.list:list_plugins", "List spaces, objectives, strategies, predictors."),
    "regret": ("nastool.cli.regret:regret", "Say how far a stored study is from the optimum."),
    "search": ("nastool.cli.search:search", "Search a space for the best architectures."),
    "show": ("nastool.cli.show:show", "Show the front of a stored study."),
    "space": ("nastool.cli.space:space", "Describe a space and count what a budget allows."),
    "studies": ("nastool.cli.studies:studies", "List the stored studies."),
    "sweep": ("nastool.cli.sweep:sweep", "Search once for each limit on a metric."),
    "to-optuna": ("nastool.cli.to_optuna:to_optuna", "Write a stored study for Optuna."),
    "verify": ("nastool.cli.verify:verify", "Measure the front of a stored study."),
}


class _OneLineError(click.ClickException):
    """What every expected error becomes: one line on stderr, exit code 2."""

    exit_code = 2

    def format_message(self) -> str:
        return " ".join(self.message.split())


class _Interrupted(click.ClickException):
    """What a signal that ended a command becomes: one line on stderr."""

    exit_code = INTERRUPTED

    def show(self, file: IO[Any] | None = None) -> None:
        del file
        click.echo(" ".join(f"Interrupted: {self.message or 'nothing was lost'}".split()), err=True)


@contextmanager
def _reporting(ctx: click.Context | None) -> Iterator[None]:
    """Turn expected errors and interruptions into one line."""
    try:
        yield
    except (click.exceptions.NoArgsIsHelpError, click.exceptions.Exit):
        raise
    except click.UsageError as error:
        where = error.ctx or ctx
        hint = f" (see '{where.command_path} --help')" if where else ""
        raise _OneLineError(error.format_message() + hint) from error
    except NastoolError as error:
        raise _OneLineError(str(error)) from error
    except KeyboardInterrupt as error:
        raise _Interrupted(str(error)) from error
    except Exception as error:
        if line := _foreign(error):
            name = f"{ctx.command_path} {ctx.invoked_subcommand}: " if ctx else ""
            raise _OneLineError(f"{name}{line}") from error
        raise


def _foreign(error: Exception) -> str:
    """What the machine or its files do to a program, in words; empty for what is a fault of ours.

    A net below the places that know what they do and say it better.
    """
    if isinstance(error, OSError):
        if isinstance(error, BrokenPipeError) and error.filename == OUTPUT:
            raise click.exceptions.Exit(BROKEN_PIPE) from error
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        reason = error.strerror or str(error) or type(error).__name__
        return ": ".join([" and ".join(names), reason] if names else [reason])
    text = str(error)
    # Of torch, which this module must not import.
    allocation = isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or "allocate memory" in text
    )
    if isinstance(error, MemoryError) or allocation:
        first = (text.strip().splitlines() or [""])[0]
        return "not enough memory" + (f": {first}" if first else "")
    if isinstance(error, RecursionError):
        return "something is nested too deeply to be read"
    if isinstance(error, UnicodeError):
        return f"a text is no UTF-8: {error}"
    return ""


def _run(command: Callable[[], object]) -> int:
    """Run a command, say how it ended, and return its exit code."""
    try:
        try:
            code = command()
            sys.stdout.flush()
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except (KeyboardInterrupt, click.Abort):
            _Interrupted("").show()
            return INTERRUPTED
    except OSError as error:
        give_up_output()
        if isinstance(error, BrokenPipeError):
            return BROKEN_PIPE
        with suppress(OSError):
            click.echo(f"Error: {OUTPUT}: {error.strerror or error}", err=True)
        return _OneLineError.exit_code
    return code if isinstance(code, int) else 0


class LazyGroup(click.Group):
    """Commands named by a table and by entry points; a command's module loads when it is called."""

    @cached_property
    def _plugins(self) -> dict[str, EntryPoint]:
        # Not nastool.plugins: the help page should not wait for numpy.
        return {point.name: point for point in entry_points(group="nastool.commands")}

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted({*_CORE, *self._plugins})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name in _CORE:
            module, _, attribute = _CORE[cmd_name][0].partition(":")
            command = getattr(importlib.import_module(module), attribute)
        elif cmd_name in self._plugins:
            command = _load(self._plugins[cmd_name])
        else:
            return None
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _CORE and name not in self._plugins and not name.startswith("-"):
            known = self.list_commands(ctx)
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.65)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
            raise InvalidInputError(f"unknown command {name!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = self.list_commands(ctx)
        room = formatter.width - max(map(len, names)) - 6
        rows = []
        for name in names:
            text = _CORE[name][1] if name in _CORE else _summary(self._plugins[name])
            rows.append((name, textwrap.shorten(text, room, placeholder=" ...")))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        def command() -> object:
            return super(LazyGroup, self).main(
                args, prog_name, complete_var, standalone_mode=False, **extra
            )

        if not standalone_mode:
            return command()
        with standard_streams(), signals_interrupt(), unraised_interrupts():
            code = _run(command)
            give_up_output()
        sys.exit(code)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        with _reporting(None):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _reporting(ctx):
            return super().invoke(ctx)


def _load(point: EntryPoint) -> object:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        origin = point.dist.name if point.dist else point.value
        raise InvalidInputError(
            f"command {point.name!r} of {origin} cannot be loaded: {error}"
        ) from error


def _summary(point: EntryPoint) -> str:
    """First paragraph of a command's docstring, read from the source without running it.

    A plugin's module may import torch; the help page must not pay for that.
    """
    try:
        spec = importlib.util.find_spec(point.module)
        source = Path(spec.origin).read_text("utf-8") if spec and spec.origin else ""
        body = ast.parse(source).body
    except (ImportError, OSError, SyntaxError, ValueError):
        return ""
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == point.attr:
            return " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
    return ""


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nastool")
@plugin_option
def main() -> None:
    """Multi-objective neural architecture search.

    Start with: nastool search --space supershaper --max params=66M
    """
