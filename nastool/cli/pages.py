"""Help pages in one manner: required options first, the others in groups, examples at the end.

A command says which examples it has and where its own options belong; those that many share
belong to the same groups everywhere. Every command takes ``--verbose`` and ``--quiet``.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import click

_Command = TypeVar("_Command", bound=click.Command)

_SHARED: Mapping[str, str] = {
    "What is searched": "--space --objective --constraint --max --min --predictor --metric",
    "How": (
        "--strategy --budget --seed --seeds --batch-size --option --bound --time --patience --until"
    ),
    "What is shown, and where": (
        "--format --output --plot --limit --all --cloud --corrected --tracker"
    ),
    "Where evaluations are kept": "--storage --study --name --retry-failed",
    "Where it is measured": "--executor --timeout-per-shape --asynchronous --join",
    "Any command": "--config --dump-config --plugin --verbose --quiet --help",
}
_REQUIRED, _MORE = "Required", "More"

_WIDTH = 76
"""Of examples, which stand two further in and may end in a sign that the line goes on."""

_WHOLE = 1_000
"""Signs of a sentence, so many that none is cut off."""

_GROUPS = "option_groups"
_DRESSED = "is_dressed"


def help_page(
    *examples: str, groups: Mapping[str, str] | None = None
) -> Callable[[_Command], _Command]:
    """Give a command examples, and its own options their groups.

    Args:
        examples: Lines as they are typed.
        groups: Titles, and the options under each, apart by spaces; they go before the shared ones.
    """

    def decorate(command: _Command) -> _Command:
        title = "Example" if len(examples) == 1 else "Examples"
        lines = "\n".join(_typed(line) for line in examples)
        command.epilog = f"\b\n{title}:\n{lines}"
        setattr(command, _GROUPS, dict(groups or {}))
        return command

    return decorate


def _typed(line: str) -> str:
    """A line as it may be typed into a narrow terminal, in several where it is long."""
    # What an option takes stays beside it.
    bound = re.sub(r"(--[\w-]+) (?!-)", "\\1\0", line)
    lines = textwrap.wrap(
        bound,
        _WIDTH,
        initial_indent="  ",
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return " \\\n".join(lines).replace("\0", " ")


def dressed(command: click.Command) -> click.Command:
    """Let a command, or those of a group, show its help in groups and take -v and -q."""
    if getattr(command, _DRESSED, False):
        return command
    setattr(command, _DRESSED, True)
    if isinstance(command, click.Group):
        for member in command.commands.values():
            dressed(member)
        command.format_commands = types.MethodType(  # type: ignore[method-assign]
            _format_commands, command
        )
        return command
    given = {name for param in command.params for name in param.opts}
    command.params += [option for option in _talk() if not given & {*option.opts}]
    # Of this command alone, whatever its class.
    command.format_options = types.MethodType(_format_options, command)  # type: ignore[method-assign]
    return command


def _format_commands(
    group: click.Group, ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write what the commands of a group do, in whole sentences."""
    del ctx
    with formatter.section("Commands"):
        formatter.write_dl(
            [
                (name, command.get_short_help_str(_WHOLE))
                for name, command in sorted(group.commands.items())
            ]
        )


def _format_options(
    command: click.Command, ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write the options of a command group by group."""
    for title, rows in sections(command, ctx):
        with formatter.section(title):
            formatter.write_dl(rows)


def sections(
    command: click.Command, ctx: click.Context
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The options of a command by group: its title, and for each option how it is typed and why."""
    own: Mapping[str, str] = getattr(command, _GROUPS, {})
    first, *others, last = _SHARED
    titles = [first, others[0], *own, *others[1:], _MORE, last]
    # Where a command places an option of its own accord, that counts.
    groups = {**_SHARED, **own}
    places = {name: title for title, names in groups.items() for name in names.split()}
    sections: dict[str, list[tuple[int, tuple[str, str]]]] = {_REQUIRED: []}
    sections |= {title: [] for title in titles}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is None or not isinstance(param, click.Option):
            continue
        name = max(param.opts, key=len)
        title = _REQUIRED if param.required else places.get(name, _MORE)
        order = groups.get(title, "").split()
        sections[title].append((order.index(name) if name in order else 0, record))
    for title, rows in sections.items():
        if rows:
            yield title, [record for _, record in sorted(rows, key=lambda row: row[0])]


def _talk() -> tuple[click.Option, click.Option]:
    verbose = click.Option(
        ["-v", "--verbose"],
        count=True,
        expose_value=False,
        is_eager=True,
        callback=_be_verbose,
        help="Say what is done; twice, also the details.",
    )
    quiet = click.Option(
        ["-q", "--quiet"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_be_quiet,
        help="Say nothing but results and errors.",
    )
    return verbose, quiet


def _be_verbose(ctx: click.Context, param: click.Parameter, times: int) -> None:
    del param
    if times and not ctx.resilient_parsing:
        ctx.with_resource(_logging(logging.INFO if times == 1 else logging.DEBUG))


@contextlib.contextmanager
def _logging(level: int) -> Iterator[None]:
    """Show what the library logs, on stderr."""
    logger = logging.getLogger("nastool")
    before, handler = logger.level, _Stderr()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _Stderr(logging.Handler):
    """Writes to whatever stderr is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


def _be_quiet(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    del param
    if wanted and not ctx.resilient_parsing:
        # Errors are told once the command has ended, and stderr is itself again.
        ctx.with_resource(contextlib.redirect_stderr(io.StringIO()))
