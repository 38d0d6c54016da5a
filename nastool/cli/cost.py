"""What a command is about to cost, said in one line before it starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])

_SETTLED = 10.0
"""Seconds beside which imports and compilation are little."""

_UNITS = (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0), ("s", 1.0))


def dry_run_option(command: _F) -> _F:
    """Add ``--dry-run``."""
    return click.option(
        "--dry-run",
        is_flag=True,
        help="Say what would be done and about how long it takes here, and stop.",
    )(command)


def settled_seconds(*runs: Callable[[], object]) -> float:
    """Seconds of a run among many, by the last of a few, or by the first that takes long.

    The first one imports libraries, compiles and fills caches, too, which happens once a process.
    """
    seconds = 0.0
    for run in runs:
        began = time.perf_counter()
        run()
        seconds = time.perf_counter() - began
        if seconds > _SETTLED:
            break
    return seconds


def duration(seconds: float) -> str:
    """A time in words, of two digits: ``40 s``, ``2.5 h``."""
    for unit, size in _UNITS:
        if seconds >= size * 0.995:
            amount = seconds / size
            return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:,.0f} {unit}"
    return "less than a second"


def count_of(number: float) -> str:
    """A number of tokens and the like in words: ``20k``, ``82M``."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:g}"


def announce(what: str, seconds: float | None) -> None:
    """Say on stderr what will be done, and how long it takes where that is known."""
    told = "" if seconds is None else f": about {duration(seconds)} here"
    click.echo(f"{what}{told}", err=True)
