import numpy as np
import pytest

from nastool.strategies.random import RandomSearch
from nastool.testing import StrategyConformance, example_problems


class TestRandomSearch(StrategyConformance):
    def make(self, problem, seed):
        return RandomSearch(problem, seed)


@pytest.mark.parametrize("name", ["single-hard", "pair-hard", "single-mixed"])
def test_visits_every_admissible_genotype_once_and_stops(name):
    problem = example_problems()[name]
    strategy = RandomSearch(problem, 0)
    visited = []
    while len(asked := strategy.ask(50)):
        visited.append(asked)
        strategy.tell(problem.evaluate(asked))
    visited = np.concatenate(visited)
    everything = problem.space.enumerate()
    everything = everything[problem.admissible(everything)]
    expected = np.unique(problem.space.canonicalize(everything), axis=0)
    assert len(visited) == len(expected)
    assert np.array_equal(np.unique(visited, axis=0), expected)


def test_first_draws_are_uniform_over_the_admissible():
    problem = example_problems()["single-hard"]
    everything = problem.space.enumerate()
    admissible = everything[problem.admissible(everything)]
    keys = problem.space.keys(admissible)
    draws = np.concatenate([RandomSearch(problem, seed).ask(10) for seed in range(600)])
    counts = np.array([problem.space.keys(draws).count(key) for key in keys])
    expected = len(draws) / len(keys)
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert counts.sum() == len(draws)
    assert chi2 < len(keys) + 4 * np.sqrt(2 * len(keys))
