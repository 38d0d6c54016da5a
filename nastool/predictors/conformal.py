"""Intervals that hold a promised share of new measurements, whatever the predictor.

Split conformal prediction (Vovk et al. 2005; Lei et al. 2018): the errors on shapes that the
predictor was not fitted on bound its errors on new shapes drawn alike.
"""

from __future__ import annotations

import math

import numpy as np

from nastool.errors import InvalidInputError
from nastool.predictors.base import Floats


def half_width(residuals: Floats, coverage: float = 0.9) -> float | None:
    """Half-width of the interval around a prediction.

    Args:
        residuals: Absolute errors on held-out shapes, shape (n,).
        coverage: Share of new measurements that the interval is to hold, between 0 and 1.

    Returns:
        The smallest half-width that keeps the promise for exchangeable shapes; None where so few
        residuals can promise nothing finite.

    Raises:
        InvalidInputError: A coverage that is no share.
    """
    if not 0 < coverage < 1:
        raise InvalidInputError(f"coverage must lie strictly between 0 and 1, got {coverage:g}")
    # The n + 1 comes from counting the new shape among the held-out ones.
    rank = math.ceil((len(residuals) + 1) * coverage)
    if rank > len(residuals):
        return None
    return float(np.sort(np.abs(residuals))[rank - 1])


def coverage(residuals: Floats, half: float) -> float:
    """Share of absolute errors (n,) within a half-width."""
    return float(np.mean(np.abs(residuals) <= half))
