"""From problems to proofs: forms, dynamic programming, the strategy, the command line."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from nastool import pareto
from nastool.cli.main import main
from nastool.constraint import Constraint
from nastool.discovery import load_file
from nastool.errors import InvalidInputError
from nastool.exact.certificate import Certificate
from nastool.exact.chains import integer_chain
from nastool.exact.dynamic import chain_boxes, solve_chain
from nastool.exact.forms import make_form, pairwise_boxes, predictor_boxes
from nastool.exact.prove import prove
from nastool.exact.task import Bound
from nastool.plugins import load_objective, load_space
from nastool.predictors.base import create_predictor
from nastool.problem import CostObjective, Problem
from nastool.space import ChainCost
from nastool.strategies.exact import Exact
from nastool.study import Study
from nastool.testing import Widths

PLUGIN = Path(__file__).with_name("pairs_plugin.py")


def every(sizes):
    return np.indices(sizes).reshape(len(sizes), -1).T.astype(np.int64)


def make_problem(objective="loss", front=True, constraints=()):
    load_file(PLUGIN)
    space = load_space("pairs")
    objectives = (load_objective(objective, space),)
    if front:
        objectives += (CostObjective(space.costs["params"], space),)
    return Problem(space, objectives, tuple(constraints))


def brute(problem):
    """Non-dominated minimised objectives of all feasible genotypes, in order."""
    found = problem.evaluate(every(problem.space.cardinalities.tolist()))
    points = found.objectives[found.feasible]
    return np.unique(points[pareto.non_dominated(points)], axis=0)


def proven(problem, genotypes):
    return np.unique(problem.evaluate(genotypes).objectives, axis=0)


CONSTRAINTS = [
    (),
    (Constraint("params", "<=", 60),),
    (Constraint("params", ">=", 45),),
    (Constraint("params", ">=", 45), Constraint("params", "<=", 60)),
]


@pytest.mark.parametrize("constraints", CONSTRAINTS)
@pytest.mark.parametrize("objective", ["loss", "score"])
@pytest.mark.parametrize("front", [True, False])
def test_proofs_are_what_enumeration_finds(objective, front, constraints):
    problem = make_problem(objective, front, constraints)
    proof = prove(problem, threads=1)
    np.testing.assert_allclose(proven(problem, proof.genotypes), brute(problem), rtol=1e-12)
    assert problem.admissible(proof.genotypes).all()
    assert proof.certificate.is_complete
    sign = problem.signs[0]
    assert proof.certificate.best == pytest.approx(sign * brute(problem)[:, 0].min())
    assert proof.certificate.bound == proof.certificate.best


def random_chain(rng, sizes, largest, dtype=int):
    terms = [rng.integers(0, largest, sizes[0])]
    terms += [rng.integers(-largest, largest, pair) for pair in itertools.pairwise(sizes)]
    terms = [t * (1 if dtype is int else 0.125) for t in terms]
    return ChainCost("cost", terms[0], tuple(terms[1:]))


@pytest.mark.parametrize("seed", range(20))
def test_dynamic_programming_is_enumeration(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, rng.integers(1, 7)).tolist()
    value = random_chain(rng, sizes, 9, float if seed % 2 else int)
    cost = random_chain(rng, sizes, 4)
    everything = every(sizes)
    values, costs = value.evaluate(everything), cost.evaluate(everything)
    limit = float(rng.choice(costs))
    function, chain = integer_chain(value), integer_chain(cost)
    for is_front, upper in itertools.product([True, False], [np.inf, limit]):
        outcome = solve_chain(function, (Bound(chain, upper=upper),), is_front)
        allowed = costs <= upper
        pairs = np.stack([costs, values], axis=1)[allowed]
        expected = np.unique(pairs[pareto.non_dominated(pairs.round(9))].round(9), axis=0)
        np.testing.assert_allclose(value.evaluate(outcome.genotypes), outcome.values, atol=1e-9)
        if is_front:
            found = np.stack([outcome.costs, outcome.values], axis=1)
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
        else:
            np.testing.assert_allclose(outcome.values, expected[:, 1].min(), atol=1e-9)
    alone = solve_chain(function, (), is_front=False)
    np.testing.assert_allclose(alone.values, values.min(), rtol=1e-9, atol=1e-12)
    boxes = chain_boxes(function)
    np.testing.assert_allclose(boxes.to_float(boxes.evaluate(everything)), values, atol=1e-9)


def test_two_exact_costs_need_no_search():
    space = Widths(4)
    other = ChainCost("other", -np.arange(5), (np.zeros((5, 5), int),) * 3)
    two = (CostObjective(other, space), CostObjective(space.costs["params"], space))
    problem = Problem(space, two)
    proof = prove(problem)
    np.testing.assert_array_equal(proven(problem, proof.genotypes), brute(problem))


def test_chain_with_a_lower_limit_is_searched():
    space = Widths(4)
    problem = Problem(
        space,
        (CostObjective(space.costs["params"], space),),
        (Constraint("params", ">=", 77),),
    )
    proof = prove(problem, threads=1)
    np.testing.assert_allclose(proven(problem, proof.genotypes), brute(problem))


def test_terms_in_pairs_are_found_and_triples_refused():
    sizes = [3, 4, 2, 5]
    boxes = pairwise_boxes(lambda g: np.cos(g[:, 0] * g[:, 3]) + g[:, 1] * 0.5 - 3, sizes)
    genotypes = every(sizes)
    expected = np.cos(genotypes[:, 0] * genotypes[:, 3]) + genotypes[:, 1] * 0.5 - 3
    np.testing.assert_allclose(boxes.to_float(boxes.evaluate(genotypes)), expected, rtol=1e-12)
    with pytest.raises(InvalidInputError, match="pairs of genes"):
        pairwise_boxes(lambda g: 1.0 * g[:, 0] * g[:, 1] * g[:, 3], sizes)


@pytest.mark.parametrize("kind", ["xgboost", "linear", "pairwise", "ensemble"])
def test_fitted_predictors_are_taken_apart(kind):
    pytest.importorskip("xgboost")
    pytest.importorskip("scipy")
    rng = np.random.default_rng(0)
    choices = [np.array([1.0, 2, 4, 7])] * 4
    genotypes = rng.integers(0, 4, (200, 4))
    features = np.stack([c[genotypes[:, i]] for i, c in enumerate(choices)], axis=1)
    targets = features.sum(axis=1) + np.sin(features[:, 0] * features[:, 1])
    predictor = create_predictor(kind)
    if kind == "xgboost":
        predictor.trees = 20
    predictor.fit(features, targets)

    def seen(rows):
        return np.stack([c[rows[:, i]] for i, c in enumerate(choices)], axis=1)

    boxes = predictor_boxes(predictor, choices, seen)
    tolerance = 0 if kind == "xgboost" else 1e-9
    found = boxes.to_float(boxes.evaluate(genotypes))
    np.testing.assert_allclose(found, predictor.predict(seen(genotypes)).mean, rtol=tolerance)
    np.testing.assert_array_equal(boxes.on_grid().predict(genotypes), found)


def test_strategy_proposes_the_front_and_goes_on_from_its_state():
    problem = make_problem()
    strategy = Exact(problem, seed=1, start=200, threads=1)
    assert strategy.certificate is None
    first = strategy.ask(3)
    state = strategy.state_dict()
    rest = strategy.ask(1000)
    again = Exact(problem, seed=1, start=200, threads=1)
    again.load_state_dict(state)
    np.testing.assert_array_equal(again.ask(1000), rest)
    assert again.certificate == strategy.certificate
    assert len(again.ask(5)) == 0
    np.testing.assert_allclose(
        proven(problem, np.concatenate([first, rest])), brute(problem), rtol=1e-12
    )


def test_study_of_an_exact_search_is_the_front(tmp_path):
    problem = make_problem(constraints=(Constraint("params", "<=", 60),))
    store = f"sqlite:///{tmp_path / 'a.db'}"
    result = Study(problem, Exact, store, "proof").run(1000)
    assert result.stop_reason == "exhausted"
    np.testing.assert_allclose(result.front().objectives, brute(problem), rtol=1e-12)
    assert len(result) == len(brute(problem))
    assert len(Study(problem, Exact, store, "proof").run(1000)) == len(result)


def test_what_cannot_be_certified_is_said():
    problem = make_problem()
    space, loss = problem.space, problem.objectives[0]
    opaque = load_objective("opaque", space)
    with pytest.raises(InvalidInputError, match="got opaque"):
        make_form(Problem(space, (opaque,)))
    with pytest.raises(
        InvalidInputError, match=r"got opaque .*; loss alone has a certified optimum"
    ):
        make_form(Problem(space, (loss, opaque)))
    limited = Problem(space, (loss,), (Constraint("opaque", "<=", 9),), metrics=(opaque,))
    with pytest.raises(InvalidInputError, match=r"exact costs .params. .* got opaque<=9"):
        make_form(limited)
    assert [c.metric for c in Exact(limited).dropped] == ["opaque"]
    relaxed = prove(limited, relax=True, threads=1)
    assert [c.metric for c in relaxed.dropped] == ["opaque"]
    with pytest.raises(InvalidInputError, match="threads at least 1"):
        Exact(problem, threads=0)


@pytest.mark.parametrize("objective", ["loss", "score"])
def test_an_objective_keeps_a_limit_of_its_own(objective):
    values = make_problem(objective, False).objectives[0].evaluate(every([4] * 5))
    # Between values: terms that are floats are rounded, and ties with a limit go either way.
    bounds = values.min() - 1, np.sort(values)[511:513].mean(), values.max() + 1
    for sense, bound in itertools.product(("<=", ">="), bounds):
        problem = make_problem(objective, False, (Constraint(objective, sense, bound),))
        proof = prove(problem, threads=1)
        assert proof.certificate.is_complete
        np.testing.assert_allclose(proven(problem, proof.genotypes), brute(problem), rtol=1e-12)


def test_certificate_must_add_up():
    with pytest.raises(InvalidInputError, match="account for 10"):
        Certificate(10, 1, 2, 3, 0.0, 0.0, 0.0, 1, 1.0, 1.0)
    part = Certificate(10, 1, 2, 3, 0.5, 0.1, 0.4, 1, 1.0, 0.25)
    assert not part.is_complete
    assert part.remaining == 3.0


@pytest.fixture
def nastool(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NASTOOL_STORAGE", raising=False)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments):
        result = CliRunner().invoke(main, ["--plugin", str(PLUGIN), *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout  # progress of a slow machine is on stderr

    return run


def test_search_prints_the_certificate(nastool):
    pair = ("--objective", "loss", "--objective", "params")
    output = nastool(
        "search", "--space", "pairs", "--strategy", "exact", *pair, "--option", "start=100"
    )
    assert "certificate" in output
    assert "1,024 architectures accounted for" in " ".join(output.split())


def test_search_says_that_a_budget_cuts_the_front_short(nastool):
    size = len(brute(make_problem()))
    search = ("search", "--space", "pairs", "--strategy", "exact", "--option", "start=100")
    pair = ("--objective", "loss", "--objective", "params")
    for _ in range(2):  # what is stored is said again
        output = " ".join(nastool(*search, *pair, "--budget", "5").split())
        assert f"BUDGET only the first 5 of the {size} points found" in output
        assert f"--budget {size} shows all" in output
    assert "BUDGET" not in nastool(*search, *pair, "--budget", str(size))


def test_search_under_what_cannot_be_certified_is_a_bound(nastool):
    search = ("search", "--space", "pairs", "--strategy", "exact", "--option", "start=100")
    pair = ("--objective", "loss", "--objective", "params", "--storage", "none")
    output = " ".join(nastool(*search, *pair, "--max", "opaque=15").split())
    assert "BOUND" in output
    assert "opaque<=15 left out of the proof" in output


def test_that_nothing_is_allowed_is_proven(nastool, tmp_path):
    for strict in ("loss<=-1000", "score>=1000"):
        result = CliRunner().invoke(
            main,
            ["--plugin", str(PLUGIN), "search", "--space", "pairs", "--strategy", "exact",
             "--objective", "loss", "--objective", "params", "--constraint", strict],
        )  # fmt: skip
        assert result.exit_code == 2
        assert "Error: proven: no architecture satisfies the constraints; 1,024" in result.output


def test_compare_beside_the_true_front(nastool, tmp_path):
    pair = ("--objective", "score", "--objective", "params", "--strategy", "random")
    command = ("compare", "--space", "pairs", *pair, "--seeds", "2", "--budget", "60")
    names = ("--name", "mine", "--format", "json")
    nastool(*command, *names, "--true-front", "--output", "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["reference"]["front"] == "given"
    assert content["reference"]["points"] == len(brute(make_problem("score")))
    found = content["strategies"][0]["indicators"]
    assert found["gap"]["values"] == [1 - share for share in found["hypervolume"]["values"]]
    assert min(found["gap"]["values"]) > 0
    table = " ".join(nastool(*command, "--name", "mine").split())
    assert "of the front of all runs" in table
    # Shown again, a comparison knows what was proven for it.
    shown = " ".join(nastool("show", "mine").split())
    assert "of the true front" in shown
    assert "gap" in shown


def test_regret_of_a_front_and_of_an_optimum(nastool, checked_json):
    pair = ("--objective", "score", "--objective", "params")
    search = ("search", "--space", "pairs", "--strategy", "random", "--budget", "60")
    nastool(*search, *pair, "--study", "front")
    content = checked_json(nastool("regret", "front", "--format", "json"))
    truth = brute(make_problem("score"))
    assert content["proven"]
    assert content["points"] == len(truth)
    assert 0 < content["gap"] < 1
    assert content["hypervolume"] < content["true_hypervolume"]
    assert "true hypervolume" in nastool("regret", "front")

    nastool(*search, "--objective", "score", "--max", "params=60", "--study", "best")
    content = checked_json(nastool("regret", "best", "--format", "json"))
    limited = make_problem("score", False, (Constraint("params", "<=", 60),))
    optimum = -brute(limited)[0, 0]
    assert content["optimum"] == pytest.approx(optimum)
    assert content["gap"] == pytest.approx(optimum - content["best"])
    assert content["largest_gap"] == pytest.approx(content["gap"])
    assert "regret" in nastool("regret", "best")
    # What the exact strategy found has none.
    nastool("search", "--space", "pairs", "--strategy", "exact", *pair, "--study", "exact")
    content = json.loads(nastool("regret", "exact", "--format", "json"))
    assert content["gap"] == pytest.approx(0, abs=1e-12)
    assert content["hit"] == content["points"]
