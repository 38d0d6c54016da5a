"""Rows that no predictor should learn from: far from all others, and from what their shape says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.predictors.linear import RATIOS, known_values, linear_design
from nastool.predictors.ridge import fit_ridge
from nastool.predictors.tables import Measurements

_FAR = 6.0
"""Interquartile ranges beyond the quartiles from which on a value is far from all others."""

_UNLIKELY = 8.0
"""Robust standard deviations from which on an error is none of the model's."""

_MOST = 0.1
"""Share of the rows beyond which those far off are no outliers, but another kind of row."""

_ANOTHER_UNIT = 8.0
"""Times by which rows of another kind differ at least; many that differ less are two groups."""

_FEWEST = 12
"""Shapes below which nothing can be told to be far."""

_NAMED = 8
"""Lines that a message names at most."""


def outliers(data: Measurements) -> NDArray[np.int64]:
    """Find the rows whose value lies far from all others and from what a robust model expects.

    Args:
        data: The table.

    Returns:
        Their indices, in order.

    Raises:
        InvalidInputError: They are more than a tenth: the table mixes two kinds of rows.
    """
    values = data.targets
    if len(values) < _FEWEST:
        return np.empty(0, dtype=np.int64)
    low, high = np.quantile(values, [0.25, 0.75])
    reach = _FAR * (high - low)
    far = (values < low - reach) | (values > high + reach)
    positive = values > 0
    if positive.mean() > 1 - _MOST:
        # 0 or -1 for what failed, or values a thousandth of the others.
        logarithms = np.log(np.where(positive, values, 1.0))
        bottom, top = np.quantile(logarithms[positive], [0.25, 0.75])
        far |= ~positive | (logarithms < bottom - _FAR * max(top - bottom, 0.1))
    if not far.any() or high == low:
        return np.empty(0, dtype=np.int64)
    known = known_values(data.features[:, : len(data.genes)])
    # What is far off must not bend the model that judges it.
    clipped = np.clip(values, low - reach, high + reach)
    errors = fit_ridge(linear_design(known, data.features), clipped, RATIOS).errors
    errors = errors + values - clipped
    spread = 1.4826 * float(np.median(np.abs(errors - np.median(errors))))
    found = np.flatnonzero(far & (np.abs(errors - np.median(errors)) > _UNLIKELY * spread))
    if len(found) > _MOST * len(values):
        ratios = values[found] / float(np.median(np.delete(values, found)))
        if np.all((ratios > 1 / _ANOTHER_UNIT) & (ratios < _ANOTHER_UNIT)):
            return np.empty(0, dtype=np.int64)
        raise InvalidInputError(
            f"rows must be of one kind, but {len(found):,} of {len(values):,} lie far from the "
            f"others ({named(data, found)}; {values[found].min():.4g} to "
            f"{values[found].max():.4g}, the others around {np.median(values):.4g}): another unit?"
        )
    return found


def named(data: Measurements, rows: NDArray[np.int64]) -> str:
    """Rows of a table by their lines, or as shapes where there is no file."""
    if data.lines:
        lines = [line for row in rows for line in data.lines[row]]
        shown = ", ".join(map(str, lines[:_NAMED])) + (", ..." if len(lines) > _NAMED else "")
        return f"line{'s' * (len(lines) > 1)} {shown}"
    return f"row{'s' * (len(rows) > 1)} {', '.join(map(str, rows[:_NAMED].tolist()))}"
