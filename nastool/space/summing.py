"""Terms whose sums are exact, in whatever order they are taken."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Floats

_BITS = 38
"""Of the range of sums: what a term is rounded by is a trillionth of it, and the exact search has
two more."""

_MANTISSA = 53
"""Bits of a float."""


def granularity(parts: Iterable[NDArray[np.number[Any]]]) -> float:
    """The largest power of two of which all numbers of some arrays are multiples; 0 of zeros.

    Sums of such multiples are exact while they are less than 2^53 of it.
    """
    numbers = np.concatenate([np.ravel(part).astype(np.float64) for part in parts])
    fractions, exponents = np.frexp(numbers[numbers != 0])
    whole = np.ldexp(fractions, _MANTISSA).astype(np.int64)
    last = np.frexp((whole & -whole).astype(np.float64))[1] - 1
    return math.ldexp(1.0, int((exponents + last).min()) - _MANTISSA) if len(whole) else 0.0


def summable(parts: Sequence[Floats], offset: float = 0.0) -> tuple[tuple[Floats, ...], float]:
    """Round terms, so that every sum of an offset and one term of each part is exact.

    Args:
        parts: Terms, arrays of any shapes.
        offset: Added to the sums.

    Returns:
        The terms of each part from 0 upwards, and the offset with what was taken off them.
    """
    lows = [float(part.min()) for part in parts]
    whole = math.fsum([offset, *lows])
    spread = math.fsum(float(np.ptp(part)) for part in parts)
    size = abs(whole) + spread
    if size == 0:
        return tuple(part - low for part, low in zip(parts, lows, strict=True)), whole
    bits = math.frexp(size)[1] - _MANTISSA + 1
    if spread:
        bits = max(bits, math.frexp(spread)[1] - _BITS)
    quantum = math.ldexp(1.0, bits)
    rounded = [
        np.round((part - low) / quantum) * quantum for part, low in zip(parts, lows, strict=True)
    ]
    return tuple(rounded), round(whole / quantum) * quantum
