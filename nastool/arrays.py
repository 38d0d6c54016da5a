"""Arrays by what they hold; their shapes are said where they are used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Int = NDArray[np.int64]


def narrow(numbers: Int) -> NDArray[np.integer[Any]]:
    """A copy of whole numbers from 0 in the smallest type that holds them, to be kept."""
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))
