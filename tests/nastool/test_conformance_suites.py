import importlib.util
import sys
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.problem import Problem
from nastool.testing import (
    DeviceConformance,
    Formula,
    Layered,
    Mixed,
    ObjectiveConformance,
    PredictorConformance,
    SearchSpaceConformance,
    StrategyConformance,
    Widths,
    example_problems,
    stored,
)

spec = importlib.util.spec_from_file_location(
    "wrong_plugins", Path(__file__).with_name("wrong_plugins.py")
)
wrong_plugins = sys.modules["wrong_plugins"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(wrong_plugins)


class TestWidths(SearchSpaceConformance):
    def make(self):
        return Widths()


class TestMixed(SearchSpaceConformance):
    def make(self):
        return Mixed()


class TestLayered(SearchSpaceConformance):
    def make(self):
        return Layered()


class TestLargeLayered(SearchSpaceConformance):
    def make(self):
        return Layered(12, widths=(120, 240, 480), heads=(2, 4, 8, 12), hidden=(512, 1024, 3072))


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


class TestTotal(ObjectiveConformance):
    def make(self):
        return wrong_plugins.Total()

    def space(self):
        return Mixed()


class TestClocked(DeviceConformance):
    def make(self):
        return wrong_plugins.Clocked()

    def deployment(self):
        return wrong_plugins.deployment()


class TestImaginary(TestClocked):
    def make(self):
        return wrong_plugins.Imaginary()


class TestLine(PredictorConformance):
    def make(self):
        return wrong_plugins.Line()


def wrong(groups):
    return [
        pytest.param(kind, f"test_{test}", id=kind.__name__)
        for test, kinds in groups.items()
        for kind in kinds
    ]


def caught(suite, test, **given):
    """Whether a test of a suite fails, for whatever reason; a skip is none."""
    try:
        getattr(suite, test)(**given)
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - a plugin may fail in any way
        return True
    return False


@pytest.mark.parametrize(("kind", "test"), wrong(wrong_plugins.SPACES))
def test_wrong_spaces_are_caught(kind, test):
    class Suite(SearchSpaceConformance):
        def make(self):
            return kind()

    assert caught(Suite(), test)


@pytest.mark.parametrize(("kind", "test"), wrong(wrong_plugins.OBJECTIVES))
def test_wrong_objectives_are_caught(kind, test):
    class Suite(ObjectiveConformance):
        def make(self):
            return kind()

        def space(self):
            return Mixed()

    assert caught(Suite(), test)


class Sometimes(wrong_plugins.Total):
    """Memory runs out for a third of the shapes."""

    def evaluate(self, genotypes):
        if np.any(genotypes[:, 2] == 0):
            raise MemoryError("out of memory")
        return super().evaluate(genotypes)


class TestSometimes(ObjectiveConformance):
    may_fail = True

    def make(self):
        return Sometimes()

    def space(self):
        return Mixed()


class Always(Sometimes):
    def evaluate(self, genotypes):
        raise MemoryError("out of memory")


@pytest.mark.parametrize(("kind", "may_fail"), [(Sometimes, False), (Always, True)])
def test_what_raises_is_caught_unless_it_may(kind, may_fail):
    class Suite(TestSometimes):
        def make(self):
            return kind()

    Suite.may_fail = may_fail
    with pytest.raises(MemoryError) as error:
        Suite().test_values_repeat()
    assert any("may_fail" in note for note in getattr(error.value, "__notes__", [])) is not may_fail


@pytest.mark.parametrize(("kind", "test"), wrong(wrong_plugins.STRATEGIES))
def test_wrong_strategies_are_caught(kind, test):
    class Suite(StrategyConformance):
        def make(self, problem, seed):
            return kind(problem, seed)

    takes_a_problem = "problem" in signature(getattr(Suite, test)).parameters
    problems = [{"problem": p} for p in example_problems().values()] if takes_a_problem else [{}]
    assert any(caught(Suite(), test, **given) for given in problems)


@pytest.mark.parametrize(("kind", "test"), wrong(wrong_plugins.DEVICES))
def test_wrong_devices_are_caught(kind, test):
    class Suite(DeviceConformance):
        def make(self):
            return kind()

        def deployment(self):
            return wrong_plugins.deployment()

    assert caught(Suite(), test)


@pytest.mark.parametrize(("kind", "test"), wrong(wrong_plugins.PREDICTORS))
def test_wrong_predictors_are_caught(kind, test):
    class Suite(PredictorConformance):
        def make(self):
            return kind()

    assert caught(Suite(), test)


def test_states_survive_storage_and_objects_do_not():
    state = {"a": [1, {"b": np.arange(3)}], "c": None, "d": 2**100}
    back = stored(state)
    assert back["a"][1]["b"].tolist() == [0, 1, 2]
    assert (back["c"], back["d"]) == (None, 2**100)
    with pytest.raises(InvalidInputError):
        stored({"a": object()})
