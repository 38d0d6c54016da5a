"""Options that several commands share, and the types their values are read by."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nastool.cli import completion

if TYPE_CHECKING:
    from nastool.store import Store

DEFAULT_STORAGE = "sqlite:///nastool.db"

PLUGIN_FILES = "nastool.plugin_files"
"""Where a context's ``meta`` keeps the files of ``--plugin``: worker processes need them again."""

_F = TypeVar("_F", bound=Callable[..., Any])


def parse_time(option: str, text: str) -> float:
    """Read a duration.

    Args:
        option: Names it; begins the message.
        text: A number with s, m or h behind it, e.g. ``7m`` or ``1.5h``.

    Returns:
        Seconds.

    Raises:
        InvalidInputError: If it is none, or not positive.
    """
    from nastool.errors import InvalidInputError

    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([smh])", text.strip())
    seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if not 0 < seconds < math.inf:
        raise InvalidInputError(
            f"{option}: expected a time such as 90s, 7m or 1.5h, longer than none, got {text!r}"
        )
    return seconds


class WholeNumber(click.ParamType[int]):
    """A whole number, with an optional k, M or G: the type of an option.

    Args:
        least: The smallest that is taken.
    """

    name = "integer"

    def __init__(self, least: int = 1) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        # Imports numpy, which the help page must not wait for.
        from nastool.constraint import parse_whole

        number = parse_whole(str(value), self._least)
        if number is not None:
            return number
        return self.fail(
            f"expected a whole number of at least {self._least}, such as 30000 or 30k, got "
            f"{str(value)!r}",
            param,
            ctx,
        )


class Name(click.ParamType[str]):
    """A name that something is kept under, which shows: the type of an option."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if str(value).strip():
            return str(value)
        return self.fail(f"expected a name that is not blank, got {value!r}", param, ctx)


class FiniteNumber(click.FloatRange):
    """A number, which click's own may not be: the type of an option."""

    name = "number"

    def _describe_range(self) -> str:
        # Where there are no bounds click shows one that is None.
        return "" if self.min is None and self.max is None else super()._describe_range()

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"expected a finite number, got {str(value)!r}", param, ctx)
        return number


number = FiniteNumber()
"""Of options that take any."""

positive = FiniteNumber(min=0, min_open=True)
"""Of options that take what is above zero."""

count = WholeNumber(1)
"""Of options that ask for some."""

whole = WholeNumber(0)
"""Of options that take none, too: seeds, warm-up."""


def _load_plugins(
    ctx: click.Context, param: click.Parameter, files: tuple[Path, ...]
) -> tuple[Path, ...]:
    del param
    for file in files:
        load_plugin(ctx, file)
    return files


def load_plugin(ctx: click.Context, file: Path) -> None:
    """Run a file of plugins, and remember it for worker processes.

    Raises:
        InvalidInputError: There is none, or something is wrong with it.
    """
    # Resolving plugins takes a while to import; most commands never name a file.
    from nastool.discovery import load_file

    ctx.meta[PLUGIN_FILES] = tuple(dict.fromkeys((*ctx.meta.get(PLUGIN_FILES, ()), file)))
    load_file(file)


def corrected_option(command: _F) -> _F:
    """Add ``--corrected``."""
    return click.option(
        "--corrected",
        is_flag=True,
        help="Also show predicted values worse by what the best of many likely flatters.",
    )(command)


def plugin_option(command: _F) -> _F:
    """Add ``--plugin FILE.py``, which is run before any other option is looked at."""
    return click.option(
        "--plugin",
        metavar="FILE.py",
        multiple=True,
        is_eager=True,
        expose_value=False,
        type=click.Path(path_type=Path),
        callback=_load_plugins,
        help="Python file that registers spaces, objectives or strategies; repeatable.",
    )(command)


def storage_option(command: _F) -> _F:
    """Add ``--storage URL``."""
    return click.option(
        "--storage",
        metavar="URL",
        default=DEFAULT_STORAGE,
        show_default=True,
        envvar="NASTOOL_STORAGE",
        help="Database the evaluations are kept in; 'none' keeps them in memory.",
    )(command)


def opened_storage(storage: str) -> AbstractContextManager[Store | None]:
    """The store of ``--storage``; None for ``none``."""
    from nastool.store import open_store

    return nullcontext() if storage == "none" else open_store(storage)


