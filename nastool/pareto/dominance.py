"""Pareto mathematics: pure functions on arrays, every objective minimised.

Points have shape (n, m). A row with a NaN (a failed evaluation) dominates nothing, is never part
of a front and adds nothing to an indicator.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nastool.errors import InvalidInputError
from nastool.pareto.volumes import volume

Points = NDArray[np.float64]

_BLOCK = 256
"""Points compared with a front at a time, which bounds the memory of a comparison."""

_CELLS = 1 << 22
"""Differences of points held in memory at a time."""

_MATRIX_LIMIT = 2_000
"""Largest number of points whose pairwise dominance is held in memory."""


def _points(points: ArrayLike, name: str = "points", columns: int | None = None) -> Points:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] == 0 or (columns and array.shape[1] != columns):
        expected = f"(n, {columns})" if columns else "(n, m) with m >= 1"
        raise InvalidInputError(f"{name} must have shape {expected}, got {array.shape}")
    return array


def dominates(a: ArrayLike, b: ArrayLike) -> NDArray[np.bool_]:
    """Whether a is nowhere worse than b and somewhere better.

    Args:
        a: Shape (..., m).
        b: Shape (..., m), broadcast against a.

    Returns:
        Shape (...).
    """
    left, right = np.asarray(a), np.asarray(b)
    result: NDArray[np.bool_] = np.all(left <= right, axis=-1) & np.any(left < right, axis=-1)
    return result


def non_dominated(points: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other point dominates; of equal points all are kept.

    Args:
        points: Shape (n, m).

    Returns:
        Mask of shape (n,).
    """
    array = _points(points)
    mask: NDArray[np.bool_] = ~np.any(np.isnan(array), axis=1)
    valid = array[mask]
    if len(valid) == 0:
        return mask
    if array.shape[1] == 1:
        mask[mask] = valid[:, 0] == valid.min()
    elif array.shape[1] == 2:
        mask[mask] = _non_dominated_2d(valid)
    else:
        mask[mask] = _non_dominated_blocked(valid)
    return mask


def front(points: ArrayLike) -> Points:
    """The distinct points that none dominates, by the first objective, shape (k, m).

    Args:
        points: Shape (n, m).
    """
    array = _points(points)
    found: Points = np.unique(array[non_dominated(array)], axis=0)
    return found


