"""Variation operators: every gene, every choice and every rate, the last ones too."""

import numpy as np
import pytest

from nastool.problem import Problem
from nastool.strategies.evolution import Evolution
from nastool.strategies.variation import (
    change_one_gene,
    choose_genes,
    resample_genes,
    step_genes,
    uniform_crossover,
)
from nastool.testing import Formula, Mixed, Widths

N = 20_000


def shares(values, choices):
    return np.bincount(values, minlength=choices) / len(values)


@pytest.mark.parametrize("by_steps", [False, True])
def test_one_gene_changes_each_as_often_the_last_too(by_steps):
    space = Mixed()
    parents = np.tile([0, 1, 2, 0, 1], (N, 1))
    children = change_one_gene(space, parents, np.random.default_rng(0), by_steps=by_steps)
    assert np.array_equal(space.validate(children), children)
    changed = children != parents
    assert np.array_equal(changed.sum(axis=1), np.ones(N))
    # The stem has one choice only.
    np.testing.assert_allclose(changed.mean(axis=0), [0.25, 0.25, 0.25, 0, 0.25], atol=0.015)
    others = [children[changed[:, gene], gene] for gene in range(5)]
    np.testing.assert_allclose(shares(others[0], 3), [0, 0.5, 0.5], atol=0.03)
    kernels = [0.5, 0, 0.5, 0] if by_steps else [1 / 3, 0, 1 / 3, 1 / 3]
    np.testing.assert_allclose(shares(others[1], 4), kernels, atol=0.03)
    assert set(others[4].tolist()) == {0}


def test_steps_stay_inside_at_both_ends():
    space = Widths(2, (1, 2, 3))
    both = np.ones((N, 2), dtype=bool)
    low = step_genes(space, np.zeros((N, 2), dtype=int), both, np.random.default_rng(0))
    high = step_genes(space, np.full((N, 2), 2), both, np.random.default_rng(0))
    assert np.all(low == 1)
    assert np.all(high == 1)
    middle = step_genes(space, np.ones((N, 2), dtype=int), both, np.random.default_rng(0))
    np.testing.assert_allclose(shares(middle[:, 1], 3), [0.5, 0, 0.5], atol=0.02)


def test_only_marked_genes_are_drawn_anew():
    space = Widths(3, (1, 2, 3, 5))
    mask = np.tile([True, False, True], (N, 1))
    children = resample_genes(space, np.zeros((N, 3), dtype=int), mask, np.random.default_rng(0))
    assert np.all(children[:, 1] == 0)
    np.testing.assert_allclose(shares(children[:, 2], 4), np.full(4, 0.25), atol=0.02)


def test_as_many_genes_are_chosen_as_asked_for():
    counts = np.arange(N) % 5
    mask = choose_genes(N, 4, counts, np.random.default_rng(0))
    assert np.array_equal(mask.sum(axis=1), counts)
    np.testing.assert_allclose(mask[counts == 1].mean(axis=0), np.full(4, 0.25), atol=0.03)


@pytest.mark.parametrize("most", [1, 3, 9])
def test_the_genes_with_the_smallest_draws_are_chosen_up_to_all(most):
    counts = np.random.default_rng(1).integers(0, most + 1, size=200)
    drawn = np.random.default_rng(0).random((200, 5))
    expected = drawn.argsort(axis=1).argsort(axis=1) < counts[:, None]
    found = choose_genes(200, 5, counts, np.random.default_rng(0))
    assert np.array_equal(found, expected)


def test_crossover_takes_half_of_each_parent():
    ones = uniform_crossover(np.ones((N, 3)), np.zeros((N, 3)), np.random.default_rng(0))
    np.testing.assert_allclose(ones.mean(axis=0), np.full(3, 0.5), atol=0.02)
    # Gene by gene, not parent by parent.
    assert abs(np.corrcoef(ones[:, 0], ones[:, 2])[0, 1]) < 0.03


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_as_many_children_have_two_parents_as_asked_for(rate):
    problem = Problem(Widths(layers=30), (Formula("sum", lambda g: g.sum(axis=1) * 1.0),))
    strategy = Evolution(
        problem, population_size=2, selection="elitist", crossover=rate, mutation_probability=1.0
    )
    strategy.tell(problem.evaluate(np.array([[0] * 30, [4] * 30])))
    children = strategy.ask(1_000)
    # Children of one parent are drawn anew in every gene. Half of the pairs are one parent twice,
    # whose child is known and bred again.
    found = np.isin(children, [0, 4]).all(axis=1).mean()
    assert found == pytest.approx(rate / 2 / (1 - rate / 2), abs=0.03)
