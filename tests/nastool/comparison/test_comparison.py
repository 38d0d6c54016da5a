"""Comparisons: runs, indicators, curves, tests of significance, attainment surfaces."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from nastool import pareto
from nastool.comparison.comparison import Comparison, compare, load_comparison, runs_of
from nastool.constraint import parse_constraint
from nastool.errors import InvalidInputError, NastoolError
from nastool.objective import Direction
from nastool.pareto.indicators import Indicator, attained, holm, median_interval, p_value, summary
from nastool.problem import Problem
from nastool.store import open_store
from nastool.strategies.base import Strategy
from nastool.study import Study
from nastool.testing import Formula, Widths

GRID = Widths(4, tuple(range(6)))
WEIGHTS = np.array([1.0, 1.7, 2.3, 3.1])
COST = Formula("cost", lambda g: g @ WEIGHTS)
GAIN = Formula("gain", lambda g: np.sqrt(g) @ WEIGHTS[::-1], Direction.MAXIMIZE)


class Uniform(Strategy):
    def ask(self, n):
        return self.problem.sample(n, self.rng)

    def tell(self, evaluations):
        pass


class Greedy(Uniform):
    """Mutates points of the front found so far."""

    def __init__(self, problem, seed=0):
        super().__init__(problem, seed)
        self.parents = None

    def ask(self, n):
        if self.parents is None:
            return super().ask(n)
        children = self.parents[self.rng.integers(0, len(self.parents), n)]
        columns = self.rng.integers(0, 4, n)
        children[np.arange(n), columns] = self.rng.integers(0, 6, n)
        return children

    def tell(self, evaluations):
        self.parents = evaluations.genotypes[pareto.non_dominated(evaluations.objectives)]

    def state_dict(self):
        return {**super().state_dict(), "parents": self.parents}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.parents = state["parents"]


def problem(**options):
    return Problem(GRID, (COST, GAIN), **options)


STRATEGIES = {"uniform": Uniform, "greedy": Greedy}


@pytest.fixture(scope="module")
def comparison():
    return compare(
        problem(), STRATEGIES, range(7), 120, batch_size=20, bounds=[parse_constraint("cost<=10")]
    )


def all_genotypes():
    return np.stack(np.meshgrid(*[np.arange(6)] * 4, indexing="ij"), -1).reshape(-1, 4)


def test_every_strategy_runs_with_every_seed(comparison):
    assert {name: len(runs) for name, runs in comparison.results.items()} == {
        "uniform": 7,
        "greedy": 7,
    }
    assert all(len(run) == 120 for runs in comparison.results.values() for run in runs)
    first, second = (run.evaluations.genotypes for run in comparison.results["uniform"][:2])
    assert not np.array_equal(first, second)


def test_indicators_equal_their_definitions(comparison):
    reference = comparison.reference_front
    extent = np.ptp(reference, axis=0)
    low = reference.min(axis=0)
    point = reference.max(axis=0) + 0.1 * extent
    np.testing.assert_allclose(comparison.reference_point, point)
    for strategy, runs in comparison.results.items():
        for k, run in enumerate(runs):
            front = run.front().objectives
            share = pareto.hypervolume(front, point) / pareto.hypervolume(reference, point)
            assert comparison.scores("hypervolume")[strategy][k] == pytest.approx(share)
            scaled = (front - low) / extent, (reference - low) / extent
            igd = comparison.scores("igd_plus")[strategy][k]
            assert igd == pytest.approx(pareto.igd_plus(*scaled))
            epsilon = comparison.scores("additive_epsilon")[strategy][k]
            assert epsilon == pytest.approx(pareto.additive_epsilon(*scaled))
            values = run.values()
            assert comparison.scores("best gain")[strategy][k] == values["gain"].max()
            under = values["gain"][values["cost"] <= 10].max()
            assert comparison.scores("best gain under cost<=10")[strategy][k] == under


def test_the_union_of_runs_bounds_each(comparison):
    for strategy in STRATEGIES:
        assert np.all(comparison.scores("hypervolume")[strategy] <= 1 + 1e-12)
        assert np.all(comparison.scores("additive_epsilon")[strategy] >= 0)


def test_a_true_front_takes_the_place_of_the_union(comparison):
    genotypes = all_genotypes()
    everything = problem().evaluate(genotypes).objectives
    truth = everything[pareto.non_dominated(everything)]
    against_truth = Comparison(
        comparison.problem, comparison.results, comparison.seeds, 120, true_front=truth
    )
    np.testing.assert_array_equal(against_truth.reference_front, np.unique(truth, axis=0))
    assert np.all(against_truth.scores("igd_plus")["uniform"] > 0)
    exact = compare(problem(), {"all": Uniform}, [0], 6**4, batch_size=500, true_front=truth)
    assert exact.scores("hypervolume")["all"] == pytest.approx([1.0])
    assert exact.scores("igd_plus")["all"] == pytest.approx([0.0])


def test_scores_of_a_prefix_equal_a_shorter_comparison(comparison):
    shorter = compare(problem(), STRATEGIES, range(7), 50, batch_size=20)
    mine = Comparison(
        comparison.problem, comparison.results, comparison.seeds, 120, shorter.reference_front
    )
    for name in ("hypervolume", "igd_plus", "best cost"):
        for strategy in STRATEGIES:
            np.testing.assert_allclose(
                mine.scores(name, 50)[strategy], shorter.scores(name)[strategy]
            )


@pytest.mark.parametrize("axis", ["evaluations", "seconds"])
def test_curves_end_at_the_scores_and_never_get_worse(comparison, axis):
    for indicator in comparison.indicators:
        curve = comparison.curve(indicator.name, axis, points=15)
        assert np.all(np.diff(curve.x) > 0)
        for strategy, values in curve.values.items():
            assert values.shape == (7, len(curve.x))
            np.testing.assert_allclose(values[:, -1], comparison.scores(indicator.name)[strategy])
            sign = 1 if indicator.higher_is_better else -1
            steps = np.diff(np.where(np.isfinite(values), sign * values, -1e300), axis=1)
            assert np.all(steps >= -1e-9)


def test_summaries_are_sorted_and_contain_the_median(comparison):
    for name in ("hypervolume", "igd_plus", "best gain"):
        rows = comparison.summaries(name)
        higher = rows[0].indicator.higher_is_better
        medians = [row.median for row in rows]
        assert medians == sorted(medians, reverse=higher)
        for row in rows:
            assert row.median == np.median(row.values)
            assert row.values.min() <= row.low <= row.median <= row.high <= row.values.max()


def test_a_clearly_better_strategy_is_significantly_better(comparison):
    (test,) = comparison.tests("igd_plus")
    assert (test.first, test.second) == ("uniform", "greedy")
    assert test.first_is_better < 0.2
    assert test.p_value == test.corrected < 0.05
    (paired,) = comparison.tests("igd_plus", paired=True)
    assert paired.p_value < 0.05


def test_the_direction_of_an_indicator_decides_who_is_better(comparison):
    (volume,) = comparison.tests("hypervolume")
    (epsilon,) = comparison.tests("additive_epsilon")
    assert volume.first_is_better < 0.5
    assert epsilon.first_is_better < 0.5


def test_attainment_equals_counting(comparison):
    surface = comparison.attainment("uniform", (0.25, 0.5, 1.0))
    fronts = [run.values(run.front().genotypes) for run in comparison.results["uniform"]]
    for row, level in enumerate(surface.levels):
        for x, y in zip(surface.x, surface.y[row], strict=True):
            reach = [front["gain"][front["cost"] <= x].max(initial=-np.inf) for front in fronts]
            needed = int(np.ceil(level * 7))
            if np.isnan(y):
                assert np.sum(np.isfinite(reach)) < needed
            else:
                assert np.sum(np.array(reach) >= y) >= needed > np.sum(np.array(reach) > y)


def test_a_name_keeps_its_problem_and_is_no_studys():
    with open_store("sqlite://") as store:
        compare(problem(), STRATEGIES, range(1), 20, store=store, name="c")
        other = problem(constraints=(parse_constraint("cost<=20"),))
        with pytest.raises(InvalidInputError, match="made with constraints"):
            compare(other, {"more": Uniform}, range(1), 20, store=store, name="c")
        assert [run.name for run in runs_of(store, "c")] == ["c/uniform/0", "c/greedy/0"]
        assert set(load_comparison(store, "c", problem()).results) == set(STRATEGIES)
        Study(problem(), Uniform, store, "s").run(20)
        with pytest.raises(InvalidInputError, match="got 's', a study"):
            compare(problem(), STRATEGIES, range(1), 20, store=store, name="s")


def test_a_comparison_goes_on_and_reopens(tmp_path, comparison):
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:

        def stop(strategy, seed, done, total):
            if (strategy, seed, done >= 60) == ("greedy", 1, True):
                raise KeyboardInterrupt

        options = {"batch_size": 20, "store": store, "name": "c"}
        with pytest.raises(KeyboardInterrupt):
            compare(problem(), STRATEGIES, range(3), 120, progress=stop, **options)
        early = load_comparison(store, "c", problem())
        assert early.seeds == (0,)
        calls = []
        whole = compare(
            problem(), STRATEGIES, range(3), 120, progress=lambda *a: calls.append(a), **options
        )
        reopened = load_comparison(store, "c", problem())
        # The run that was stopped goes on from its last committed state.
        assert [done for name, seed, done, _ in calls if (name, seed) == ("uniform", 0)] == [120]
        assert reopened.seeds == whole.seeds == (0, 1, 2)
        smaller = compare(problem(), STRATEGIES, range(3), 40, **options)
        fresh = compare(problem(), STRATEGIES, range(3), 40, batch_size=20)
        np.testing.assert_array_equal(smaller.reference_front, fresh.reference_front)
        with pytest.raises(InvalidInputError, match="comparison 'd'"):
            load_comparison(store, "d", problem())
    for strategy in STRATEGIES:
        for k in range(3):
            expected = comparison.results[strategy][k].evaluations.genotypes
            for made in (whole, reopened):
                np.testing.assert_array_equal(
                    made.results[strategy][k].evaluations.genotypes, expected
                )


def test_an_interrupted_run_ends_the_comparison():
    def interrupt(genotypes):
        raise KeyboardInterrupt

    broken = Problem(GRID, (Formula("cost", interrupt),))
    with pytest.raises(KeyboardInterrupt):
        compare(broken, {"uniform": Uniform}, [0], 20)


def test_one_objective_has_a_front_of_one_point():
    single = Problem(GRID, (COST,))
    made = compare(single, {"uniform": Uniform}, [0, 1], 40)
    scores = made.scores("hypervolume")["uniform"]
    assert scores.max() == pytest.approx(1.0)
    assert np.all((scores >= 0) & (scores <= 1 + 1e-12))
    with pytest.raises(InvalidInputError, match="two objectives"):
        made.attainment("uniform")


def test_a_run_that_finds_nothing_is_the_worst():
    class Corner(Uniform):
        def ask(self, n):
            genotypes = super().ask(n)
            genotypes[:, 0] = 5
            return genotypes

    limited = Problem(
        GRID,
        (COST,),
        (parse_constraint("slow<=4"),),
        metrics=(Formula("slow", COST.evaluate, cheap=False),),
    )
    made = compare(limited, {"corner": Corner, "uniform": Uniform}, [0, 1, 2, 3, 4], 300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(made.scores("best cost")["corner"]).all()
        assert np.isinf(made.scores("igd_plus")["corner"]).all()
        assert (made.scores("hypervolume")["corner"] == 0).all()
        rows = made.summaries("best cost")
        assert [row.strategy for row in rows] == ["uniform", "corner"]
        made.summaries("igd_plus")
        # No zero is negative.
        (row,) = (row for row in made.summaries("hypervolume") if row.strategy == "corner")
        assert repr((row.median, row.low, row.high)) == "(0.0, 0.0, 0.0)"
        for paired in (False, True):
            (test,) = made.tests("best cost", paired=paired)
            assert (test.first_is_better, test.p_value < 0.1) == (0.0, True)
            (test,) = made.tests("igd_plus", paired=paired)
            assert test.first_is_better == 0.0
    with pytest.raises(NastoolError, match="no run found"):
        compare(limited, {"corner": Corner}, [0], 20)


def test_bad_arguments_are_refused(comparison):
    with pytest.raises(InvalidInputError, match="at least one strategy"):
        compare(problem(), {}, [0], 10)
    with pytest.raises(InvalidInputError, match="distinct seeds"):
        compare(problem(), STRATEGIES, [1, 1], 10)
    with pytest.raises(InvalidInputError, match="strategies must be a list, got str 'random'"):
        compare(problem(), "random", [0], 10)
    with pytest.raises(InvalidInputError, match="must be one of hypervolume"):
        comparison.scores("speed")
    with pytest.raises(InvalidInputError, match="strategy must be one of uniform"):
        comparison.attainment("other")
    with pytest.raises(InvalidInputError, match="levels must lie"):
        comparison.attainment("uniform", [0.0])
    with pytest.raises(InvalidInputError, match="levels must lie"):
        comparison.attainment("uniform", [0.5, 1.01])
    with pytest.raises(InvalidInputError, match="axis must be"):
        comparison.curve("hypervolume", "hours")
    with pytest.raises(InvalidInputError, match="true front must have shape"):
        Comparison(comparison.problem, comparison.results, comparison.seeds, 120, np.zeros((2, 3)))
    with pytest.raises(InvalidInputError, match="must have 1 runs"):
        Comparison(comparison.problem, comparison.results, (0,), 120)
    with pytest.raises(InvalidInputError, match="measured in plain numbers"):
        Comparison(
            comparison.problem,
            comparison.results,
            comparison.seeds,
            120,
            bounds=(parse_constraint("cost<=20ms"),),
        )


# Statistics


def test_holm_equals_its_published_example():
    # Holm by hand: 0.01 * 4, 0.02 * 3, max(0.06, 0.03 * 2), max(0.06, 0.04).
    np.testing.assert_allclose(holm([0.03, 0.01, 0.04, 0.02]), [0.06, 0.04, 0.06, 0.06])
    assert holm([]).shape == (0,)
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]


def test_intervals_cover_the_median_as_often_as_they_say():
    rng = np.random.default_rng(0)
    low, high, held = median_interval(rng.normal(size=(25, 4000)), 0.9)
    covered = np.mean((low <= 0) & (high >= 0))
    assert held >= 0.9
    assert covered == pytest.approx(held, abs=0.02)
    narrow = median_interval(rng.normal(size=(25, 400)), 0.5)
    assert np.mean(narrow[1] - narrow[0]) < np.mean(high - low)
    with pytest.raises(InvalidInputError, match="confidence"):
        median_interval([1.0], 95)
    with pytest.raises(InvalidInputError, match="at least one value"):
        median_interval([])


@pytest.mark.parametrize(("seeds", "coverage"), [(1, 0.0), (2, 0.5), (3, 0.75), (6, 0.96875)])
def test_few_seeds_have_their_range_and_no_more_confidence_than_it_holds(seeds, coverage):
    values = np.arange(float(seeds))
    low, high, held = median_interval(values, 0.95)
    assert (low, high, held) == (0.0, seeds - 1.0, coverage)


def test_an_interval_with_a_missing_value_is_missing():
    low, high, _ = median_interval([[1.0, np.nan], [2.0, 3.0]])
    assert (low[0], high[0]) == (1.0, 2.0)
    assert np.isnan([low[1], high[1]]).all()


@pytest.mark.parametrize(
    ("indicator", "values", "expected"),
    [
        ("best cost", [3, np.nan, 1, 2, np.nan], (3, 1, np.nan)),
        ("best cost", [np.nan, 1, np.nan, 2, np.nan], (np.nan, 1, np.nan)),
        ("best cost", [2, np.nan, 1, np.nan], (np.nan, 1, np.nan)),
        ("hypervolume", [0.5, 0.25, 1, 0, 0.75], (0.5, 0, 1)),
        ("hypervolume", [0.5, np.nan, 1, np.nan, 0.75], (0.5, np.nan, 1)),
        ("hypervolume", [np.nan, np.nan, 1, 0.5], (np.nan, np.nan, 1)),
    ],
)
def test_runs_that_found_nothing_count_as_the_worst_in_a_median(indicator, values, expected):
    chosen = Indicator(indicator, higher_is_better=indicator == "hypervolume")
    row = summary("one", chosen, np.array(values, dtype=np.float64), 0.95)
    assert (row.median, row.low, row.high) == pytest.approx(expected, nan_ok=True)


def test_p_values_are_uniform_enough_without_a_difference():
    rng = np.random.default_rng(1)
    values = [p_value(rng.normal(size=12), rng.normal(size=12)) for _ in range(300)]
    assert np.mean(np.array(values) < 0.05) < 0.1
    same = np.ones(5)
    assert p_value(same, same) == p_value(same, same, paired=True) == 1.0
    infinite = np.full(8, np.inf)
    assert p_value(infinite, infinite, paired=True) == 1.0
    assert p_value(infinite, np.arange(8.0), paired=True) < 0.05
    assert p_value(infinite, np.arange(8.0)) < 0.05


def test_ties_count_half_and_zero_differences_are_split():
    # All of n differences have one sign in 2 of 2^n cases.
    assert p_value(np.arange(1.0, 6), np.zeros(5), paired=True) == pytest.approx(2 / 32)
    # Zeros speak for neither but take ranks: of the ranks 4 to 8 only the 6 is negative, and in 4
    # of 32 cases on either side their sum is no larger. Left out, they would make it 10 of 32.
    zeros = p_value(np.array([0.0, 0, 0, 1, 2, -3, 4, 5]), np.zeros(8), paired=True)
    assert zeros == pytest.approx(8 / 32)
    infinite = np.array([np.inf] * 6)
    against = p_value(infinite, np.arange(6.0), paired=True)
    assert against == pytest.approx(p_value(np.full(6, 1e9), np.arange(6.0), paired=True), abs=0.02)
    assert p_value(np.r_[infinite, 1.0], np.r_[infinite, 0.0], paired=True) > 0.3
    # One side may be constant, and two constants may differ.
    assert p_value(np.ones(6), np.full(6, 2.0)) < 0.01
    assert p_value(np.ones(6), np.arange(6) * 1.0) < 1.0


def test_the_chance_to_win_counts_ties_half(comparison):
    assert comparison.tests("hypervolume") == comparison.tests("hypervolume", paired=False)
    rng = np.random.default_rng(0)
    a, b = rng.random(8), rng.random(8)
    assert p_value(a, b) == p_value(a, b, paired=False) != p_value(a, b, paired=True)
    for paired in (False, True):
        for name in ("hypervolume", "igd_plus", comparison.indicators[-1].name):
            higher = comparison.indicator(name).higher_is_better
            scores = comparison.scores(name)
            for test in comparison.tests(name, paired=paired):
                won = [
                    0.5 if a == b else float((a > b) == higher)
                    for a in scores[test.first]
                    for b in scores[test.second]
                ]
                assert test.first_is_better == pytest.approx(np.mean(won))
                assert test.corrected >= test.p_value


def test_attainment_by_hand():
    """One of two runs reaches what either front has, both what the worse one has."""
    fronts = [np.array([[1.0, 50.0], [3.0, 20.0]]), np.array([[2.0, 40.0], [4.0, 10.0]])]
    x, y = attained(fronts, np.array([0.5, 1.0]))
    assert x.tolist() == [1.0, 2.0, 3.0, 4.0]
    expected = [[50.0, 40.0, 20.0, 10.0], [np.nan, 50.0, 40.0, 20.0]]
    np.testing.assert_array_equal(y, expected)


def test_a_curve_over_time_ends_with_the_longest_run(comparison):
    ends = [run.elapsed[-1] for runs in comparison.results.values() for run in runs]
    starts = [run.elapsed[0] for runs in comparison.results.values() for run in runs]
    x = comparison.curve("hypervolume", "seconds").x
    assert x[-1] == max(ends)
    assert x[0] == pytest.approx(max(min(starts), 1e-6))
