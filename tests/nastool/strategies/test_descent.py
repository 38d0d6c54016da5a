"""Bounds that hardly a draw keeps: where strategies begin then."""

import numpy as np
import pytest

from nastool.constraint import Constraint
from nastool.errors import InfeasibleError
from nastool.problem import Problem
from nastool.strategies.descent import descend, seeds
from nastool.strategies.evolution import Evolution
from nastool.strategies.local import LocalSearch
from nastool.strategies.nsga2 import Pymoo
from nastool.strategies.pareto import ParetoSearch
from nastool.strategies.random import RandomSearch
from nastool.study import Study
from nastool.testing import Formula, Layered, Widths


def bumpy(genotypes):
    """A sum with interactions, 0 at one shape of all and next to nothing elsewhere."""
    wanted = np.arange(genotypes.shape[1]) % 5
    away = np.abs(genotypes - wanted)
    return away.sum(axis=1) + 0.25 * (away[:, 1:] * away[:, :-1]).sum(axis=1)


def tight(bound, layers=12, *more):
    """Of 244 million shapes, a bound of 1 leaves 25."""
    space = Widths(layers)
    metric = Formula("bumpy", bumpy)
    constraints = (Constraint("bumpy", "<=", bound), *more)
    return Problem(space, (Formula("size", lambda g: g.sum(axis=1)),), constraints, (metric,))


@pytest.mark.parametrize("strategy", [Evolution, Pymoo, ParetoSearch, LocalSearch])
def test_strategies_that_breed_find_what_no_draw_does(strategy):
    if strategy is Pymoo:
        pytest.importorskip("pymoo")
    problem = tight(1)
    result = Study(problem, strategy).run(30)
    assert len(result)
    assert result.evaluations.feasible.all()
    near = np.arange(12) % 5 + np.concatenate([np.eye(12), -np.eye(12), np.zeros((1, 12))])
    inside = near[((near >= 0) & (near <= 4)).all(axis=1)]
    found = set(map(tuple, result.evaluations.genotypes))
    assert found <= set(map(tuple, inside.astype(int)))
    assert inside.sum(axis=1).min() == result.evaluations.objectives.min()


def test_a_descent_ends_where_no_change_of_one_gene_helps_or_the_bounds_hold():
    space = Layered(3)
    values = np.random.default_rng(1).normal(size=tuple(space.cardinalities))
    metric = Formula("rugged", lambda g: values[tuple(g.T)])
    bounds = [Constraint("rugged", "<=", -1.9), Constraint("params", "<=", 800)]
    problem = Problem(space, (metric,), bounds)
    starts = space.sample(60, np.random.default_rng(0))
    led, missed = descend(problem, starts)
    assert np.array_equal(space.canonicalize(led), led)
    assert np.array_equal(missed == 0, problem.admissible(led))
    assert 0 < np.count_nonzero(missed == 0) < 60

    def short(rows):
        over = [np.maximum(b.violation(problem.metric(b.metric).evaluate(rows)), 0) for b in bounds]
        return np.sum(over, axis=0)

    np.testing.assert_allclose(short(led), missed)
    assert (missed <= short(starts)).all()
    for row, own in zip(led[missed > 0], missed[missed > 0], strict=True):
        for gene, k in enumerate(space.cardinalities):
            changed = np.repeat(row[None], k, axis=0)
            changed[:, gene] = np.arange(k)
            assert short(space.canonicalize(changed)).min() >= own


def test_what_draws_find_is_drawn_evenly_still():
    problem = tight(20, 6)
    drawn = problem.sample(50, np.random.default_rng(3))
    assert np.array_equal(seeds(problem, 50, np.random.default_rng(3)), drawn)


def test_random_search_says_that_evenly_drawn_shapes_are_none(monkeypatch):
    monkeypatch.setattr("nastool.problem._DRAWS", 4)
    with pytest.raises(InfeasibleError, match="drawing evenly; strategies that breed are led"):
        RandomSearch(tight(1), 0).ask(10)


def test_a_metric_that_fails_leads_nowhere_and_ends():
    space = Widths(3)
    metric = Formula("broken", lambda g: np.where(g.sum(axis=1) > 3, np.nan, 9.0 + g[:, 0]))
    problem = Problem(space, (metric,), (Constraint("broken", "<=", 1),))
    with pytest.raises(InfeasibleError, match="nearest that draws were led to has broken 9"):
        seeds(problem, 5, np.random.default_rng(0))
