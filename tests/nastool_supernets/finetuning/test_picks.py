"""Shapes that are named: by their place in a space, on a front, or within a bound."""

import numpy as np
import pytest

from nastool import Gene, Objective, Problem, SearchSpace, Study
from nastool.errors import InvalidInputError
from nastool.objective import Kind, Provenance
from nastool.strategies.random import RandomSearch
from nastool_supernets.finetuning.picks import named_shape, pick


class Squares(SearchSpace):
    name = "squares"
    genes = (Gene("x", (0, 1, 2, 3, 4), ordered=True), Gene("y", (0, 1), ordered=True))


class Column(Objective):
    provenance = Provenance(Kind.COMPUTED, "a test")
    is_cheap = True

    def __init__(self, name, function):
        self.name = self.fingerprint = name
        self._function = function

    def evaluate(self, genotypes):
        return self._function(genotypes).astype(float)


SIZE = Column("size", lambda g: g[:, 0] * 10)
LOSS = Column("loss", lambda g: (4 - g[:, 0]) ** 2 + g[:, 1])


def studied(*objectives):
    return Study(Problem(Squares(), objectives), RandomSearch).run(10)


@pytest.fixture(scope="module")
def front():
    """Sizes 40 to 0 with losses 0, 1, 4, 9 and 16."""
    return studied(LOSS, SIZE)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("smallest", "0-0"),
        ("largest", "4-1"),
        ("3-1", "3-1"),
        ("1", "4-0"),
        ("5", "0-0"),
        ("knee", "2-0"),
        ("size<=30", "3-0"),
        ("size<=25", "2-0"),
        ("loss<=5", "2-0"),
        ("size>=15", "4-0"),
    ],
)
def test_a_shape_of_a_front(front, text, shape):
    assert front.problem.space.texts(named_shape(text, front.problem.space, front)) == [shape]


def test_of_one_objective_what_is_bounded_is_what_is_best():
    ranking = studied(SIZE)
    space = ranking.problem.space
    assert space.texts(named_shape("size>=20", space, ranking))[0].startswith("2-")
    assert np.array_equal(named_shape("knee", space, ranking), pick(ranking, "1"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size<=-1", "--shape: no shape of the study's front has size<=-1"),
        ("weight<=1", "--shape: unknown metric 'weight'"),
        ("size<=1s", "--shape: size<=1s: size is measured in plain numbers, got a bound in s"),
        ("size<=", "--shape: expected METRIC<=NUMBER"),
        ("kneee", "--shape: expected widths or one of smallest, largest, knee, a bound"),
        ("6", "--shape: expected the number of a row from 1 to 5, got 6"),
    ],
)
def test_what_names_none_is_said(front, text, message):
    with pytest.raises(InvalidInputError, match=message):
        named_shape(text, front.problem.space, front)


def test_without_a_study_there_is_no_front_to_name_one_of(front):
    space = front.problem.space
    for text in ("knee", "size<=30", "1"):
        with pytest.raises(InvalidInputError, match="--shape: "):
            named_shape(text, space, None)
