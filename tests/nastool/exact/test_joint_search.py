"""Two predictors at once, and limits on predictors, against plain enumeration."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nastool import pareto
from nastool.constraint import Constraint
from nastool.errors import InvalidInputError
from nastool.exact import joint_sweep, layout, search
from nastool.exact.boxes import from_tables
from nastool.exact.prove import prove
from nastool.exact.search import ExactSearch
from nastool.exact.task import JointTask
from nastool.objective import Direction
from nastool.problem import CostObjective, Problem
from nastool.space import ChainCost
from nastool.testing import Formula, Widths


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Blocks, units and waves so small that tiny spaces have many of each."""
    monkeypatch.setattr(layout, "_LANES", 9)
    monkeypatch.setattr(layout, "_AXIS_CHOICES", 3)
    monkeypatch.setattr(search, "_UNITS", 12)
    monkeypatch.setattr(search, "_SURFACE_UNITS", 12)
    monkeypatch.setattr(joint_sweep, "_INTERVALS", 4)
    monkeypatch.setattr(search, "_WAVE", 3)
    monkeypatch.setattr(search, "_CAPACITY", 4)


PROPERTY = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def every(sizes):
    return np.indices(sizes).reshape(len(sizes), -1).T.astype(np.int64)


def random_function(rng, sizes, scale):
    """Tables over one to three genes; whole numbers, so that values tie."""
    tables = []
    for _ in range(int(rng.integers(1, 9))):
        genes = tuple(rng.permutation(len(sizes))[: rng.integers(1, 4)].tolist())
        shape = tuple(sizes[gene] for gene in genes)
        tables.append((genes, scale * rng.integers(-4, 5, shape)))
    return from_tables(sizes, tables, float(rng.integers(-3, 4)))


def random_task(seed, count, is_front):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, int(rng.integers(1, 8))).tolist()
    functions = [random_function(rng, sizes, rng.choice([1, 0.25, 1000])) for _ in range(count)]
    everything = every(sizes)
    values = np.stack([f.to_float(f.evaluate(everything)) for f in functions], axis=1)
    limits = [float(rng.choice(np.append(column, np.inf))) for column in values.T]
    allowed = values[(values <= limits).all(axis=1)]
    points = allowed[:, :2] if is_front else allowed[:, :1]
    expected = np.unique(points[pareto.non_dominated(points)], axis=0)
    return JointTask(tuple(functions), tuple(limits), is_front), expected, len(everything)


@PROPERTY
@given(st.integers(0, 2**32), st.integers(2, 4), st.booleans(), st.booleans())
@example(0, 2, True, True)
@example(1, 3, False, True)
def test_answers_are_those_of_enumeration(seed, count, is_front, prune):
    task, expected, size = random_task(seed, count, is_front)
    outcome = ExactSearch(task, threads=2, prune=prune).run()
    found = np.stack([outcome.values, outcome.costs], axis=1)
    np.testing.assert_array_equal(
        np.unique(found if is_front else found[:, :1], axis=0), expected.reshape(-1, 1 + is_front)
    )
    for function, column in zip(task.functions, found.T, strict=False):
        np.testing.assert_array_equal(
            function.to_float(function.evaluate(outcome.genotypes)), column
        )
    assert outcome.certificate.is_complete
    assert outcome.certificate.covered == size


def random_surface(seed, count):
    """A front of three of some functions, all of which have limits."""
    task, _, _ = random_task(seed, count, True)
    everything = every(task.function.cardinalities.tolist())
    values = np.stack([f.to_float(f.evaluate(everything)) for f in task.functions], axis=1)
    points = values[(values <= task.limits).all(axis=1)][:, :3]
    expected = np.unique(points[pareto.non_dominated(points)], axis=0)
    return JointTask(task.functions, task.limits, True, is_surface=True), expected, len(everything)


@settings(PROPERTY, max_examples=30)
@given(st.integers(0, 2**32), st.integers(3, 4), st.booleans())
@example(0, 3, True)
@example(1, 4, False)
def test_fronts_of_three_are_those_of_enumeration(seed, count, prune):
    task, expected, size = random_surface(seed, count)
    outcome = ExactSearch(task, threads=2, prune=prune).run()
    found = np.column_stack([outcome.values, outcome.costs])
    np.testing.assert_array_equal(np.unique(found, axis=0), expected.reshape(-1, 3))
    assert len(found) == len(expected)
    for function, column in zip(task.functions, found.T, strict=False):
        np.testing.assert_array_equal(
            function.to_float(function.evaluate(outcome.genotypes)), column
        )
    assert outcome.certificate.is_complete
    assert outcome.certificate.covered == size
    assert outcome.certificate.front == len(expected)


def test_a_stopped_front_of_three_goes_on(tmp_path):
    rng = np.random.default_rng(3)
    functions = tuple(random_function(rng, [4] * 7, 1.0) for _ in range(3))
    task = JointTask(functions, (np.inf, np.inf, 4.0), True, is_surface=True)
    whole = ExactSearch(task, threads=1).run()
    file = tmp_path / "state.npz"
    part = ExactSearch(task, threads=1).run(checkpoint=file, should_stop=lambda: True)
    assert not part.certificate.is_complete
    assert part.certificate.bound <= whole.certificate.best <= part.certificate.best
    assert str(part.certificate).endswith(f"lower bound {part.certificate.bound:.7g}")
    resumed = ExactSearch(task, threads=2).run(checkpoint=file)
    np.testing.assert_array_equal(resumed.genotypes, whole.genotypes)
    np.testing.assert_array_equal(resumed.costs, whole.costs)
    assert resumed.certificate.is_complete


