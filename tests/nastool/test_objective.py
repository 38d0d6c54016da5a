"""What objectives say of themselves, and what evaluating them costs where something goes wrong."""

import sys
from dataclasses import dataclass

import numpy as np
import pytest

from nastool.errors import InvalidInputError, NastoolError
from nastool.executors import Serial, evaluated
from nastool.numbers import score_text
from nastool.objective import (
    Direction,
    Kind,
    Objective,
    Provenance,
    RankAgreement,
    check_objective,
    evaluate,
)
from nastool.predictors.trust import trust
from nastool.problem import Problem
from nastool.testing import Formula, Widths
from tests.nastool.conftest import Tensor

SOURCE = Provenance(Kind.COMPUTED, "closed form")


class Plain(Objective):
    """Attributes set in __init__, any of them replaced."""

    def __init__(self, **said):
        self.name = self.fingerprint = "plain"
        self.provenance = SOURCE
        for key, value in said.items():
            setattr(self, key, value)

    def evaluate(self, genotypes):
        return genotypes.sum(axis=1) * 1.0


@dataclass
class Fields(Objective):
    name: str
    fingerprint: str
    provenance: Provenance
    unit: str
    direction: Direction = Direction.MAXIMIZE

    def evaluate(self, genotypes):
        return genotypes.sum(axis=1) * 1.0


def test_attributes_of_instances_and_fields_are_accepted():
    plain, fields = Plain(unit="s"), Fields("fields", "1", SOURCE, "B")
    problem = Problem(Widths(), (plain, fields))
    assert [(o.unit, o.direction) for o in problem.objectives] == [
        ("s", Direction.MINIMIZE),
        ("B", Direction.MAXIMIZE),
    ]
    assert plain.is_cheap
    assert plain.interval is None


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"name": ""}, "objective Plain: the name must have characters"),
        ({"name": "a\nb"}, "the name must have characters"),
        ({"name": 7}, "the name must be a text, got int"),
        ({"name": lambda: "x"}, "the name must be a text, got function"),
        ({"unit": None}, "unit must be a text"),
        ({"unit": 1.5}, "unit must be a text, such as 's', got 1.5"),
        ({"direction": "minimize"}, "direction must be Direction.MINIMIZE or .*, got 'minimize'"),
        ({"provenance": "measured"}, "provenance must be a Provenance, got 'measured'"),
        ({"fingerprint": ""}, "fingerprint must not be empty"),
        ({"fingerprint": 3}, "fingerprint must be a text, got 3"),
        ({"is_cheap": "no"}, "is_cheap must be True or False"),
        ({"interval": -1.0}, "interval must be None or a number >= 0"),
        ({"interval": "wide"}, "interval must be None or a number >= 0"),
        ({"optimism": "little"}, "optimism must be None or a number >= 0, got 'little'"),
        ({"optimism": float("nan")}, "optimism must be None or a number >= 0, got nan"),
        ({"repeats": "3"}, "repeats must be a whole number, got '3'"),
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
    ],
)
def test_what_an_objective_says_is_checked_where_it_enters(said, message):
    for enter in (check_objective, lambda o: Problem(Widths(), (o,))):
        with pytest.raises(InvalidInputError, match=message) as caught:
            enter(Plain(**said))
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(InvalidInputError, match=message):
        Problem(Widths(), (Plain(),), metrics=(Plain(**{"name": "other", **said}),))


def test_what_is_missing_is_named():
    class Half(Objective):
        name = "half"
        provenance = SOURCE

        def evaluate(self, genotypes):
            return genotypes[:, 0]

    with pytest.raises(InvalidInputError, match="Half must have 'fingerprint'"):
        check_objective(Half())
    with pytest.raises(InvalidInputError, match=r"must derive from .*Objective, got function"):
        check_objective(lambda genotypes: genotypes)
    with pytest.raises(InvalidInputError, match=r"kind must be one of Kind\.COMPUTED"):
        Provenance("measured", "a device")


def test_a_property_that_raises_is_one_line():
    class Broken(Plain):
        @property
        def unit(self):
            raise ZeroDivisionError("no unit")

    with pytest.raises(NastoolError, match="objective Broken failed: ZeroDivisionError: no unit"):
        check_objective(Broken())


def leave(genotypes):
    sys.exit("done")


def fail(genotypes):
    raise ValueError("two\nlines")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (leave, "sys.exit(): done"),
        (fail, "ValueError: two lines"),
        (lambda g: None, "objective f must return 1 real numbers"),
        (lambda g: g[:0], "objective f must return 1 real numbers"),
        (lambda g: np.array(["a"] * len(g)), "objective f must return 1 real numbers"),
        (lambda g: Tensor(), "got Tensor: RuntimeError: use detach() first"),
        (lambda g: [Tensor()] * len(g), "got list: RuntimeError: use detach() first"),
        (lambda g: np.full(len(g), np.nan), None),
        (lambda g: np.full(len(g), np.inf), None),
    ],
)
def test_what_goes_wrong_costs_one_shape(act, message):
    def function(genotypes):
        return act(genotypes) if (genotypes[:, 0] == 3).any() else genotypes.sum(axis=1) * 1.0

    genotypes = np.array([[k, 1, 0, 0] for k in range(5)])
    made = evaluate(Formula("f", function), genotypes)
    if message is None:
        # Returned for the whole batch: nobody can tell whose number it is, so none is asked again.
        assert np.isnan(made.values).all()
        assert made.messages == {}
    else:
        assert made.values[[0, 1, 2, 4]].tolist() == [1, 2, 3, 5]
        assert np.isnan(made.values[3])
        assert list(made.messages) == [3]
        assert message in made.messages[3]
        assert "\n" not in made.messages[3]


