import sys
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.objective import Direction, Kind, Objective, Provenance
from nastool.predictors.base import Card, create_predictor
from nastool.predictors.conformal import Widths, fit_widths
from nastool.predictors.fitting import fit_table
from nastool.predictors.optimism import Second, estimate_optimism, flattery, trade
from nastool.predictors.region import Region
from nastool.predictors.selection import cross_validate
from nastool.predictors.tables import read_measurements
from nastool.predictors.trust import trust


@pytest.mark.parametrize("n", [30, 100, 300, 1000])
def test_intervals_grow_with_the_value_and_hold_as_much_everywhere(n):
    rng = np.random.default_rng(n)
    held, growth = [], []
    for _ in range(60):
        values = rng.uniform(2, 10, n + 500)
        errors = rng.normal(size=n + 500) * 0.1 * values
        widths = fit_widths(values[:n], errors[:n])
        new, off = values[n:], np.abs(errors[n:])
        hit = (off <= widths.at(new))[np.argsort(new)]
        held.append([part.mean() for part in np.array_split(hit, 5)])
        growth.append(widths.at([9.0])[0] / widths.at([2.0])[0])
    fifths = np.mean(held, axis=0)
    assert fifths.min() > 0.86
    assert fifths.max() < 0.94
    # In truth 4.5 times; of few errors less is told.
    assert np.median(growth) > (3 if n >= 100 else 1.8)


def test_errors_that_are_large_at_both_ends_have_wide_intervals_there():
    values = np.linspace(1, 10, 200)
    errors = np.random.default_rng(0).normal(size=200) * (0.1 + np.log(values / values.mean()) ** 2)
    low, middle, high = fit_widths(values, errors).at([1.2, values.mean(), 9.5])
    assert low > 3 * middle
    assert high > 2 * middle


@pytest.mark.parametrize(("n", "half"), [(9, 9.0), (10, 9.9), (14, 13.5), (19, 18.0), (20, 18.9)])
def test_a_half_width_lies_between_two_ranks(n, half):
    """The (n + 1) * 0.9th of the errors 1 to n, where all are alike wherever they are predicted."""
    halves = fit_widths(np.ones(n), np.arange(n) + 1.0).halves
    assert halves == pytest.approx((half,))


def test_errors_of_several_splits_count_once():
    errors = np.arange(20) + 1.0
    once = fit_widths(np.ones(20), errors).halves[0]
    thrice = fit_widths(np.ones(60), np.tile(errors, 3), repeats=3).halves[0]
    assert abs(thrice - once) <= 1
    assert fit_widths(np.ones(24), np.ones(24), repeats=3) is None


def test_of_few_shapes_no_interval_is_promised():
    assert fit_widths(np.arange(8.0), np.ones(8)) is None
    assert fit_widths(np.arange(9.0), np.ones(9)).halves[0] == 1.0


def test_exact_predictions_have_intervals_of_no_width():
    assert set(fit_widths(np.arange(50.0), np.zeros(50)).halves) == {0.0}


@pytest.mark.parametrize(
    ("values", "halves"), [((1.0,), ()), ((), ()), ((2.0, 1.0), (1.0, 1.0)), ((1.0,), (-1.0,))]
)
def test_widths_that_are_none_are_refused(values, halves):
    with pytest.raises(InvalidInputError):
        Widths(values, halves)


def test_a_region_knows_choices_sums_costs_and_values():
    features = np.array([[1.0, 1.0, 10.0], [2.0, 1.0, 20.0], [1.0, 3.0, 30.0]])
    region = Region.of(features, np.array([5.0, 6.0, 7.0]), 2, ["params"])
    new = np.array([[1.0, 1.0, 10.0], [3.0, 1.0, 20.0], [2.0, 3.0, 25.0], [1.0, 1.0, 31.0]])
    assert region.outside(new, np.full(4, 6.0)).tolist() == [False, True, True, True]
    assert region.outside(new[:1], np.array([4.9])).tolist() == [True]
    assert Region.from_dict(asdict(region)) == region


