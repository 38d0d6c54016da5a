"""The leading members of a population are the first of its ranking."""

import numpy as np
import pytest

from nastool.evaluations import Evaluations
from nastool.strategies.ranking import leading, ranking


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("levels", [2, 6, 1_000])
@pytest.mark.parametrize("constrained", [False, True])
def test_the_leading_come_first_in_the_ranking(objectives, levels, constrained):
    rng = np.random.default_rng(levels + objectives)
    for members in (1, 2, 3, 40):
        points = rng.integers(0, levels, size=(members, objectives)).astype(float)
        violations = np.zeros((members, 1))
        if constrained:
            points[rng.random(members) < 0.1] = np.nan
            violations[:, 0] = rng.integers(-1, 2, size=members)
        population = Evaluations(np.zeros((members, 1), dtype=np.int64), points, violations)
        best = np.argsort(ranking(population))
        for wanted in (1, 2, members):
            found = leading(population, min(wanted, members))
            assert len(found) >= min(wanted, members)
            assert found.tolist() == best[: len(found)].tolist()


def test_places_are_those_of_fronts_and_crowding_by_hand():
    """Two fronts; in each the wider gaps, scaled by the extents of the objectives, come first."""
    first = [[0.0, 10.0], [1.0, 4.0], [2.0, 3.0], [20.0, 0.0]]
    points = np.array([*first, [5.0, 11.0], [6.0, 6.0], [21.0, 5.0]])
    population = Evaluations(np.zeros((7, 1), dtype=np.int64), points, np.zeros((7, 0)))
    # Gaps: (2 - 0) / 20 + (10 - 3) / 10 = 0.8 and (20 - 1) / 20 + (4 - 0) / 10 = 1.35.
    order = [0, 3, 2, 1, 4, 6, 5]
    assert np.argsort(ranking(population)).tolist() == order
    assert leading(population, 1).tolist() == order[:4]
    assert leading(population, 4).tolist() == order[:4]
    assert leading(population, 5).tolist() == order


@pytest.mark.parametrize("column", [0, 1])
def test_each_objective_is_scaled_by_its_own_extent(column):
    """In the units of either, a thousand times as large or small, the order is the same."""
    rng = np.random.default_rng(3)
    x = np.sort(rng.random(30))
    points = np.stack([x, np.sort(rng.random(30))[::-1]], axis=1)
    population = Evaluations(np.zeros((30, 1), dtype=np.int64), points, np.zeros((30, 0)))
    expected = leading(population, 30).tolist()
    for factor in (1e-3, 1e3):
        scaled = points.copy()
        scaled[:, column] = scaled[:, column] * factor + 5.0
        other = Evaluations(population.genotypes, scaled, population.violations)
        assert leading(other, 30).tolist() == expected
        assert np.argsort(ranking(other)).tolist() == expected
    assert expected != sorted(expected)


def test_none_lead_where_there_are_none():
    none = Evaluations(np.zeros((0, 1), dtype=np.int64), np.zeros((0, 2)), np.zeros((0, 0)))
    assert leading(none, 3).tolist() == []