def test_what_is_masked_out_has_failed():
    genotypes = np.array([[k, 1, 0, 0] for k in range(5)])
    values = np.ma.masked_greater(np.arange(5), 2)
    made = evaluate(Formula("f", lambda g: values[: len(g)]), genotypes)
    assert np.array_equal(made.values, [0, 1, 2, np.nan, np.nan], equal_nan=True)
    assert evaluate(Formula("f", lambda g: values[: len(g)]), genotypes[:3]).values.tolist() == [
        0,
        1,
        2,
    ]


def test_errors_of_nastool_and_ctrl_c_pass():
    for error in (NastoolError("plug it in"), KeyboardInterrupt()):

        def function(genotypes, error=error):
            raise error

        with pytest.raises(type(error)):
            evaluate(Formula("f", function), np.zeros((3, 4), dtype=np.int64))


def test_what_is_handed_on_cannot_be_changed():
    genotypes = np.array([[3, 1, 2, 0], [2, 1, 0, 3]])
    before = genotypes.copy()
    made = evaluate(Formula("f", lambda g: g.sort(axis=1)), genotypes)
    assert "read-only" in made.messages[0]
    np.testing.assert_array_equal(genotypes, before)
    genotypes[0, 0] = 1  # ours is as writable as before


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (lambda genotypes: np.zeros(len(genotypes), dtype=int), r"each of 3 rows once, got \[0, 0"),
        (lambda genotypes: np.arange(3.0), r"each of 3 rows once, got \[0.0, 1"),
        (lambda genotypes: np.arange(3)[:, None], r"each of 3 rows once, got \[\[0\]"),
        (lambda genotypes: [1, 0], r"each of 3 rows once, got \[1, 0\]"),
        (lambda genotypes: None, "each of 3 rows once, got None"),
        (lambda genotypes: genotypes.sort(), "objective plain failed: ValueError: sort array is"),
    ],
)
def test_an_order_that_is_none_is_one_line(order, message):
    # Left to itself it would leave shapes out that nobody would know of.
    plain = Plain(order=order)
    with pytest.raises(NastoolError, match=message) as raised:
        list(evaluated(Serial(), plain, np.array([[2], [1], [0]])))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"half_widths": lambda v: [1.0]}, r"half_widths must be None or 3 numbers, got .*\(1,\)"),
        ({"half_widths": lambda v: "wide"}, "half_widths must be None or 3 numbers, got <U4"),
        ({"half_widths": lambda v: v / {}}, "objective plain failed: TypeError"),
        ({"half_widths": lambda v: v.sort()}, "failed: ValueError: sort array is read-only"),
        ({"outside": lambda g: None}, "outside must be 3 of True or False, got object"),
        ({"outside": lambda g: [1, 0, 1]}, "outside must be 3 of True or False, got int64"),
        ({"outside": lambda g: [True]}, r"outside must be 3 of True or False, got bool .*\(1,\)"),
    ],
)
def test_what_is_no_error_of_predictions_is_one_line(said, message):
    predicted = Plain(provenance=Provenance(Kind.PREDICTED, "a guess"), **said)
    with pytest.raises(NastoolError, match=message) as raised:
        trust(predicted, np.array([[2], [1], [0]]), np.arange(3.0))
    assert "\n" not in str(raised.value)


def test_errors_of_predictions_may_be_lists():
    predicted = Plain(half_widths=lambda v: [1, 2], outside=lambda g: [False, True], optimism=0.5)
    judged = trust(predicted, np.array([[2], [1]]), np.array([10.0, 20.0]))
    assert [judged.interval(row) for row in (0, 1)] == [(9.0, 11.0), None]


def test_an_order_is_that_of_asking_and_not_of_the_values():
    plain = Plain(order=lambda genotypes: [2, 0, 1])
    genotypes = np.array([[2], [1], [0]])
    (chunk,) = evaluated(Serial(), plain, genotypes)
    assert chunk.rows.tolist() == [2, 0, 1]
    np.testing.assert_array_equal(chunk.values, plain.evaluate(genotypes[[2, 0, 1]]))


@pytest.mark.parametrize(
    ("score", "digits", "text"),
    [
        (1.0, 2, "1.000"),
        (1.0, 3, "1.000"),
        (1 - 2**-53, 2, "1.000"),
        (0.993, 2, "0.993"),
        (0.997, 2, "0.997"),
        (0.9949, 2, "0.994"),
        (0.99999, 2, "0.999"),
        (0.99, 2, "0.990"),
        (0.9899, 2, "0.99"),
        (0.874, 2, "0.87"),
        (-0.2, 2, "-0.20"),
        (0.99996, 4, "0.99996"),
        (0.99849, 3, "0.998"),
        (float("nan"), 2, "nan"),
    ],
)
def test_only_a_perfect_score_looks_perfect(score, digits, text):
    assert score_text(score, digits) == text


def test_a_rank_agreement_that_is_nearly_perfect_does_not_look_so():
    assert str(RankAgreement("news", 0.9972, 12)) == "news 0.997 (12 shapes)"
