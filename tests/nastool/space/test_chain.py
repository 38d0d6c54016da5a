import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nastool.errors import InfeasibleError, InvalidInputError
from nastool.space import ChainBudget, ChainCost, Count, chain


def random_cost(seed, cardinalities, kind="integer", spread=60):
    rng = np.random.default_rng(seed)
    shapes = [
        cardinalities[:1],
        *([a, b] for a, b in itertools.pairwise(cardinalities)),
    ]
    if kind == "integer":
        terms = [rng.integers(-spread, spread, size=shape) for shape in shapes]
    else:
        terms = [rng.normal(scale=spread, size=shape) for shape in shapes]
    return ChainCost("cost", terms[0], tuple(terms[1:]))


def everything(cost):
    return np.array(list(itertools.product(*map(range, cost.cardinalities))), dtype=np.int64)


def budget_by(method, monkeypatch, *arguments, **keywords):
    if method == "buckets":
        monkeypatch.setattr(chain, "_HALF_LIMIT", 0)
    budget = ChainBudget(*arguments, **keywords)
    assert type(budget._method).__name__.lower() == f"_{method}"
    return budget


CARDINALITIES = [(4,), (3, 5), (5, 1, 2), (2, 3, 4, 5), (4, 2, 3, 2, 3, 2), (1, 1)]
METHODS = ["halves", "buckets"]
WINDOWS = [(None, 0.5), (0.5, None), (0.3, 0.6), (None, 0.02), (0.97, None), (None, None)]


@pytest.mark.parametrize("kind", ["integer", "float"])
@pytest.mark.parametrize("cardinalities", CARDINALITIES)
def test_evaluate_minimum_and_maximum_agree_with_brute_force(cardinalities, kind):
    cost = random_cost(1, cardinalities, kind)
    every = everything(cost)
    expected = [
        cost.first[row[0]] + sum(s[a, b] for s, a, b in zip(cost.steps, row, row[1:], strict=False))
        for row in every.tolist()
    ]
    values = cost.evaluate(every)
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    for (value, genotype), extreme in [
        (cost.minimum, values.min()),
        (cost.maximum, values.max()),
    ]:
        assert value == extreme
        assert cost.evaluate(genotype[None])[0] == extreme


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", ["integer", "float"])
@pytest.mark.parametrize("cardinalities", CARDINALITIES)
@pytest.mark.parametrize("method", METHODS)
def test_count_and_support_agree_with_brute_force(method, cardinalities, kind, window, monkeypatch):
    cost = random_cost(2, cardinalities, kind)
    every = everything(cost)
    costs = cost.evaluate(every)
    # Bounds lie exactly on costs that occur: both ends belong to the budget.
    quantile = lambda q: float(np.quantile(costs, q, method="nearest"))  # noqa: E731
    lower = -math.inf if window[0] is None else quantile(window[0])
    upper = math.inf if window[1] is None else quantile(window[1])
    inside = (costs >= lower) & (costs <= upper)
    budget = budget_by(method, monkeypatch, cost, upper=upper, lower=lower)
    assert budget.count.low <= inside.sum() <= budget.count.high
    if kind == "integer" or window == (None, None):
        assert budget.count == Count(inside.sum(), inside.sum())
    np.testing.assert_array_equal(budget.contains(every), inside)
    drawn = budget.sample(40 * int(inside.sum()), np.random.default_rng(3))
    assert drawn.dtype == np.int64
    expected = {tuple(row) for row in every[inside].tolist()}
    assert {tuple(row) for row in drawn.tolist()} == expected


@pytest.mark.parametrize("kind", ["integer", "float", "large integer"])
@pytest.mark.parametrize("method", METHODS)
def test_draws_are_uniform(method, kind, monkeypatch, uniformity):
    # Large whole numbers do not fit the buckets one by one, so they are rounded and redrawn.
    spread = 10**7 if kind == "large integer" else 60
    cost = random_cost(4, (3, 4, 2, 3, 2), kind.rpartition(" ")[2], spread=spread)
    costs = cost.evaluate(everything(cost))
    lower, upper = np.quantile(costs, [0.2, 0.6])
    budget = budget_by(method, monkeypatch, cost, upper=float(upper), lower=float(lower))
    inside = np.flatnonzero(budget.contains(everything(cost)))
    drawn = budget.sample(200 * len(inside), np.random.default_rng(5))
    ranks = np.ravel_multi_index(tuple(drawn.T), cost.cardinalities)
    counts = np.bincount(ranks, minlength=len(costs))
    assert counts.sum() == counts[inside].sum()
    assert uniformity(counts[inside]) > 1e-4


