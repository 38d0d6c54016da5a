from functools import partial

import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.evaluations import Evaluations
from nastool.pareto import hypervolume, non_dominated
from nastool.problem import Problem
from nastool.strategies.evolution import Evolution
from nastool.strategies.pareto import ParetoSearch, _contributions
from nastool.strategies.random import RandomSearch
from nastool.testing import Formula, StrategyConformance, Widths, example_problems


class TestParetoSearch(StrategyConformance):
    def make(self, problem, seed):
        return ParetoSearch(problem, seed, initial=20)


def run(strategy, problem, budget, batch=20):
    told = []
    while sum(map(len, told)) < budget and len(asked := strategy.ask(batch)):
        told.append(problem.evaluate(asked))
        strategy.tell(told[-1])
    return Evaluations.concatenate(told)


@pytest.mark.parametrize("name", list(example_problems()))
def test_finds_the_front_of_a_small_space(name):
    problem = example_problems()[name]
    everything = problem.space.canonicalize(problem.space.enumerate())
    truth = problem.evaluate(np.unique(everything[problem.admissible(everything)], axis=0))
    best = truth.take(truth.feasible).objectives
    best = np.unique(best[non_dominated(best)], axis=0)
    told = run(ParetoSearch(problem, 0, initial=20), problem, 300)
    found = {tuple(row) for row in told.take(told.feasible).objectives}
    assert np.mean([tuple(row) in found for row in best]) > 0.9


def layered(genotypes):
    g = genotypes / 6
    weights = np.array([2.0, 0.9, 0.7, 0.6, 0.6, 0.7, 0.8, 0.8, 0.9, 1.0, 1.4, 3.0])
    return (weights / (0.3 + g)).sum(axis=1) + 1.5 * np.abs(np.diff(g, axis=1)).sum(axis=1)


def dominated(make, budget, seed=0):
    """Hypervolume of what a strategy finds of a loss and parameters of twelve layers."""
    space = Widths(layers=12, widths=(120, 240, 360, 480, 540, 600, 768))
    loss = Formula("loss", layered)
    problem = Problem(space, (loss, Problem(space, (loss,)).metric("params")))
    told = run(make(problem, seed), problem, budget, 100)
    return hypervolume(told.objectives, np.array([60.0, 1e7]))


def test_covers_more_than_evolution_and_random_search():
    volumes = [dominated(kind, 3_000) for kind in (ParetoSearch, Evolution, RandomSearch)]
    assert volumes == sorted(volumes, reverse=True)
    assert volumes[0] > 1.005 * volumes[1]
    assert volumes[1] > 1.02 * volumes[2]


def test_batches_grow_with_what_is_known():
    problem = example_problems()["pair"]
    asked = {}
    for growth in (0.0, 0.1, 1.0):
        strategy, sizes = ParetoSearch(problem, 0, initial=25, growth=growth), []
        while sum(sizes) < 70:
            batch = strategy.ask(20)
            sizes.append(len(batch))
            strategy.tell(problem.evaluate(batch))
        asked[growth] = sizes
    assert asked[0.0] == [20, 5] + [1] * 45
    known = 25
    for size in asked[0.1][2:]:
        assert size == known // 10
        known += size
    assert asked[1.0] == [20, 5, 20, 20, 20]


def test_few_evaluations_find_more_than_in_whole_batches():
    """Medians of what 300 evaluations dominate, over eleven seeds."""
    whole = partial(ParetoSearch, initial=100, growth=1.0)
    growing, at_once = (
        np.median([dominated(make, 300, seed) for seed in range(11)])
        for make in (ParetoSearch, whole)
    )
    assert growing > at_once


def test_contributions_are_the_hypervolume_lost():
    points = np.array([[0.0, 5.0], [1.0, 3.0], [2.0, 2.5], [4.0, 1.0], [6.0, 0.0]])
    corner = np.array([10.0, 10.0])
    whole = hypervolume(points, corner)
    lost = [whole - hypervolume(np.delete(points, row, axis=0), corner) for row in range(1, 4)]
    shares = _contributions(points)
    np.testing.assert_allclose(shares[1:4] / shares[1], np.array(lost) / lost[0])
    assert shares[0] == shares[4] == shares[1:4].max()
    assert shares.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"initial": 0}, "initial must be at least 1, got 0"),
        ({"initial": 10**10}, "initial must be at most 1,000,000, got 10,000,000,000"),
        ({"growth": 1.5}, "growth must be between 0 and 1, got 1.5"),
        ({"crossover": -0.1}, "crossover must be between 0 and 1, got -0.1"),
        ({"jump": 2}, "jump must be between 0 and 1, got 2"),
    ],
)
def test_bad_settings_are_named(setting, message):
    with pytest.raises(InvalidInputError, match=message):
        ParetoSearch(example_problems()["pair"], 0, **setting)


