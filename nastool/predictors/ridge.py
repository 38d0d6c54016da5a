"""Ridge regression with everything that follows in closed form from one decomposition.

The marginal likelihood chooses the penalties, posterior variances give error bars, leave-one-out
errors come without refitting, and outliers among them (a latency taken while the machine did
something else) are drawn in before they bend the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nastool.arrays import Floats
from nastool.predictors.base import standard

_PENALTIES = 10.0 ** np.arange(-8.0, 2.5, 0.5)
"""Candidate penalties, in units of the number of rows."""

_OUTLIER = 3.0
"""Leave-one-out errors beyond so many robust standard deviations are drawn in (Huber)."""

_ROBUST_FROM = 30
"""Rows from which on an outlier can be told from a shape that the model does not fit yet."""

_ROUNDS = 5
"""Rounds of drawing in; they settle after a few."""


@dataclass(frozen=True, eq=False)
class Ridge:
    """A fitted linear model of standardised columns.

    Args:
        center: Mean of each column, shape (p,).
        scale: What each centred column is multiplied by, shape (p,).
        weights: Coefficients of the scaled columns, shape (p,).
        intercept: Mean of the targets.
        basis: Right singular vectors of the scaled columns, shape (r, p).
        shrinkage: Share of each direction that the data determine, shape (r,).
        penalty: Penalty on the squared weights.
        noise: Standard deviation of a measurement around the model.
        rows: Number of rows fitted on.
        errors: Leave-one-out errors, measured minus predicted, shape (rows,).
    """

    center: Floats
    scale: Floats
    weights: Floats
    intercept: float
    basis: Floats
    shrinkage: Floats
    penalty: float
    noise: float
    rows: int
    errors: Floats

    def mean(self, columns: Floats) -> Floats:
        """Predict rows of columns, (n, p) to (n,)."""
        result: Floats = (columns - self.center) @ (self.scale * self.weights) + self.intercept
        return result

    def std(self, columns: Floats) -> Floats:
        """Standard deviation of a new measurement, (n, p) to (n,)."""
        scaled = (columns - self.center) * self.scale
        determined = np.square(scaled @ self.basis.T) @ self.shrinkage
        free = np.maximum(np.square(scaled).sum(axis=1) - determined, 0.0) / self.penalty
        result: Floats = self.noise * np.sqrt(1.0 + 1.0 / self.rows + free)
        return result


def fit_ridge(
    groups: Sequence[Floats],
    targets: Floats,
    ratios: Sequence[float] = (1.0,),
    *,
    robust: bool = True,
) -> Ridge:
    """Fit, choosing penalties by the marginal likelihood (MacKay, 1992).

    Args:
        groups: Columns in order of how much they are trusted, each of shape (n, p_k). Relative to
            the group before it, each is allowed coefficients smaller by one of the ratios.
        targets: Shape (n,).
        ratios: Candidates, each in (0, 1].
        robust: Whether outliers are drawn in; not where single rows alone know of a column.
    """
    targets, middle, size = standard(targets)
    columns = np.concatenate(list(groups), axis=1)
    center = columns.mean(axis=0)
    spread = columns.std(axis=0)
    # A column that never varied says nothing about rows where it does.
    varied = spread > 1e-9 * (np.abs(center) + 1e-300)
    unit = np.where(varied, 1.0 / np.where(varied, spread, 1.0), 0.0)
    rank = np.repeat(np.arange(len(groups)), [g.shape[1] for g in groups])
    # Tall matrices are decomposed once; what is left to do for each ratio is small.
    outer, inner = np.linalg.qr((columns - center) * unit)

    fits = []
    for ratio in dict.fromkeys(ratios) if len(groups) > 1 else (1.0,):
        weighting = ratio ** rank.astype(np.float64)
        left, singular, basis = np.linalg.svd(inner * weighting, full_matrices=False)
        # Directions that only rounding makes.
        kept = singular > 1e-10 * max(float(singular.max(initial=0.0)), 1e-300)
        parts = outer @ left[:, kept], singular[kept], basis[kept]
        fits.append(_fit(center, unit * weighting, *parts, targets, robust))
    fit = min(fits, key=lambda fit: fit[0])[1]
    return replace(
        fit,
        weights=fit.weights * size,
        intercept=fit.intercept * size + middle,
        noise=fit.noise * size,
        errors=fit.errors * size,
    )


def _fit(
    center: Floats,
    scale: Floats,
    left: Floats,
    singular: Floats,
    basis: Floats,
    targets: Floats,
    robust: bool,
) -> tuple[float, Ridge]:
    """The best penalty for one scaling; with its negative logarithm of the evidence."""
    n = len(targets)
    squares = np.square(singular)
    penalties = n * _PENALTIES[:, None]
    shares = squares / (squares + penalties)  # (k, r)
    determinants = np.log1p(squares / penalties).sum(axis=1)

    pseudo = targets
    for _ in range(_ROUNDS):
        intercept = float(pseudo.mean())
        centered = pseudo - intercept
        along = left.T @ centered
        across = max(float(centered @ centered - along @ along), 0.0)
        energies = np.square(along) @ (1.0 - shares).T + across
        floor = 1e-20 * float(targets @ targets) + np.finfo(float).tiny
        losses = 0.5 * ((n - 1) * np.log(energies + floor) + determinants)
        chosen = int(losses.argmin())
        share = shares[chosen]
        residuals = centered - left @ (share * along)
        # The leverage of a row includes its share in the mean.
        rest = np.maximum(1.0 - np.square(left) @ share - 1.0 / n, 1e-9)
        without = pseudo - residuals / rest
        errors = targets - without
        limit = _OUTLIER * 1.4826 * float(np.median(np.abs(errors)))
        if not robust or n < _ROBUST_FROM or limit == 0.0:
            break
        drawn_in = without + np.clip(errors, -limit, limit)
        if np.abs(drawn_in - pseudo).max() <= 1e-3 * limit:
            break
        pseudo = drawn_in

    ridge = Ridge(
        center=center,
        scale=scale,
        weights=basis.T @ (share * along / singular),
        intercept=intercept,
        basis=basis,
        shrinkage=share,
        penalty=float(penalties[chosen, 0]),
        noise=float(np.sqrt(energies[chosen] / max(n - 1, 1))),
        rows=n,
        errors=errors,
    )
    return float(losses[chosen]), ridge