def curse(n, noise, kind="linear", direction=Direction.MINIMIZE, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.integers(1, 8, (n, 6)).astype(float)
    pool = rng.integers(1, 8, (2000, 6)).astype(float)

    def truth(rows):
        return 100 - rows.sum(axis=1)

    targets = truth(features) + rng.normal(0, noise, n)
    make = partial(create_predictor, kind)
    told = estimate_optimism(make, features, targets, 6, pool, direction, seed)
    predictor = make()
    predictor.fit(features, targets, genes=6)
    values = predictor.predict(pool).mean
    return told, flattery(values, truth(pool), trade(pool, values, direction), direction)


def test_optimism_is_told_within_a_factor_and_falls_with_the_rows():
    few, many = (
        np.mean([curse(n, 8.0, seed=seed) for seed in range(12)], axis=0) for n in (40, 300)
    )
    for told, true in (few, many):
        assert true / 2.5 < told < 2.5 * true
    assert few[0] > 2 * many[0]


def uneven(direction):
    """Values of shapes: genes that count for more are best alone, but worse the more they differ
    from the others, which a model of each gene by itself does not know."""

    def truth(rows):
        apart = np.abs(np.diff(rows, axis=1)).sum(axis=1)
        return 120 - direction.sign * (rows @ np.array([3.0, 1, 3, 1, 3, 1]) - apart)

    return truth


@pytest.mark.parametrize("direction", Direction)
def test_a_model_that_does_not_fit_flatters_though_its_halves_agree(direction):
    rng = np.random.default_rng(0)
    features, pool = (rng.integers(1, 8, (n, 6)).astype(float) for n in (600, 2000))
    truth = uneven(direction)
    targets, make = truth(features) + rng.normal(0, 1, 600), partial(create_predictor, "additive")
    unseen = cross_validate(make, features, targets, 6, 5, 0)
    told = estimate_optimism(make, features, targets, 6, pool, direction, 0, unseen)
    halves = estimate_optimism(make, features, targets, 6, pool, direction, 0)
    predictor = make()
    predictor.fit(features, targets, genes=6)
    values = predictor.predict(pool).mean
    true = flattery(values, truth(pool), trade(pool, values, direction), direction)
    assert halves < true / 4
    assert max(2 * halves, true / 3) < told < 2 * true


def test_the_best_are_a_share_of_those_that_a_bound_leaves():
    predicted, size = np.arange(1.0, 401.0), np.arange(400.0)
    worse = predicted * (1 + np.arange(400) / 100)  # 0% worse, 1%, 2%, ...
    assert flattery(predicted, worse, size) == 0
    # 2% of 80, 160, 240 and 320; four at least: means of 0..3, 0..3, 0..3 and 0..5.
    told = flattery(predicted, worse, size, share=0.02)
    assert told == pytest.approx(np.mean([0.015, 0.015, 0.015, 0.025]))


def test_exact_predictions_do_not_flatter():
    assert curse(60, 0.0)[0] == pytest.approx(0.0, abs=1e-3)


def test_of_few_shapes_or_values_around_zero_no_optimism_is_told():
    features, make = np.arange(60.0).reshape(30, 2), partial(create_predictor, "linear")
    assert estimate_optimism(make, features[:10], np.ones(10), 2) is None
    assert estimate_optimism(make, features, np.arange(30.0) - 15, 2) is None


class Known(Objective):
    """An objective with intervals of a tenth; the first choice lies outside."""

    name, fingerprint, optimism, direction = "y", "known", 0.05, Direction.MINIMIZE
    provenance = Provenance(Kind.PREDICTED, "a formula")

    def evaluate(self, genotypes):
        return genotypes[:, 0] * 10.0

    def half_widths(self, values):
        return values / 10

    def outside(self, genotypes):
        return genotypes[:, 0] == 0


def test_trust_says_interval_region_and_correction():
    genotypes = np.array([[0], [1], [2]])
    worth = trust(Known(), genotypes, np.array([10.0, 20.0, 30.0]))
    assert worth.as_dict(0) == {"interval": None, "outside": True, "corrected": 10.5}
    assert worth.as_dict(1) == {"interval": [18.0, 22.0], "outside": False, "corrected": 21.0}
    assert [worth.text(row) for row in range(3)] == ["!", "±2", "±3"]
    assert any("5.0% worse (mostly 0% to 10.0%)" in note for note in worth.notes)
    assert any("1 of 3 shapes lie outside" in note for note in worth.notes)


@pytest.mark.parametrize("unit", ["s", "J", "B"])
def test_what_no_shape_can_take_is_never_silent(unit):
    """A straight line through what was measured reaches below zero, where nobody measured."""

    class Line(Known):
        name = "line"

        def outside(self, genotypes):
            return np.zeros(len(genotypes), dtype=bool)

    line = Line()
    values = np.array([-1e-3, 0.0, 2e-3])
    genotypes = np.zeros((3, 1), dtype=np.int64)
    line.unit = ""
    assert trust(line, genotypes, values).warnings == ()
    line.unit = unit
    found = trust(line, genotypes, values)
    assert [found.text(row) == "!" for row in range(3)] == [True, True, False]
    assert [found.interval(row) is None for row in range(3)] == [True, True, False]
    assert [found.as_dict(row)["outside"] for row in range(3)] == [True, True, False]
    assert "2 of 3 shapes are predicted at zero or less, which none can be" in found.notes[-1]


def test_larger_values_are_corrected_downwards():
    metric = Known()
    metric.direction = Direction.MAXIMIZE
    assert trust(metric, np.array([[1]]), np.array([20.0])).corrected.tolist() == [19.0]


CARD = Card("y", "", "linear", "Linear", "s", "", ("a",), ((1, 2),), ("a",), 10, interval=2.0)


def test_an_older_card_promises_the_same_everywhere():
    import json

    content = json.loads(CARD.to_json())
    for name in ("widths", "region", "optimism"):
        assert content.pop(name) is None
    older = Card.from_json(json.dumps(content))
    assert older == CARD
    assert older.half_widths(np.array([1.0, 100.0])).tolist() == [2.0, 2.0]


def test_a_card_keeps_widths_region_and_optimism():
    card = replace(
        CARD,
        widths=Widths((1.0, 2.0), (0.5, 1.0)),
        region=Region(((1.0, 2.0),), (3.0, 4.0), {"sum of the genes": (1.0, 2.0)}),
        optimism=0.05,
    )
    assert Card.from_json(card.to_json()) == card
    assert card.half_widths(np.array([1.5])).tolist() == [0.75]


@pytest.mark.parametrize("entry", [{"widths": {"values": [1]}}, {"region": {}}, {"region": 3}])
def test_a_damaged_entry_of_a_card_is_refused(entry):
    import json

    with pytest.raises(InvalidInputError, match="card"):
        Card.from_json(json.dumps({**json.loads(CARD.to_json()), **entry}))


@pytest.mark.parametrize("kind", ["xgboost", "linear", "pairwise", "gaussian-process", "ensemble"])
@pytest.mark.parametrize("change", [lambda v: 1e10 + v, lambda v: 1e37 * v, lambda v: v - 1e6])
def test_targets_of_any_size_are_ranked_as_well(kind, change):
    rng = np.random.default_rng(0)
    features = rng.integers(1, 8, (90, 4)).astype(float)
    targets = features @ [1.0, 2.0, 3.0, 4.0]
    predictor = create_predictor(kind)
    predictor.fit(features[:60], change(targets[:60]))
    found = predictor.predict(features[60:]).mean
    assert np.corrcoef(found.argsort().argsort(), targets[60:].argsort().argsort())[0, 1] > 0.85


@pytest.mark.parametrize("targets", [1e15 + np.arange(30.0), 1e120 * np.arange(30.0)])
def test_targets_that_rounding_would_rank_are_refused(targets):
    with pytest.raises(InvalidInputError, match="first ten digits"):
        create_predictor("linear").fit(np.arange(60.0).reshape(30, 2), targets * 1.0)


@pytest.mark.parametrize("direction", Direction)
def test_a_second_model_sees_what_the_first_one_cannot(direction):
    """And is believed as far as its own errors allow."""
    rng = np.random.default_rng(1)
    features, pool = (rng.integers(1, 8, (n, 6)).astype(float) for n in (150, 2000))
    truth = uneven(direction)
    targets = truth(features) + rng.normal(0, 1, 150)
    make, flexible = (partial(create_predictor, kind) for kind in ("additive", "pairwise"))
    alone, seen = (cross_validate(m, features, targets, 6, 5, 0) for m in (make, flexible))
    own, other = make(), flexible()
    for predictor in (own, other):
        predictor.fit(features, targets, genes=6)
    told, without, misled = (
        estimate_optimism(make, features, targets, 6, pool, direction, 0, alone, second)
        for second in (
            Second(other, seen),
            None,
            Second(other, alone + direction.sign * rng.normal(0, 1, 150) * targets.std()),
        )
    )
    values = own.predict(pool).mean
    true = flattery(values, truth(pool), trade(pool, values, direction), direction)
    assert without < 0.8 * true
    assert without < told
    assert abs(told - true) < abs(without - true) / 2
    assert abs(misled - without) < (told - without) / 2


def test_fitting_asks_trees_where_there_are_any_and_another_kind_is_fitted(tmp_path, monkeypatch):
    pytest.importorskip("xgboost")
    rng = np.random.default_rng(2)
    shapes = np.unique(rng.integers(1, 8, (150, 6)), axis=0)
    # The best genes are bad together, which no model of each gene by itself knows.
    together = (shapes[:, 0] > 4) == (shapes[:, 5] > 4)
    values = 160 - shapes @ np.array([6, 1, 1, 1, 1, 6]) + 20 * together
    values = values + rng.normal(0, 1, len(shapes))
    lines = [",".join(map(str, [*s, v])) for s, v in zip(shapes, values, strict=True)]
    names = ",".join(f"layer_{i}" for i in range(1, 7))
    (tmp_path / "t.csv").write_text("\n".join([f"{names},y", *lines]))
    pool = rng.integers(1, 8, (1000, 6)).astype(float)
    data = replace(read_measurements(tmp_path / "t.csv", "y"), pool=pool)
    asked = fit_table(data, "additive").optimism
    monkeypatch.setitem(sys.modules, "xgboost", None)
    alone = fit_table(data, "additive").optimism
    assert 0 < alone < asked
