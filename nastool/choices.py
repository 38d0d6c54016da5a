"""Names, choices and numbers, as they are given and as they are kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError, in_one_line
from nastool.numbers import is_whole

Choice = int | float | str

_MOST_CHOICES = 1_000_000
"""Far beyond what any space needs: a slip of the keyboard is refused before it fills the memory."""


def check_name(what: str, name: object) -> None:
    """Raise InvalidInputError unless a name is a text that can be read in a table.

    Args:
        what: Whose it is; begins the message.
        name: To be checked.
    """
    name = check_text(what, name)
    if not name or name != name.strip() or not name.isprintable():
        raise InvalidInputError(
            f"{what} must have characters that can be seen and no blanks around them, got {name!r}"
        )


def check_text(what: str, text: object) -> str:
    """Raise InvalidInputError unless it is a text; `what` it is begins the message."""
    if not isinstance(text, str):
        raise InvalidInputError(f"{what} must be a text, got {type(text).__name__} {text!r:.80}")
    return text


def plain(value: Any) -> Any:
    """A value of NumPy's as Python's own, which JSON and databases take; any other as it is."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    return value


def as_array(what: str, given: object) -> NDArray[Any]:
    """What somebody gives as numbers, as an array of NumPy's; what is masked out is NaN.

    Args:
        what: Begins the message.
        given: An array, rows of numbers, tensors.

    Raises:
        InvalidInputError: It is none: rows of several lengths, or tensors that have a gradient, lie
            on a GPU, or are of a type that NumPy lacks.
    """
    try:
        # Not by its class, which would load numpy.ma.
        if isinstance(given, np.ndarray) and getattr(given, "mask", None) is not None:
            given = _unmasked(given)
        return np.asarray(given)
    except Exception as error:  # what a library's own types raise is of any kind
        said = f"got {type(given).__name__}: {in_one_line(error)}"
        raise InvalidInputError(f"{what}, {said}") from error


def _unmasked(given: Any) -> NDArray[Any]:
    """A masked array with NaN for what it hides, if anything; its data are not meant."""
    bare: NDArray[Any] = given.data
    return np.where(given.mask, np.nan, bare) if np.any(given.mask) else bare


def whole(what: str, value: object, least: int = 0) -> int:
    """A whole number of Python's or NumPy's as Python's own.

    Args:
        what: Begins the message.
        value: To be checked.
        least: The smallest that makes sense.

    Raises:
        InvalidInputError: It is no whole number, or a smaller one.
    """
    number = plain(value)
    if not is_whole(number):
        raise InvalidInputError(f"{what} must be a whole number, got {value!r:.80}")
    if number < least:
        raise InvalidInputError(f"{what} must be at least {least}, got {number}")
    return number


def listed(what: str, given: object) -> tuple[Any, ...]:
    """Several things as a tuple; a text is one thing, not as many as it has letters.

    Raises:
        InvalidInputError: It is one thing; `what` begins the message.
    """
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise InvalidInputError(f"{what} must be a list, got {type(given).__name__} {given!r:.80}")
    return tuple(given)


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
    choice = plain(choice)
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
