"""Whether a value is a number, as people mean it: Python counts True and False among them."""

from __future__ import annotations

import math
from typing import TypeGuard


def is_whole(value: object, least: float = -math.inf) -> TypeGuard[int]:
    """Whether a value is a whole number of Python's own that is not too small."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number of Python's own; what is not finite counts, too."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
