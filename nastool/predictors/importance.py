"""Which features a predictor listens to (SuperShaper, figure 8)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nastool.predictors.base import Floats, Predictor
from nastool.predictors.boosted_trees import BoostedTrees
from nastool.predictors.trees import TreeEnsemble

GAIN = "gain"
PERMUTATION = "permutation"
SHAPLEY = "mean |SHAP|"

_EXPLAINED = 200
"""Shapes that importances are averaged over where that takes many predictions each."""


def importances(
    predictor: Predictor, features: Floats, targets: Floats, names: Sequence[str], seed: int = 0
) -> dict[str, dict[str, float]]:
    """Every importance that the predictor has.

    Args:
        predictor: Fitted.
        features: Shape (n, f).
        targets: Measured values, shape (n,).
        names: Of the features.
        seed: Fixes shuffles and draws.

    Returns:
        By kind of importance, then by feature; shares that sum up to 1.
    """
    found = {}
    if isinstance(predictor, BoostedTrees):
        found[GAIN] = gain_importance(predictor.ensemble)
    found[PERMUTATION] = permutation_importance(predictor, features, targets, seed=seed)
    some = np.random.default_rng(seed).permutation(len(features))[:_EXPLAINED]
    values = shapley_values(predictor, features[np.sort(some)], features, seed=seed)
    found[SHAPLEY] = np.abs(values).mean(axis=0)
    return {kind: shares(names, values) for kind, values in found.items()}


def shares(names: Sequence[str], values: Floats) -> dict[str, float]:
    """Importances (f,) by name, as shares of their sum; what is below zero counts as zero."""
    positive = np.maximum(values, 0.0)
    total = float(positive.sum()) or 1.0
    return dict(zip(names, (positive / total).tolist(), strict=True))


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
        features: Shape (n, f).
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


def shapley_values(
    predictor: Predictor,
    features: Floats,
    background: Floats,
    *,
    permutations: int = 20,
    seed: int = 0,
) -> Floats:
    """How far each column moves a prediction away from the average one.

    Of boosted trees exact (Lundberg et al., 2020, with the paths that training took as
    background); of other predictors averaged over random orders of the columns and random rows of
    the background (Strumbelj and Kononenko, 2014), which is exact for sums over columns of equal
    background.

    Args:
        predictor: Fitted.
        features: Rows to explain, shape (n, f).
        background: What stands for the average, shape (m, f).
        permutations: Orders averaged, each taken both ways.
        seed: Fixes orders and rows.

    Returns:
        Shape (n, f).

    Raises:
        MissingDependencyError: Trees, and xgboost is not installed.
    """
    features = np.asarray(features, dtype=np.float64)
    if isinstance(predictor, BoostedTrees):
        return predictor.contributions(features)
    rng = np.random.default_rng(seed)
    n, columns = features.shape
    found = np.zeros((n, columns))
    for _ in range(permutations):
        order = rng.permutation(columns)
        start = background[rng.integers(len(background), size=n)]
        for turn in (order, order[::-1]):
            # One batch for the whole walk from the background row to the explained row.
            walk = np.repeat(start[None], columns + 1, axis=0)
            for step, column in enumerate(turn, 1):
                walk[step:, :, column] = features[:, column]
            values = predictor.predict(walk.reshape(-1, columns)).mean.reshape(columns + 1, n)
            found[:, turn] += np.diff(values, axis=0).T / (2 * permutations)
    return found
