"""Constraints that drawing hardly ever satisfies."""

import numpy as np
import pytest

from nastool.constraint import Constraint
from nastool.errors import InfeasibleError
from nastool.objective import Kind, Objective, Provenance
from nastool.problem import Problem
from nastool.strategies.evolution import Evolution
from nastool.strategies.history import Seen
from nastool.strategies.pareto import ParetoSearch
from nastool.strategies.random import RandomSearch
from nastool.study import Study
from nastool.testing import Widths


class Total(Objective):
    """Sum of the indices; cheap, so that a bound on it is enforced beforehand."""

    name = "total"
    fingerprint = "total"
    provenance = Provenance(Kind.PREDICTED, "a sum")

    def evaluate(self, genotypes):
        return genotypes.sum(axis=1)


def rare(bound):
    """More shapes than are enumerated; under a total of 9, one draw in 119 is allowed."""
    space = Widths(layers=10)
    return Problem(space, (Total(),), (Constraint("total", "<=", bound),))


@pytest.fixture(autouse=True)
def _four_rounds_of_drawing(monkeypatch):
    monkeypatch.setattr("nastool.problem._DRAWS", 4)


@pytest.mark.parametrize("strategy", [Evolution, ParetoSearch])
def test_breeding_goes_on_from_the_few_that_were_drawn(strategy):
    problem = rare(9)
    drawn = strategy(problem, 0).ask(100)
    assert 1 <= len(drawn) < 50
    result = Study(problem, strategy).run(400)
    assert len(result) == 400
    assert result.evaluations.feasible.all()


def test_few_draws_are_a_small_batch():
    problem = rare(9)
    sizes = []
    strategy = RandomSearch(problem, 0)
    for _ in range(3):
        asked = strategy.ask(100)
        assert problem.admissible(asked).all()
        sizes.append(len(asked))
        strategy.tell(problem.evaluate(asked))
    assert all(1 <= size < 50 for size in sizes)


def test_nothing_drawn_is_an_error_only_at_the_beginning():
    problem = rare(0)
    rng = np.random.default_rng(0)
    seen = Seen(problem.space)
    with pytest.raises(InfeasibleError, match="total<=0 were wanted, 0 found"):
        seen.sample_unseen(problem, 100, rng)
    seen.add(np.zeros((1, 10), dtype=np.int64))
    assert len(seen.sample_unseen(problem, 100, rng)) == 0


@pytest.mark.parametrize("strategy", [Evolution, ParetoSearch])
def test_what_drawing_cannot_find_is_bred_from_what_was_told(strategy):
    problem = rare(2)
    told = strategy(problem, 0)
    told.tell(problem.evaluate(np.zeros((1, 10), dtype=np.int64)))
    bred = told.ask(20)
    assert 1 <= len(bred) <= 20
    assert problem.admissible(bred).all()
