from functools import partial

import numpy as np
import pytest

from nastool.predictors import create_predictor
from nastool.predictors.boosted_trees import BoostedTrees
from nastool.predictors.importance import importances, shapley_values

pytest.importorskip("scipy")
pytest.importorskip("xgboost")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    features = rng.choice([1.0, 2.0, 4.0], (120, 3))
    targets = 5 * features[:, 0] + features[:, 1] + features[:, 0] * features[:, 1]
    return features, targets


def exact(predict, row, background):
    """Shapley values of three columns, by their definition."""

    def value(known):
        rows = background.copy()
        rows[:, known] = row[known]
        return predict(rows).mean()

    empty = {k: value([k]) - value([]) for k in range(3)}
    full = {k: value([0, 1, 2]) - value([j for j in range(3) if j != k]) for k in range(3)}
    pairs = {
        k: sum(value(sorted([j, k])) - value([j]) for j in range(3) if j != k) for k in range(3)
    }
    return np.array([empty[k] / 3 + pairs[k] / 6 + full[k] / 3 for k in range(3)])


def test_of_trees_they_add_up_to_the_prediction(table):
    features, targets = table
    trees = BoostedTrees(trees=20)
    trees.fit(features, targets)
    values = shapley_values(trees, features, features)
    rest = trees.predict(features).mean - values.sum(axis=1)
    np.testing.assert_allclose(rest, rest[0], rtol=1e-4)
    assert np.abs(values[:, 0]).mean() > 1.5 * np.abs(values[:, 1]).mean()
    assert np.abs(values[:, 2]).max() < 0.05 * np.abs(values[:, 0]).max()


def test_of_other_predictors_they_are_those_of_the_definition(table):
    features, targets = table
    predictor = create_predictor("pairwise")
    predictor.fit(features, targets)
    some = features[:4]
    found = shapley_values(predictor, some, features, permutations=1000)
    wanted = [exact(lambda r: predictor.predict(r).mean, row, features) for row in some]
    np.testing.assert_allclose(found, wanted, atol=0.06 * targets.std())


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        ("xgboost", {"gain", "permutation", "mean |SHAP|"}),
        ("linear", {"permutation", "mean |SHAP|"}),
    ],
)
def test_every_importance_finds_what_matters(table, kind, of):
    features, targets = table
    make = partial(create_predictor, kind)
    found = importances(make, features, targets, ("a", "b", "c"))
    assert set(found) == of
    for shares in found.values():
        assert sum(shares.values()) == pytest.approx(1.0)
        assert shares["a"] > shares["b"] > 5 * shares["c"]
    assert importances(make, features, targets, ("a", "b", "c")) == found


@pytest.mark.parametrize("kind", ["xgboost", "linear"])
def test_noise_has_no_importance(kind):
    rng = np.random.default_rng(0)
    features, targets = rng.integers(0, 5, (150, 3)).astype(float), rng.lognormal(size=150)
    found = importances(partial(create_predictor, kind), features, targets, ("a", "b", "c"))
    assert {share for shares in found.values() for share in shares.values()} == {0.0}
