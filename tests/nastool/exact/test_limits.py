"""Limits that are values of some shape themselves, to the last bit: proofs are enumeration."""

from functools import partial

import numpy as np
import pytest

from nastool import pareto
from nastool.constraint import Constraint
from nastool.errors import InvalidInputError
from nastool.exact.forms import make_form
from nastool.exact.prove import prove
from nastool.objective import Direction
from nastool.predicted import PredictedObjective
from nastool.predictors import Card, save_predictor
from nastool.predictors.additive import AdditiveScores
from nastool.predictors.base import create_predictor
from nastool.problem import CostObjective, Problem
from nastool.space import ChainCost
from nastool.testing import Layered, Widths

pytest.importorskip("xgboost")
pytest.importorskip("scipy")
pytest.importorskip("numba")

KINDS = {
    "linear": partial(create_predictor, "linear"),
    "pairwise": partial(create_predictor, "pairwise"),
    "ensemble": partial(create_predictor, "ensemble"),
    "xgboost": partial(create_predictor, "xgboost"),
    "sums": partial(AdditiveScores, False),
    "logarithms": partial(AdditiveScores, True),
}


@pytest.fixture(autouse=True)
def _few(few_trees):
    pass


def predicted(folder, space, kind, costs=(), direction=Direction.MINIMIZE):
    """A metric that rewards width, with a little of everything else."""
    predictor, rng = KINDS[kind](), np.random.default_rng(len(kind))
    genotypes = space.sample(60, rng)
    columns = [space.features(genotypes)]
    columns += [space.costs[name].evaluate(genotypes)[:, None] for name in costs]
    genes = columns[0].astype(float)
    targets = 5 + 0.1 * genes @ rng.random(len(space.genes)) + rng.normal(0, 0.05, 60)
    predictor.fit(np.concatenate(columns, axis=1), targets, genes=len(space.genes))
    names = tuple(gene.name for gene in space.genes)
    card = Card(
        metric=kind,
        unit="",
        kind=predictor.kind,
        label=predictor.label,
        space=space.name,
        fingerprint=space.fingerprint,
        genes=names,
        choices=tuple(gene.choices for gene in space.genes),
        features=(*names, *costs),
        shapes=60,
        direction=direction,
    )
    save_predictor(folder / kind, predictor, card)
    return PredictedObjective(space, folder / kind)


def every(space):
    grid = np.indices(space.cardinalities.tolist()).reshape(len(space.genes), -1).T
    return np.unique(space.canonicalize(grid), axis=0)


def check_proof(problem, everything):
    found = problem.evaluate(everything)
    points = found.objectives[found.feasible]
    best = np.unique(points[pareto.non_dominated(points)], axis=0) if len(points) else points
    proof = prove(problem, threads=1)
    assert problem.admissible(proof.genotypes).all()
    proven = np.unique(problem.evaluate(proof.genotypes).objectives, axis=0)
    np.testing.assert_array_equal(proven, best)
    assert proof.certificate.is_complete


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", ["params", "sums", "xgboost"])
def test_a_limit_that_is_a_value_is_kept(kind, other, tmp_path):
    space = Widths(3)
    limited = predicted(tmp_path / "limited", space, kind)
    objective = CostObjective(space.costs["params"], space)
    if other != "params":
        objective = predicted(tmp_path, space, other, direction=Direction.MAXIMIZE)
    if kind == "logarithms" and other != "sums":
        pytest.skip("refused: the logarithm is no sum of boxes")
    metrics = [limited] if limited.name != objective.name else []
    everything, name = every(space), limited.name
    values = (limited if metrics else objective).evaluate(everything)
    for value in np.sort(values)[[0, 3, 60, -1]].tolist():
        below, above = np.nextafter(value, -np.inf), np.nextafter(value, np.inf)
        ends = [("<=", value), (">=", value), ("<=", below), (">=", above)]
        for limits in ([ends[0]], [ends[1]], ends[:2], ends[2:3], ends[3:]):
            constraints = [Constraint(name, sense, float(end)) for sense, end in limits]
            if np.all([c.holds(values) for c in constraints], axis=0).any():
                check_proof(Problem(space, [objective], constraints, metrics), everything)


@pytest.mark.parametrize("kind", ["linear", "sums", "pairwise", "ensemble"])
def test_what_is_evaluated_is_what_is_taken_apart(kind, tmp_path):
    space = Widths(3)
    metric = predicted(tmp_path, space, kind)
    boxes, everything = metric.boxes(), every(space)
    values = metric.evaluate(everything)
    np.testing.assert_array_equal(boxes.to_float(boxes.evaluate(everything)), values)
    np.testing.assert_allclose(
        metric.predictor.predict(metric.features(everything)).mean, values, rtol=1e-9
    )


def test_limits_that_exclude_each_other_leave_nothing(tmp_path):
    space = Widths(3)
    metric = predicted(tmp_path, space, "logarithms")
    low, high = np.quantile(metric.evaluate(every(space)), [0.3, 0.7]).tolist()
    contradicting = [Constraint(metric.name, "<=", low), Constraint(metric.name, ">=", high)]
    proof = prove(Problem(space, [metric], contradicting))
    assert not len(proof.genotypes)
    assert proof.certificate.front == 0


@pytest.mark.parametrize("kind", ["linear", "xgboost"])
def test_predictors_of_a_space_with_branches_are_taken_apart(kind, tmp_path):
    space = Layered(2)
    metric = predicted(tmp_path, space, kind)
    everything = every(space)
    values = metric.evaluate(everything)
    for value in np.sort(values)[[0, 10]].tolist():
        objective = CostObjective(space.costs["params"], space)
        bounds = [Constraint(metric.name, "<=", value)]
        check_proof(Problem(space, [objective], bounds, [metric]), everything)
    assert metric.chain() is None


def test_an_ensemble_that_knows_a_cost_is_taken_apart_or_refused_in_one_line(tmp_path):
    space = Widths(3)
    metric = predicted(tmp_path, space, "ensemble", ("params",))
    everything = every(space)
    for weights in ([1.0, 0.0], [0.5, 0.5]):
        metric.predictor.weights = np.array(weights)
        if weights[1]:
            with pytest.raises(InvalidInputError, match="must test genes only"):
                metric.boxes()
            continue
        boxes = metric.boxes()
        predicted_ = metric.predictor.predict(metric.features(everything)).mean
        np.testing.assert_allclose(boxes.to_float(boxes.evaluate(everything)), predicted_)
        del metric.__dict__["_boxes"]


@pytest.mark.parametrize("bound", [0.3, 0.30000000000000004])
def test_a_bound_that_only_rounding_of_a_spaces_own_costs_decides_is_refused(bound):
    """Of tenths, 0.1 + 0.2 is more than 0.3, and 0.3 itself is rounded otherwise by the search."""
    space = Widths(3)
    tenths = np.arange(5) * 0.1
    step = np.broadcast_to(tenths, (5, 5))
    space._costs = {**space.costs, "tenths": ChainCost("tenths", tenths, (step, step))}
    objective = CostObjective(space.costs["params"], space)
    below = [Constraint("tenths", "<=", bound)]
    with pytest.raises(InvalidInputError, match=r"tenths<=0\.3\S*: some architecture .* costs as"):
        make_form(Problem(space, [objective], below))
    check_proof(Problem(space, [objective], [Constraint("tenths", ">=", 0.35)]), every(space))
