"""How well predictions agree with measurements, on shapes the predictor has not seen."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.numbers import score_text
from nastool.objective import RankAgreement


@dataclass(frozen=True)
class Scores:
    """Agreement of predicted with measured values.

    Args:
        r2: Coefficient of determination.
        spearman: Rank correlation (rho); NaN where either side is constant.
        kendall: Rank correlation (tau-b); NaN where either side is constant, or scipy is missing.
        rmse: Root mean squared error, in the unit of the target.
        n: Number of shapes compared.
    """

    r2: float
    spearman: float
    kendall: float
    rmse: float
    n: int

    def __str__(self) -> str:
        return f"R2 {score_text(self.r2)}, Spearman {score_text(self.spearman)}"

    def as_dict(self) -> dict[str, float | None]:
        """Plain numbers for JSON, None where a score is not defined."""
        return {key: value if np.isfinite(value) else None for key, value in asdict(self).items()}


def score(targets: ArrayLike, predictions: ArrayLike, *, partly: bool = False) -> Scores:
    """Compare predictions with what was measured.

    Args:
        targets: Measured values, shape (n,).
        predictions: Predicted values, shape (n,).
        partly: Whether to do without Kendall's correlation where scipy is missing.

    Raises:
        InvalidInputError: Fewer than two shapes, different lengths, or values that are not finite.
        MissingDependencyError: scipy is not installed.
    """
    measured = np.asarray(targets, dtype=np.float64)
    predicted = np.asarray(predictions, dtype=np.float64)
    if measured.shape != predicted.shape or measured.ndim != 1 or len(measured) < 2:
        raise InvalidInputError(
            "scores need at least two targets and as many predictions, "
            f"got shapes {measured.shape} and {predicted.shape}"
        )
    if not (np.isfinite(measured).all() and np.isfinite(predicted).all()):
        raise InvalidInputError("scores need finite values, got NaN or infinity")
    residual = float(np.square(measured - predicted).sum())
    spread = float(np.square(measured - measured.mean()).sum())
    return Scores(
        r2=1.0 - residual / spread if spread > 0 else float("nan"),
        spearman=spearman(measured, predicted),
        kendall=_kendall(measured, predicted, partly=partly),
        rmse=float(np.sqrt(residual / len(measured))),
        n=len(measured),
    )


def spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman's rank correlation of two arrays (n,); NaN where one is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    a, b = (_ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    return float(np.clip((a @ b) / np.sqrt((a @ a) * (b @ b)), -1, 1))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return shared


def rank_agreement(
    source: str, first: ArrayLike, second: ArrayLike, *, published: bool = False
) -> RankAgreement | None:
    """How alike two sources order the same architectures; None where that is not defined.

    Args:
        source: Names the second one.
        first: Values, shape (n,); those that are not finite on either side are left out.
        second: The other source's, shape (n,).
        published: Whether that one is a published result.
    """
    a, b = (np.asarray(values, dtype=np.float64) for values in (first, second))
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 3 or np.ptp(a[known]) == 0 or np.ptp(b[known]) == 0:
        return None
    return RankAgreement(source, spearman(a[known], b[known]), int(known.sum()), published)


def _kendall(first: NDArray[np.float64], second: NDArray[np.float64], *, partly: bool) -> float:
    try:
        from scipy import stats
    except ImportError as error:
        if partly:
            return float("nan")
        raise MissingDependencyError(
            "scoring predictors needs scipy: pip install 'nastool[fit]'"
        ) from error
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.kendalltau(first, second).statistic)


def holdout(n: int, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split n rows at random.

    Args:
        n: Number of rows.
        fraction: Share held out, strictly between 0 and 1.
        seed: Fixes the split.

    Returns:
        Row indices to fit on and row indices held out, each in increasing order.

    Raises:
        InvalidInputError: Either side would hold fewer than two rows.
    """
    held_out = round(n * fraction)
    if held_out < 2 or n - held_out < 2:
        raise InvalidInputError(
            "a held-out split must leave at least two rows on either side, "
            f"got {n} rows and fraction {fraction:g}"
        )
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def folds(n: int, k: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Split n rows at random into k parts; each is held out once.

    Returns:
        k pairs of row indices (fit, held out).

    Raises:
        InvalidInputError: Fewer than two folds, or fewer rows than folds.
    """
    if k < 2 or n < k:
        raise InvalidInputError(f"expected 2 <= folds <= rows, got {k} folds of {n} rows")
    part = np.random.default_rng(seed).permutation(np.arange(n) % k)
    return [(np.flatnonzero(part != i), np.flatnonzero(part == i)) for i in range(k)]
