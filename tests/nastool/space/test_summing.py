"""Terms whose sums are exact: against rational arithmetic, and counts and draws at their bounds."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from nastool.errors import InfeasibleError
from nastool.space import ChainCost, budget, chain, granularity, summable


def random_parts(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, rng.integers(1, 6)).tolist()
    shapes = [(sizes[0],), *itertools.pairwise(sizes)]
    return rng, sizes, [rng.normal(size=shape) * scale for shape in shapes]


def every(sizes):
    return np.indices(sizes).reshape(len(sizes), -1).T


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.sampled_from([1.0, 1e-30, 1e30]), st.sampled_from([0.0, 3.0, 1e9]))
def test_sums_are_exact_and_near_what_they_were(seed, scale, away):
    rng, _, parts = random_parts(seed, scale)
    offset = away * scale
    rounded, whole = summable(parts, offset)
    spread, size = (
        sum(np.ptp(part) for part in parts),
        abs(offset) + sum(np.abs(part).max() for part in parts),
    )
    assert all(part.min() == 0 for part in rounded)
    for _ in range(5):
        places = [rng.integers(part.size) for part in parts]
        terms = [whole, *(part.ravel()[at] for part, at in zip(rounded, places, strict=True))]
        total = sum(map(Fraction, terms))
        assert all(sum(rng.permutation(terms).tolist()) == total for _ in range(3))
        before = offset + sum(part.ravel()[at] for part, at in zip(parts, places, strict=True))
        assert abs(total - Fraction(before)) <= 4e-12 * (len(parts) + 1) * spread + 1e-14 * size


def test_the_largest_power_of_two_that_all_are_multiples_of():
    assert granularity([np.array([0.75, 0.0]), np.array([[3.0, -6.5]])]) == 0.25
    assert granularity([np.array([96.0, -64.0])]) == 32
    assert granularity([np.array([5e-324, 1.0])]) == 5e-324
    assert granularity([np.zeros(3)]) == 0
    assert summable([np.array([0.0, 0.0]), np.array([7.0])])[1] == 7


@pytest.mark.parametrize("halves", [chain._HALF_LIMIT, 1])
@pytest.mark.parametrize("seed", range(8))
def test_a_bound_that_is_a_cost_itself_is_kept(seed, halves, monkeypatch):
    """Counted, drawn, and told from the next float: sums of floats whose order does not matter."""
    monkeypatch.setattr(chain, "_HALF_LIMIT", halves)
    rng, sizes, parts = random_parts(seed, 1e-3)
    (first, *others), offset = summable(parts, 0.01)
    cost = ChainCost("latency", first + offset, tuple(others), "s")
    assert cost.tolerance == 0
    values = cost.evaluate(every(sizes))
    for value in rng.choice(values, 3):
        one = budget(cost, value, value)
        assert one.count.low <= np.count_nonzero(values == value) <= one.count.high
        assert (cost.evaluate(one.sample(20, rng)) == value).all()
        below, above = np.nextafter(value, -np.inf), np.nextafter(value, np.inf)
        for lower, upper in ((value, np.inf), (-np.inf, value), (above, np.inf), (-np.inf, below)):
            within = every(sizes)[(values >= lower) & (values <= upper)]
            if not len(within):
                with pytest.raises(InfeasibleError):
                    budget(cost, upper, lower)
                continue
            some = budget(cost, upper, lower)
            assert some.count.low <= len(within) <= some.count.high
            assert some.count.is_exact or halves == 1
            found, times = np.unique(some.sample(2000, rng), axis=0, return_counts=True)
            assert set(map(tuple, found)) <= set(map(tuple, within))
            if 1 < len(within) <= 100:
                counts = np.append(times, np.zeros(len(within) - len(times)))
                assert chisquare(counts).pvalue > 1e-5


def test_an_end_of_a_range_that_is_missed_by_a_bit_is_not_all_of_it(monkeypatch):
    monkeypatch.setattr(chain, "_HALF_LIMIT", 1)
    cost = ChainCost("cost", np.array([0.1, 0.7, 0.3]), (np.array([[0.2, 0.9]] * 3),))
    values = cost.evaluate(every([3, 2]))
    count = budget(cost, float(np.nextafter(values.max(), -np.inf))).count
    assert count.low <= 5 <= count.high
