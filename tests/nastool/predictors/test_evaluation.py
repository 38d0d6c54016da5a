import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.predictors.base import Prediction
from nastool.predictors.boosted_trees import BoostedTrees
from nastool.predictors.conformal import coverage, half_width
from nastool.predictors.evaluation import folds, holdout, rank_agreement, score, spearman
from nastool.predictors.importance import gain_importance, permutation_importance
from nastool.predictors.selection import compare, held_out

metrics = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats")


@given(seed=st.integers(0, 10_000), n=st.integers(3, 60), levels=st.integers(2, 40))
@settings(max_examples=30)
def test_scores_equal_those_of_the_libraries(seed, n, levels):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, levels, n).astype(float)
    predictions = targets + rng.normal(0, 3, n).round()
    targets[:2], predictions[:2] = (0, 1), (5, 7)
    scores = score(targets, predictions)
    assert scores.r2 == pytest.approx(metrics.r2_score(targets, predictions))
    assert scores.rmse == pytest.approx(metrics.root_mean_squared_error(targets, predictions))
    assert scores.spearman == pytest.approx(stats.spearmanr(targets, predictions)[0])
    assert scores.kendall == pytest.approx(stats.kendalltau(targets, predictions)[0])
    assert scores.n == n


def test_a_score_below_zero_keeps_its_sign():
    assert str(score([1.0, 2.0, 3.0], [3.0, 2.0, 1.0])) == "R2 -3.00, Spearman -1.00"


def test_a_constant_has_no_rank_correlation():
    scores = score([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    assert np.isnan(scores.spearman)
    assert np.isnan(scores.kendall)
    assert scores.as_dict()["spearman"] is None
    assert np.isnan(score([2.0, 2.0], [1.0, 2.0]).r2)


@pytest.mark.parametrize(
    ("targets", "predictions"), [([1.0], [1.0]), ([1, 2], [1, 2, 3]), ([1, np.nan], [1, 2])]
)
def test_what_cannot_be_scored_is_refused(targets, predictions):
    with pytest.raises(InvalidInputError, match="scores need"):
        score(targets, predictions)


def test_without_scipy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    with pytest.raises(MissingDependencyError, match=r"nastool\[fit\]"):
        score([1.0, 2.0], [1.0, 2.0])


def test_splits_are_disjoint_complete_and_fixed_by_the_seed():
    fitted, rest = holdout(100, 0.3, seed=1)
    assert sorted([*fitted, *rest]) == list(range(100))
    assert len(rest) == 30
    assert rest.tolist() == holdout(100, 0.3, seed=1)[1].tolist()
    assert rest.tolist() != holdout(100, 0.3, seed=2)[1].tolist()
    parts = folds(23, 5, seed=0)
    assert sorted(np.concatenate([rest for _, rest in parts])) == list(range(23))
    assert all(not set(fitted) & set(rest) for fitted, rest in parts)
    for bad in ((1, 0), (10, 11)):
        with pytest.raises(InvalidInputError, match="folds"):
            folds(bad[0], bad[1], 0)
    with pytest.raises(InvalidInputError, match="two rows"):
        holdout(4, 0.1, 0)


@pytest.mark.parametrize("promised", [0.5, 0.8, 0.9])
def test_conformal_intervals_hold_what_they_promise(promised):
    rng = np.random.default_rng(0)
    held = []
    for _ in range(2000):
        errors = rng.standard_t(3, 60)  # Heavy tails: no assumption about the noise is made.
        held.append(coverage(errors[50:], half_width(np.abs(errors[:50]), promised)))
    # Exact theory: the promise is kept on average, and exceeded by 1 / (n + 1) at most.
    assert promised - 0.015 < np.mean(held) < promised + 1 / 51 + 0.015


def test_conformal_intervals_promise_nothing_from_nothing():
    assert half_width(np.ones(8), 0.9) is None
    assert half_width(np.arange(9.0), 0.9) == 8.0
    with pytest.raises(InvalidInputError, match="coverage"):
        half_width(np.ones(8), 1.0)


class Constant:
    label = "Constant"

    def fit(self, features, targets, *, genes=None):
        self.mean = targets.mean()

    def predict(self, features):
        return Prediction(np.full(len(features), self.mean))


class FirstColumn(Constant):
    label = "First column"

    def predict(self, features):
        return Prediction(features[:, 0])


@pytest.fixture(scope="module")
def table():
    features = np.random.default_rng(0).random((200, 3))
    return features, features[:, 0] + 0.01 * features[:, 2]


def test_the_best_candidate_comes_first_and_all_are_reported(table):
    ranking = compare({"constant": Constant, "first": FirstColumn}, *table, genes=3)
    assert [candidate.kind for candidate in ranking] == ["first", "constant"]
    assert ranking[0].scores.spearman > 0.99
    assert ranking[0].scores.n == 200


def test_held_out_scores_are_of_shapes_not_fitted_on(table):
    features, targets = table
    seen = []

    class Recorder(Constant):
        def fit(self, features, targets, *, genes=None):
            super().fit(features, targets)
            seen.append({tuple(row) for row in features})

        def predict(self, features):
            assert not seen[-1] & {tuple(row) for row in features}
            return Prediction(features[:, 1])

    assert held_out(Recorder, features, targets, 3, 0.3, 0).scores.n == 60
    assert held_out(Recorder, features, targets, 3, 0.0, 0).scores.n == 200
    assert len(seen) == 11


def test_importances_find_the_column_that_matters(table):
    features, targets = table
    predictor = BoostedTrees(trees=100)
    predictor.fit(features, targets)
    gains = gain_importance(predictor.ensemble)
    permuted, errors = permutation_importance(predictor, features, targets)
    assert (errors < 0.2).all()
    assert gains.sum() == pytest.approx(1.0)
    assert gains[0] > 0.95
    # Shuffling a column that is the target doubles its variance.
    assert permuted[0] == pytest.approx(2.0, abs=0.3)
    assert abs(permuted[1]) < 0.01
    constant = BoostedTrees(trees=1)
    constant.fit(features, np.ones(200))
    assert gain_importance(constant.ensemble).tolist() == [0, 0, 0]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30))
def test_spearman_is_that_of_scipy_ties_included(pairs):
    first, second = np.array(pairs, dtype=np.float64).T
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert np.isnan(spearman(first, second))
    else:
        expected = stats.spearmanr(first, second).statistic
        assert spearman(first, second) == pytest.approx(expected, abs=1e-12)


def test_rank_agreement_leaves_out_what_is_not_known():
    found = rank_agreement("a paper", [1, 2, np.nan, 4, 5], [5, 6, 0, 8, np.inf], published=True)
    assert (found.spearman, found.n, found.published) == (1.0, 3, True)
    assert rank_agreement("a paper", [1, 2, np.nan], [1, 2, 3]) is None
    assert rank_agreement("a paper", [1, 1, 1], [1, 2, 3]) is None
