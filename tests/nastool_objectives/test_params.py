import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.testing import Mixed, ObjectiveConformance, Widths
from nastool_objectives.params import create


class TestParams(ObjectiveConformance):
    def space(self):
        return Widths()

    def make(self):
        return create(self.space())


def test_params_are_the_cost_of_the_space():
    space = Widths(layers=2, widths=(1, 2))
    every = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    assert create(space).evaluate(every).tolist() == [13, 15, 15, 18]
    assert create(space).provenance.kind.value == "computed"


def test_a_space_without_the_cost_is_rejected():
    with pytest.raises(InvalidInputError, match=r"mixed must declare the cost 'params'.*none"):
        create(Mixed())


def test_an_argument_is_rejected():
    with pytest.raises(InvalidInputError, match="takes no argument, got 'x'"):
        create(Widths(), "x")
