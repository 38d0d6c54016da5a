"""Which of a population is better, for any number of objectives and constraints."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nastool.evaluations import Evaluations
from nastool.pareto import by_both, fast_non_dominated_rank, new_lows, non_dominated


def ranking(evaluations: Evaluations) -> NDArray[np.int64]:
    """The place of each evaluation among the others, 0 for the best; ties go to the earlier.

    Feasible ones come before infeasible ones, which are ordered by total violation. Feasible ones
    are ordered by the objective, or, where there are several, by non-dominated front and within a
    front by crowding distance (Deb et al., 2002).

    Returns:
        Shape (n,), a permutation of 0 to n - 1.
    """
    violation = evaluations.total_violation
    if evaluations.objectives.shape[1] == 1:
        order = np.lexsort((evaluations.objectives[:, 0], violation))
    else:
        points = np.where(np.isfinite(violation)[:, None], evaluations.objectives, np.inf)
        front = np.zeros(len(points), dtype=np.int64)
        crowding = np.zeros(len(points))
        feasible = violation <= 0
        front[feasible] = fast_non_dominated_rank(points[feasible])
        crowding[feasible] = _crowding(points[feasible], front[feasible])
        order = np.lexsort((-crowding, front, violation))
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    return places


def leading(evaluations: Evaluations, n: int) -> NDArray[np.int64]:
    """The rows of the n best in the order of `ranking`, or of a few more, shape (k,) with k >= n.

    Evolution asks for them after every few children, and few of a population are among them.
    """
    points, limits = evaluations.objectives, evaluations.violations
    satisfied = not limits.size or np.count_nonzero(limits <= 0) == limits.size
    if satisfied and points.shape[1] == 1:
        # Failed ones come last, as no number does.
        return points[:, 0].argsort(kind="stable")
    if satisfied and points.shape[1] == 2 and len(points):
        order, ordered = by_both(points)
        # Failed ones, which are of no front, would come last; of them only no number is itself.
        if (last := ordered[-1]) == last:
            return _leading_pairs(points, n, order, ordered)
    return np.argsort(ranking(evaluations))


def _leading_pairs(
    points: NDArray[np.float64],
    n: int,
    order: NDArray[np.int64],
    ordered: NDArray[np.complex128],
) -> NDArray[np.int64]:
    """The rows of the first fronts of points (p, 2) with at least n of them, in order.

    Args:
        points: Without NaN.
        n: How many are wanted.
        order: Their rows, see `nastool.pareto.by_both`.
        ordered: Themselves.
    """
    found: list[NDArray[np.int64]] = []
    while n > 0 and len(order):
        kept = new_lows(ordered.imag)
        # Equal points stand together, and all of them are on a front or none is.
        equal = (ordered[1:] == ordered[:-1]).nonzero()[0].tolist()
        for row in equal:
            kept[row + 1] = kept[row]
        rows = order[kept]
        if equal:
            rows = np.sort(rows)
            lonely = -_crowding(points[rows], np.zeros(len(rows), dtype=np.int64))
        else:
            lonely = np.empty(len(rows))
            lonely[:] = -np.inf
            if len(rows) > 2:
                # Along a front one number rises while the other falls.
                across = ordered[kept]
                gaps, extent = across[2:] - across[:-2], across[0] - across[-1]
                lonely[1:-1] = gaps.real / extent.real + gaps.imag / extent.imag
        found.append(rows[np.lexsort((rows, lonely))])
        n -= len(rows)
        if n > 0:
            left = ~kept
            order, ordered = order[left], ordered[left]
    return found[0] if len(found) == 1 else np.concatenate([order[:0], *found])


def _crowding(points: NDArray[np.float64], fronts: NDArray[np.int64]) -> NDArray[np.float64]:
    """`nastool.pareto.crowding_distance` of points (n, m), each on its own front, all at once."""
    n = len(points)
    distance = np.zeros(n)
    for column in points.T:
        order = np.lexsort((column, fronts))
        values, groups = column[order], fronts[order]
        first = np.append(True, groups[1:] != groups[:-1])[:n]
        last = np.append(first[1:], True)[:n]
        extent = (values[last] - values[first])[np.cumsum(first) - 1]
        extent[extent == 0] = 1.0
        gaps = np.full(n, np.inf)
        gaps[1:-1] = (values[2:] - values[:-2]) / extent[1:-1]
        distance[order] += np.where(first | last, np.inf, gaps)
    return distance


def front(evaluations: Evaluations) -> NDArray[np.bool_]:
    """The non-dominated feasible ones, or where none is feasible the least infeasible, (n,)."""
    mask = evaluations.feasible
    if mask.any():
        mask[mask] = non_dominated(evaluations.objectives[mask])
        return mask
    violation = evaluations.total_violation
    least: NDArray[np.bool_] = violation == violation.min(initial=np.inf)
    return least
