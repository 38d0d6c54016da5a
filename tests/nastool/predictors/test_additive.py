"""Scores block by block."""

import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.predictors.additive import AdditiveScores
from nastool.predictors.base import create_predictor

VALUES = np.array([0.0, 128.0, 384.0, 512.0])
EFFECTS = np.array([[0.9, 0.4, 0.1, 0.0], [0.3, 0.2, 0.1, 0.0], [2.0, 0.7, 0.6, 0.0]])


def truth(genotypes):
    return 3.0 + EFFECTS[np.arange(3), genotypes].sum(axis=1)


def one_changed():
    """The full shape, then every change of one gene."""
    rows = [[3, 3, 3]]
    rows += [[c if i == g else 3 for i in range(3)] for g in range(3) for c in range(3)]
    return np.array(rows)


def every():
    return np.indices((4, 4, 4)).reshape(3, -1).T


def test_a_table_that_changes_one_gene_at_a_time_determines_it():
    predictor = create_predictor("additive")
    predictor.fit(VALUES[one_changed()], np.exp(truth(one_changed())))
    prediction = predictor.predict(VALUES[every()])
    np.testing.assert_allclose(prediction.mean, np.exp(truth(every())), rtol=1e-12)
    assert prediction.std is None
    assert predictor.form.is_log


def test_the_scale_is_the_one_that_adds_up():
    rng = np.random.default_rng(0)
    genotypes = rng.integers(0, 4, (60, 3))
    for is_log, targets in ((True, np.exp(truth(genotypes))), (False, truth(genotypes))):
        predictor = AdditiveScores()
        noise = 1 + 1e-4 * rng.normal(size=60)
        predictor.fit(VALUES[genotypes], targets * noise)
        assert predictor.form.is_log is is_log
        expected = np.exp(truth(every())) if is_log else truth(every())
        np.testing.assert_allclose(predictor.predict(VALUES[every()]).mean, expected, rtol=1e-2)


def test_what_was_not_seen_lies_between_its_neighbours():
    seen = one_changed()
    seen = seen[~(seen == 1).any(axis=1)]
    predictor = AdditiveScores(is_log=False)
    predictor.fit(VALUES[seen], truth(seen))
    got = predictor.predict(VALUES[[[1, 3, 3]]]).mean[0]
    assert got == pytest.approx(3 + np.interp(128, [0, 384], [0.9, 0.1]))
    form = predictor.separable([VALUES] * 3)
    np.testing.assert_allclose(
        form.predict(every()), predictor.predict(VALUES[every()]).mean, rtol=1e-9
    )


def test_large_effects_that_one_row_knows_are_no_outliers():
    effects = np.zeros(40)
    effects[7] = 5.0
    rows = np.concatenate([np.ones((1, 40)), 1 - np.eye(40), np.ones((3, 40))])
    rows[-3:, :3] = 0
    targets = 2 + (1 - rows) @ (effects + 0.01)
    predictor = AdditiveScores(is_log=False)
    predictor.fit(rows, targets)
    assert predictor.predict(rows[[8]]).mean[0] == pytest.approx(7.01, rel=0.02)


def test_a_logarithm_needs_positive_targets():
    with pytest.raises(InvalidInputError, match="positive"):
        AdditiveScores(is_log=True).fit(VALUES[one_changed()], truth(one_changed()) - 3.5)
