"""Which features a predictor listens to (SuperShaper, figure 8)."""

from __future__ import annotations

import numpy as np

from nastool.predictors.base import Floats, Predictor
from nastool.predictors.trees import TreeEnsemble


def gain_importance(ensemble: TreeEnsemble) -> Floats:
    """Share of the squared error that the splits on each column removed, shape (f,)."""
    gains = ensemble.gains
    total = float(gains.sum())
    return gains / total if total > 0 else gains


def permutation_importance(
    predictor: Predictor, features: Floats, targets: Floats, *, repeats: int = 5, seed: int = 0
) -> Floats:
    """How much the squared error grows when one column is shuffled (Breiman, 2001).

    Args:
        predictor: Fitted.
        features: Shapes that it was not fitted on, shape (n, f).
        targets: Measured values, shape (n,).
        repeats: Shuffles averaged for each column.
        seed: Fixes the shuffles.

    Returns:
        Increase for each column as a share of the variance of the targets, shape (f,): 0 for a
        column that does not matter.
    """
    rng = np.random.default_rng(seed)
    features = np.asarray(features, dtype=np.float64)
    targets = np.asarray(targets, dtype=np.float64)

    def error(rows: Floats) -> float:
        return float(np.square(predictor.predict(rows).mean - targets).mean())

    base = error(features)
    increase = np.zeros(features.shape[1])
    for column in range(features.shape[1]):
        shuffled = features.copy()
        for _ in range(repeats):
            shuffled[:, column] = rng.permutation(features[:, column])
            increase[column] += (error(shuffled) - base) / repeats
    return increase / max(float(targets.var()), np.finfo(float).tiny)