def test_who_adds_most_to_the_front_has_most_children():
    """Whatever the order of the front, by either objective, its weights belong to its members."""
    space = Widths(30)
    objectives = np.array([[0.0, 1.0], [0.1, 0.9], [0.5, 0.2], [0.9, 0.1], [1.0, 0.0]])
    rows = np.tile(np.arange(5)[:, None], (1, 30))
    loss = Formula("x", lambda g: objectives[g[:, 0], 0])
    problem = Problem(space, (loss, Formula("y", lambda g: objectives[g[:, 0], 1])))
    parents = []
    for order in ([0, 1, 2, 3, 4], [4, 0, 3, 1, 2]):
        strategy = ParetoSearch(problem, 0)
        strategy.tell(problem.evaluate(rows[order]))
        weights = strategy.state_dict()["weights"]
        members = strategy.parents.genotypes[:, 0]
        parents.append(weights[np.argsort(members)])
    np.testing.assert_allclose(parents[0], parents[1])
    # The knee and both ends count most, its neighbours by what they alone dominate.
    assert parents[0][[0, 2, 4]] == pytest.approx([parents[0][2]] * 3)
    assert parents[0][1] < parents[0][2] / 2


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("n", [0, 1, 2])
def test_of_two_or_fewer_each_counts_alike(n, m):
    points = np.eye(3)[:n, :m] * 7.0
    assert _contributions(points).tolist() == [1 / max(n, 1)] * n


def test_where_nothing_adds_anything_each_counts_alike():
    assert _contributions(np.ones((4, 2))).tolist() == [0.25] * 4
    line = np.stack([np.zeros(4), np.arange(4.0)], axis=1)
    assert _contributions(line).tolist() == [0.25] * 4


def test_of_three_objectives_the_crowding_counts_and_ends_as_the_largest():
    x = np.array([0.0, 1.0, 3.0, 6.0])
    points = np.stack([x, -x, x], axis=1)
    # Gaps of the inner ones, by each objective: 3 and 5 of 6.
    inner = np.array([3.0, 5.0]) / 6 * 3
    expected = np.array([inner[1], *inner, inner[1]])
    np.testing.assert_allclose(_contributions(points), expected / expected.sum())
    even = np.arange(30.0)
    np.testing.assert_allclose(_contributions(np.stack([even, -even, even], axis=1)), 1 / 30)
    # Three points, all of them ends of some objective: nothing inner is known.
    assert _contributions(np.eye(3)).tolist() == [1 / 3] * 3
    two = np.stack([x, 6 - x], axis=1)
    wide = np.array([2.0 * 1, 3.0 * 2])
    share = np.array([wide[1], *wide, wide[1]])
    np.testing.assert_allclose(_contributions(two), share / share.sum())


@pytest.mark.parametrize("crossover", [0.0, 0.3, 1.0])
def test_children_have_two_parents_as_often_as_set(crossover):
    """Crossed ones take whole genes of two parents, the others differ in one gene."""
    space = Widths(30)
    ends = Formula("up", lambda g: g.sum(axis=1) * 1.0), Formula("down", lambda g: -g.sum(axis=1))
    problem = Problem(space, ends)
    strategy = ParetoSearch(problem, 0, initial=2, crossover=crossover, jump=0.0)
    strategy.tell(problem.evaluate(np.array([[0] * 30, [4] * 30])))
    children = strategy._breed(4_000, 0)
    mixed = ((children < 2).any(axis=1) & (children > 2).any(axis=1)).mean()
    # Half of the mates are the parent itself or lie beyond it at this end of the front.
    alone = strategy._breed(1, 0).shape
    assert alone == (1, 30)
    assert mixed == pytest.approx(crossover * 4 / 9, abs=0.03)
