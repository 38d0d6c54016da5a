"""By how much the best of many predictions is likely worse than predicted (the winner's curse).

A search takes the shapes whose errors happen to flatter them most (Smith and Winkler 2006). Half
of a table says which shapes look best, the other half, which knows nothing of the errors of the
first, what they are worth. Where the model does not fit, both halves are wrong alike: so what the
rows are worth that look best to a model without them is looked at, too, and so is what a second
model of the same rows, a more flexible one, thinks of the shapes that the first one takes for best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nastool.arrays import Floats
from nastool.objective import Direction

if TYPE_CHECKING:
    from nastool.predictors.base import Predictor

_LEVELS = (0.2, 0.4, 0.6, 0.8)
"""Shares of the candidates that bounds on the size leave: searches have bounds, or fronts."""

_HALVINGS = 2
"""Times that a table is halved."""

_GROWTH = (1.25, 30, 0.13)
"""How many times as much half of a table flatters as all of it: of so many rows, and the power of
the number of rows that it rises with, as the more rows there are, the faster it falls. Measured on
tables of perplexities and latencies (docs/predictors.md)."""

_BEST, _FEW = 0.02, 4
"""Share of a table's rows that count as those that look best, and how many do at least."""

_FEWEST = 20
"""Shapes below which halves say nothing."""


@dataclass(frozen=True, eq=False)
class Second:
    """A second model of the same rows, to judge what the first one takes for best.

    Args:
        predictor: Fitted on all rows.
        unseen: What is predicted of each row by one fitted alike without it, shape (n,).
    """

    predictor: Predictor
    unseen: Floats


def estimate_optimism(
    make: Callable[[], Predictor],
    features: Floats,
    targets: Floats,
    genes: int,
    pool: Floats | None = None,
    direction: Direction = Direction.MINIMIZE,
    seed: int = 0,
    unseen: Floats | None = None,
    second: Second | None = None,
) -> float | None:
    """Estimate how much the best predictions flatter.

    Args:
        make: Makes the predictor.
        features: Shape (n, f).
        targets: Shape (n,).
        genes: How many leading columns are genes.
        pool: Features of shapes that a search may choose from, shape (k, f); the table's own by
            default.
        direction: Which way is better.
        seed: Fixes the halves.
        unseen: What is predicted of each row without it, shape (n,), where that is known.
        second: Another model that errs otherwise, where there is one and `unseen` is known.

    Returns:
        Share of the predicted value, at least 0; None where the table is too small, or has values
        on both sides of 0, so that shares mean nothing.
    """
    n = len(targets)
    if n < _FEWEST or not (targets.min() > 0 or targets.max() < 0):
        return None
    pool = features if pool is None else pool
    rng = np.random.default_rng(seed)
    found: list[float] = []
    for _ in range(_HALVINGS):
        order = rng.permutation(n)
        halves = []
        for half in (np.sort(order[: n // 2]), np.sort(order[n // 2 :])):
            predictor = make()
            predictor.fit(features[half], targets[half], genes=genes)
            halves.append(predictor.predict(pool).mean)
        size = trade(pool[:, :genes], halves[0] + halves[1], direction)
        found += [flattery(one, other, size, direction) for one, other in (halves, halves[::-1])]
    growth, rows, power = _GROWTH
    estimate = float(np.median(found)) / (growth * (n / rows) ** power)
    if unseen is not None:
        size = trade(features[:, :genes], unseen, direction)
        estimate = max(estimate, flattery(unseen, targets, size, direction, share=_BEST))
        if second is not None:
            whole = make()
            whole.fit(features, targets, genes=genes)
            best = whole.predict(pool).mean
            other = second.predictor.predict(pool).mean
            apart = flattery(best, other, trade(pool[:, :genes], best, direction), direction)
            estimate = max(estimate, _believed(targets, unseen, second.unseen) * apart)
    return max(0.0, estimate) if np.isfinite(estimate) else None


def _believed(targets: Floats, first: Floats, second: Floats) -> float:
    """Which part of what two models differ by is an error of the first one, from 0 to 1.

    The slope of its errors over the differences, on rows that neither had seen, all (n,): a second
    model that errs more, as trees do of a sum of products, is not believed.
    """
    apart = second - first
    scale = float(apart @ apart)
    return float(np.clip(apart @ (targets - first) / scale, 0.0, 1.0)) if scale > 0 else 0.0


def trade(genes: Floats, values: Floats, direction: Direction) -> Floats:
    """What a search gives up for better values: the size of shapes, or its negative.

    Args:
        genes: Of candidates, shape (k, d).
        values: Shape (k,).
        direction: Which way values are better.

    Returns:
        Shape (k,): the larger, the better the values tend to be.
    """
    spread = genes.std(axis=0)
    size = ((genes - genes.mean(axis=0)) / np.where(spread > 0, spread, 1.0)).sum(axis=1)
    together = float((size - size.mean()) @ (values - values.mean()))
    larger: Floats = size if direction.sign * together <= 0 else -size
    return larger


def flattery(
    predicted: Floats,
    truth: Floats,
    size: Floats,
    direction: Direction = Direction.MINIMIZE,
    share: float | None = None,
) -> float:
    """By which share the best predictions under bounds on the size are worse in truth.

    Args:
        predicted: Of candidates, shape (k,).
        truth: What they are worth, shape (k,).
        size: What is bounded, shape (k,).
        direction: Which way is better.
        share: Share of those that count as best, four at least; only the very best by default.
    """
    found = []
    for bound in np.quantile(size, _LEVELS):
        allowed = np.flatnonzero(size <= bound)
        count = 1 if share is None else max(_FEW, int(share * len(allowed)))
        best = allowed[np.argsort(direction.sign * predicted[allowed], kind="stable")[:count]]
        best = best[predicted[best] != 0]
        if len(best):
            worse = direction.sign * (truth[best] - predicted[best])
            found.append(float(np.mean(worse / np.abs(predicted[best]))))
    return float(np.mean(found)) if found else float("nan")
