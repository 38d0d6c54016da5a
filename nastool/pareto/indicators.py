"""Indicators of runs, what is derived from them, and the statistics over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nastool.constraint import Constraint
from nastool.errors import InvalidInputError, MissingDependencyError

Values = NDArray[np.float64]
Axis = Literal["evaluations", "seconds"]


@dataclass(frozen=True)
class Indicator:
    """A number that says how good a run is.

    Args:
        name: ``hypervolume``, ``gap``, ``igd_plus``, ``additive_epsilon`` or ``best METRIC...``.
        higher_is_better: Which way is better.
        unit: Base unit; empty for plain numbers.
        objective: Column of the objective whose best value it is; None for the others.
        under: Bound the best value must keep, besides the problem's own constraints.
    """

    name: str
    higher_is_better: bool = False
    unit: str = ""
    objective: int | None = None
    under: Constraint | None = None

    def losses(self, values: Values) -> Values:
        """Values where less is better; what found nothing (NaN) is worse than anything found."""
        return np.where(np.isnan(values), np.inf, -values if self.higher_is_better else values)


@dataclass(frozen=True, eq=False)
class Summary:
    """Median of an indicator over the seeds, with an interval.

    Args:
        strategy: Its name.
        indicator: What was summarised.
        values: One a seed, shape (s,).
        median: Their median; NaN where half of them found nothing.
        low: Lower end of the interval; NaN where that found nothing.
        high: Upper end of the interval, likewise.
        coverage: Probability with which such an interval holds the median of all seeds.
    """

    strategy: str
    indicator: Indicator
    values: Values
    median: float
    low: float
    high: float
    coverage: float


@dataclass(frozen=True, eq=False)
class Curve:
    """How an indicator develops over a run.

    Args:
        indicator: What is shown.
        axis: What x counts.
        x: Shape (k,), ascending.
        values: By strategy, shape (s, k); NaN before anything was known.
    """

    indicator: Indicator
    axis: Axis
    x: Values
    values: Mapping[str, Values]


@dataclass(frozen=True)
class PairTest:
    """Whether two strategies differ.

    Args:
        first: A strategy.
        second: Another one.
        p_value: Two-sided, of this pair alone.
        corrected: The same after Holm's correction for all pairs.
        first_is_better: Probability that a run of the first beats one of the second, ties half
            (Vargha and Delaney 2000).
    """

    first: str
    second: str
    p_value: float
    corrected: float
    first_is_better: float


@dataclass(frozen=True, eq=False)
class AttainmentSurface:
    """What a share of the runs of a strategy reach, in two objectives in their natural sign.

    Args:
        strategy: Its name.
        x: Values of the first objective at which a surface steps, shape (k,), best first.
        levels: Shares of the runs, shape (l,).
        y: Values of the second objective that at least that share of the runs reaches at no worse
            than x, shape (l, k); NaN where it reaches none.
    """

    strategy: str
    x: Values
    levels: Values
    y: Values


def attained(fronts: Sequence[Values], shares: Values) -> tuple[Values, Values]:
    """What shares of runs reach; see `AttainmentSurface`.

    Args:
        fronts: One a run, minimised and sorted by the first objective, shape (n, 2) each.
        shares: In (0, 1], shape (l,).

    Returns:
        Both objectives, minimised; shapes (k,) and (l, k).
    """
    x = np.unique(np.concatenate([front[:, 0] for front in fronts]))
    reached = np.full((len(fronts), len(x)), np.inf)
    for row, front in zip(reached, fronts, strict=True):
        # Along a sorted front the last point up to x is the lowest.
        count = np.searchsorted(front[:, 0], x, side="right")
        row[count > 0] = front[count[count > 0] - 1, 1]
    # Rounding must not turn 0.25 of 4 runs into two runs.
    needed = np.ceil(shares * len(fronts) - 1e-9).astype(np.int64)
    y = np.sort(reached, axis=0)[needed - 1]
    return x, np.where(np.isfinite(y), y, np.nan)


def median_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[Values, Values, float]:
    """Interval between two observed values that holds the median, whatever the distribution.

    How many of s values lie below the median is binomial, so that the coverage is exact (Conover
    1999, section 3.2). Few values cannot reach a high confidence: their whole range holds the
    median with a probability of 1 - 2^(1 - s), 50% for two and 97% for six.

    Args:
        values: Shape (s, ...); a NaN makes an interval NaN.
        confidence: In (0, 1); the narrowest interval that reaches it is taken, else the range.

    Returns:
        Lower and upper end, each of shape (...), and the probability.

    Raises:
        InvalidInputError: No value, or another confidence.
    """
    array = np.asarray(values, dtype=np.float64)
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence must lie in (0, 1), got {confidence}")
    if array.ndim == 0 or len(array) == 0:
        raise InvalidInputError(f"an interval needs at least one value, got {array.shape}")
    n = len(array)
    depth, below = 0, 0.5**n
    # Leaving out one more value on either side costs twice the next term of the binomial.
    while 2 * (depth + 1) < n:
        further = below + comb(n, depth + 1) * 0.5**n
        if 1 - 2 * further < confidence:
            break
        depth, below = depth + 1, further
    ordered = np.sort(array, axis=0)
    missing = np.isnan(array).any(axis=0)
    low, high = (np.where(missing, np.nan, ordered[row]) for row in (depth, n - 1 - depth))
    return low, high, max(0.0, 1 - 2 * below)


def summary(strategy: str, indicator: Indicator, values: Values, confidence: float) -> Summary:
    """Summarise an indicator over seeds, of which those that found nothing count as the worst.

    Args:
        strategy: Its name.
        indicator: What it is.
        values: One a seed, shape (s,).
        confidence: Of the interval, where there are enough seeds for it.
    """
    losses = indicator.losses(values)
    best, worst, held = median_interval(losses, confidence)
    found = np.array([np.median(losses), best, worst])
    found[np.isinf(found)] = np.nan
    # Subtracted, for no zero is negative.
    middle, low, high = (0.0 - found[[0, 2, 1]] if indicator.higher_is_better else found).tolist()
    return Summary(strategy, indicator, values, middle, low, high, held)


def holm(p_values: ArrayLike) -> Values:
    """Holm's step-down correction of p values, shape (k,) (Holm 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = p.argsort(kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def load_statistics() -> Any:
    """The tests of scipy.

    Raises:
        MissingDependencyError: scipy is not installed.
    """
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingDependencyError(
            "comparing strategies needs scipy: pip install 'nastool[strategies]'"
        ) from error
    return stats


def p_value(a: Values, b: Values, paired: bool = False) -> float:
    """Two-sided p value of Mann and Whitney's or, paired, of Wilcoxon's signed-rank test.

    Args:
        a: Shape (s,); infinite values are allowed.
        b: Shape (t,), with t = s where paired.
        paired: Whether a[i] and b[i] belong together.
    """
    stats = load_statistics()
    if not paired:
        if np.all(a == a[0]) and np.all(b == a[0]):
            return 1.0
        return float(stats.mannwhitneyu(a, b, alternative="two-sided").pvalue)
    # Infinite against infinite is a tie; infinite against finite is a largest difference.
    with np.errstate(invalid="ignore"):
        differences = np.where(a == b, 0.0, a - b)
    largest = np.finfo(np.float64).max
    differences = np.nan_to_num(differences, posinf=largest, neginf=-largest)
    if not differences.any():
        return 1.0
    return float(stats.wilcoxon(differences, zero_method="zsplit").pvalue)
