import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nastool.errors import InvalidInputError, NastoolError
from nastool.predictors import TreeEnsemble
from nastool.predictors.boosted_trees import BoostedTrees

xgboost = pytest.importorskip("xgboost")

WIDTHS = np.array([120.0, 240, 360, 480, 540, 600, 768])


def grow(features, targets, trees, depth, **extra):
    settings = {"max_depth": depth, "nthread": 1, "min_child_weight": 0, "lambda": 0.1}
    settings |= {"verbosity": 0, **extra}
    data = xgboost.DMatrix(features, targets, nthread=1)
    return xgboost.train(settings, data, num_boost_round=trees)


def read(booster):
    return TreeEnsemble.from_json(bytes(booster.save_raw("json")))


def expected(booster, features):
    return booster.predict(xgboost.DMatrix(np.asarray(features, np.float32), nthread=1))


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=3e-6, atol=3e-6 * max(1, np.abs(theirs).max()))


@given(
    seed=st.integers(0, 10_000),
    genes=st.integers(1, 9),
    choices=st.integers(1, 8),
    trees=st.integers(1, 12),
    depth=st.integers(0, 9),
    missing=st.sampled_from([0.0, 0.2]),
    policy=st.sampled_from(["depthwise", "lossguide"]),
)
@settings(max_examples=40)
def test_walk_and_grid_equal_xgboost(seed, genes, choices, trees, depth, missing, policy):
    rng = np.random.default_rng(seed)
    grid = [np.sort(rng.normal(0, 100, choices)) for _ in range(genes)]
    genotypes = rng.integers(0, choices, (300, genes))
    features = np.stack([v[genotypes[:, i]] for i, v in enumerate(grid)], axis=1)
    targets = rng.normal(50, 20, 300)
    holes = rng.random(features.shape) < missing
    features[holes] = np.nan
    booster = grow(features, targets, trees, depth, grow_policy=policy)
    ensemble = read(booster)

    close(ensemble.predict(features), expected(booster, features))
    elsewhere = rng.normal(0, 120, (50, genes))
    close(ensemble.predict(elsewhere), expected(booster, elsewhere))

    # A missing value is one more choice of the grid.
    with_missing = [np.append(v, np.nan) for v in grid]
    genotypes[holes] = choices
    np.testing.assert_array_equal(
        ensemble.on_grid(with_missing).predict(genotypes), ensemble.predict(features)
    )


@pytest.fixture(scope="module")
def widths():
    rng = np.random.default_rng(3)
    genotypes = rng.integers(0, 7, (3000, 12))
    features = WIDTHS[genotypes]
    targets = features[:, 0] * features[:, 11] / 1e4 + rng.normal(0, 5, 3000)
    return genotypes, features, targets


@pytest.mark.parametrize(("trees", "depth"), [(100, 6), (20, 12)])
def test_many_leaves_and_many_rows(widths, trees, depth):
    genotypes, features, targets = widths
    booster = grow(features, targets, trees, depth)
    ensemble = read(booster)
    grid = ensemble.on_grid([WIDTHS] * 12)
    assert (grid.n_words > ensemble.n_trees) == (depth > 6)
    close(ensemble.predict(features), expected(booster, features))
    np.testing.assert_array_equal(grid.predict(genotypes), ensemble.predict(features))


def test_a_row_predicts_the_same_in_any_batch(widths):
    genotypes, features, targets = widths
    ensemble = read(grow(features, targets, 50, 6))
    grid = ensemble.on_grid([WIDTHS] * 12)
    whole = grid.predict(genotypes)
    np.testing.assert_array_equal(whole[::7], grid.predict(genotypes[::7]))
    assert [grid.predict(genotypes[i : i + 1])[0] for i in range(40)] == whole[:40].tolist()


def test_thresholds_equal_to_choices_go_right(widths):
    genotypes, features, targets = widths
    booster = grow(features, targets, 10, 5, tree_method="exact")
    model = json.loads(bytes(booster.save_raw("json")))
    on_choice = 0
    for tree in model["learner"]["gradient_booster"]["model"]["trees"]:
        for node, left in enumerate(tree["left_children"]):
            if left >= 0:
                nearest = WIDTHS[np.abs(WIDTHS - tree["split_conditions"][node]).argmin()]
                tree["split_conditions"][node] = float(nearest)
                on_choice += 1
    assert on_choice > 50
    text = json.dumps(model)
    booster = xgboost.Booster(model_file=bytearray(text.encode()))
    ensemble = TreeEnsemble.from_json(text)
    close(ensemble.predict(features), expected(booster, features))
    np.testing.assert_array_equal(
        ensemble.on_grid([WIDTHS] * 12).predict(genotypes), ensemble.predict(features)
    )


