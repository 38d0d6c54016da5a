"""What may be best at a higher cost, of what was found at a lower one."""

import numpy as np
import pytest

from nastool import pareto
from nastool.constraint import parse_constraint
from nastool.evaluations import Evaluations
from nastool.objective import Kind, Objective, Provenance
from nastool.problem import CostObjective, Problem
from nastool.strategies.halving import Halving, promising
from nastool.strategies.random import RandomSearch
from nastool.study import Study
from nastool.testing import Widths


class Noisy(Objective):
    """Falls with the sum of genes; less noise at more."""

    provenance = Provenance(Kind.MEASURED, "a draw")
    name = "noisy"

    def __init__(self, noise):
        self.noise = noise
        self.fingerprint = f"noisy-{noise}"

    def evaluate(self, genotypes):
        rng = np.random.default_rng([int(self.noise * 1000)])
        drawn = rng.standard_normal(10_000)[genotypes @ np.array([1, 7, 49, 343]) % 10_000]
        own = np.sin(genotypes @ np.arange(3, 7))
        return 50 * np.exp(-genotypes.sum(axis=1) / 8 + 0.1 * own + self.noise * drawn)


class Other(Noisy):
    name = "other"

    def evaluate(self, genotypes):
        return np.cos(genotypes @ np.arange(2, 6)) + 2


def problems(objectives=(), constraints=()):
    space = Widths()
    costs = (CostObjective(space.costs["params"], space), *objectives)
    bounds = tuple(map(parse_constraint, constraints))
    return [Problem(space, (Noisy(noise), *costs), bounds) for noise in (0.02, 0.005)]


def halved(low, high, n=150, **options):
    found = Study(low, RandomSearch).run(n)
    study = Study(high, Halving(high, found=found.evaluations))
    return found.evaluations, study.run(n, **options)


def front(problem, genotypes):
    evaluations = problem.evaluate(genotypes)
    rows = np.flatnonzero(evaluations.feasible)
    best = rows[pareto.non_dominated(evaluations.objectives[rows])]
    return set(map(tuple, evaluations.genotypes[best].tolist()))


@pytest.mark.parametrize("options", [{}, {"pending": 5}])
@pytest.mark.parametrize(
    ("objectives", "constraints"),
    [
        ((), ()),
        ((Other(1),), ()),
        ((), ("noisy<=20",)),
        ((), ("noisy>=8",)),
        ((Other(1),), ("other<=2.5",)),
    ],
)
def test_the_front_is_that_of_evaluating_all(objectives, constraints, options):
    low, high = problems(objectives, constraints)
    found, result = halved(low, high, **options)
    wanted = front(high, found.genotypes)
    assert set(map(tuple, result.front().genotypes.tolist())) == wanted
    assert len(wanted) <= len(result) < 150


def test_one_objective_has_one_best():
    space = Widths()
    low, high = (Problem(space, (Noisy(noise),)) for noise in (0.02, 0.005))
    found, result = halved(low, high)
    best = found.genotypes[high.evaluate(found.genotypes).objectives[:, 0].argmin()]
    assert best.tolist() in result.evaluations.genotypes.tolist()
    assert len(result) < 75


def test_its_state_is_what_it_was_told():
    low, high = problems()
    found = Study(low, RandomSearch).run(60).evaluations
    one, two = Halving(high, found=found), Halving(high, found=found)
    one.tell(high.evaluate(one.ask(20)))
    two.load_state_dict(one.state_dict())
    assert two.ask(20).tolist() == one.ask(20).tolist()
    # What it is made of may have grown.
    more = Study(low, RandomSearch).run(90).evaluations
    three = Halving(high, found=more)
    three.load_state_dict(one.state_dict())
    known = set(map(tuple, one.state_dict()["told"]["genotypes"].tolist()))
    assert not known & set(map(tuple, three.ask(90).tolist()))


def test_without_anything_found_nothing_is_proposed():
    assert not len(Halving(problems()[1]).ask(5))


def test_what_failed_is_not_tried_at_more_cost():
    low = np.array([1.0, np.nan, 3.0])
    rows = promising(np.zeros((3, 0)), low, np.full(3, np.nan))
    assert sorted(rows.tolist()) == [0, 2]
    told = Evaluations(np.zeros((1, 4), dtype=np.int64), np.full((1, 2), np.nan), np.zeros((1, 0)))
    strategy = Halving(problems()[1], found=told)
    assert not len(strategy.ask(3))