def space_option(command: _F) -> _F:
    """Add ``--space``."""
    return click.option(
        "--space",
        "space_text",
        metavar="NAME",
        required=True,
        shell_complete=completion.spaces,
        help="Search space, e.g. supershaper; 'nastool list' names all.",
    )(command)


def objective_option(text: str) -> Callable[[_F], _F]:
    """Add ``--objective``.

    Args:
        text: Its help.
    """
    return click.option(
        "--objective",
        "objective_texts",
        metavar="NAME",
        multiple=True,
        shell_complete=completion.objectives,
        help=text,
    )


def problem_options(command: _F) -> _F:
    """Add ``--space`` and ``--objective``."""
    text = (
        "What is optimised; repeatable. Default: what the space declares. "
        "Of one objective the best few are shown, of more their Pareto front."
    )
    return space_option(objective_option(text)(command))


def strategy_option(command: _F) -> _F:
    """Add ``--strategy``: one, by name."""
    return click.option(
        "--strategy",
        "strategy_text",
        metavar="NAME",
        default="evolution",
        show_default=True,
        shell_complete=completion.strategies,
        help="How candidates are chosen; 'nastool list' names all.",
    )(command)


def budget_options(command: _F) -> _F:
    """Add ``--budget``, ``--seed``, ``--batch-size`` and ``--option``: how long, and how."""
    for option in (
        click.option(
            "--option",
            "settings_texts",
            metavar="KEY=VALUE",
            multiple=True,
            help="A setting of the strategy; repeatable.",
        ),
        click.option(
            "--batch-size",
            type=count,
            metavar="N",
            help="Candidates asked for at a time. Default: the strategy's.",
        ),
        click.option(
            "--seed",
            type=whole,
            metavar="N",
            default=0,
            show_default=True,
            help="Fixes everything that is drawn.",
        ),
        click.option(
            "--budget",
            type=count,
            metavar="N",
            default="30000",
            show_default=True,
            help="Architectures to evaluate; k and M allowed.",
        ),
    ):
        command = option(command)
    return command


def ending_options(command: _F) -> _F:
    """Add ``--time`` and ``--patience``: when a search ends before its budget."""
    for option in (
        click.option(
            "--patience",
            type=count,
            metavar="N",
            help="End when N evaluations in a row have gained nothing.",
        ),
        click.option(
            "--time",
            "time_text",
            metavar="TIME",
            help="End after so long, e.g. 90s, 7m or 2h; the same command goes on.",
        ),
    ):
        command = option(command)
    return command


def output_options(command: _F) -> _F:
    """Add ``--all``, ``--cloud`` and ``--limit`` to `report_options`: how a front is shown."""
    limit = click.option(
        "--limit",
        type=count,
        help="Rows shown, spread evenly over the front. Default: 20 in a table, else all.",
    )
    return all_option(report_options(limit(cloud_option(command))))


def cloud_option(command: _F) -> _F:
    """Add ``--cloud TABLE``."""
    return click.option(
        "--cloud",
        metavar="TABLE.csv",
        type=click.Path(path_type=Path),
        help="Measurements to draw behind the front of --plot: a column for each gene and metric.",
    )(command)


def all_option(command: _F) -> _F:
    """Add ``--all``: what was evaluated instead of what is best of it."""
    return click.option(
        "--all",
        "everything",
        is_flag=True,
        help="Show every evaluation, feasible or not, with its order and strategy.",
    )(command)


def format_option(command: _F) -> _F:
    """Add ``--format`` of what is no front: a table or JSON."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="How results are shown.",
    )(command)


def report_options(command: _F) -> _F:
    """Add ``--format``, ``--output`` and ``--plot``: where what was found goes."""
    for option in (
        click.option(
            "--plot",
            metavar="FILE.html",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Also write a page of figures.",
        ),
        click.option(
            "--output",
            metavar="FILE",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Write there instead of to the terminal; .json and .csv set the format.",
        ),
        click.option(
            "--format",
            "output_format",
            type=click.Choice(["table", "json", "csv"]),
            help="How results are shown. Default: table.",
        ),
    ):
        command = option(command)
    return command
