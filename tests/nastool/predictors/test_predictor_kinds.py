import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.predictors import (
    Card,
    create_predictor,
    known_predictors,
    load_predictor,
    save_predictor,
    score,
)
from nastool.predictors.linear import linear, physical
from nastool.predictors.transfer import Recalibrated, most_informative
from nastool.space import ChainCost

WIDTHS = np.array([120.0, 240, 360, 480, 540, 600, 768])
D = 6


def shapes(n, seed):
    return WIDTHS[np.random.default_rng(seed).integers(0, 7, (n, D))]


def latency(genes, slope=1.0):
    """Milliseconds: sums in neighbouring widths and a step that no power of h describes."""
    sums = physical(genes) @ [3e-3, 4e-6, 2e-6, 1e-3, 0.0]
    return slope * sums + 0.3 * (genes == 540).sum(axis=1) + 5.0


def perplexity(genes):
    """Saturating in every width, with interactions of distant layers."""
    return 60 + 8000 / np.sqrt(genes).sum(axis=1) + 2e-5 * (genes[:, 0] - 400) * (genes[:, 4] - 400)


def fitted(kind, features, targets, genes=None):
    predictor = create_predictor(kind)
    predictor.fit(features, targets, genes=genes)
    return predictor


TABLE_KINDS = [kind for kind in known_predictors() if kind != "transfer"]


@pytest.mark.parametrize("kind", TABLE_KINDS)
def test_every_kind_learns_and_survives_the_disk(tmp_path, kind):
    features = np.column_stack([shapes(250, 0), shapes(250, 0).sum(axis=1)])
    noise = np.random.default_rng(1).normal(0, 0.5, 250)
    predictor = fitted(kind, features, perplexity(features[:, :D]) + noise, genes=D)
    new = np.column_stack([shapes(200, 9), shapes(200, 9).sum(axis=1)])
    prediction = predictor.predict(new)
    assert score(perplexity(new[:, :D]), prediction.mean).spearman > 0.9
    if prediction.std is not None:
        assert np.all(prediction.std > 0)

    names = tuple(f"layer_{i}" for i in range(D))
    card = Card(
        metric="perplexity",
        unit="",
        kind=kind,
        label=predictor.label,
        space="s",
        fingerprint="",
        genes=names,
        choices=(tuple(WIDTHS.tolist()),) * D,
        features=(*names, "cost"),
        shapes=250,
    )
    save_predictor(tmp_path / "p", predictor, card)
    again = load_predictor(tmp_path / "p")[0].predict(new)
    np.testing.assert_array_equal(again.mean, prediction.mean)
    np.testing.assert_array_equal(again.std, prediction.std)
    save_predictor(tmp_path / "q", load_predictor(tmp_path / "p")[0], card)
    for file in (tmp_path / "p").rglob("*.*"):
        copy = tmp_path / "q" / file.relative_to(tmp_path / "p")
        assert copy.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("kind", known_predictors())
def test_no_kind_predicts_or_saves_unfitted(tmp_path, kind):
    with pytest.raises(InvalidInputError, match="fitted"):
        create_predictor(kind).predict(np.zeros((2, 3)))
    with pytest.raises(InvalidInputError, match="fitted"):
        create_predictor(kind).save(tmp_path)


@pytest.mark.parametrize("kind", TABLE_KINDS)
def test_the_grid_form_equals_the_prediction(kind):
    genotypes = np.random.default_rng(2).integers(0, 7, (300, D))
    predictor = fitted(kind, WIDTHS[genotypes[:150]], latency(WIDTHS[genotypes[:150]]))
    form = predictor.on_grid([WIDTHS] * D)
    expected = predictor.predict(WIDTHS[genotypes]).mean
    if kind in ("additive", "linear", "xgboost"):
        np.testing.assert_allclose(form.predict(genotypes), expected, rtol=1e-10)
    else:
        assert form is None


def test_pairs_of_distant_layers_are_learned():
    features, new = shapes(300, 0), shapes(300, 1)
    targets = 1e-3 * features[:, 0] * features[:, 4]
    truth = 1e-3 * new[:, 0] * new[:, 4]
    pairs = score(truth, fitted("pairwise", features, targets).predict(new).mean)
    sums = score(truth, fitted("linear", features, targets).predict(new).mean)
    assert pairs.r2 > 0.999 > 0.95 > sums.r2


@pytest.mark.parametrize("d", [1, 2, D])
def test_a_linear_model_is_a_chain_cost(d):
    genotypes = np.random.default_rng(3).integers(0, 7, (200, d))
    features = WIDTHS[genotypes]
    predictor = linear()
    predictor.fit(features, features.sum(axis=1) * 1e-3 + np.square(features[:, 0]) * 1e-6)
    chain = predictor.chain([WIDTHS] * d, "latency", "s")
    np.testing.assert_allclose(
        chain.evaluate(genotypes), predictor.predict(features).mean, rtol=1e-9
    )
    assert chain.minimum[0] == pytest.approx(d * 0.12 + 0.0144, rel=1e-2)


