"""The ``nastool`` command: finds the commands, loads the one that is called, reports errors."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import click

from nastool import __version__
from nastool.cli.options import plugin_option
from nastool.errors import InvalidInputError, NastoolError

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

_INTERRUPTED = 130
"""Exit code of a command stopped by Ctrl-C, as shells have it."""


class _OneLineError(click.ClickException):
    """What every expected error becomes: one line on stderr, exit code 2."""

    exit_code = 2

    def format_message(self) -> str:
        return " ".join(self.message.split())


@contextmanager
def _reporting(ctx: click.Context | None) -> Iterator[None]:
    """Turn expected errors into one line, and an interruption into its exit code."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        where = error.ctx or ctx
        hint = f" (see '{where.command_path} --help')" if where else ""
        raise _OneLineError(error.format_message() + hint) from error
    except NastoolError as error:
        raise _OneLineError(str(error)) from error
    except KeyboardInterrupt as error:
        click.echo(" ".join(["Interrupted:", str(error) or "nothing was lost"]), err=True)
        raise click.exceptions.Exit(_INTERRUPTED) from error


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
