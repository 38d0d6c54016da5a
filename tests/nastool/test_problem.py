import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest

from nastool.constraint import Constraint, parse_constraint
from nastool.errors import InfeasibleError, InvalidInputError, NastoolError
from nastool.objective import Direction, Kind, Objective, Provenance, RankAgreement
from nastool.problem import CostObjective, Problem
from nastool.space import ChainCost, Gene, SearchSpace
from nastool.testing import Formula, Mixed, Widths

WIDTHS = (1, 2, 4, 8)


class Toy(SearchSpace):
    """Four widths; `params` is the sum of products of neighbours, `bytes` is linear."""

    name = "toy"
    genes = tuple(Gene(f"layer_{i}", WIDTHS, ordered=True) for i in range(1, 5))

    @property
    def costs(self):
        widths = np.array(WIDTHS)
        return {
            "params": ChainCost("params", widths, (np.outer(widths, widths),) * 3),
            "bytes": ChainCost("bytes", widths, (np.tile(widths, (4, 1)),) * 3, "B"),
        }


class Fake(Objective):
    """Adds up the choices; says of itself whatever a test needs."""

    def __init__(self, name="score", kind=Kind.PREDICTED, direction=Direction.MINIMIZE, unit=""):
        self._name, self._kind, self._direction, self._unit = name, kind, direction, unit
        self.calls = 0

    @property
    def name(self):
        return self._name

    @property
    def unit(self):
        return self._unit

    @property
    def direction(self):
        return self._direction

    @property
    def provenance(self):
        return Provenance(self._kind, "a test")

    @property
    def fingerprint(self):
        return f"fake {self._name} {self._kind.value}"

    def evaluate(self, genotypes):
        self.calls += 1
        return Toy().features(genotypes).sum(axis=1)


SPACE = Toy()
EVERY = np.array(list(itertools.product(range(4), repeat=4)))
PARAMS = SPACE.costs["params"].evaluate(EVERY)
SUMS = SPACE.features(EVERY).sum(axis=1)


def problem(*texts, **changes):
    arguments = {"objectives": (Fake(),), "constraints": tuple(map(parse_constraint, texts))}
    return Problem(SPACE, **(arguments | changes))


def test_values_are_reported_in_natural_signs_and_minimised_inside():
    worst = Fake("quality", direction=Direction.MAXIMIZE)
    toy = problem("params<=50", "bytes>=8B", objectives=(Fake(), worst))
    assert [metric.name for metric in toy.reported] == ["score", "quality", "params", "bytes"]
    values = toy.values(EVERY)
    np.testing.assert_array_equal(values["quality"], SUMS)
    np.testing.assert_array_equal(values["params"], PARAMS)
    evaluations = toy.evaluate(EVERY)
    np.testing.assert_array_equal(evaluations.objectives, np.stack([SUMS, -SUMS], axis=1))
    np.testing.assert_array_equal(evaluations.feasible, (PARAMS <= 50) & (SUMS >= 8))
    np.testing.assert_array_equal(evaluations.feasible, toy.admissible(EVERY))


def test_minimised_values_are_floats_of_their_own():
    toy = problem(objectives=(Fake(), Fake("quality", direction=Direction.MAXIMIZE)))
    values = np.array([[3, 5], [0, 7]])
    found = toy.evaluations(EVERY[:2], values).objectives
    assert found.tolist() == [[3.0, -5.0], [0.0, -7.0]]
    assert found.dtype == np.float64
    assert values.tolist() == [[3, 5], [0, 7]]


def test_what_somebody_tells_of_genotypes_is_checked():
    toy = problem("params<=50")
    values = [[3.0, 9], [np.inf, 9], [-np.inf, 9], [4, -np.inf]]
    told = toy.evaluations(EVERY[:4].tolist(), values)
    assert told.feasible.tolist() == [True, False, False, False]
    assert np.array_equal(told.objectives[:, 0], [3, np.nan, np.nan, 4], equal_nan=True)
    rule = r"^values must be real numbers of shape \(2, 2\), in columns score, params, got "
    for wrong in (np.zeros(2), np.zeros((2, 3)), [[1], [2]], [["a", "b"]] * 2, None, {"score": 1}):
        with pytest.raises(InvalidInputError, match=rule):
            toy.evaluations(EVERY[:2], wrong)
    with pytest.raises(InvalidInputError, match="must be an index below 4, got 4"):
        toy.evaluations(EVERY[:2] + 4, np.zeros((2, 2)))


