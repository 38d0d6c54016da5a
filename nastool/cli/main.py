"""The ``nastool`` command: finds the commands, loads the one that is called, reports errors."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from nastool import __version__
from nastool.cli.options import plugin_option

# Not nastool.plugins: the help page should not wait for numpy.
from nastool.discovery import COMMANDS, available, find
from nastool.errors import InvalidInputError, NastoolError

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
    """Commands by name, ours and those of plugins; a module loads when its command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(dict.fromkeys(plugin.name for plugin in available(COMMANDS)))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        plugin = find(COMMANDS, cmd_name)
        command = plugin.load()
        if not isinstance(command, click.Command):
            raise InvalidInputError(
                f"{plugin} must be a click.Command, got {type(command).__name__}"
            )
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-"):
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.65)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
            raise InvalidInputError(f"unknown command {name!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        plugins = available(COMMANDS)
        room = formatter.width - max(len(plugin.name) for plugin in plugins) - 6
        rows = [
            (plugin.name, textwrap.shorten(plugin.summary, room, placeholder=" ..."))
            for plugin in plugins
        ]
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


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nastool")
@plugin_option
def main() -> None:
    """Multi-objective neural architecture search.

    Start with: nastool search --space supershaper --max params=66M
    """
