import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.evaluations import Evaluations

BATCH = Evaluations(
    np.arange(10).reshape(5, 2),
    np.array([[1.0], [2.0], [np.nan], [4.0], [5.0]]),
    np.array([[-1.0, 0.0], [0.5, -3.0], [-1.0, -1.0], [np.nan, 0.0], [0.5, 0.25]]),
)


def test_feasible_needs_every_constraint_and_no_failure():
    assert BATCH.feasible.tolist() == [True, False, False, False, False]


def test_total_violation_sums_what_is_positive():
    assert BATCH.total_violation.tolist() == [0.0, 0.5, np.inf, np.inf, 0.75]


def test_without_constraints_everything_that_did_not_fail_is_feasible():
    free = Evaluations(BATCH.genotypes, BATCH.objectives, np.empty((5, 0)))
    assert free.feasible.tolist() == [True, True, False, True, True]
    assert free.total_violation.tolist() == [0.0, 0.0, np.inf, 0.0, 0.0]


@pytest.mark.parametrize(
    "rows", [np.array([3, 1]), slice(1, 3), np.array([True, False, True, False, False])]
)
def test_take(rows):
    taken = BATCH.take(rows)
    np.testing.assert_array_equal(taken.genotypes, BATCH.genotypes[rows])
    np.testing.assert_array_equal(taken.objectives, BATCH.objectives[rows])
    np.testing.assert_array_equal(taken.violations, BATCH.violations[rows])
    assert len(taken) == 2


def test_concatenate_keeps_the_order():
    joined = Evaluations.concatenate([BATCH.take(slice(0, 2)), BATCH.take(slice(2, 5))])
    np.testing.assert_array_equal(joined.genotypes, BATCH.genotypes)
    np.testing.assert_array_equal(joined.objectives, BATCH.objectives)
    np.testing.assert_array_equal(joined.violations, BATCH.violations)


@pytest.mark.parametrize(("last", "kept"), [(1, [4]), (3, [2, 3, 4]), (9, [0, 1, 2, 3, 4])])
def test_concatenate_keeps_the_last_rows(last, kept):
    joined = Evaluations.concatenate([BATCH.take(slice(0, 2)), BATCH.take(slice(2, 5))], last)
    np.testing.assert_array_equal(joined.genotypes, BATCH.genotypes[kept])
    np.testing.assert_array_equal(joined.objectives, BATCH.objectives[kept])
    np.testing.assert_array_equal(joined.violations, BATCH.violations[kept])


@pytest.mark.parametrize(
    ("genotypes", "objectives", "violations"),
    [
        ((2, 3), (3, 1), (2, 0)),
        ((2, 3), (2,), (2, 0)),
        ((2, 3), (2, 1), (1, 0)),
        ((2,), (2, 1), (2, 0)),
    ],
)
def test_shapes_must_agree(genotypes, objectives, violations):
    with pytest.raises(InvalidInputError, match="one length, got shapes"):
        Evaluations(np.zeros(genotypes, dtype=np.int64), np.zeros(objectives), np.zeros(violations))
