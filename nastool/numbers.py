"""Numbers as people mean them: True and False are none, and only what is perfect is 1.00."""

from __future__ import annotations

import math
from typing import TypeGuard

_LAST_BITS = 1e-12
"""What rounding may take from a score."""


def is_whole(value: object, least: float = -math.inf) -> TypeGuard[int]:
    """Whether a value is a whole number of Python's own that is not too small."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number of Python's own; what is not finite counts, too."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def score_text(score: float, digits: int = 2) -> str:
    """A score of which 1 is perfect, so rounded that no other one looks perfect.

    Args:
        score: At most 1.
        digits: Behind the point; where they would begin with nines alone there is one more, and
            the score is rounded down.
    """
    if score > 1 - _LAST_BITS:
        return f"{score:.{max(digits, 3)}f}"
    if not score >= 1 - 10.0**-digits:
        return f"{score:.{digits}f}"
    more = 10.0 ** (digits + 1)
    # A last bit is no reason to take a digit off: 0.993 is 0.993.
    return f"{math.floor((score + _LAST_BITS) * more) / more:.{digits + 1}f}"