@given(seed=st.integers(0, 2**32 - 1), low=st.floats(0, 1), high=st.floats(0, 1))
@settings(max_examples=60)
def test_both_methods_agree_on_any_window(seed, low, high):
    cost = random_cost(seed, (3, 2, 4, 3))
    smallest, largest = cost.minimum[0], cost.maximum[0]
    lower, upper = (smallest + q * (largest - smallest) for q in (low, high))
    costs = cost.evaluate(everything(cost))
    expected = int(((costs >= lower) & (costs <= upper)).sum())
    if expected == 0:
        with pytest.raises(InfeasibleError):
            ChainBudget(cost, upper, lower)
        return
    assert ChainBudget(cost, upper, lower).count == Count(expected, expected)
    for terms in (cost, ChainCost("cost", cost.first * 1.0, cost.steps)):
        count = chain._Buckets(terms, lower, upper).count
        assert count.low <= expected <= count.high


def test_a_draw_is_repeatable_and_may_be_empty():
    budget = ChainBudget(random_cost(6, (4, 4, 4)), upper=0)
    first = budget.sample(50, np.random.default_rng(7))
    np.testing.assert_array_equal(first, budget.sample(50, np.random.default_rng(7)))
    assert budget.sample(0, np.random.default_rng(7)).shape == (0, 3)


@pytest.mark.parametrize("method", METHODS)
def test_narrow_bounds_at_either_end(method, monkeypatch):
    cost = random_cost(8, (7,) * 8, "float", spread=1e6)
    for bounds in (
        {"upper": cost.minimum[0]},
        {"lower": cost.maximum[0]},
        {"upper": cost.minimum[0] + 1e4},
    ):
        budget = budget_by(method, monkeypatch, cost, **bounds)
        drawn = budget.sample(5, np.random.default_rng(9))
        assert budget.contains(drawn).all()


def test_whole_numbers_count_exactly_beyond_what_can_be_enumerated():
    # 4^40 shapes with cost = the number of genes at choice 3: a binomial count.
    step = np.tile(np.array([0, 0, 0, 1]), (4, 1))
    cost = ChainCost("cost", step[0], (step,) * 39)
    budget = ChainBudget(cost, upper=2)
    expected = sum(math.comb(40, j) * 3 ** (40 - j) for j in range(3))
    assert budget.count.low <= expected <= budget.count.high
    assert budget.count.high / budget.count.low < 1 + 1e-8
    drawn = budget.sample(500, np.random.default_rng(10))
    assert (drawn == 3).sum(axis=1).max() <= 2
    assert ChainBudget(cost).count == Count(4**40, 4**40)


@pytest.mark.parametrize("fraction", [1e-9, 1e-3, 0.5])
def test_memory_is_bounded_however_narrow_the_budget(fraction):
    cost = random_cost(11, (7,) * 24, "float", spread=1e6)
    smallest, largest = cost.minimum[0], cost.maximum[0]
    tracemalloc.start()
    try:
        budget = ChainBudget(cost, upper=smallest + fraction * (largest - smallest))
        drawn = budget.sample(10, np.random.default_rng(12))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert budget.contains(drawn).all()
    assert peak < 64e6


def test_small_integer_types_do_not_overflow():
    first = np.array([200, 250], dtype=np.uint8)
    step = np.array([[200, 10], [250, 20]], dtype=np.uint8)
    cost = ChainCost("cost", first, (step,))
    assert cost.evaluate(np.array([[1, 0]]))[0] == 500
    assert (cost.minimum[0], cost.maximum[0]) == (210, 500)


@pytest.mark.parametrize(
    ("first", "steps"),
    [
        (np.zeros((2, 2)), ()),
        (np.zeros(0), ()),
        (np.zeros(2), (np.zeros((3, 2)),)),
        (np.zeros(2), (np.zeros(2),)),
        (np.zeros(2), (np.zeros((2, 0)),)),
        (np.array([0.0, np.nan]), ()),
        (np.zeros(2), (np.array([[0.0, np.inf], [0.0, 0.0]]),)),
        (np.array(["a"]), ()),
    ],
)
def test_terms_that_do_not_chain_are_refused(first, steps):
    with pytest.raises(InvalidInputError, match="cost 'c'"):
        ChainCost("c", first, steps)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "bounds", [{"upper": -1}, {"lower": 31}, {"lower": 11, "upper": 19}, {"lower": 5, "upper": 4}]
)
def test_infeasible_bounds_are_refused(method, bounds, monkeypatch):
    if method == "buckets":
        monkeypatch.setattr(chain, "_HALF_LIMIT", 0)
    cost = ChainCost("c", np.array([0, 10]), (np.array([[0, 20], [0, 20]]),))
    with pytest.raises(InfeasibleError, match="range of the space is 0 to 30"):
        ChainBudget(cost, **bounds)


def test_a_bound_must_be_a_number():
    with pytest.raises(InvalidInputError, match="NaN"):
        ChainBudget(random_cost(0, (2,)), upper=math.nan)


def test_a_space_too_large_for_floats_is_refused():
    cost = ChainCost("c", np.arange(10.0), (np.ones((10, 10)),) * 400)
    with pytest.raises(InvalidInputError, match=r"10\^401"):
        ChainBudget(cost, upper=405)


def test_a_count_says_whether_it_is_exact():
    assert str(Count(12345, 12345)) == "12,345"
    assert Count(1, 1).is_exact
    assert not Count(1, 2).is_exact
    assert str(Count(10, 20)) == "between 10 and 20"
