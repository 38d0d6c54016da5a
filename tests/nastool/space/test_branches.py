"""Spaces with depth and one width for all layers: everything equals going through them."""

import numpy as np
import pytest

from nastool.constraint import Constraint
from nastool.errors import InfeasibleError, InvalidInputError
from nastool.exact.boxes import from_tables
from nastool.exact.prove import prove
from nastool.objective import Direction
from nastool.problem import CostObjective, Problem
from nastool.space import Branch, Branching, ChainCost, ConditionalBudget, ConditionalCost, budget
from nastool.strategies.evolution import Evolution
from nastool.strategies.random import RandomSearch
from nastool.study import Study
from nastool.testing import Formula, Layered, Mixed

SPACE = Layered()
ALL = np.unique(SPACE.canonicalize(SPACE.enumerate()), axis=0)
PARAMS = SPACE.costs["params"]


def by_hand(row):
    depth, width = SPACE.genes[0].choices[row[0]], SPACE.genes[1].choices[row[1]]
    total = 10 * width
    for layer in range(depth):
        heads = SPACE.genes[2 + 2 * layer].choices[row[2 + 2 * layer]]
        hidden = SPACE.genes[3 + 2 * layer].choices[row[3 + 2 * layer]]
        total += 4 * width * 3 * heads + 2 * width * hidden
    return total


class Loss(Formula):
    """A sum of tables over pairs of genes, of canonical forms, which exact search takes apart."""

    def __init__(self, name="loss", seed=0, direction=Direction.MINIMIZE):
        rng = np.random.default_rng(seed)
        sizes = SPACE.cardinalities
        pairs = [(0, 1), (1, 4), *((g, g + 1) for g in range(2, len(sizes) - 1))]
        # Of few levels, so that ties occur.
        tables = [((i, j), rng.integers(-8, 9, (sizes[i], sizes[j])) / 8) for i, j in pairs]
        self.sum = from_tables(sizes, tables)
        super().__init__(name, self.values, direction)

    def values(self, genotypes):
        return self.sum.to_float(self.sum.evaluate(SPACE.canonicalize(genotypes)))

    def boxes(self):
        return self.sum


def test_costs_are_those_of_the_layers_there_are():
    everything = SPACE.enumerate()
    assert PARAMS.evaluate(everything).tolist() == [by_hand(row) for row in everything.tolist()]
    values = PARAMS.evaluate(ALL)
    for (value, genotype), end in ((PARAMS.minimum, min), (PARAMS.maximum, max)):
        assert value == end(values) == by_hand(genotype)
        assert np.array_equal(SPACE.canonicalize(genotype[None])[0], genotype)


def test_architectures_are_counted_and_not_genotypes():
    assert SPACE.count.low == SPACE.count.high == len(ALL) == 2 * (6 + 6**2 + 6**3)
    assert SPACE.size == 3 * 2 * 6**3
    values = np.sort(PARAMS.evaluate(ALL))
    for bound in values[::37].tolist():
        assert budget(PARAMS, bound).count.low == np.count_nonzero(values <= bound)
        between = budget(PARAMS, values[-1], bound).count
        assert between.is_exact
        assert between.low == np.count_nonzero(values >= bound)
    with pytest.raises(InfeasibleError, match="the range of the space is"):
        budget(PARAMS, values[0] - 1)


@pytest.mark.parametrize("limit", [None, 3])
def test_draws_within_bounds_are_uniform(limit, monkeypatch):
    if limit is not None:  # halves are not enumerated: costs are rounded, and draws repeated
        monkeypatch.setattr("nastool.space.chain._HALF_LIMIT", limit)
        monkeypatch.setattr("nastool.space.chain._BUCKETS", 50)
    values = PARAMS.evaluate(ALL)
    bound = float(np.quantile(values, 0.3))
    allowed = ALL[values <= bound]
    n = 200 * len(allowed)
    drawn = ConditionalBudget(PARAMS, bound).sample(n, np.random.default_rng(0))
    assert drawn.shape == (n, ALL.shape[1])
    found, counts = np.unique(drawn, axis=0, return_counts=True)
    assert np.array_equal(found, allowed)
    freedom = len(allowed) - 1
    assert ((counts - 200) ** 2 / 200).sum() < freedom + 6 * np.sqrt(2 * freedom)


def test_proofs_name_the_smallest_architecture():
    with pytest.raises(InfeasibleError, match="the smallest architecture of layered has params"):
        Problem(SPACE, (Loss(),), (Constraint("params", "<=", 1),))


@pytest.mark.parametrize("strategy", [RandomSearch, Evolution])
def test_a_study_ends_when_every_architecture_is_known(strategy):
    problem = Problem(SPACE, (Loss(),))
    result = Study(problem, strategy, seed=1).run(10_000)
    assert result.stop_reason == "exhausted"
    assert len(result) == len(ALL)


