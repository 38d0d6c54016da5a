"""The sweep against plain enumeration."""

import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from nastool.errors import InvalidInputError, MissingDependencyError, NastoolError
from nastool.exact import blocks, layout, levels, plan, search
from nastool.exact.boxes import from_trees
from nastool.exact.chains import integer_chain
from nastool.exact.search import ExactSearch
from nastool.exact.task import Bound, Task
from nastool.files import writing
from nastool.predictors.trees import TreeEnsemble
from nastool.space import ChainCost


def random_trees(rng, grid, trees, depth, values):
    """Thresholds on and between choices, few different leaf values: ties everywhere."""
    rows = []
    levels = np.round(rng.standard_normal(values) * 2**20) / 2**20

    def grow(level):
        node = len(rows)
        rows.append(())
        if level == depth or (level and rng.random() < 0.2):
            rows[node] = (-1, 0.0, -1, -1, False, float(rng.choice(levels)))
            return node
        feature, threshold = int(rng.integers(len(grid))), float(rng.integers(0, 21)) / 2
        left, right = grow(level + 1), grow(level + 1)
        rows[node] = (feature, threshold, left, right, bool(rng.random() < 0.5), 0.0)
        return node

    roots = [grow(0) for _ in range(trees)]
    feature, threshold, left, right, default, value = zip(*rows, strict=True)
    return TreeEnsemble(
        np.array(feature, np.int32),
        np.array(threshold, np.float32),
        np.array(left, np.int32),
        np.array(right, np.int32),
        np.array(default),
        np.array(value),
        np.zeros(len(rows)),
        np.array(roots, np.int32),
        0.5,
        len(grid),
    )


def random_grid(rng, sizes):
    """Choices in any order, sometimes a missing value."""
    grid = [rng.permutation(10)[:k].astype(np.float64) for k in sizes]
    for values in grid:
        if rng.random() < 0.3:
            values[rng.integers(len(values))] = np.nan
    return grid


def random_cost(rng, sizes, largest):
    first = rng.integers(-largest, largest + 1, sizes[0])
    steps = tuple(rng.integers(-largest, largest + 1, p) for p in itertools.pairwise(sizes))
    return ChainCost("cost", first, steps)


def every(sizes):
    return np.indices(sizes).reshape(len(sizes), -1).T.astype(np.int64)