def test_comparisons_are_in_float32():
    # 0.1 as a threshold is above the double 0.1: only in float32 are they equal.
    rng = np.random.default_rng(0)
    features = rng.choice([0.1, 0.2, 0.3, 0.7], (200, 2))
    booster = grow(features, features.sum(axis=1), 5, 3, tree_method="exact")
    model = json.loads(bytes(booster.save_raw("json")))
    for tree in model["learner"]["gradient_booster"]["model"]["trees"]:
        for node, left in enumerate(tree["left_children"]):
            if left >= 0:
                tree["split_conditions"][node] = float(np.float32(0.3))
    text = json.dumps(model)
    close(
        TreeEnsemble.from_json(text).predict(features),
        expected(xgboost.Booster(model_file=bytearray(text.encode())), features),
    )


def test_dart_and_parallel_trees(widths):
    _, features, targets = widths
    for extra in (
        {"booster": "dart", "rate_drop": 0.5, "seed": 1},
        {"num_parallel_tree": 3, "subsample": 0.5, "seed": 1},
    ):
        booster = grow(features[:500], targets[:500], 8, 4, **extra)
        close(read(booster).predict(features), expected(booster, features))


def test_weights_of_dropped_trees_are_read_wherever_they_lie(widths):
    """Beside the trees up to XGBoost 3.2, among them since."""
    _, features, targets = widths
    booster = grow(features[:500], targets[:500], 8, 4, booster="dart", rate_drop=0.5, seed=1)
    model = json.loads(bytes(booster.save_raw("json")))
    own = model["learner"]["gradient_booster"]
    trees = own.get("gbtree", own)["model"]
    weights = own["weight_drop"] if "weight_drop" in own else trees.pop("weight_drop")
    assert min(weights) < 0.9
    bare = {name: value for name, value in trees.items() if name != "weight_drop"}
    for written in (
        {"name": "dart", "weight_drop": weights, "gbtree": {"name": "gbtree", "model": bare}},
        {"name": "gbtree", "model": {**bare, "weight_drop": weights}},
    ):
        model["learner"]["gradient_booster"] = written
        ours = TreeEnsemble.from_json(json.dumps(model)).predict(features)
        close(ours, expected(booster, features))


def test_trees_that_read_back_otherwise_are_no_predictor(widths, monkeypatch):
    _, features, targets = widths
    real = TreeEnsemble.from_json.__func__

    def leaves_something_out(kind, source):
        model = json.loads(source)
        model["learner"]["gradient_booster"]["model"]["weight_drop"] = [0.5] * 9
        return real(kind, json.dumps(model))

    BoostedTrees(9).fit(features, targets)
    monkeypatch.setattr(TreeEnsemble, "from_json", classmethod(leaves_something_out))
    with pytest.raises(NastoolError, match="must predict the same once they are read back, got"):
        BoostedTrees(9).fit(features, targets)


@pytest.mark.parametrize("written", ["5E-1", "[5E-1]", 0.5, "[0.5]"])
def test_base_score_in_every_spelling(widths, written):
    _, features, targets = widths
    model = json.loads(bytes(grow(features[:50], targets[:50], 1, 0).save_raw("json")))
    model["learner"]["learner_model_param"]["base_score"] = written
    assert TreeEnsemble.from_json(json.dumps(model)).offset == 0.5


@pytest.mark.parametrize(
    "extra",
    [
        {"objective": "reg:gamma"},
        {"objective": "binary:logistic"},
        {"objective": "multi:softmax", "num_class": 3},
        {"booster": "gblinear"},
    ],
)
def test_models_that_are_no_sums_of_leaves_are_refused(extra):
    features = np.arange(30.0)[:, None]
    targets = np.arange(30) % 2
    extra = {"max_depth": 2, "nthread": 1, **extra}
    if extra.get("objective") == "reg:gamma":
        targets = targets + 1
    if extra.get("booster"):
        extra.pop("max_depth")
    booster = xgboost.train(extra, xgboost.DMatrix(features, targets), num_boost_round=2)
    with pytest.raises(InvalidInputError, match="must"):
        read(booster)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"learner": 3}', b"\xff\xfe{"])
def test_other_files_are_refused(text):
    with pytest.raises(InvalidInputError):
        TreeEnsemble.from_json(text)


def test_wrong_numbers_of_columns_are_refused(widths):
    _, features, targets = widths
    ensemble = read(grow(features, targets, 2, 2))
    with pytest.raises(InvalidInputError, match=r"\(n, 12\)"):
        ensemble.predict(features[:, :5])
    with pytest.raises(InvalidInputError, match="12 features"):
        ensemble.on_grid([WIDTHS] * 11)


def test_gains_equal_those_of_xgboost(widths):
    _, features, targets = widths
    booster = grow(features, targets, 10, 4)
    theirs = booster.get_score(importance_type="total_gain")
    np.testing.assert_allclose(
        read(booster).gains, [theirs.get(f"f{i}", 0.0) for i in range(12)], rtol=1e-5
    )
