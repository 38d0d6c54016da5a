"""Options that bound metrics, and what they mean."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nastool.cli import completion
from nastool.errors import InvalidInputError

if TYPE_CHECKING:
    from nastool.constraint import Constraint

_ALMOST = re.compile(
    r"\s*(?P<metric>[A-Za-z_][\w.-]*(?:\[[^\[\]]+\]|:[^\[\]<=>\s]+)?)"
    r"\s*(?:(?P<sense>[<>]=?|==?|=[<>]|≤|≥)\s*(?P<number>[^<>=≤≥\s]*))?\s*"
)
"""Texts that are meant as bounds, or what a shell leaves of them."""

_F = TypeVar("_F", bound=Callable[..., Any])


def constraint_options(command: _F) -> _F:
    """Add ``--constraint``, ``--max`` and ``--min``; `read_constraints` reads their values."""
    for option in (
        click.option(
            "--min",
            "lower_texts",
            shell_complete=completion.bounds,
            metavar="METRIC=N",
            multiple=True,
            help="Lower bound: --min params=40M.",
        ),
        click.option(
            "--max",
            "upper_texts",
            shell_complete=completion.bounds,
            metavar="METRIC=N",
            multiple=True,
            help="The same without quotes: --max params=66M.",
        ),
        click.option(
            "--constraint",
            "constraint_texts",
            shell_complete=completion.constraints,
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
                raise InvalidInputError(f"{option}: {error}{_hint(text)}") from error
    return tuple(found)


def _hint(text: str) -> str:
    """What to write instead of something that looks like a bound; begins with a colon."""
    almost = _ALMOST.fullmatch(text)
    if almost is None:
        return ""
    metric, sense, number = almost["metric"], almost["sense"] or "", almost["number"] or "66M"
    either = f"--max {metric}={number} for at most, --min {metric}={number} for at least"
    if not sense and not almost["number"]:
        return f": a shell takes what follows < or > for a file; {either} need no quotes"
    if sense in ("<", ">"):
        return f": a bound is itself allowed, so write {sense}=; or {either}"
    return f": {either}"
