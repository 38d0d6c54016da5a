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