def test_the_evaluator_runs_each_metric_once():
    toy = problem("params<=50", "params>=5", "score<=20")
    seen = []

    def evaluator(objective, genotypes):
        seen.append(objective.name)
        return objective.evaluate(genotypes)

    toy.evaluate(EVERY, evaluator)
    assert seen == ["score", "params"]


def test_a_metric_of_the_wrong_shape_is_refused():
    with pytest.raises(InvalidInputError, match=r"'score' must return shape \(256,\), got \(1,\)"):
        problem().evaluate(EVERY, lambda objective, genotypes: np.zeros(1))


def test_a_constrained_metric_of_the_wrong_shape_is_refused():
    class Scalar(Fake):
        def evaluate(self, genotypes):
            return np.zeros((len(genotypes), 1))

    toy = problem("odd<=9", metrics=(Scalar("odd"),))
    with pytest.raises(NastoolError, match=r"first 256 .* odd must return 1 real numbers"):
        toy.admissible(EVERY)


@pytest.mark.parametrize(
    "texts",
    [
        (),
        ("params<=50",),
        ("params>=30", "params<=90"),
        ("params<=50", "bytes>=8B"),
        ("params<=60", "score>=9"),
        ("score<=9",),
    ],
)
def test_samples_are_uniform_over_what_is_admissible(texts, uniformity):
    toy = problem(*texts)
    admissible = toy.admissible(EVERY)
    assert 0 < admissible.sum() <= 256
    drawn = toy.sample(40 * int(admissible.sum()), np.random.default_rng(0))
    counts = np.bincount(SPACE.keys(drawn), minlength=256)
    assert counts[~admissible].sum() == 0
    assert uniformity(counts[admissible]) > 1e-4
    again = toy.sample(40 * int(admissible.sum()), np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, again)


def test_measured_metrics_are_not_evaluated_beforehand():
    slow = Fake("latency", Kind.MEASURED, unit="s")
    toy = problem("latency<=9s", "params<=50", metrics=(slow,))
    assert [c.metric for c in toy.hard_constraints] == ["params"]
    drawn = toy.sample(100, np.random.default_rng(1))
    assert slow.calls == 0
    assert not toy.evaluate(drawn).feasible.all()


def test_the_smallest_bound_counts():
    toy = problem("params<=200", "params<=50")
    drawn = toy.sample(500, np.random.default_rng(2))
    assert SPACE.costs["params"].evaluate(drawn).max() <= 50


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("params<=3",), r"params<=3 cannot be met: the smallest .* of toy has params 4 \(4\)"),
        (("params>=2G",), r"params>=2G cannot be met: the largest .* params 200 \(200\)"),
        (("bytes<=1B",), r"bytes<=1B cannot be met: .* bytes 4B"),
        (("params>=60", "params<=50"), "no architecture has params between 60 and 50"),
    ],
)
def test_impossible_constraints_are_proven(texts, message):
    with pytest.raises(InfeasibleError, match=message):
        problem(*texts)


def test_constraints_that_are_impossible_together_end(monkeypatch):
    monkeypatch.setattr("nastool.problem._DRAWS", 3)
    toy = problem("params<=5", "score>=30")
    with pytest.raises(InfeasibleError, match=r"10 architectures .* were wanted, 0 found"):
        toy.sample(10, np.random.default_rng(3))