def front_of(costs, values):
    """Distinct non-dominated pairs by ascending cost."""
    pairs = np.unique(np.stack([costs, values], axis=1), axis=0)
    best = np.append(np.inf, np.minimum.accumulate(pairs[:, 1])[:-1])
    return pairs[pairs[:, 1] < best]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Blocks, units and waves so small that tiny spaces have many of each."""
    monkeypatch.setattr(layout, "_LANES", 9)
    monkeypatch.setattr(layout, "_AXIS_CHOICES", 3)
    monkeypatch.setattr(search, "_UNITS", 12)
    monkeypatch.setattr(search, "_WAVE", 3)
    monkeypatch.setattr(search, "_CAPACITY", 4)


def random_instance(seed, genes=None, largest=5):
    rng = np.random.default_rng(seed)
    d = genes or int(rng.integers(1, 8))
    sizes = rng.integers(1, 6, d).tolist()
    grid = random_grid(rng, sizes)
    trees = random_trees(
        rng, grid, int(rng.integers(1, 9)), int(rng.integers(0, 5)), int(rng.integers(2, 9))
    )
    return rng, sizes, grid, trees, random_cost(rng, sizes, largest)


def as_floats(sizes, grid, genotypes):
    return np.stack([grid[i][genotypes[:, i]] for i in range(len(sizes))], axis=1)


PROPERTY = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@PROPERTY
@given(st.integers(0, 2**32), st.booleans())
def test_boxes_are_the_trees(seed, negate):
    rng, sizes, grid, trees, _ = random_instance(seed)
    function = from_trees(trees, grid)
    genotypes = rng.integers(0, sizes, (50, len(sizes)))
    expected = trees.predict(as_floats(sizes, grid, genotypes))
    found = (-function if negate else function).evaluate(genotypes)
    sign = -1 if negate else 1
    np.testing.assert_array_equal(
        (-function if negate else function).to_float(found), sign * expected
    )
    states = plan.build_states(function, rng.permutation(len(sizes)).tolist(), len(sizes) // 2)
    np.testing.assert_array_equal(states.evaluate(genotypes), function.evaluate(genotypes))


@settings(PROPERTY, max_examples=25)
@given(st.integers(0, 2**32), st.sampled_from([0, 3]))
def test_a_row_is_bounded_by_the_least_of_each_tree_beyond_its_lanes(seed, shift):
    rng, sizes, grid, trees, _ = random_instance(seed, genes=6)
    function = from_trees(trees, grid)
    parts = layout.choose_layout(sizes, rng.random(6).tolist())
    depth = len(parts.outer)
    states = plan.build_states(function, parts.order, depth)
    rests = blocks.cell_bounds(function, parts, states, shift)
    assert (rests.shape[1] > 0) == (depth >= 2)
    assume(rests.shape[1])
    everything = every(sizes)
    prefixes, rows, lanes = (
        everything[:, list(g)] for g in (parts.outer, parts.inner, parts.lanes)
    )
    cells = layout.joint_choices([sizes[gene] for gene in parts.inner]).tolist()
    cell = np.array([cells.index(row) for row in rows.tolist()])
    for t in range(function.n_trees):
        leaves = slice(*function.starts[t : t + 2].tolist())
        inside = function.masks[leaves] >> everything[:, None].astype(np.uint64) & np.uint64(1) != 0
        values = function.values[leaves][inside.all(axis=2).argmax(axis=1)]
        state = np.full(len(everything), states.roots[t])
        for level in range(depth):
            state = states.layers[level].following[state, prefixes[:, level]]
        for column, gene in enumerate(parts.lanes):
            at = sorted((*parts.inner, *parts.lanes)).index(gene)
            values = values - states.layers[depth].effects[state, at, lanes[:, column]]
        for one in set(zip(state.tolist(), cell.tolist(), strict=True)):
            least = values[(state == one[0]) & (cell == one[1])].min()
            assert rests[one] == least >> shift


@settings(PROPERTY, max_examples=25)
@given(st.integers(0, 2**32), st.booleans())
def test_values_count_to_their_last_bit(seed, is_front):
    """Compared without them first, sums that differ in the last bits alone are told apart."""
    rng, sizes, grid, trees, cost = random_instance(seed, largest=1)
    last_bits = rng.integers(0, 8, len(trees.value)) * 2.0**-46
    function = from_trees(replace(trees, value=trees.value.round() + last_bits), grid)
    everything = every(sizes)
    sums, costs = function.evaluate(everything), cost.evaluate(everything)
    limit = float(np.median(costs))
    outcome = ExactSearch(
        Task(function, (Bound(integer_chain(cost), upper=limit),), is_front)
    ).run()
    expected = front_of(costs[costs <= limit], function.to_float(sums[costs <= limit]))
    if not is_front:
        expected = expected[expected[:, 1].argmin()][None]
    np.testing.assert_array_equal(outcome.values, expected[:, 1])
    assert (outcome.costs <= limit).all()
    if is_front:
        np.testing.assert_array_equal(outcome.costs, expected[:, 0])
    certificate = outcome.certificate
    counts = certificate.excluded, certificate.pruned, certificate.evaluated
    assert sum(counts) == certificate.size == len(everything)


@PROPERTY
@given(st.integers(0, 2**32), st.sampled_from([1, 5, 1000]))
@example(0, 1)
def test_front_is_that_of_enumeration(seed, largest):
    _, sizes, grid, trees, cost = random_instance(seed, largest=largest)
    everything = every(sizes)
    values = trees.predict(as_floats(sizes, grid, everything))
    costs = cost.evaluate(everything)
    expected = front_of(costs, values)
    task = Task(from_trees(trees, grid), (Bound(integer_chain(cost)),), is_front=True)
    outcome = ExactSearch(task, threads=2).run()
    np.testing.assert_array_equal(np.stack([outcome.costs, outcome.values], axis=1), expected)
    np.testing.assert_array_equal(cost.evaluate(outcome.genotypes), outcome.costs)
    np.testing.assert_array_equal(
        trees.predict(as_floats(sizes, grid, outcome.genotypes)), outcome.values
    )
    assert outcome.certificate.is_complete
    assert outcome.certificate.covered == len(everything)
    assert outcome.certificate.gap == 0


@PROPERTY
@given(st.integers(0, 2**32), st.booleans())
def test_constrained_searches_are_those_of_enumeration(seed, is_front):
    rng, sizes, grid, trees, cost = random_instance(seed)
    other = random_cost(rng, sizes, 7)
    everything = every(sizes)
    values = trees.predict(as_floats(sizes, grid, everything))
    costs, others = cost.evaluate(everything), other.evaluate(everything)
    lower, upper = np.sort(rng.choice(costs, 2))
    least = rng.choice(others)
    allowed = (costs >= lower) & (costs <= upper) & (others >= least)
    bounds = (Bound(integer_chain(cost), lower, upper), Bound(integer_chain(other), least))
    outcome = ExactSearch(Task(from_trees(trees, grid), bounds, is_front), threads=1).run()
    expected = front_of(costs[allowed], values[allowed]) if allowed.any() else np.empty((0, 2))
    if is_front:
        np.testing.assert_array_equal(np.stack([outcome.costs, outcome.values], 1), expected)
    else:
        np.testing.assert_array_equal(outcome.values, expected[-1:, 1])
        assert np.isin(outcome.costs, costs[allowed]).all()
        assert (other.evaluate(outcome.genotypes) >= least).all()
    certificate = outcome.certificate
    assert certificate.excluded + certificate.pruned + certificate.evaluated == len(everything)


@PROPERTY
@given(st.integers(0, 2**32))
def test_level_by_level_is_enumeration(seed):
    _, sizes, grid, trees, cost = random_instance(seed)
    everything = every(sizes)
    values = trees.predict(as_floats(sizes, grid, everything))
    chain = integer_chain(cost)
    task = Task(from_trees(trees, grid), (Bound(chain),))
    assert levels.is_unlimited(task)
    outcome = levels.search_levels(task, everything[:1])
    assert outcome.values == values.min()
    found = as_floats(sizes, grid, outcome.genotypes)
    np.testing.assert_array_equal(trees.predict(found), outcome.values)
    np.testing.assert_array_equal(cost.evaluate(outcome.genotypes), outcome.costs)
    certificate = outcome.certificate
    assert certificate.is_complete
    assert certificate.pruned + certificate.evaluated == len(everything)
    low, high = chain.ends
    if low < high:
        limit = float(chain.to_float(np.array([high - 1]))[0])
        assert not levels.is_unlimited(Task(task.function, (Bound(chain, upper=limit),)))


def test_what_takes_too_long_level_by_level_is_left_to_the_sweep(monkeypatch):
    _, grid, trees, _ = wide_instance(5)
    task = Task(from_trees(trees, grid))
    none = np.empty((0, 5), np.int64)
    whole = levels.search_levels(task, none)
    assert whole.values == ExactSearch(task, threads=1).run().values
    for work in (0, 2000):
        monkeypatch.setattr(levels, "_WORK", work)
        assert levels.search_levels(task, none) is None


def wide_instance(genes, trees=12, seed=0):
    """7^genes shapes under a smooth function that rewards size, as a real predictor does."""
    rng = np.random.default_rng(seed)
    sizes = [7] * genes
    grid = [np.array([120.0, 240, 360, 480, 540, 600, 768])] * genes
    grid = [g / 80 for g in grid]
    model = random_trees(rng, grid, trees, 2, 40)
    widths = np.array([120, 240, 360, 480, 540, 600, 768])
    step = np.multiply.outer(widths, widths) + 4 * widths**2
    return sizes, grid, model, ChainCost("params", 1000 + widths, (step,) * (genes - 1))


@pytest.mark.parametrize("genes", [4, 5, 6])
def test_bounds_prune_and_change_nothing(genes):
    sizes, grid, trees, cost = wide_instance(genes)
    everything = every(sizes)
    values = from_trees(trees, grid)
    floats = values.to_float(values.evaluate(everything))
    costs = cost.evaluate(everything)
    limit = float(np.quantile(costs, 0.4))
    chain = integer_chain(cost)
    outcome = ExactSearch(Task(values, (Bound(chain, upper=limit),))).run()
    assert outcome.values == floats[costs <= limit].min()
    # Four genes fill a single block, which nothing can be cut off from.
    assert (outcome.certificate.pruned > 0) == (genes > 4)
    front = ExactSearch(Task(values, (Bound(chain),), is_front=True)).run()
    np.testing.assert_array_equal(np.stack([front.costs, front.values], 1), front_of(costs, floats))


def test_seven_genes_with_real_part_sizes(monkeypatch):
    monkeypatch.undo()
    sizes, grid, trees, cost = wide_instance(7)
    everything = every(sizes)
    function = from_trees(trees, grid)
    floats = function.to_float(plan.build_states(function, range(7), 4).evaluate(everything))
    outcome = ExactSearch(Task(function, (Bound(integer_chain(cost)),), is_front=True)).run()
    np.testing.assert_array_equal(
        np.stack([outcome.costs, outcome.values], 1), front_of(cost.evaluate(everything), floats)
    )


def test_interrupted_and_resumed_equals_one_run(tmp_path):
    _, grid, trees, cost = wide_instance(6)
    task = Task(from_trees(trees, grid), (Bound(integer_chain(cost)),), is_front=True)
    whole = ExactSearch(task, threads=2).run()
    file = tmp_path / "state.npz"
    waves = 0
    while (
        not (part := ExactSearch(task, threads=1))
        .run(checkpoint=file, should_stop=lambda: True)
        .certificate.is_complete
    ):
        waves += 1
        partial = part.certificate()
        assert partial.covered < partial.size
        assert partial.bound <= whole.certificate.best <= partial.best
        # No point of the true front beats what is known by more than the gap.
        known = part.outcome()
        for value, price in zip(whole.values, whole.costs, strict=True):
            rival = known.values[known.costs <= price].min(initial=np.inf)
            assert rival - value <= partial.gap + 1e-12
    assert waves > 3
    resumed = part.outcome()
    np.testing.assert_array_equal(resumed.genotypes, whole.genotypes)
    np.testing.assert_array_equal(resumed.values, whole.values)
    for count in ("size", "excluded", "pruned", "evaluated", "best", "front"):
        assert getattr(resumed.certificate, count) == getattr(whole.certificate, count)
    other = Task(task.function, task.bounds)
    with pytest.raises(InvalidInputError, match="another one"):
        ExactSearch(other).run(checkpoint=file)


def begun(file):
    """A search that was stopped after its first units, and what it kept."""
    _, grid, trees, cost = wide_instance(6)
    task = Task(from_trees(trees, grid), (Bound(integer_chain(cost)),), is_front=True)
    ExactSearch(task, threads=1).run(checkpoint=file, should_stop=lambda: True)
    with np.load(file) as stored:
        return task, file, dict(stored)


def test_a_checkpoint_without_the_earlier_front_is_gone_on_with(tmp_path):
    task, file, arrays = begun(tmp_path / "state.npz")
    del arrays["earlier"]
    np.savez(file, **arrays)
    resumed, whole = ExactSearch(task).run(checkpoint=file), ExactSearch(task).run()
    np.testing.assert_array_equal(resumed.genotypes, whole.genotypes)
    assert resumed.certificate.covered == whole.certificate.size


def test_a_checkpoint_of_another_numbering_is_refused(tmp_path):
    task, file, arrays = begun(tmp_path / "state.npz")
    # As where the genes were in another order: the numbers are those of other genotypes.
    arrays["front"][:, 2] = arrays["front"][::-1, 2]
    np.savez(file, **arrays)
    with pytest.raises(InvalidInputError, match="numbers architectures otherwise"):
        ExactSearch(task, threads=1).run(checkpoint=file)


def test_bad_checkpoints_are_one_clear_line(tmp_path):
    _, grid, trees, cost = wide_instance(5)
    task = Task(from_trees(trees, grid), (Bound(integer_chain(cost)),), is_front=True)
    with pytest.raises(InvalidInputError, match="must lie in an existing folder"):
        ExactSearch(task, threads=1).run(
            checkpoint=tmp_path / "no" / "state.npz", progress=lambda _: pytest.fail("has begun")
        )
    file = tmp_path / "state.npz"
    ExactSearch(task, threads=1).run(checkpoint=file, should_stop=lambda: True)
    whole = file.read_bytes()
    partial, single = io.BytesIO(), io.BytesIO()
    np.savez(partial, fingerprint=np.array(task.fingerprint))
    np.save(single, np.arange(3))
    wrong = (whole[: len(whole) // 2], partial.getvalue(), single.getvalue(), b"text", b"")
    for content in wrong:
        file.write_bytes(content)
        with pytest.raises(InvalidInputError, match="expected a state of an exact search"):
            ExactSearch(task, threads=1).run(checkpoint=file)
        assert file.read_bytes() == content


def test_a_checkpoint_that_cannot_be_written_is_one_clear_line(tmp_path, monkeypatch):
    _, grid, trees, cost = wide_instance(5)
    task = Task(from_trees(trees, grid), (Bound(integer_chain(cost)),), is_front=True)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    with pytest.raises(NastoolError, match=r"cannot write .*state.npz: No space left on device"):
        ExactSearch(task, threads=1).run(checkpoint=tmp_path / "state.npz")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_keeps_what_is_proven():
    _, grid, trees, cost = wide_instance(6)
    task = Task(from_trees(trees, grid), (Bound(integer_chain(cost)),), is_front=True)
    search_ = ExactSearch(task, threads=1)
    told = []

    def press(certificate):
        told.append(certificate)
        if len(told) == 2:
            raise KeyboardInterrupt

    outcome = search_.run(press)
    assert not outcome.certificate.is_complete
    assert outcome.certificate.covered == told[-1].covered > told[0].covered
    assert "not proven" in str(outcome.certificate)
    assert search_.run().certificate.is_complete


def test_progress_says_what_remains():
    _, grid, trees, cost = wide_instance(5)
    task = Task(from_trees(trees, grid), (Bound(integer_chain(cost)),), is_front=True)
    told = []
    ExactSearch(task, threads=1).run(told.append)
    assert [c.covered for c in told] == sorted(c.covered for c in told)
    assert told[-1].remaining == 0
    assert told[0].remaining > 0


def test_model_too_large_is_refused_with_numbers():
    _, grid, trees, cost = wide_instance(6)
    task = Task(from_trees(trees, grid), (Bound(integer_chain(cost)),))
    with pytest.raises(InvalidInputError, match=r"GiB .* first \d+ of 12 trees"):
        ExactSearch(task, memory=10_000)


def test_without_numba_the_message_names_the_extra(monkeypatch):
    import sys

    import nastool.exact

    _, grid, trees, _ = wide_instance(4)
    monkeypatch.delattr(nastool.exact, "kernels", raising=False)
    monkeypatch.delitem(sys.modules, "nastool.exact.kernels", raising=False)
    monkeypatch.delitem(sys.modules, "nastool.exact.bounding", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(MissingDependencyError, match=r"nastool\[exact\]"):
        ExactSearch(Task(from_trees(trees, grid)))
