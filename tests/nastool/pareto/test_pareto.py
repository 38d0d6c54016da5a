"""Pareto mathematics against brute force, closed forms, pymoo and moocore."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nastool import pareto
from nastool.errors import InvalidInputError
from nastool.pareto import dominance

# Small integers make ties and duplicates frequent.
point_sets = st.tuples(st.integers(0, 14), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(0, 6).map(float))
)


def brute_force_mask(points):
    return np.array([not any(pareto.dominates(q, p) for q in points) for p in points], dtype=bool)


@given(point_sets)
@settings(max_examples=200)
def test_non_dominated_equals_brute_force(points):
    np.testing.assert_array_equal(pareto.non_dominated(points), brute_force_mask(points))


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("resolution", [5, 10_000])
def test_non_dominated_of_many_points_equals_brute_force(m, resolution):
    points = np.random.default_rng(m).integers(0, resolution, (1500, m)).astype(float)
    matrix = pareto.dominates(points[:, None], points[None])
    np.testing.assert_array_equal(pareto.non_dominated(points), ~matrix.any(axis=0))


def test_a_front_larger_than_a_block_is_kept_whole():
    x = np.linspace(0, 1, 700)
    points = np.stack([x, 1 - x, np.zeros(700)], axis=1)
    assert pareto.non_dominated(np.concatenate([points, points + 1.0])).sum() == 700


def test_failed_points_are_never_on_a_front():
    points = np.array([[np.nan, 0.0], [1.0, 1.0], [0.0, np.nan]])
    assert pareto.non_dominated(points).tolist() == [False, True, False]
    assert not pareto.non_dominated(points[[0, 2]]).any()


def test_infinite_values_count_as_large():
    points = np.array([[np.inf, np.inf], [np.inf, np.inf]])
    assert pareto.non_dominated(points).all()
    points = np.array([[np.inf, 0.0], [1.0, np.inf], [np.inf, np.inf]])
    assert pareto.non_dominated(points).tolist() == [True, True, False]


def test_many_points_of_two_objectives():
    points = np.random.default_rng(0).random((100_000, 2))
    points = points[np.argsort(points[:, 0])]
    before = np.minimum.accumulate(np.append(np.inf, points[:, 1]))[:-1]
    assert np.array_equal(pareto.non_dominated(points), points[:, 1] < before)


@given(point_sets)
def test_ranks_equal_repeated_peeling(points):
    expected = np.full(len(points), -1)
    left, rank = np.arange(len(points)), 0
    while len(left):
        front = brute_force_mask(points[left])
        expected[left[front]] = rank
        left, rank = left[~front], rank + 1
    np.testing.assert_array_equal(pareto.fast_non_dominated_rank(points), expected)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_ranks_equal_pymoo(m):
    sorting = pytest.importorskip("pymoo.util.nds.non_dominated_sorting")
    points = np.random.default_rng(m).random((300, m))
    fronts = sorting.NonDominatedSorting().do(points)
    ranks = pareto.fast_non_dominated_rank(points)
    for rank, front in enumerate(fronts):
        assert sorted(np.flatnonzero(ranks == rank)) == sorted(front)


def test_ranks_beyond_the_matrix_limit_equal_those_below(monkeypatch):
    points = np.random.default_rng(1).integers(0, 9, (200, 3)).astype(float)
    expected = pareto.fast_non_dominated_rank(points)
    monkeypatch.setattr(dominance, "_MATRIX_LIMIT", 10)
    np.testing.assert_array_equal(pareto.fast_non_dominated_rank(points), expected)


def test_feasible_ranks_before_infeasible_and_small_violations_before_large():
    points = np.array([[2.0, 2], [3, 3], [0, 0], [0, 0], [0, 0], [np.nan, 0]])
    violations = np.array([0.0, -1, 0.5, 0.1, 0.5, 0])
    ranks = pareto.fast_non_dominated_rank(points, violations)
    assert ranks.tolist() == [0, 1, 3, 2, 3, 4]


def test_crowding_equals_pymoo():
    crowding = pytest.importorskip("pymoo.operators.survival.rank_and_crowding.metrics")
    x = np.sort(np.random.default_rng(0).random(30))
    points = np.stack([x, (1 - x) ** 2, np.sin(9 * x)], axis=1)
    expected = crowding.get_crowding_function("cd").do(points) * points.shape[1]
    ours = pareto.crowding_distance(points)
    inner = np.isfinite(ours)
    np.testing.assert_allclose(ours[inner], expected[inner])
    np.testing.assert_array_equal(np.isinf(expected), ~inner)


def test_crowding_of_equally_spaced_points():
    x = np.arange(5.0)
    distance = pareto.crowding_distance(np.stack([x, 4 - x], axis=1))
    np.testing.assert_allclose(distance, [np.inf, 1, 1, 1, np.inf])
    assert np.isinf(pareto.crowding_distance(np.zeros((2, 2)))).all()


@given(point_sets, st.integers(1, 7))
@settings(max_examples=200)
def test_hypervolume_equals_counted_unit_cubes(points, corner):
    m = points.shape[1]
    cells = np.stack(np.meshgrid(*[np.arange(corner)] * m, indexing="ij"), -1).reshape(-1, m)
    dominated = np.zeros(len(cells), dtype=bool)
    for point in points:
        dominated |= np.all(point <= cells, axis=1)
    volume = pareto.hypervolume(points, np.full(m, corner))
    assert volume == pytest.approx(dominated.sum())


@pytest.mark.parametrize("m", [4, 5, 6, 7])
@pytest.mark.parametrize("resolution", [3, 1_000_000])
def test_hypervolume_of_many_objectives_equals_inclusion_and_exclusion(m, resolution):
    rng = np.random.default_rng([m, resolution])
    for _ in range(5):
        points = rng.integers(0, resolution, (9, m)).astype(float)
        corner = np.full(m, float(resolution))
        expected = 0.0
        for size in range(1, len(points) + 1):
            chosen = np.array(list(itertools.combinations(points, size)))
            shared = np.prod(corner - chosen.max(axis=1), axis=1).sum()
            expected += shared if size % 2 else -shared
        assert pareto.hypervolume(points, corner) == pytest.approx(expected, rel=1e-9)


def test_a_hypervolume_beyond_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr("nastool.pareto.volumes._MOST_NUMBERS", 10_000)
    points = np.abs(np.random.default_rng(0).normal(size=(60, 6)))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    with pytest.raises(InvalidInputError, match="fewer points or objectives, got 60 points of 6"):
        pareto.hypervolume(points, np.full(6, 1.1))


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5, 6])
def test_hypervolume_equals_pymoo(m):
    indicators = pytest.importorskip("pymoo.indicators.hv")
    rng = np.random.default_rng(m)
    points = np.abs(rng.normal(size=(60, m)))
    points /= np.linalg.norm(points, axis=1, keepdims=True) ** 0.9
    reference = np.full(m, 1.1)
    expected = float(indicators.HV(ref_point=reference)(points))
    assert pareto.hypervolume(points, reference) == pytest.approx(expected, rel=1e-12)


def test_hypervolume_of_a_line_approaches_its_closed_form():
    x = np.linspace(0, 1, 2001)
    points = np.stack([x, 1 - x], axis=1)
    assert pareto.hypervolume(points, [1, 1]) == pytest.approx(0.5 - 0.5 / 2000)


def test_hypervolume_ignores_what_does_not_beat_the_reference():
    assert pareto.hypervolume([[1.0, 0.0], [2.0, 2.0], [np.nan, 0.0]], [1.0, 1.0]) == 0.0
    assert pareto.hypervolume(np.empty((0, 3)), [1.0, 1.0, 1.0]) == 0.0


@pytest.mark.parametrize("m", [2, 3])
def test_igd_plus_equals_pymoo(m):
    indicators = pytest.importorskip("pymoo.indicators.igd_plus")
    rng = np.random.default_rng(m)
    front, points = rng.random((20, m)), rng.random((30, m))
    expected = indicators.IGDPlus(front)(points)
    assert pareto.igd_plus(points, front) == pytest.approx(float(expected))


@given(point_sets.filter(len))
def test_indicators_are_zero_on_the_front_itself_and_shift_with_it(points):
    front = points[pareto.non_dominated(points)]
    assert pareto.igd_plus(points, front) == 0
    assert pareto.additive_epsilon(points, front) == 0
    assert pareto.additive_epsilon(points + 2, front) == 2
    shifted = pareto.igd_plus(front + 3, front)
    assert 0 < shifted <= 3 * np.sqrt(points.shape[1]) + 1e-9


def test_epsilon_equals_its_definition():
    rng = np.random.default_rng(0)
    points, front = rng.random((15, 3)), rng.random((10, 3))
    expected = max(min(max(p - z) for p in points) for z in front)
    assert pareto.additive_epsilon(points, front) == pytest.approx(expected)


def test_nothing_found_is_infinitely_far_away():
    failed = np.full((2, 2), np.nan)
    assert pareto.igd_plus(failed, [[0.0, 0.0]]) == np.inf
    assert pareto.additive_epsilon(np.empty((0, 2)), [[0.0, 0.0]]) == np.inf


@given(st.integers(0, 60), st.integers(1, 20))
def test_spread_keeps_the_ends_and_even_steps(n, limit):
    rows = pareto.spread(n, limit)
    assert len(rows) == min(n, limit)
    assert set(rows[:1]) | set(rows[1:][-1:]) <= {0, n - 1}
    steps = np.diff(rows)
    assert not len(steps) or (steps.min() >= 1 and np.ptp(steps) <= 1)


def test_knee_is_the_corner_whatever_the_scale():
    points = np.array([[0.0, 1e6], [0.1, 1e5], [1.0, 0.0], [2.0, 2e6], [np.nan, 0.0]])
    assert pareto.knee(points) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: pareto.non_dominated([1.0, 2.0]),
        lambda: pareto.hypervolume([[1.0, 2.0]], [1.0]),
        lambda: pareto.hypervolume([[1.0, 2.0]], [1.0, np.inf]),
        lambda: pareto.igd_plus([[1.0, 2.0]], np.empty((0, 2))),
        lambda: pareto.igd_plus([[1.0, 2.0]], [[1.0, 2.0, 3.0]]),
        lambda: pareto.fast_non_dominated_rank([[1.0, 2.0]], [0.0, 0.0]),
        lambda: pareto.knee([[np.nan, 1.0]]),
    ],
)
def test_bad_input_says_what_must_hold(call):
    with pytest.raises(InvalidInputError, match=r"must|needs"):
        call()


def test_spread_rounds_to_the_nearest():
    assert pareto.spread(11, 4).tolist() == [0, 3, 7, 10]
    assert pareto.spread(10, 4).tolist() == [0, 3, 6, 9]
    assert pareto.spread(5, 1).tolist() == [0]


def test_outliers_do_not_move_the_knee():
    points = np.array([[0.0, 4.0], [1.0, 1.5], [1.5, 1.0], [6.0, 0.0]])
    far = np.array([[1e9, 1e9], [7.0, 1e6], [np.nan, 0.0]])
    assert pareto.knee(points) == pareto.knee(np.concatenate([points, far])) == 2
    # One front end as far away as can be: the other objective decides.
    assert pareto.knee([[0.0, 2.0], [1.0, 1.0], [1e12, 0.0]]) == 1


def test_scales_are_those_of_the_front():
    front = np.array([[1.0, 5.0, 0.0, -4.0], [3.0, 5.0, 0.0, -4.0]])
    others = np.array([[2.0, 6.0, 0.5, 9.0], [1e9, 7.0, 0.25, -9.0]])
    offset, extent = pareto.scale(front, others)
    assert offset.tolist() == [1.0, 5.0, 0.0, -4.0]
    # Of what varies; else the size of the value; else how far others reach.
    assert extent.tolist() == [2.0, 5.0, 0.5, 4.0]
    assert pareto.scale(front, front)[1].tolist() == [2.0, 5.0, 1.0, 4.0]
    assert pareto.scale(front, front[:0])[1].tolist() == [2.0, 5.0, 1.0, 4.0]


def test_crowding_of_a_line_is_scaled_by_its_extent():
    points = np.array([[0.0, 10.0], [1.0, 6.0], [3.0, 5.0], [4.0, 0.0]])
    # Three of four and five or six of ten lie between the neighbours.
    np.testing.assert_allclose(
        pareto.crowding_distance(points), [np.inf, 0.75 + 0.5, 0.75 + 0.6, np.inf]
    )


def test_a_single_objective_has_a_length():
    assert pareto.hypervolume([[2.0], [1.25], [7.0]], [4.0]) == 2.75
    assert pareto.hypervolume([[4.0]], [4.0]) == 0.0


@pytest.mark.parametrize("m", [2, 3, 4, 5])
def test_what_moocore_computes_is_the_same(m):
    moocore = pytest.importorskip("moocore")
    rng = np.random.default_rng(m)
    points = np.round(rng.random((120, m)), 2)
    # Of equal points moocore keeps one unless it is told otherwise.
    mask = moocore.is_nondominated(points, keep_weakly=True)
    np.testing.assert_array_equal(pareto.non_dominated(points), mask)
    ranks = moocore.pareto_rank(points)
    np.testing.assert_array_equal(pareto.fast_non_dominated_rank(points), ranks)
    found, truth = points[:60], points[60:][pareto.non_dominated(points[60:])]
    corner = np.full(m, 1.1)
    assert pareto.hypervolume(found, corner) == pytest.approx(
        moocore.hypervolume(found, ref=corner), rel=1e-12
    )
    assert pareto.igd_plus(found, truth) == pytest.approx(moocore.igd_plus(found, truth))
    assert pareto.additive_epsilon(found, truth) == pytest.approx(
        moocore.epsilon_additive(found, ref=truth)
    )


@pytest.mark.parametrize("shape", [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)])
def test_none_and_one_are_their_own_front(shape):
    points = np.zeros(shape)
    assert pareto.non_dominated(points).tolist() == [True] * shape[0]
    assert pareto.fast_non_dominated_rank(points).tolist() == [0] * shape[0]


@pytest.mark.parametrize("m", [3, 4, 5])
def test_hypervolume_counts_negative_values_and_equal_coordinates(m):
    """Two boxes that share a face: nothing about zero or about the order of points is special."""
    low, high = np.full(m, -3.0), np.full(m, -1.0)
    beside = low.copy()
    beside[0], beside[1] = -4.0, -2.0  # as good elsewhere, better in one, worse in another
    volume = 2.0**m + (3.0 * 1.0 - 2.0 * 1.0) * 2.0 ** (m - 2)
    for points in ([low, beside], [beside, low], [low, beside, low]):
        assert pareto.hypervolume(np.array(points), high) == pytest.approx(volume)


@pytest.mark.parametrize("m", [2, 3, 4, 5])
def test_every_objective_has_a_corner_of_its_own(m):
    """Points and corner stretched and moved along each axis: the volume is stretched alike."""
    rng = np.random.default_rng(m)
    points = rng.integers(0, 6, size=(40, m)).astype(float)
    scales, shifts = rng.uniform(0.1, 9, size=m), rng.uniform(-50, 50, size=m)
    plain = pareto.hypervolume(points, np.full(m, 6.0))
    moved = pareto.hypervolume(points * scales + shifts, 6.0 * scales + shifts)
    assert moved == pytest.approx(plain * scales.prod())
