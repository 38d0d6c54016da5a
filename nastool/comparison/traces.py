"""How an indicator of a run goes on with its evaluations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nastool import pareto
from nastool.pareto.indicators import Indicator, Values
from nastool.problem import Problem
from nastool.results import Result


def best_trace(
    problem: Problem, indicator: Indicator, result: Result, counts: NDArray[np.int64]
) -> Values:
    """The best value of an objective after some numbers of evaluations.

    Args:
        problem: What was optimised.
        indicator: Of an objective, perhaps under a bound.
        result: The run.
        counts: Numbers of first evaluations, shape (k,).

    Returns:
        Natural sign, shape (k,); NaN where nothing allowed was found.
    """
    column = indicator.objective or 0
    allowed = result.evaluations.feasible
    if indicator.under is not None:
        metric = indicator.under.metric
        values = result.values().get(metric)
        if values is None:
            values = problem.metric(metric).evaluate(result.evaluations.genotypes)
        allowed = allowed & indicator.under.holds(values)
    scores = np.where(allowed, result.evaluations.objectives[:, column], np.inf)
    running = np.append(np.inf, np.minimum.accumulate(scores))[counts]
    best: Values = np.where(np.isfinite(running), running, np.nan)
    best *= problem.signs[column]
    return best


def front_trace(
    name: str,
    points: Values,
    feasible: NDArray[np.bool_],
    counts: NDArray[np.int64],
    reference: Values,
    corner: Values,
    volume: float,
) -> Values:
    """An indicator of the front after some numbers of evaluations.

    Args:
        name: Of the indicator.
        points: Scaled objectives of the run, shape (n, m).
        feasible: Which of them count, shape (n,).
        counts: Ascending numbers of first evaluations, shape (k,).
        reference: The reference front, scaled, shape (r, m).
        corner: The reference point, scaled, shape (m,).
        volume: Hypervolume between the two.

    Returns:
        Shape (k,).
    """
    front = points[:0]
    values, begin = [], 0
    for end in counts.tolist():
        # A front changes only by what is new.
        new = points[begin:end][feasible[begin:end]]
        if len(new):
            front = pareto.front(np.concatenate([front, new]))
        begin = end
        if name in ("hypervolume", "gap"):
            share = pareto.hypervolume(front, corner) / volume
            # Rounding must not make a run better than the truth.
            values.append(share if name == "hypervolume" else max(0.0, 1.0 - share))
        elif name == "igd_plus":
            values.append(pareto.igd_plus(front, reference))
        else:
            values.append(pareto.additive_epsilon(front, reference))
    return np.array(values)