def test_equivalent_genotypes_of_a_space_with_forms_of_its_own_are_one():
    space = Mixed()
    everything = np.unique(space.canonicalize(space.enumerate()), axis=0)
    assert space.count.low == space.count.high == len(everything) < space.size
    loss = Formula("loss", lambda genotypes: genotypes.sum(axis=1).astype(float))
    result = Study(Problem(space, (loss,)), RandomSearch).run(10_000)
    assert result.stop_reason == "exhausted"
    assert len(result) == len(everything)


@pytest.mark.parametrize("bounds", [(None, None), (None, 400), (300, 500), (1_000, None)])
@pytest.mark.parametrize("direction", list(Direction))
def test_the_exact_optimum_is_that_of_going_through(bounds, direction):
    low, high = bounds
    constraints = [Constraint("params", ">=", low)] if low else []
    constraints += [Constraint("params", "<=", high)] if high else []
    loss = Loss(direction=direction)
    problem = Problem(SPACE, (loss,), constraints)
    allowed = ALL[problem.admissible(ALL)]
    proof = prove(problem)
    best = (loss.values(allowed) * direction.sign).min()
    assert (loss.values(proof.genotypes) * direction.sign).tolist() == [best]
    assert proof.certificate.is_complete
    assert proof.certificate.size == len(ALL)
    assert proof.certificate.best == proof.certificate.bound == best * direction.sign
    assert "516 architectures accounted for" in str(proof.certificate)
    assert problem.admissible(proof.genotypes).all()


@pytest.mark.parametrize("others", ["params", "second", "params second"])
@pytest.mark.parametrize("limited", [False, True])
def test_the_exact_front_is_that_of_going_through(others, limited):
    known = {"params": CostObjective(PARAMS, SPACE), "second": Loss("second", 1)}
    constraints = (Constraint("params", "<=", 450),) if limited else ()
    problem = Problem(SPACE, (Loss(), *map(known.get, others.split())), constraints)
    allowed = ALL[problem.admissible(ALL)]
    everything = problem.evaluate(allowed).objectives
    proof = prove(problem)
    found = problem.evaluate(proof.genotypes).objectives
    dominated = (everything[:, None] >= everything).all(2) & (everything[:, None] > everything).any(
        2
    )
    front = np.unique(everything[~dominated.any(axis=1)], axis=0)
    assert np.array_equal(np.unique(found, axis=0), front)
    assert proof.certificate.size == len(ALL)
    assert proof.certificate.front == len(front)


def test_an_exact_cost_alone_is_programmed():
    problem = Problem(SPACE, (CostObjective(PARAMS, SPACE),))
    proof = prove(problem)
    assert PARAMS.evaluate(proof.genotypes).tolist() == [PARAMS.minimum[0]]
    assert proof.certificate.size == len(ALL)


def test_branches_and_chains_are_checked():
    one = ChainCost("c", np.zeros(2, dtype=int), ())
    two = [Branch({0: 0}), Branch({0: 1})]
    for branches, message in (
        ([Branch({0: 0})], "one branch for each of the 2 settings"),
        ([Branch({0: 0}), Branch({0: 0})], "one branch for each of the 2 settings"),
        ([Branch({0: 0}), Branch({1: 1})], "settings of the same genes"),
        ([Branch({0: 0}), Branch({0: 2})], "choices that their genes have"),
        ([Branch({0: 0}, (2,)), Branch({0: 1})], "by places 0 to 1"),
        ([Branch({0: 0}, (0,)), Branch({0: 1})], "cannot be idle"),
        ([], "settings of the same genes"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            Branching([2, 2], branches)
    with pytest.raises(InvalidInputError, match="a chain for each of 2 branches, got 1"):
        ConditionalCost("c", [2, 2], two, [one])
    wrong = ChainCost("c", np.zeros(3, dtype=int), ())
    with pytest.raises(InvalidInputError, match=r"must have \(2,\) choices, got \(3,\)"):
        ConditionalCost("c", [2, 2], two, [one, wrong])
    with pytest.raises(InvalidInputError, match="a chain for each branch of the space"):
        CostObjective(one, SPACE)


def test_a_branch_without_free_genes_is_one_architecture():
    branches = [Branch({0: 0}, (1,)), Branch({0: 1})]
    constant = ChainCost("c", np.array([5]), ())
    cost = ConditionalCost(
        "c", [2, 3], branches, [constant, ChainCost("c", np.array([4, 5, 9]), ())]
    )
    assert cost.evaluate(np.array([[0, 0], [0, 2], [1, 0], [1, 2]])).tolist() == [5, 5, 4, 9]
    assert budget(cost, 5).count.low == 3
    assert np.array_equal(
        np.unique(budget(cost, 5).sample(100, np.random.default_rng(0)), axis=0),
        [[0, 0], [1, 0], [1, 1]],
    )
