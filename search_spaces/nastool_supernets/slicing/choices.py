"""Sizes that a part of a layer can take, and which of its pieces each of them keeps."""

from __future__ import annotations

from collections.abc import Sequence

from nastool.errors import InvalidInputError

MOST_CHOICES = 36
"""Choices other than none that a character can tell apart."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def levels(order: Sequence[int], choices: Sequence[int]) -> str:
    """Write down which choices keep which pieces.

    Args:
        order: Places of all pieces, the ones that are kept longest first.
        choices: How many pieces each choice other than none keeps, ascending; the last keeps all.
    """
    found = [""] * len(order)
    for rank, place in enumerate(order):
        found[place] = _DIGITS[sum(rank >= choice for choice in choices)]
    return "".join(found)


def places(text: str, number: int, choices: Sequence[int]) -> list[int]:
    """Places of the pieces that a choice keeps, ascending.

    Args:
        text: What `levels` wrote.
        number: The choice, more than none.
        choices: All of them; 0 may be among them.
    """
    level = [choice for choice in choices if choice].index(number)
    return [place for place, digit in enumerate(text) if int(digit, 36) <= level]


def spread(most: int, number: int) -> tuple[int, ...]:
    """So many choices up to a size, as evenly spaced as sizes that run fast allow.

    Args:
        most: The largest one.
        number: How many, at most.
    """
    number = min(number, most)
    unit = next(unit for unit in (64, 32, 16, 8, 1) if most % unit == 0 and most // unit >= number)
    steps = most // unit
    return tuple(sorted({max(1, round(steps * i / number)) * unit for i in range(1, number + 1)}))


def read_choices(option: str, text: str | None, most: int, *, skips: bool) -> tuple[int, ...]:
    """Read how many sizes there are, or which.

    Args:
        option: What asks for them.
        text: A number, or sizes with commas between; None for eight.
        most: The size of the checkpoint, which is always one of them.
        skips: Whether 0 is one of them, too.

    Raises:
        InvalidInputError: It is neither, or names a size that there is not.
    """
    words = (text or "8").split(",")
    if not all(word.strip().isdecimal() and len(word) < 10 for word in words):
        raise InvalidInputError(
            f"{option}: expected a number, or sizes with commas between, got {text!r:.100}"
        )
    numbers = [int(word) for word in words]
    if len(numbers) == 1:
        if not 1 <= numbers[0] <= MOST_CHOICES:
            raise InvalidInputError(
                f"{option}: expected 1 to {MOST_CHOICES} sizes, got {numbers[0]}"
            )
        sizes = set(spread(most, numbers[0]))
    else:
        sizes = {*numbers, most} - {0}
        if max(sizes) > most or len(sizes) > MOST_CHOICES:
            raise InvalidInputError(
                f"{option}: expected at most {MOST_CHOICES} sizes of at most {most}, got {text}"
            )
    return tuple(sorted({0, *sizes} if skips else sizes))
