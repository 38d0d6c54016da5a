"""Options that bound metrics, and what they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nastool.errors import InvalidInputError

if TYPE_CHECKING:
    from nastool.constraint import Constraint

_F = TypeVar("_F", bound=Callable[..., Any])


def constraint_options(command: _F) -> _F:
    """Add ``--constraint``, ``--max`` and ``--min``; `read_constraints` reads their values."""
    for option in (
        click.option(
            "--min",
            "lower_texts",
            metavar="METRIC=N",
            multiple=True,
            help="Lower bound: --min params=40M.",
        ),
        click.option(
            "--max",
            "upper_texts",
            metavar="METRIC=N",
            multiple=True,
            help="The same without quotes: --max params=66M.",
        ),
        click.option(
            "--constraint",
            "constraint_texts",
            metavar="TEXT",
            multiple=True,
            help="Bound on a metric, quoted for the shell: 'params<=66M', 'latency<=20ms'; "
            "repeatable.",
        ),
    ):
        command = option(command)
    return command


def read_constraints(
    texts: tuple[str, ...], uppers: tuple[str, ...], lowers: tuple[str, ...]
) -> tuple[Constraint, ...]:
    """Read the values of `constraint_options`, each bound once.

    Raises:
        InvalidInputError: Malformed; the message names the option.
    """
    from nastool.constraint import parse_bound, parse_constraint

    found: dict[Constraint, None] = {}
    for option, parse, group in (
        ("--constraint", parse_constraint, texts),
        ("--max", lambda text: parse_bound(text, "<="), uppers),
        ("--min", lambda text: parse_bound(text, ">="), lowers),
    ):
        for text in group:
            try:
                found[parse(text)] = None
            except InvalidInputError as error:
                raise InvalidInputError(f"{option}: {error}") from error
    return tuple(found)