def test_a_model_with_costs_is_a_chain_with_theirs():
    genotypes = np.random.default_rng(3).integers(0, 7, (200, D))
    steps = tuple(np.random.default_rng(g).random((7, 7)) for g in range(D - 1))
    cost = ChainCost("cost", np.arange(7.0), steps)
    features = np.column_stack([WIDTHS[genotypes], cost.evaluate(genotypes)])
    predictor = linear()
    predictor.fit(features, features[:, 0] + 3 * features[:, -1], genes=D)
    chain = predictor.chain([WIDTHS] * D, "latency", "s", [cost])
    np.testing.assert_allclose(
        chain.evaluate(genotypes), predictor.predict(features).mean, rtol=1e-9
    )


def test_a_model_is_no_chain_without_its_costs():
    features = shapes(50, 0)
    predictor = fitted("linear", features, latency(features), genes=D - 1)
    with pytest.raises(InvalidInputError, match="chain"):
        predictor.chain([WIDTHS] * D, "latency")
    with pytest.raises(InvalidInputError, match="chain"):
        predictor.chain([WIDTHS] * (D - 1), "latency")
    assert predictor.on_grid([WIDTHS] * D) is None


def test_error_bars_cover():
    rng = np.random.default_rng(5)
    features, new = shapes(300, 1), shapes(4000, 2)
    predictor = fitted("linear", features, latency(features) + rng.normal(0, 0.4, 300))
    prediction = predictor.predict(new)
    errors = np.abs(latency(new) + rng.normal(0, 0.4, 4000) - prediction.mean)
    assert 0.87 < np.mean(errors <= 1.645 * prediction.std) < 0.93


def test_few_disturbed_measurements_do_not_bend_the_model():
    rng = np.random.default_rng(6)
    features, new = shapes(100, 1), shapes(500, 2)
    targets = latency(features) + rng.normal(0, 0.05, 100)
    clean = fitted("linear", features, targets).predict(new).mean
    targets[::20] += 30.0
    disturbed = fitted("linear", features, targets).predict(new).mean
    truth = latency(new)
    assert score(truth, disturbed).rmse < 3 * score(truth, clean).rmse


def test_leave_one_out_errors_are_those_of_leaving_out():
    features = shapes(25, 4)  # Few enough for no row to be drawn in.
    targets = latency(features) + np.random.default_rng(0).normal(0, 1, 25)
    ridge = fitted("linear", features, targets).ridge
    columns = (
        np.concatenate(
            [physical(features)]
            + [features[:, [i]] == np.unique(features[:, i]) for i in range(D)],
            axis=1,
        )
        - ridge.center
    ) * ridge.scale
    for row in (0, 7, 24):
        rest = np.delete(np.arange(25), row)
        x, y = columns[rest], targets[rest]
        middle = x.mean(axis=0)
        gram = (x - middle).T @ (x - middle) + ridge.penalty * np.eye(x.shape[1])
        weights = np.linalg.solve(gram, (x - middle).T @ (y - y.mean()))
        left_out = targets[row] - (y.mean() + (columns[row] - middle) @ weights)
        assert ridge.errors[row] == pytest.approx(left_out, rel=1e-6)


def test_ten_measurements_and_a_known_device():
    known = fitted("xgboost", shapes(400, 0), latency(shapes(400, 0)))
    few, new = shapes(10, 3), shapes(500, 4)
    rng = np.random.default_rng(0)
    targets = latency(few, slope=3.0) + rng.normal(0, 0.3, 10)
    transferred = Recalibrated([known])
    transferred.fit(few, targets)
    alone = fitted("xgboost", few, targets)
    truth = latency(new, slope=3.0)
    assert score(truth, transferred.predict(new).mean).spearman > 0.95
    assert score(truth, alone.predict(new).mean).spearman < 0.9


def test_a_recalibrated_predictor_survives_the_disk(tmp_path):
    sources = [
        fitted(kind, shapes(60, 0), latency(shapes(60, 0))) for kind in ("linear", "xgboost")
    ]
    predictor = Recalibrated(sources)
    predictor.fit(shapes(20, 1), latency(shapes(20, 1), 2.0))
    predictor.save(tmp_path)
    again = create_predictor("transfer")
    again.load(tmp_path)
    new = shapes(50, 2)
    np.testing.assert_array_equal(again.predict(new).mean, predictor.predict(new).mean)
    with pytest.raises(InvalidInputError, match="source"):
        Recalibrated().fit(shapes(20, 1), np.zeros(20))


def test_informative_shapes_teach_more_than_random_ones():
    pool, new = shapes(400, 0), shapes(400, 1)
    rng = np.random.default_rng(7)
    errors = {"random": [], "chosen": []}
    for _ in range(10):
        picks = {"random": rng.choice(400, 12, replace=False), "chosen": most_informative(pool, 12)}
        for name, rows in picks.items():
            targets = latency(pool[rows]) + rng.normal(0, 0.3, 12)
            predictor = fitted("linear", pool[rows], targets)
            errors[name].append(score(latency(new), predictor.predict(new).mean).rmse)
    assert np.mean(errors["chosen"]) < np.mean(errors["random"])


def test_what_was_measured_is_not_chosen_again():
    pool = shapes(60, 0)
    first = most_informative(pool, 5)
    assert len(set(first)) == 5
    # Continuing gives what choosing all at once would have given.
    then = most_informative(pool, 5, measured=pool[first])
    assert [*first, *then] == most_informative(pool, 10).tolist()
    assert not set(first) & set(then)
    with pytest.raises(InvalidInputError, match="60"):
        most_informative(pool, 61)
