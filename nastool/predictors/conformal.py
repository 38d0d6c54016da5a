"""Intervals that hold a promised share of new measurements, whatever the predictor.

Split conformal prediction (Vovk et al. 2005; Lei et al. 2018): the errors on shapes that the
predictor was not fitted on bound its errors on new shapes drawn alike. Errors grow with what is
predicted, so that half-widths are those of the shapes predicted alike (normalised residuals:
Papadopoulos et al. 2002; in classes: Vovk et al. 2003).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nastool.arrays import Floats
from nastool.errors import InvalidInputError
from nastool.predictors.trust import COVERAGE

_KNOTS = 25
"""Predicted values, at most, at which a half-width is known; between them it is interpolated."""

_NEAR = 0.15
"""Share of the shapes whose errors bound those of shapes predicted alike."""

_FEWEST = 30
"""Shapes that do so at least: of fewer, the 90% quantile jumps."""

_PRIOR = (2.0, 5.0)
"""Shapes of equal error everywhere, in the slope of the errors over the predictions and in their
bend: with few measured shapes both are uncertain, and a wrong one misses at the ends."""


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


@dataclass(frozen=True)
class Widths:
    """Half-widths of 90% intervals, by predicted value.

    Args:
        values: Predicted values, in increasing order.
        halves: Half-width around each of them, positive or 0.

    Raises:
        InvalidInputError: Not as many of both, or out of order.
    """

    values: tuple[float, ...]
    halves: tuple[float, ...]

    def __post_init__(self) -> None:
        ordered = all(a < b for a, b in zip(self.values, self.values[1:], strict=False))
        if len(self.values) != len(self.halves) or not self.values or not ordered:
            raise InvalidInputError("widths must be as many as values, which increase")
        if not all(math.isfinite(half) and half >= 0 for half in self.halves):
            raise InvalidInputError("half-widths must be finite and >= 0")

    def at(self, predictions: ArrayLike) -> Floats:
        """Half-widths around predictions, (n,) to (n,); beyond the known values as at the ends."""
        halves: Floats = np.interp(np.asarray(predictions, np.float64), self.values, self.halves)
        return halves

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Widths:
        """What `dataclasses.asdict` made of one."""
        return cls(tuple(map(float, content["values"])), tuple(map(float, content["halves"])))


def fit_widths(predictions: Floats, residuals: Floats, repeats: int = 1) -> Widths | None:
    """Half-widths that hold 90% of new measurements, wherever they are predicted.

    A parabola through the logarithms of errors and predictions says how they grow, at either end
    too; the quantile of the errors relative to it, over shapes predicted alike, keeps the promise
    for exchangeable shapes.

    Args:
        predictions: Of shapes not fitted on, shape (n,).
        residuals: Their errors, shape (n,).
        repeats: How often each shape is among them, predicted by others each time.

    Returns:
        None where so few residuals can promise nothing finite.
    """
    order = np.argsort(predictions, kind="stable")
    ordered, errors = predictions[order], np.abs(residuals)[order]
    n = len(ordered)
    if half_width(errors[::repeats]) is None:
        return None
    scale = _scale(ordered, errors, repeats)
    near = min(n, max(_FEWEST * repeats, round(_NEAR * n)))
    found: dict[float, float] = {}
    for place in np.linspace(0, n - 1, min(_KNOTS, n)).round().astype(int):
        start = min(max(place - near // 2, 0), n - near)
        alike = slice(start, start + near)
        half = _quantile(errors[alike] / scale[alike], repeats)
        found[float(ordered[place])] = float(half * scale[place])
    return Widths(tuple(found), tuple(found.values()))


def _quantile(errors: Floats, repeats: int) -> float:
    """What 90% of new errors are below: between two ranks, as the next rank holds too many."""
    n = len(errors)
    # As in `half_width` the new shape, as often as the others, counts among the held-out ones.
    place = min((n + repeats) * COVERAGE, n) - 1
    return float(np.interp(place, np.arange(n), np.sort(errors)))


def _scale(predictions: Floats, errors: Floats, repeats: int) -> Floats:
    """How errors grow with predictions, in increasing order, (n,): positive, up to a factor."""
    positive = errors[errors > 0]
    if len(positive) < len(errors) // 2 + 1 or predictions.std() == 0:
        return np.ones(len(errors))
    # An error that happens to vanish says little about how large errors are.
    logarithms = np.log(np.maximum(errors, 0.1 * float(np.median(positive))))
    if predictions[0] > 0:
        # Errors of a share of the value, the usual case, are a straight line then.
        predictions = np.log(predictions)
    standard = np.clip((predictions - predictions.mean()) / predictions.std(), -2.5, 2.5)
    terms = np.stack([standard, standard**2], axis=1)
    centred = terms - terms.mean(axis=0)
    known = centred.T @ centred / repeats + np.diag(_PRIOR)
    growth: Floats = np.exp(terms @ np.linalg.solve(known, centred.T @ logarithms / repeats))
    return growth
