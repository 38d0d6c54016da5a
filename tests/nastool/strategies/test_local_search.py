import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.evaluations import Evaluations
from nastool.pareto import non_dominated
from nastool.problem import Problem
from nastool.strategies.local import LocalSearch, neighbours
from nastool.testing import (
    Formula,
    Mixed,
    StrategyConformance,
    Widths,
    example_problems,
)


class TestLocalSearch(StrategyConformance):
    def make(self, problem, seed):
        return LocalSearch(problem, seed)


def exhaust(problem, strategy, batch):
    told = []
    while len(asked := strategy.ask(batch)):
        told.append(problem.evaluate(asked))
        strategy.tell(told[-1])
    return Evaluations.concatenate(told)


def test_neighbours_are_one_step_or_any_other_choice_away():
    found, owners = neighbours(Mixed(), np.array([[0, 1, 0, 0, 1], [2, 0, 5, 0, 0]]))
    assert sorted(map(tuple, found[owners == 0])) == [
        (0, 0, 0, 0, 1), (0, 1, 0, 0, 0), (0, 1, 1, 0, 1), (0, 2, 0, 0, 1),
        (1, 1, 0, 0, 1), (2, 1, 0, 0, 1),
    ]  # fmt: skip
    assert sorted(map(tuple, found[owners == 1])) == [
        (0, 0, 5, 0, 0), (1, 0, 5, 0, 0), (2, 0, 4, 0, 0), (2, 0, 5, 0, 1), (2, 1, 5, 0, 0),
    ]  # fmt: skip


@pytest.mark.parametrize("batch", [1, 7, 200])
@pytest.mark.parametrize("name", ["single", "pair", "pair-hard", "pair-soft", "failing"])
def test_ends_when_no_neighbour_of_the_front_is_untried(name, batch):
    problem = example_problems()[name]
    strategy = LocalSearch(problem, 0)
    told = exhaust(problem, strategy, batch)
    keys = problem.space.keys(told.genotypes)
    assert len(set(keys)) == len(keys)
    feasible = told.take(told.feasible)
    front = feasible.take(non_dominated(feasible.objectives))
    assert np.array_equal(
        np.unique(front.genotypes, axis=0), np.unique(strategy.front.genotypes, axis=0)
    )
    around = problem.space.canonicalize(neighbours(problem.space, front.genotypes)[0])
    around = around[problem.admissible(around)]
    assert set(problem.space.keys(around)) <= set(keys)


def test_convex_front_is_found_whole():
    space = Widths()
    near = Formula("near", lambda g: ((g - 1.0) ** 2).sum(axis=1))
    far = Formula("far", lambda g: ((g - 3.0) ** 2).sum(axis=1))
    problem = Problem(space, (near, far))
    everything = problem.evaluate(space.enumerate())
    expected = everything.take(non_dominated(everything.objectives))
    strategy = LocalSearch(problem, 2, starts=1)
    exhaust(problem, strategy, 10)
    assert set(space.keys(strategy.front.genotypes)) == set(space.keys(expected.genotypes))


def test_starts_from_a_front_that_it_is_told():
    problem = example_problems()["single"]
    start = np.array([[2, 2, 2, 2]])
    strategy = LocalSearch(problem, 0)
    strategy.tell(problem.evaluate(start))
    asked = strategy.ask(100)
    assert len(asked) == 8
    assert np.all(np.abs(asked - start).sum(axis=1) == 1)


def test_bad_setting_is_named():
    with pytest.raises(InvalidInputError, match="starts must be at least 1, got 0"):
        LocalSearch(example_problems()["single"], 0, starts=0)


def test_neighbours_are_all_that_differ_in_one_gene_and_none_else():
    """Of every genotype of the space: a step apart where genes are ordered, else any choice."""
    space = Mixed()
    everything = np.stack(
        np.meshgrid(*[np.arange(len(gene.choices)) for gene in space.genes], indexing="ij"), -1
    ).reshape(-1, len(space.genes))
    ordered = np.array([gene.ordered for gene in space.genes])
    starts = everything[:: len(everything) // 20]
    found, owners = neighbours(space, starts)
    for row, start in enumerate(starts):
        apart = np.abs(everything - start)
        near = ((apart > 0).sum(axis=1) == 1) & np.all((apart <= 1) | ~ordered, axis=1)
        assert sorted(found[owners == row].tolist()) == sorted(everything[near].tolist())
