"""Sizes of a space as people write them: ``layers=6,widths=120/240``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from nastool.errors import InvalidInputError, nearest

_DIGITS = 18
"""Digits of the largest size that is read or shown."""


def read_sizes(
    family: str, text: str, known: Sequence[str], several: Collection[str]
) -> dict[str, Any]:
    """Read sizes by name.

    Args:
        family: What begins a message.
        text: Such as ``layers=6,widths=120/240``.
        known: Names there are.
        several: Those of them that take numbers joined by ``/``.

    Raises:
        InvalidInputError: An unknown or repeated name, or what is no whole number.
    """
    sizes: dict[str, Any] = {}
    for part in text.split(","):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in known:
            raise InvalidInputError(
                f"{family}: unknown size {key!r:.60} in {text!r:.200}; {nearest(key, known)}"
            )
        if key in sizes:
            raise InvalidInputError(f"{family}: {key} is given twice in {text!r:.200}")
        numbers = value.split("/")
        if not all(number.isdecimal() and len(number) <= _DIGITS for number in numbers) or (
            key not in several and len(numbers) > 1
        ):
            form = "integers joined by '/'" if key in several else "an integer"
            raise InvalidInputError(f"{family}: {key} must be {form}, got {value!r:.200}")
        sizes[key] = tuple(map(int, numbers)) if key in several else int(value)
    return sizes


def shown(size: object) -> str:
    """A size in a message: Python itself refuses to write thousands of digits."""
    if isinstance(size, int) and abs(size) >= 10**_DIGITS:
        return f"a number of more than {_DIGITS} digits"
    return f"{size!r:.60}"
