import dataclasses
import json
import sys

import numpy as np
import pytest

from nastool.errors import InvalidInputError, MissingDependencyError, NastoolError
from nastool.objective import Direction, RankAgreement
from nastool.predictors import Card, Scores, load_predictor, save_predictor
from nastool.predictors.boosted_trees import BoostedTrees

WIDTHS = (120, 240, 360)


def card(**changes):
    content = {
        "metric": "perplexity",
        "unit": "",
        "kind": "xgboost",
        "label": "XGBoost",
        "space": "minilm-12",
        "fingerprint": "abc",
        "genes": ("layer_1", "layer_2"),
        "choices": (WIDTHS, WIDTHS),
        "features": ("layer_1", "layer_2", "params"),
        "shapes": 3000,
        "scores": Scores(r2=0.9812, spearman=0.9919, kendall=0.93, rmse=3.0, n=900),
        "interval": 1.5,
        "source": {"text": "heldout", "tokens": 1000},
    }
    return Card(**(content | changes))


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    features = rng.choice(WIDTHS, (80, 3)).astype(float)
    return features, features @ [1.0, 2.0, 3.0]


@pytest.fixture(scope="module")
def fitted(table):
    predictor = BoostedTrees(trees=5)
    predictor.fit(*table)
    return predictor


def test_a_card_is_a_line_that_says_what_the_numbers_are_worth():
    assert str(card()) == "XGBoost on 3,000 shapes of minilm-12, held-out R2 0.98, Spearman 0.991"
    assert card(scores=None).error == ""


def test_scores_are_never_rounded_up_to_perfect():
    assert "1.0" not in str(Scores(r2=0.99996, spearman=0.9999, kendall=1, rmse=0, n=9))


def test_cards_survive_json():
    for changes in ({}, {"scores": None, "interval": None}, {"direction": Direction.MAXIMIZE}):
        assert Card.from_json(card(**changes).to_json()) == card(**changes)
    undefined = card(scores=Scores(r2=0.1, spearman=np.nan, kendall=np.nan, rmse=1.0, n=3))
    assert np.isnan(Card.from_json(undefined.to_json()).scores.spearman)


@pytest.mark.parametrize(
    "changes",
    [
        {"metric": ""},
        {"space": 3},
        {"choices": (WIDTHS,)},
        {"choices": (WIDTHS, ())},
        {"features": ("layer_2", "layer_1")},
        {"shapes": 0},
        {"interval": -1.0},
    ],
)
def test_cards_are_validated(changes):
    with pytest.raises(InvalidInputError, match="card"):
        card(**changes)


def test_cards_without_a_direction_are_minimised():
    content = json.loads(card().to_json())
    assert content.pop("direction") == "minimize"
    assert Card.from_json(json.dumps(content)) == card()
    with pytest.raises(InvalidInputError, match="'up' is not a valid Direction"):
        Card.from_json(json.dumps({**content, "direction": "up"}))


@pytest.mark.parametrize("text", ["", "[]", "{}", "3"])
def test_other_json_is_no_card(text):
    with pytest.raises(InvalidInputError, match="card"):
        Card.from_json(text)


def test_a_card_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "card.json").write_bytes(b"\xff\xfa")
    with pytest.raises(InvalidInputError, match=r"card\.json.*must be UTF-8"):
        load_predictor(tmp_path)


def test_an_unknown_entry_in_a_card_is_refused():
    content = json.loads(card().to_json()) | {"extra": 1}
    with pytest.raises(InvalidInputError, match="extra"):
        Card.from_json(json.dumps(content))
    content = json.loads(card().to_json()) | {"shapes": "many"}
    with pytest.raises(InvalidInputError, match="card"):
        Card.from_json(json.dumps(content))


def test_a_card_keeps_rank_agreements():
    agreements = (RankAgreement("news text", 0.98, 1280), RankAgreement("a paper", -0.2, 10, True))
    kept = dataclasses.replace(card(), agreements=agreements)
    assert Card.from_json(kept.to_json()).agreements == agreements
    content = json.loads(kept.to_json())
    content["agreements"][0]["spearman"] = 1.2
    with pytest.raises(InvalidInputError, match="between -1 and 1"):
        Card.from_json(json.dumps(content))


