import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.problem import Problem
from nastool.strategies.random import RandomSearch
from nastool.testing import (
    Formula,
    Mixed,
    ObjectiveConformance,
    SearchSpaceConformance,
    StrategyConformance,
    Widths,
    example_problems,
    stored,
)


class TestWidths(SearchSpaceConformance):
    def make(self):
        return Widths()


class TestMixed(SearchSpaceConformance):
    def make(self):
        return Mixed()


def total(genotypes):
    return np.where(genotypes[:, 0] == 2, 9.0, genotypes.sum(axis=1))


class TestFormula(ObjectiveConformance):
    def make(self):
        return Formula("total[sum]", total)

    def space(self):
        return Mixed()


class TestChainCost(ObjectiveConformance):
    def make(self):
        return Problem(Widths(), (Formula("loss", len),)).metric("params")

    def space(self):
        return Widths()


class Forgetful(RandomSearch):
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Careless(RandomSearch):
    def ask(self, n):
        return self.problem.space.sample(n, self.rng)


class Stubborn(RandomSearch):
    """Proposes what has failed again: it only remembers what it has learned from."""

    def tell(self, evaluations):
        super().tell(evaluations.take(np.isfinite(evaluations.objectives[:, 0])))


def suite(kind):
    class Suite(StrategyConformance):
        def make(self, problem, seed):
            return kind(problem, seed)

    return Suite()


def test_a_strategy_that_forgets_is_caught():
    with pytest.raises(AssertionError):
        suite(Forgetful).test_resuming_equals_never_having_stopped(example_problems()["single"])


def test_a_strategy_that_breaks_constraints_is_caught():
    for name in ("single-hard", "single-mixed"):
        with pytest.raises(AssertionError):
            suite(Careless).test_asked_genotypes_are_canonical_and_admissible(
                example_problems()[name]
            )


def test_a_strategy_that_proposes_what_has_failed_is_caught():
    with pytest.raises(AssertionError, match="failed is proposed again"):
        suite(Stubborn).test_what_has_failed_is_not_proposed_again()


def test_a_strategy_that_runs_in_circles_is_caught():
    class Circling(RandomSearch):
        def ask(self, n):
            return np.full((1, 4), 1)

    with pytest.raises(AssertionError, match="only 1 different shapes"):
        suite(Circling).test_what_has_failed_is_not_proposed_again()


def test_a_space_whose_names_are_not_read_back_is_caught():
    class Mumbling(Mixed):
        def format(self, genotype):
            return super().format(genotype).replace("conv", "attention")

    class Suite(SearchSpaceConformance):
        def make(self):
            return Mumbling()

    with pytest.raises(AssertionError):
        Suite().test_format_and_parse_are_inverse()


def test_an_objective_that_sorts_its_input_is_caught():
    class Suite(ObjectiveConformance):
        def make(self):
            return Formula("rank", lambda g: g.sort(axis=1) or g[:, 0] * 1.0)

        def space(self):
            return Widths()

    with pytest.raises(ValueError, match="read-only"):
        Suite().test_evaluate_returns_one_value_for_each_genotype()


def test_an_objective_that_depends_on_the_batch_is_caught():
    class Suite(ObjectiveConformance):
        def make(self):
            return Formula("rank", lambda g: g.sum(axis=1).argsort().astype(float))

        def space(self):
            return Widths()

    with pytest.raises(AssertionError):
        Suite().test_values_do_not_depend_on_the_batch()


def test_a_space_that_is_not_canonical_twice_is_caught():
    class Rotating(Mixed):
        def canonicalize(self, genotypes):
            return np.column_stack([(genotypes[:, 0] + 1) % 3, genotypes[:, 1:]])

    class Suite(SearchSpaceConformance):
        def make(self):
            return Rotating()

    with pytest.raises(AssertionError):
        Suite().test_canonicalize_is_idempotent_and_valid()


def test_states_survive_storage_and_objects_do_not():
    state = {"a": [1, {"b": np.arange(3)}], "c": None, "d": 2**100}
    back = stored(state)
    assert back["a"][1]["b"].tolist() == [0, 1, 2]
    assert (back["c"], back["d"]) == (None, 2**100)
    with pytest.raises(InvalidInputError):
        stored({"a": object()})