def test_a_front_of_four_is_refused():
    metrics = [metric("loss" + "s" * i) for i in range(4)]
    with pytest.raises(InvalidInputError, match="the front of two or three, got loss, losss"):
        prove(Problem(SPACE, metrics))


@pytest.mark.parametrize("is_front", [True, False])
def test_stopped_search_bounds_the_truth_and_goes_on(tmp_path, is_front):
    rng = np.random.default_rng(3)
    sizes = [4] * 7
    functions = tuple(random_function(rng, sizes, 1.0) for _ in range(3))
    task = JointTask(functions, (np.inf, np.inf, 4.0), is_front)
    whole = ExactSearch(task, threads=1).run()
    file = tmp_path / "state.npz"
    part = ExactSearch(task, threads=1).run(checkpoint=file, should_stop=lambda: True)
    assert not part.certificate.is_complete
    assert part.certificate.bound <= whole.certificate.best <= part.certificate.best
    # At every cost nothing is better than what is known by more than the gap.
    for value, cost in zip(whole.values, whole.costs, strict=True):
        known = part.values[part.costs <= cost] if is_front else part.values
        assert not len(known) or known.min() - value <= part.certificate.gap
    resumed = ExactSearch(task, threads=2).run(checkpoint=file)
    np.testing.assert_array_equal(resumed.genotypes, whole.genotypes)
    assert resumed.certificate.is_complete
    other = JointTask(functions, (np.inf, np.inf, 5.0), is_front)
    with pytest.raises(InvalidInputError, match="belongs to another"):
        ExactSearch(other).run(checkpoint=file)


def test_functions_must_fit_together():
    one, two = from_tables([2, 2], []), from_tables([2, 3], [])
    for functions in ((one,), (one, two)):
        with pytest.raises(InvalidInputError, match="at least two functions of the same genes"):
            JointTask(functions, (np.inf,) * len(functions))


class Boxed(Formula):
    """A formula over pairs of neighbours that says how it is made."""

    def boxes(self):
        return from_tables(SIZES, tables_of(self.name))


SPACE = Widths(6, (1, 2, 3))
SIZES = SPACE.cardinalities.tolist()


def tables_of(name):
    rng = np.random.default_rng(len(name))
    return [((i, i + 1), rng.integers(-9, 10, (3, 3))) for i in range(len(SIZES) - 1)]


def metric(name, direction=Direction.MINIMIZE):
    def formula(genotypes):
        terms = [table[tuple(genotypes[:, g] for g in genes)] for genes, table in tables_of(name)]
        return np.sum(terms, axis=0).astype(float)

    return Boxed(name, formula, direction)


LATENCY_LIMITS = [Constraint("latency", "<=", 5), Constraint("latency", ">=", -20)]
PROBLEMS = {
    "front of two": ([metric("loss"), metric("latency")], []),
    "one of them maximised": ([metric("loss"), metric("accuracy", Direction.MAXIMIZE)], []),
    "limits on an objective": ([metric("loss"), metric("latency")], LATENCY_LIMITS),
    "optimum under a predicted limit": ([metric("loss")], LATENCY_LIMITS[:1]),
    "two limits": ([metric("loss")], [*LATENCY_LIMITS, Constraint("params", "<=", 60)]),
    "front of three": (
        [
            CostObjective(SPACE.costs["params"], SPACE),
            metric("accuracy", Direction.MAXIMIZE),
            metric("loss"),
        ],
        [*LATENCY_LIMITS, Constraint("params", "<=", 60)],
    ),
    "front against a cost": (
        [CostObjective(SPACE.costs["params"], SPACE), metric("loss")],
        [*LATENCY_LIMITS, Constraint("params", ">=", 45)],
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems_are_what_enumeration_finds(name):
    objectives, constraints = PROBLEMS[name]
    problem = Problem(SPACE, objectives, constraints, [metric("latency")])
    everything = problem.evaluate(every(SIZES))
    points = everything.objectives[everything.feasible]
    expected = np.unique(points[pareto.non_dominated(points)], axis=0)
    proof = prove(problem, threads=1)
    found = problem.evaluate(proof.genotypes)
    assert found.feasible.all()
    np.testing.assert_array_equal(np.unique(found.objectives, axis=0), expected)
    assert proof.certificate.is_complete
    assert not proof.dropped


def test_the_chain_and_the_joint_sweep_agree():
    rng = np.random.default_rng(0)
    steps = tuple(rng.integers(0, 9, pair) for pair in itertools.pairwise(SIZES))
    cost = ChainCost("cost", rng.integers(0, 9, SIZES[0]), steps)
    against = Problem(SPACE, (metric("loss"), CostObjective(cost, SPACE)))
    slack = Constraint("latency", "<=", 1e6)
    joint = Problem(SPACE, against.objectives, (slack,), (metric("latency"),))
    np.testing.assert_array_equal(
        against.evaluate(prove(against).genotypes).objectives,
        joint.evaluate(prove(joint).genotypes).objectives,
    )
