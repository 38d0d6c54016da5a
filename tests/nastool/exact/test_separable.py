"""What adds up gene by gene is searched exactly: brute force and another solver agree."""

import numpy as np
import pytest

from nastool import pareto
from nastool.constraint import Constraint
from nastool.errors import InvalidInputError
from nastool.exact.forms import make_form, predictor_boxes, separable_cost
from nastool.exact.prove import prove
from nastool.exact.separable import SeparableTask, Sum, solve_separable
from nastool.objective import Direction, Kind, Objective, Provenance
from nastool.predictors.additive import AdditiveScores
from nastool.predictors.separable import Separable
from nastool.problem import CostObjective, Problem
from nastool.space import ChainCost, Gene, SearchSpace


class Blocks(SearchSpace):
    """Layers of some sizes, two costs that add up layer by layer."""

    name = "blocks"

    def __init__(self, layers, choices, seed=0):
        rng = np.random.default_rng(seed)
        self.genes = tuple(Gene(f"layer_{i}", tuple(range(choices))) for i in range(layers))
        self.costs = {}
        for name in ("params", "cache"):
            terms = np.sort(rng.integers(1, 1000, (layers, choices)), axis=1)
            steps = tuple(np.tile(row, (choices, 1)) for row in terms[1:])
            self.costs[name] = ChainCost(name, terms[0] + 5000, steps)


class Scores(Objective):
    """A separable function."""

    name, unit = "score", ""

    def __init__(self, function, direction=Direction.MINIMIZE, name="score"):
        self.function, self.direction, self.name = function, direction, name

    provenance = Provenance(Kind.PREDICTED, "a test")
    fingerprint = "scores"

    def evaluate(self, genotypes):
        return self.function.predict(genotypes)

    def separable(self):
        return self.function


def scores(space, seed, **how):
    rng = np.random.default_rng(seed)
    shape = len(space.genes), len(space.genes[0].choices)
    return Separable(tuple(np.sort(rng.gamma(1, 0.1, shape))[:, ::-1]), 1.5, **how)


def best(problem):
    every = problem.space.enumerate()
    found = problem.evaluate(every)
    points = found.objectives[found.feasible]
    return np.unique(points[pareto.non_dominated(points)], axis=0)


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize("is_front", [False, True])
@pytest.mark.parametrize(
    "bounds",
    [
        (),
        (Constraint("params", "<=", 7500),),
        (Constraint("params", "<=", 8000), Constraint("cache", "<=", 7600)),
        (Constraint("params", ">=", 7000), Constraint("cache", "<=", 7600)),
        (Constraint("score", "<=", 2.2), Constraint("cache", ">=", 6500)),
    ],
    ids=str,
)
def test_it_is_what_brute_force_finds(is_log, is_front, bounds):
    space = Blocks(5, 4)
    objectives = [Scores(scores(space, 1, is_log=is_log))]
    if is_front:
        objectives.append(CostObjective(space.costs["params"], space))
    problem = Problem(space, objectives, bounds)
    proof = prove(problem)
    found = np.unique(problem.evaluate(proof.genotypes).objectives, axis=0)
    np.testing.assert_allclose(found, best(problem), rtol=1e-11)
    assert proof.certificate.is_complete
    assert proof.certificate.size == 4**5
    if len(found):
        assert proof.certificate.best == pytest.approx(found[:, 0].min(), rel=1e-11)


def test_what_is_maximised_is_the_largest_within_bounds():
    space = Blocks(5, 3)
    problem = Problem(
        space,
        [Scores(scores(space, 2, is_log=True), Direction.MAXIMIZE)],
        (Constraint("params", "<=", 7000), Constraint("cache", ">=", 7000)),
    )
    proof = prove(problem)
    found = problem.evaluate(proof.genotypes).objectives
    np.testing.assert_allclose(found, best(problem), rtol=1e-11)
    assert proof.certificate.best == pytest.approx(-found[0, 0])


