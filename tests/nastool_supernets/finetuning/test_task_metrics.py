"""Scores against values worked out by hand or published."""

import numpy as np
import pytest

from nastool_supernets.finetuning.metrics import (
    answer_f1,
    exact_match,
    normalise_answer,
    score,
    score_answers,
)


def test_answers_are_normalised_as_squad_does():
    assert normalise_answer("  The  U.S.A., an   Island!") == "usa island"
    assert normalise_answer("theatre a") == "theatre"


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("the Cat!", ["cat"], 1.0, 1.0),
        ("big cat", ["a big dog", "bird"], 0.0, 0.5),
        ("Denver Broncos won", ["Denver Broncos", "The Denver Broncos"], 0.0, 0.8),
        ("cat cat", ["cat"], 0.0, 2 / 3),
        ("", ["cat"], 0.0, 0.0),
    ],
)
def test_answers_have_the_scores_of_squad(prediction, answers, exact, f1):
    assert exact_match(prediction, answers) == exact
    assert answer_f1(prediction, answers) == pytest.approx(f1)


def test_questions_are_averaged():
    found = score_answers(["cat", "big cat"], [["the cat"], ["big dog"]])
    assert found == {"exact_match": 0.5, "f1": pytest.approx(0.75)}


def test_classifications():
    predictions, labels = np.array([1, 1, 0, 0, 1]), np.array([1, 0, 0, 0, 1])
    found = score(("accuracy", "f1", "matthews"), predictions, labels, 2)
    assert found["accuracy"] == 0.8
    assert found["f1"] == pytest.approx(0.8)  # precision 2/3, recall 1
    assert found["matthews"] == pytest.approx(2 / 3)  # (TP TN - FP FN) / 6


def test_f1_of_many_classes_is_their_mean():
    predictions, labels = np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2])
    expected = (1 + 2 / 3 + 2 / 3) / 3
    assert score(("f1",), predictions, labels, 3)["f1"] == pytest.approx(expected)


def test_f1_of_many_classes_stays_that_where_a_sample_holds_two():
    labels = np.array([0, 1, 1, 0])
    found = [score(("f1",), np.array(p), labels, 3)["f1"] for p in ([0, 1, 0, 0], [0, 1, 2, 0])]
    assert found == pytest.approx([(0.8 + 2 / 3) / 2, (1 + 2 / 3) / 2])


def test_regressions():
    predictions, labels = np.array([0.0, 1.0, 8.0]), np.array([1.0, 2.0, 3.0])
    found = score(("spearman", "pearson"), predictions, labels, 1)
    assert found["spearman"] == pytest.approx(1.0)
    assert found["pearson"] == pytest.approx(np.corrcoef(predictions, labels)[0, 1])
    assert score(("spearman",), np.ones(3), labels, 1) == {"spearman": 0.0}