def new_lows(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which values are less than all before them, shape (n,); the first one is."""
    mask = np.empty(len(values), dtype=bool)
    mask[:1] = True
    np.less(values[1:], np.minimum.accumulate(values)[:-1], out=mask[1:])
    return mask


def staircase(x: NDArray[Any], y: NDArray[Any], *ties: NDArray[Any]) -> NDArray[np.int64]:
    """Rows of the points that none dominates or equals, by ascending x; of equal ones the first.

    In numbers as they are given: whole ones stay exact.

    Args:
        x: Shape (n,), without NaN.
        y: Shape (n,), without NaN.
        ties: What says which of equal points is the first, shape (n,); the order by default.
    """
    order = np.lexsort((*ties[::-1], y, x))
    return order[new_lows(y[order])]


def least_up_to(at: NDArray[Any], x: NDArray[Any], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least y among points whose x is no larger; infinite where there is none.

    Args:
        at: Values of x, shape (k,).
        x: Shape (n,).
        y: Shape (n,).

    Returns:
        Shape (k,).
    """
    order = np.argsort(x, kind="stable")
    least = np.append(np.inf, np.minimum.accumulate(y[order]))
    found: NDArray[np.float64] = least[np.searchsorted(x[order], at, side="right")]
    return found


def _non_dominated_2d(points: Points) -> NDArray[np.bool_]:
    order, pairs = by_both(points)
    # In this order only an earlier point can dominate, and it does unless it is higher in y.
    kept = new_lows(pairs.imag)
    again = pairs[1:] == pairs[:-1]
    if again.any():
        # Equal points stand together, and all of them are kept or none is.
        first = np.append(True, ~again)
        kept = kept[first][np.cumsum(first) - 1]
    mask = np.empty(len(points), dtype=bool)
    mask[order] = kept
    return mask


def by_both(points: Points) -> tuple[NDArray[np.int64], NDArray[np.complex128]]:
    """Rows of points (n, 2) by the first objective, equal ones by the second, then as they are.

    Returns:
        The rows, and the points in their order, the second objective as the imaginary part: so
        numpy sorts and compares both at once.
    """
    pairs = np.ascontiguousarray(points).view(np.complex128)[:, 0]
    order = pairs.argsort(kind="stable")
    return order, pairs.take(order)


def _non_dominated_blocked(points: Points) -> NDArray[np.bool_]:
    # Lexicographic order: only an earlier point can dominate.
    unique, inverse = np.unique(points, axis=0, return_inverse=True)
    alive = np.ones(len(unique), dtype=bool)
    if len(unique) > _BLOCK:
        # The points of the best mean ranks dominate most of the others: discard those cheaply.
        ranks = unique.argsort(axis=0, kind="stable").argsort(axis=0).sum(axis=1)
        for row in np.argpartition(ranks, 31)[:32]:
            alive[dominates(unique[row], unique)] = False
    candidates = np.flatnonzero(alive)
    front = np.empty((0, points.shape[1]))
    kept: list[NDArray[np.int64]] = []
    for start in range(0, len(candidates), _BLOCK):
        rows = candidates[start : start + _BLOCK]
        rows = rows[~_any_dominates(front, unique[rows])]
        block = unique[rows]
        rows = rows[~np.any(dominates(block[:, None], block[None]), axis=0)]
        front = np.concatenate([front, unique[rows]])
        kept.append(rows)
    mask = np.zeros(len(unique), dtype=bool)
    mask[np.concatenate(kept)] = True
    return mask[inverse.reshape(-1)]


def _any_dominates(front: Points, points: Points) -> NDArray[np.bool_]:
    """Which points (n, m), all different from the front's (f, m), the front dominates."""
    # Unequal points: being nowhere worse is enough.
    not_worse = np.ones((len(front), len(points)), dtype=bool)
    for column in range(points.shape[1]):
        not_worse &= np.less_equal(front[:, column, None], points[None, :, column])
    result: NDArray[np.bool_] = np.logical_or.reduce(not_worse, axis=0)
    return result


def fast_non_dominated_rank(
    points: ArrayLike, violations: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Number of the front each point belongs to after the better fronts are taken away.

    With violations, a feasible point beats an infeasible one and, of two infeasible ones, the one
    that violates less (Deb et al. 2002, section VI). Points with a NaN come last.

    Args:
        points: Shape (n, m).
        violations: Total violation of each point, shape (n,); <= 0 is feasible.

    Returns:
        Shape (n,), the first front being 0.

    Raises:
        InvalidInputError: Another shape of either.
    """
    array = _points(points)
    total = np.zeros(len(array)) if violations is None else np.asarray(violations, dtype=float)
    if total.shape != (len(array),):
        raise InvalidInputError(f"violations must have shape ({len(array)},), got {total.shape}")
    failed = np.any(np.isnan(array), axis=1) | np.isnan(total)
    feasible = (total <= 0) & ~failed
    ranks = np.zeros(len(array), dtype=np.int64)
    ranks[feasible] = _rank_fronts(array[feasible])
    begin = int(ranks[feasible].max()) + 1 if feasible.any() else 0
    if not feasible.all():
        levels = np.where(failed, np.inf, total)[~feasible]
        ranks[~feasible] = begin + np.unique(levels, return_inverse=True)[1].reshape(-1)
    return ranks


def _rank_fronts(points: Points) -> NDArray[np.int64]:
    if len(points) == 0:
        return np.empty(0, dtype=np.int64)
    if points.shape[1] == 2:
        return _rank_pairs(points)
    unique, inverse = np.unique(points, axis=0, return_inverse=True)
    n, m = unique.shape
    ranks = np.zeros(n, dtype=np.int64)
    if m == 1:
        ranks = np.arange(n)
    elif n <= _MATRIX_LIMIT:
        matrix = dominates(unique[:, None], unique[None])
        dominators = matrix.sum(axis=0)
        left, rank = np.ones(n, dtype=bool), 0
        while left.any():
            front = left & (dominators == 0)
            ranks[front] = rank
            left &= ~front
            dominators -= matrix[front].sum(axis=0)
            rank += 1
    else:
        rows, rank = np.arange(n), 0
        while len(rows):
            front = non_dominated(unique[rows])
            ranks[rows[front]] = rank
            rows = rows[~front]
            rank += 1
    return ranks[inverse.reshape(-1)]


def _rank_pairs(points: Points) -> NDArray[np.int64]:
    """The front of each point (n, 2), shape (n,)."""
    order, pairs = by_both(points)
    # In this order a front dominates a point exactly if its lowest y so far does not exceed the
    # point's, and these lowest values increase from front to front.
    lowest: list[float] = []
    found: list[int] = []
    rank, before = 0, complex(np.nan)
    for pair in pairs.tolist():
        if pair != before:
            rank = bisect_right(lowest, pair.imag)
            lowest[rank : rank + 1] = [pair.imag]
            before = pair
        found.append(rank)
    ranks = np.empty(len(points), dtype=np.int64)
    ranks[order] = found
    return ranks


def crowding_distance(points: ArrayLike) -> NDArray[np.float64]:
    """Perimeter of the box between each point's neighbours on its front (Deb et al. 2002, III-B).

    Args:
        points: One front, shape (n, m).

    Returns:
        Shape (n,), infinite at the ends of the front.
    """
    array = _points(points)
    n = len(array)
    if n <= 2:
        return np.full(n, np.inf)
    order = array.argsort(axis=0, kind="stable")
    values = np.take_along_axis(array, order, axis=0)
    extent = values[-1] - values[0]
    extent[extent == 0] = 1.0
    gaps = np.full(values.shape, np.inf)
    gaps[1:-1] = (values[2:] - values[:-2]) / extent
    distance = np.empty(values.shape)
    np.put_along_axis(distance, order, gaps, axis=0)
    total: NDArray[np.float64] = distance.sum(axis=1)
    return total


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Volume that the points dominate up to a reference point, exactly.

    Args:
        points: Shape (n, m).
        reference: Shape (m,), finite; points that are not better in every objective add nothing.

    Raises:
        InvalidInputError: A reference point of another form, or so many points of so many
            objectives that the memory would not do.
    """
    array = _points(points)
    corner = np.asarray(reference, dtype=np.float64)
    if corner.shape != array.shape[1:] or not np.all(np.isfinite(corner)):
        raise InvalidInputError(
            f"the reference point must be {array.shape[1]} finite numbers, got {corner.tolist()}"
        )
    inside = array[np.all(array < corner, axis=1)]
    return volume(front(inside), corner)


def _nearest(
    points: ArrayLike, reference_front: ArrayLike, distance: Callable[[Points], Points]
) -> Points:
    """Least distance of each reference point from the points, shape (r,); infinite without points.

    Args:
        points: Shape (n, m).
        reference_front: Shape (r, m).
        distance: From how much worse each point is, (k, n, m), to (k, n).
    """
    reference = _points(reference_front, "the reference front")
    array = _points(points, columns=reference.shape[1])
    array = array[~np.any(np.isnan(array), axis=1)]
    if len(reference) == 0 or np.any(np.isnan(reference)):
        raise InvalidInputError("the reference front must have at least one point and no NaN")
    if len(array) == 0:
        return np.full(len(reference), np.inf)
    # Dominated points are never nearest; without them the table stays small.
    array = array[non_dominated(array)]
    rows = max(_CELLS // array.size, 1)
    parts = [reference[i : i + rows, None] for i in range(0, len(reference), rows)]
    return np.concatenate([distance(array[None] - part).min(axis=1) for part in parts])


def igd_plus(points: ArrayLike, reference_front: ArrayLike) -> float:
    """Mean distance from a reference front to what a set falls short of it (Ishibuchi 2015).

    Args:
        points: Shape (n, m).
        reference_front: Shape (r, m).

    Returns:
        0 where the whole reference front is reached; infinite for an empty set.
    """

    def short(worse: Points) -> Points:
        distance: Points = np.sqrt((np.maximum(worse, 0) ** 2).sum(axis=2))
        return distance

    return float(_nearest(points, reference_front, short).mean())


def additive_epsilon(points: ArrayLike, reference_front: ArrayLike) -> float:
    """Smallest shift after which a set is nowhere worse than a reference front (Zitzler 2003).

    Args:
        points: Shape (n, m).
        reference_front: Shape (r, m).

    Returns:
        0 where the reference front is just reached; infinite for an empty set.
    """
    return float(_nearest(points, reference_front, lambda worse: worse.max(axis=2)).max())


def scale(
    reference_front: ArrayLike, others: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Offset and extent that map a front to [0, 1]: indicators do not depend on units then.

    Args:
        reference_front: Shape (r, m), r >= 1.
        others: What is compared with it, shape (n, m).

    Returns:
        Two arrays of shape (m,). Where the front has one value of an objective, its extent is the
        size of that value; where that is 0, how far the others reach beyond it.
    """
    array = _points(reference_front, "the reference front")
    ideal, nadir = array.min(axis=0), array.max(axis=0)
    beyond = _points(others, columns=array.shape[1])
    reach = (beyond.max(axis=0) if len(beyond) else nadir) - ideal
    one = np.where(ideal != 0, np.abs(ideal), np.where(reach > 0, reach, 1.0))
    return ideal, np.where(nadir > ideal, nadir - ideal, one)


def spread(n: int, limit: int) -> NDArray[np.int64]:
    """Indices of at most `limit` of n rows, evenly spaced, both ends included."""
    return np.linspace(0, n - 1, min(n, limit)).round().astype(np.int64)


def knee(points: ArrayLike) -> int:
    """Row of the front's point that lies furthest below the plane through the front's ends.

    With each objective scaled to [0, 1] over the front this is the smallest sum of objectives.

    Args:
        points: Shape (n, m).

    Raises:
        InvalidInputError: No point without NaN.
    """
    array = _points(points)
    rows = np.flatnonzero(non_dominated(array))
    if len(rows) == 0:
        raise InvalidInputError("a knee needs at least one point without NaN, got none")
    low, high = array[rows].min(axis=0), array[rows].max(axis=0)
    extent = np.where(high > low, high - low, 1.0)
    return int(rows[((array[rows] - low) / extent).sum(axis=1).argmin()])