def test_a_saved_predictor_comes_back(tmp_path, fitted, table):
    folder = tmp_path / "a" / "b"
    save_predictor(folder, fitted, card())
    predictor, read = load_predictor(folder)
    assert read == card()
    np.testing.assert_array_equal(predictor.predict(table[0]).mean, fitted.predict(table[0]).mean)
    assert sorted(p.name for p in folder.iterdir()) == [
        "card.json",
        "digests.json",
        "model.json",
        "target.json",
    ]
    assert [p.name for p in folder.parent.iterdir()] == ["b"]


def test_saving_again_replaces(tmp_path, fitted):
    save_predictor(tmp_path / "p", fitted, card())
    save_predictor(tmp_path / "p", fitted, card(shapes=7))
    assert load_predictor(tmp_path / "p")[1].shapes == 7
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


def test_a_failed_save_leaves_the_old_one(tmp_path, fitted):
    save_predictor(tmp_path / "p", fitted, card())
    with pytest.raises(InvalidInputError, match="fitted"):
        save_predictor(tmp_path / "p", BoostedTrees(), card(shapes=7))
    assert load_predictor(tmp_path / "p")[1].shapes == 3000
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


def test_nothing_else_is_overwritten(tmp_path, fitted):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(InvalidInputError, match="something else"):
        save_predictor(tmp_path / "mine", fitted, card())
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"
    with pytest.raises(InvalidInputError, match="kind"):
        save_predictor(tmp_path / "p", fitted, card(kind="linear"))


def test_folders_without_a_readable_predictor_are_refused(tmp_path, fitted):
    with pytest.raises(InvalidInputError, match=r"card\.json"):
        load_predictor(tmp_path)
    save_predictor(tmp_path / "p", fitted, card())
    (tmp_path / "p" / "model.json").write_text("{}")
    with pytest.raises(InvalidInputError, match="damaged"):
        load_predictor(tmp_path / "p")
    (tmp_path / "p" / "digests.json").unlink()
    with pytest.raises(InvalidInputError, match="XGBoost"):
        load_predictor(tmp_path / "p")
    (tmp_path / "p" / "model.json").unlink()
    with pytest.raises(InvalidInputError, match="cannot read"):
        load_predictor(tmp_path / "p")
    unknown = dataclasses.replace(card(), kind="oracle")
    (tmp_path / "p" / "card.json").write_text(unknown.to_json())
    with pytest.raises(InvalidInputError, match="xgboost"):
        load_predictor(tmp_path / "p")


def test_fitting_twice_gives_the_same_model(table):
    models = []
    for _ in range(2):
        predictor = BoostedTrees(trees=5)
        predictor.fit(*table)
        models.append(predictor._model)
    assert models[0] == models[1]


def test_the_grid_form_equals_the_walk(fitted):
    rng = np.random.default_rng(1)
    genotypes = rng.integers(0, 3, (200, 3))
    values = [np.array(WIDTHS, dtype=float)] * 3
    features = np.array(WIDTHS, dtype=float)[genotypes]
    np.testing.assert_array_equal(
        fitted.on_grid(values).predict(genotypes), fitted.predict(features).mean
    )


def test_without_xgboost_the_extra_is_named(table, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "xgboost", None)
    with pytest.raises(MissingDependencyError, match=r"nastool\[fit\]"):
        BoostedTrees().fit(*table)


def test_an_xgboost_that_does_not_load_is_told_in_one_line(table, monkeypatch, tmp_path):
    (tmp_path / "xgboost.py").write_text(
        "class Unloaded(ValueError): pass\nraise Unloaded('no\\nlib')"
    )
    monkeypatch.delitem(sys.modules, "xgboost", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NastoolError, match=r"needs xgboost, which does not load.*Unloaded: no lib"):
        BoostedTrees().fit(*table)


@pytest.mark.parametrize(
    ("features", "targets"),
    [
        (np.zeros(3), np.zeros(3)),
        (np.zeros((3, 2)), np.zeros(2)),
        (np.zeros((1, 2)), np.zeros(1)),
        (np.full((3, 2), np.nan), np.zeros(3)),
        (np.zeros((3, 2)), np.full(3, np.inf)),
    ],
)
def test_bad_training_data_is_refused(features, targets):
    with pytest.raises(InvalidInputError, match="fitting needs"):
        BoostedTrees().fit(features, targets)
    with pytest.raises(InvalidInputError, match="genes"):
        BoostedTrees().fit(np.zeros((3, 2)), np.zeros(3), genes=3)
