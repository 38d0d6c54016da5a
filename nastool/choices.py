"""Names and choices of genes, as they are given and as they are kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nastool.errors import InvalidInputError

Choice = int | float | str

_MOST_CHOICES = 1_000_000
"""Far beyond what any space needs: a slip of the keyboard is refused before it fills the memory."""


def check_name(what: str, name: object) -> None:
    """Raise InvalidInputError unless a name is a text that can be read in a table.

    Args:
        what: Whose it is; begins the message.
        name: To be checked.
    """
    if not isinstance(name, str):
        raise InvalidInputError(f"{what} must be a text, got {type(name).__name__}")
    if not name or name != name.strip() or not name.isprintable():
        raise InvalidInputError(
            f"{what} must have characters that can be seen and no blanks around them, got {name!r}"
        )


def members(choices: object, what: str) -> Sequence[Any]:
    """The choices one by one, of any sequence; `what` they belong to begins a message."""
    if isinstance(choices, np.ndarray) and choices.ndim > 0:
        choices = list(choices[: _MOST_CHOICES + 1])
    if not isinstance(choices, (tuple, list, range)):
        raise InvalidInputError(
            f"{what}: choices must be a tuple of numbers or texts, got {type(choices).__name__}"
        )
    if len(choices) > _MOST_CHOICES:
        raise InvalidInputError(
            f"{what} must have at most {_MOST_CHOICES:,} choices, got {len(choices):,}"
        )
    return choices


def plain_choice(choice: object, what: str) -> Choice:
    """A choice as Python's own int, float or str: it is hashed, written to JSON and read back."""
    if isinstance(choice, np.generic) or (isinstance(choice, np.ndarray) and choice.ndim == 0):
        choice = choice.item()
    if isinstance(choice, str):
        return str.__str__(choice)
    if isinstance(choice, (bool, int)):
        # Features are floats.
        if abs(choice) <= 2**1023:
            return choice if isinstance(choice, bool) else int(choice)
    elif isinstance(choice, float) and math.isfinite(choice):
        return float(choice)
    kind = "a number that is too large" if isinstance(choice, int) else f"{choice!r:.60}"
    raise InvalidInputError(f"{what}: a choice must be a finite number or a text, got {kind}")
