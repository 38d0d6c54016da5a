"""Which features a predictor listens to (SuperShaper, figure 8)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nastool.arrays import Floats
from nastool.predictors.base import Predictor
from nastool.predictors.boosted_trees import BoostedTrees
from nastool.predictors.evaluation import holdout
from nastool.predictors.selection import Maker
from nastool.predictors.trees import TreeEnsemble

GAIN = "gain"
PERMUTATION = "permutation"
SHAPLEY = "mean |SHAP|"

_HELD_OUT = 1 / 3
"""Share of the shapes that importances are taken on: noise has none there."""

_CHANCE = 3.0
"""Standard errors above 0 from which on an importance is no chance."""

_EXPLAINED = 200
"""Shapes that importances are averaged over where that takes many predictions each."""


def importances(
    make: Maker,
    features: Floats,
    targets: Floats,
    names: Sequence[str],
    *,
    genes: int | None = None,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Every importance that a predictor has, as far as shapes that it has not seen confirm it.

    The predictor is fitted on two thirds of the shapes. A column without which it would predict
    the others no worse, beyond chance, has no importance of any kind.

    Args:
        make: Makes the unfitted predictor.
        features: Shape (n, f).
        targets: Measured values, shape (n,).
        names: Of the features.
        genes: How many leading columns are genes; all by default.
        seed: Fixes the split, shuffles and draws.

    Returns:
        By kind of importance, then by feature; shares that sum up to 1, or 0 everywhere.
    """
    features = np.asarray(features, dtype=np.float64)
    targets = np.asarray(targets, dtype=np.float64)
    fitted, rest = holdout(len(targets), _HELD_OUT, seed)
    predictor = make()
    predictor.fit(features[fitted], targets[fitted], genes=genes)
    increase, error = permutation_importance(predictor, features[rest], targets[rest], seed=seed)
    confirmed = increase > _CHANCE * error
    found = {}
    if isinstance(predictor, BoostedTrees):
        found[GAIN] = gain_importance(predictor.ensemble)
    found[PERMUTATION] = increase
    some = rest[:_EXPLAINED]
    values = shapley_values(predictor, features[some], features[fitted], seed=seed)
    found[SHAPLEY] = np.abs(values).mean(axis=0)
    return {kind: shares(names, np.where(confirmed, v, 0.0)) for kind, v in found.items()}


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
) -> tuple[Floats, Floats]:
    """How much the squared error grows when one column is shuffled (Breiman, 2001).

    Args:
        predictor: Fitted.
        features: Shape (n, f).
        targets: Measured values, shape (n,).
        repeats: Shuffles averaged for each column.
        seed: Fixes the shuffles.

    Returns:
        Increase for each column as a share of the variance of the targets, shape (f,): 0 for a
        column that does not matter; and its standard errors over the rows, likewise.
    """
    rng = np.random.default_rng(seed)
    features = np.asarray(features, dtype=np.float64)
    targets = np.asarray(targets, dtype=np.float64)

    def errors(rows: Floats) -> Floats:
        squares: Floats = np.square(predictor.predict(rows).mean - targets)
        return squares

    base = errors(features)
    increase = np.zeros(features.shape)
    for column in range(features.shape[1]):
        shuffled = features.copy()
        for _ in range(repeats):
            shuffled[:, column] = rng.permutation(features[:, column])
            increase[:, column] += (errors(shuffled) - base) / repeats
    variance = max(float(targets.var()), np.finfo(float).tiny)
    deviation = increase.std(axis=0) / np.sqrt(max(len(targets) - 1, 1))
    return increase.mean(axis=0) / variance, deviation / variance


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
