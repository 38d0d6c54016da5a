"""Which of a population is better, for any number of objectives and constraints."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nastool.evaluations import Evaluations
from nastool.pareto import fast_non_dominated_rank, non_dominated


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


def _crowding(points: NDArray[np.float64], fronts: NDArray[np.int64]) -> NDArray[np.float64]:
    """`nastool.pareto.crowding_distance` of each point (n, m) on its own front, all at once, (n,).

    Evolution ranks its population after every few children; a call a front would be most of it.
    """
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