def test_two_scores_have_a_front_too():
    space = Blocks(5, 3)
    objectives = [Scores(scores(space, 3)), Scores(scores(space, 4, is_log=True), name="other")]
    flipped = Separable(tuple(t[::-1] for t in objectives[1].function.terms), 0.5, is_log=True)
    objectives[1] = Scores(flipped, name="other")
    problem = Problem(space, objectives, (Constraint("cache", "<=", 7600),))
    proof = prove(problem)
    found = np.unique(problem.evaluate(proof.genotypes).objectives, axis=0)
    np.testing.assert_allclose(found, best(problem), rtol=1e-11)


def test_budgets_of_a_space_beyond_numbering_agree_with_another_solver():
    optimize = pytest.importorskip("scipy.optimize")
    space = Blocks(30, 5, seed=7)
    assert space.size > 2**62
    function = scores(space, 8)
    costs = [separable_cost(cost) for cost in space.costs.values()]
    rows = np.stack([np.concatenate(cost.terms) for cost in costs])
    one = np.kron(np.eye(30), np.ones((1, 5)))
    smallest = np.array([sum(t.min() for t in cost.terms) for cost in costs])
    largest = np.array([sum(t.max() for t in cost.terms) for cost in costs])
    for share in (0.1, 0.35, 0.6, 0.85):
        limits = np.floor(smallest + share * (largest - smallest))
        task = SeparableTask(
            Sum(function),
            tuple(Sum(c, upper=u) for c, u in zip(costs, limits, strict=True)),
        )
        outcome = solve_separable(task)
        other = optimize.milp(
            1e4 * np.concatenate(function.terms),
            integrality=np.ones(150),
            bounds=optimize.Bounds(0, 1),
            constraints=[
                optimize.LinearConstraint(one, 1, 1),
                optimize.LinearConstraint(rows, -np.inf, limits),
            ],
            options={"mip_rel_gap": 0},
        )
        assert outcome.values[0] - 1.5 == pytest.approx(other.fun / 1e4, abs=1e-8)
        for cost, limit in zip(costs, limits, strict=True):
            assert cost.predict(outcome.genotypes)[0] <= limit


def test_bounds_that_nothing_keeps_have_no_optimum():
    function = Separable((np.array([0.0, 1.0]), np.array([0.0, 2.0])))
    outcome = solve_separable(SeparableTask(Sum(function), (Sum(function, upper=-0.5),)))
    assert len(outcome.genotypes) == 0
    assert outcome.certificate.front == 0


def test_a_chain_whose_neighbours_meet_is_not_separable():
    table = np.array([[0.0, 1.0], [1.0, 3.0]])
    assert separable_cost(ChainCost("params", np.zeros(2), (table,))) is None
    own = separable_cost(ChainCost("params", np.array([1, 5]), (np.array([[0, 2], [3, 5]]),)))
    rows = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    assert own.predict(rows).tolist() == [1, 3, 8, 10]


def test_costs_alone_keep_the_searches_of_chains():
    space = Blocks(4, 3)
    problem = Problem(space, [CostObjective(space.costs["params"], space)])
    assert not isinstance(make_form(problem).task, SeparableTask)


def test_a_logarithm_that_adds_up_is_no_sum_of_boxes():
    choices = [np.array([1.0, 2.0, 3.0])] * 2
    features = np.array([[1, 3], [2, 3], [3, 3], [3, 2], [3, 1.0]])
    for is_log in (True, False):
        predictor = AdditiveScores(is_log)
        predictor.fit(features, features.sum(axis=1))
        if is_log:
            with pytest.raises(InvalidInputError, match="logarithm"):
                predictor_boxes(predictor, choices, len)
        else:
            boxes = predictor_boxes(predictor, choices, len)
            every = np.indices((3, 3)).reshape(2, -1).T
            assert boxes.to_float(boxes.evaluate(every)) == pytest.approx(every.sum(axis=1) + 2)