def test_fewer_draws_are_enough_where_said(monkeypatch):
    monkeypatch.setattr("nastool.problem._DRAWS", 3)
    toy = problem("score<=4")  # one of the 256
    drawn = toy.sample(300, np.random.default_rng(0), least=1)
    assert 1 <= len(drawn) < 300
    assert not drawn.any()
    with pytest.raises(InfeasibleError, match=f"300 .* were wanted, {len(drawn)} found"):
        toy.sample(300, np.random.default_rng(0))
    impossible = problem("params<=5", "score>=30")
    assert impossible.sample(10, np.random.default_rng(0), least=0).shape == (0, 4)
    with pytest.raises(InfeasibleError, match="0 found"):
        impossible.sample(10, np.random.default_rng(0), least=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objectives": ()}, "at least one objective"),
        ({"objectives": (Fake(), Fake())}, "distinct names, got score, score"),
        ({"objectives": Fake()}, "objectives must be a list, got Fake"),
        ({"constraints": "score<=1"}, "constraints must be a list, got str 'score<=1'"),
        ({"constraints": ["score<=1"]}, "a constraint must be a Constraint"),
        ({"objectives": (Fake(), Fake("shape"))}, "must not be shape, .* or name, .* got shape"),
        (
            {
                "metrics": (Fake("feasible", Kind.MEASURED),),
                "constraints": (Constraint("feasible", "<=", 1.0),),
            },
            "must not be shape, .* or name, .* got feasible",
        ),
        (
            {"constraints": (Constraint("speed", "<=", 1.0),)},
            "unknown metric 'speed'; known: bytes, params, score",
        ),
        (
            {"constraints": (Constraint("params", "<=", 50.0, "B"),)},
            "params<=50B: params is measured in plain numbers, got a bound in B",
        ),
        (
            {"constraints": (Constraint("bytes", "<=", 50.0, "s"),)},
            "bytes is measured in B, got a bound in s",
        ),
    ],
)
def test_problems_are_validated(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        problem(**arguments)


def test_an_objective_replaces_the_cost_of_its_name():
    own = CostObjective(ChainCost("params", np.ones(4), (np.ones((4, 4)),) * 3), SPACE)
    assert problem(objectives=(own,)).metric("params") is own
    assert own.fingerprint != problem().metric("params").fingerprint


def test_costs_are_known_to_stores_of_earlier_versions():
    assert problem().metric("params").fingerprint == "7443c919b7e9357f"


def test_the_fingerprint_changes_with_whatever_changes_the_values():
    variants = [
        problem(),
        problem("params<=50"),
        problem("params<=51"),
        problem("params>=50"),
        problem(objectives=(Fake("other"),)),
        problem(objectives=(Fake(direction=Direction.MAXIMIZE),)),
        problem(objectives=(Fake(kind=Kind.MEASURED),)),
    ]
    assert len({variant.fingerprint for variant in variants}) == len(variants)
    assert problem("params<=50").fingerprint == variants[1].fingerprint


def test_provenance_reads_as_a_sentence():
    exact = Provenance(Kind.COMPUTED, "closed form")
    assert str(exact) == "computed (closed form)"
    proxy = Provenance(Kind.PREDICTED, "trees", "held-out R2 0.99", "minilm-12")
    assert str(proxy) == "predicted (trees, held-out R2 0.99); PROXY: minilm-12"
    known = (RankAgreement("a paper", 0.87, 10, published=True), RankAgreement("news", 0.2, 1280))
    trusted = Provenance(Kind.PREDICTED, "trees", agreements=known)
    assert str(trusted) == (
        "predicted (trees); rank agreement with a paper 0.87 (10 shapes), news 0.20 (1,280 shapes)"
    )


def test_what_contradicts_a_published_order_says_so_first():
    known = RankAgreement("a paper", 0.49, 10, published=True)
    against = Provenance(Kind.PREDICTED, "trees", agreements=(known,))
    assert str(against).startswith("CONTRADICTS a paper 0.49 (10 shapes): predicted (trees)")
    for other in (replace(known, spearman=0.5), replace(known, published=False)):
        assert Provenance(Kind.PREDICTED, "trees", agreements=(other,)).contradiction == ""


@pytest.mark.parametrize(("spearman", "n"), [(1.1, 10), (float("nan"), 10), (0.5, 2)])
def test_rank_agreements_are_checked(spearman, n):
    with pytest.raises(InvalidInputError, match="between -1 and 1"):
        RankAgreement("a paper", spearman, n)


# Computed is not cheap


class Counting(Fake):
    """Counts how often it is asked for each shape."""

    def __init__(self, name):
        super().__init__(name)
        self.asked = {}

    def evaluate(self, genotypes):
        for row in genotypes.tolist():
            self.asked[tuple(row)] = self.asked.get(tuple(row), 0) + 1
        return super().evaluate(genotypes)


def test_a_bounded_metric_is_computed_once_a_shape():
    counting = Counting("odd")
    toy = problem("odd<=9", metrics=(counting,))
    plain = problem("odd<=9", metrics=(Fake("odd"),))
    expected = Fake("odd").evaluate(EVERY) <= 9
    for _ in range(3):
        np.testing.assert_array_equal(toy.admissible(EVERY), expected)
        rng, other = np.random.default_rng(1), np.random.default_rng(1)
        np.testing.assert_array_equal(toy.sample(50, rng), plain.sample(50, other))
    values = toy.compute(counting, EVERY[::3]).values
    np.testing.assert_array_equal(values, Fake("odd").evaluate(EVERY[::3]))
    assert set(counting.asked.values()) == {1}


def test_not_all_that_is_drawn_is_looked_at():
    counting = Counting("odd")
    toy = problem("odd<=1e9", metrics=(counting,))
    assert len(toy.sample(1, np.random.default_rng(0))) == 1
    assert sum(counting.asked.values()) <= 32


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr("nastool.problem._CAPACITY", 64)
    counting = Counting("odd")
    toy = problem("odd<=9", metrics=(counting,))
    expected = Fake("odd").evaluate(EVERY) <= 9
    for _ in range(2):
        for begin in range(0, len(EVERY), 16):
            rows = slice(begin, begin + 16)
            np.testing.assert_array_equal(toy.admissible(EVERY[rows]), expected[rows])
    memory = toy._memories["odd"]
    assert len(memory._recent) + len(memory._older) <= 2 * 64
    # In another process it is computed anew.
    assert not copy.deepcopy(memory)._recent


def test_equivalent_shapes_are_computed_once():
    counting = Formula("sum", lambda g: asked.extend(g.tolist()) or g.sum(axis=1) * 1.0)
    asked = []
    mixed = Mixed()
    toy = Problem(mixed, (Formula("loss", len),), (Constraint("sum", "<=", 6),), (counting,))
    # The kernel means nothing where the operator is skipped.
    same = np.array([[2, kernel, 3, 0, 1] for kernel in range(4)])
    assert toy.admissible(same).tolist() == [True] * 4
    assert asked == [[2, 0, 3, 0, 1]]


@pytest.mark.parametrize(
    ("unit", "said"), [("ms", "values must be in s, got ms"), ("GB", "in B, got GB")]
)
def test_metrics_are_in_base_units(unit, said):
    """A bound of 5 ms would be 0.005, and values of 5 ms be 5."""
    slow = Fake("latency", unit=unit)
    with pytest.raises(InvalidInputError, match=f"^metric latency: .*{said}$"):
        Problem(Widths(), (slow,))
    Problem(Widths(), (Fake("latency", unit="s"), Fake("cost", unit="euro")))


@pytest.mark.parametrize(
    ("chain", "said"),
    [
        (ChainCost("other", np.zeros(5), (np.zeros((5, 5)),) * 3), "must be named 'score'"),
        (
            ChainCost("score", np.zeros(5), (np.zeros((5, 5)),) * 2),
            "must have terms for 5, 5, 5, 5",
        ),
        ("score", "must be a ChainCost or a ConditionalCost, got str"),
    ],
)
def test_a_metric_that_says_it_is_another_cost_is_refused_in_one_line(chain, said):
    class Chained(Formula):
        def chain(self):
            return chain

    metric = Chained("score", lambda genotypes: genotypes.sum(axis=1) * 1.0)
    Problem(Widths(), (metric,))
    with pytest.raises(InvalidInputError, match=f"score: its chain {said}"):
        Problem(Widths(), (metric,), (Constraint("score", "<=", 3),))
