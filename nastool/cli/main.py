"""The ``nastool`` command: finds the commands, loads the one that is called, reports errors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

import click

from nastool import __version__
from nastool.cli.config import configurable
from nastool.cli.options import plugin_option
from nastool.cli.pages import dressed
from nastool.cli.streams import BROKEN_PIPE, OUTPUT, give_up_output, standard_streams

# Not nastool.plugins: the help page should not wait for numpy.
from nastool.discovery import COMMANDS, available, find, raised_by
from nastool.errors import InvalidInputError, NastoolError, first_line, in_one_line, nearest
from nastool.runtime.interrupt import INTERRUPTED, signals_interrupt, unraised_interrupts

_LONGEST = 1_000
"""Characters of a word in a message: what was pasted by mistake must not bury what is wrong."""


class _OneLineError(click.ClickException):
    """What every expected error becomes: one line on stderr, exit code 2."""

    exit_code = 2

    def format_message(self) -> str:
        return " ".join(map(_shortened, self.message.split()))


def _shortened(word: str) -> str:
    """A word of a message, without its middle where it is longer than any name or path."""
    return word if len(word) <= _LONGEST else f"{word[:100]}...{word[-100:]}"


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
        line = _foreign(error)
        if not line and (plugin := raised_by(error)):
            line = f"{plugin} failed: {in_one_line(error)}"
        if line:
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
        return "not enough memory" + (f": {first_line(error)}" if text.strip() else "")
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
        return dressed(configurable(command))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-"):
            raise InvalidInputError(f"unknown command {name!r}; {nearest(name, known)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(plugin.name, plugin.summary) for plugin in available(COMMANDS)])

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


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nastool")
@plugin_option
def main() -> None:
    """Multi-objective neural architecture search.

    Start with: nastool search --space supershaper --max params=66M
    """
