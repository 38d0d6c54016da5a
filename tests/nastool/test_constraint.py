import json
import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nastool.constraint import (
    Constraint,
    Quantity,
    format_quantity,
    in_base,
    parse_bound,
    parse_constraint,
    parse_quantity,
)
from nastool.errors import InvalidInputError

# Names as they are kept: what measures a part has its argument before the part.
METRICS = st.from_regex(
    r"[A-Za-z_][\w.-]{0,8}|[A-Za-z_][\w-]{0,8}\[[^\[\]]{1,8}\]"
    r"|[A-Za-z_][\w.-]{0,8}\[[^\[\]]{1,8}\]\.\w{1,8}",
    fullmatch=True,
)
UNITS = st.sampled_from(["", "s", "B", "J"])
BOUNDS = st.floats(min_value=-1e15, max_value=1e15, allow_nan=False).filter(
    lambda bound: bound == 0 or abs(bound) > 1e-12
)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("66M", 66e6, ""),
        ("66k", 66e3, ""),
        ("66_000_000", 66e6, ""),
        ("1_000ms", 1.0, "s"),
        ("66K", 66e3, ""),
        ("1.5e6", 1.5e6, ""),
        (".5G", 0.5e9, ""),
        ("2T", 2e12, ""),
        ("-3", -3.0, ""),
        (" 7. ", 7.0, ""),
        ("20ms", 0.02, "s"),
        ("20 µs", 2e-5, "s"),
        ("20 \N{GREEK SMALL LETTER MU}s", 2e-5, "s"),
        ("250MB", 250e6, "B"),
        ("2KiB", 2048.0, "B"),
        ("5mJ", 0.005, "J"),
    ],
)
def test_quantities(text, value, unit):
    quantity = parse_quantity(text)
    assert quantity.value == value
    assert quantity.unit == unit


@pytest.mark.parametrize(
    ("unit", "value", "base"),
    [("ms", 1e-3, "s"), ("MB", 1e6, "B"), ("s", 1, "s"), ("", 1, ""), ("M", 1e6, "")]
    + [(unit, 1, unit) for unit in ("nats", "%", "frames a second", "2", "e3")],
)
def test_a_unit_in_its_base_unit(unit, value, base):
    assert in_base(unit) == Quantity(value, base)


@given(
    number=st.decimals(min_value="0.001", max_value="9999", places=3),
    unit=st.sampled_from([("k", 3), ("M", 6), ("G", 9), ("ms", -3), ("us", -6), ("MB", 6)]),
)
@example(number=Decimal("66.1"), unit=("M", 6))
@example(number=Decimal("9.35"), unit=("ms", -3))
def test_a_number_is_the_same_with_a_unit_and_with_an_exponent(number, unit):
    suffix, exponent = unit
    assert parse_quantity(f"{number}{suffix}").value == float(f"{number}e{exponent}")


@pytest.mark.parametrize("text", ["", "M", "six", "1,000", "0x10", "nan", "inf", "1e999", "--1"])
def test_what_is_not_a_number(text):
    with pytest.raises(InvalidInputError, match="expected a number"):
        parse_quantity(text)


@pytest.mark.parametrize("text", ["66m", "66Mb", "3parsec", "20mS"])
def test_unknown_units_list_the_known_ones(text):
    with pytest.raises(InvalidInputError, match=r"unknown unit .* known: k, .*ms"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("params<=66M", Constraint("params", "<=", 66e6)),
        (" params <= 66 M ", Constraint("params", "<=", 66e6)),
        ("accuracy>=0.8", Constraint("accuracy", ">=", 0.8)),
        ("latency[pixel7]<=20ms", Constraint("latency[pixel7]", "<=", 0.02, "s")),
        ("size<=250MB", Constraint("size", "<=", 250e6, "B")),
        ("latency:pixel7<=20ms", Constraint("latency[pixel7]", "<=", 0.02, "s")),
        ("ppl:C:/my runs >= 3", Constraint("ppl[C:/my runs]", ">=", 3.0)),
        ("ppl[net,blocks=64]<=3", Constraint("ppl[net,blocks=64]", "<=", 3.0)),
        ("ppl[my [1]/x].part<=3", Constraint("ppl[my [1]/x].part", "<=", 3.0)),
        ("ppl:my[1]/x[2]<=3", Constraint("ppl[my[1]/x[2]]", "<=", 3.0)),
    ],
)
def test_constraints(text, expected):
    assert parse_constraint(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "params", "params<=", "<=66M", "params<66M", "params=66M", "params==66M",
        "params=<66M", "params<=66M extra", "params<=<=66M", "params<=66M<=70M", "2x<=66M",
        "latency[]<=1", "latency[a<=1", "latency[a]]<=1", "latency[[a]<=1", "latency:<=1",
        "latency: <=1", "params<=66M\nparams<=67M",
    ],
)  # fmt: skip
def test_malformed_constraints(text):
    with pytest.raises(InvalidInputError) as caught:
        parse_constraint(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sense", ["<=", ">="])
def test_bounds_without_quotes(sense):
    assert parse_bound("params=66M", sense) == Constraint("params", sense, 66e6)
    expected = Constraint("latency[x]", sense, 0.02, "s")
    assert parse_bound("latency[x]=20ms", sense) == expected
    assert parse_bound("latency:x=20ms", sense) == expected
    # Settings in brackets have an = of their own.
    expected = Constraint("ppl[a[1],text=b,blocks=64]", sense, 300.0)
    assert parse_bound("ppl[a[1],text=b,blocks=64]=300", sense) == expected


@pytest.mark.parametrize("text", ["", "params", "params<=66M", "params>=66M", "=66M", "a=b=3"])
def test_malformed_bounds(text):
    with pytest.raises(InvalidInputError, match="expected"):
        parse_bound(text, "<=")


@given(metric=METRICS, sense=st.sampled_from(["<=", ">="]), bound=BOUNDS, unit=UNITS)
@example(metric="A.[0]", sense="<=", bound=0.0, unit="")
@example(metric="A[0].decode", sense="<=", bound=0.0, unit="s")
@example(metric="A[x[0],b=1]", sense="<=", bound=0.0, unit="")
@example(metric="params", sense="<=", bound=66_123_456.0, unit="")
@example(metric="latency", sense="<=", bound=0.0213, unit="s")
@example(metric="params", sense="<=", bound=66_100_000.0, unit="")
@example(metric="params", sense="<=", bound=66_099_999.99999999, unit="")
@example(metric="latency", sense="<=", bound=0.013, unit="s")
@example(metric="latency", sense="<=", bound=1e-23, unit="s")
@example(metric="params", sense="<=", bound=1.7976931348623157e308, unit="")
def test_text_is_read_back(metric, sense, bound, unit):
    constraint = Constraint(metric, sense, bound, unit)
    again = parse_constraint(str(constraint))
    assert (again.metric, again.sense) == (metric, sense)
    assert again.unit == unit
    assert again.bound == bound


def test_an_argument_stands_before_the_part_that_is_measured():
    expected = Constraint("latency[x].decode", "<=", 0.02, "s")
    for text in ("latency[x].decode<=20ms", "latency.decode[x]<=20ms", "latency.decode:x<=20ms"):
        assert parse_constraint(text) == expected


def test_numbers_of_numpy_are_written_as_numbers():
    text = str(Constraint("params", "<=", np.float64(66_123_456.5)))
    assert text == "params<=66123456.5"


@given(st.text(max_size=40) | st.from_regex(r"[a-z\[\]]{0,6}[<>=]{0,3}[-+.\deE]{0,8}\w{0,3}"))
@example("params<=" + "9" * 5000)
@example("params<=1e-400")
@example("params<=٣")
@example("params<=1e308T")
@example("1e308T")
@example("params<=1e-99999999999999999999")
def test_garbage_is_invalid_input_and_nothing_else(text):
    for parse in (
        parse_quantity,
        parse_constraint,
        lambda t: parse_bound(t, "<="),
        lambda t: parse_bound(t, ">="),
    ):
        try:
            parse(text)
        except InvalidInputError:
            continue


@given(value=BOUNDS, unit=UNITS)
def test_quantities_for_people_keep_four_digits(value, unit):
    quantity = parse_quantity(format_quantity(value, unit))
    assert math.isclose(quantity.value, value, rel_tol=1e-3)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (66e6, "", "66M"),
        (13_841_287_201, "", "13.84G"),
        (66_500, "", "66.5k"),
        (6_650, "", "6650"),
        (6.857, "", "6.857"),
        (0.02, "s", "20ms"),
        (3e-10, "s", "0.3ns"),
        (250e6, "B", "250MB"),
        (1e6, "B", "1MB"),
        (999_999, "B", "1000kB"),
        (1e9, "B", "1GB"),
        (1e3, "B", "1kB"),
        (999, "B", "999B"),
        (1.0, "s", "1s"),
        (0.5, "J", "500mJ"),
        (10_000, "", "10k"),
        (9_999.6, "", "10k"),
        (9_999, "", "9999"),
        (-0.0, "", "0"),
        (1e6, "", "1M"),
        (1e9, "", "1G"),
        (-0.02, "s", "-20ms"),
        (0, "s", "0s"),
        (math.inf, "", "inf"),
        (2_500_000, "tokens/s", "2.5M tokens/s"),
    ],
)
def test_quantities_for_people(value, unit, text):
    assert format_quantity(value, unit) == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("m", "<", 1.0), "sense must be"),
        (("m", "<=", math.nan), "finite"),
        (("m", "<=", math.inf), "finite"),
        (("m", "<=", 1.0, "ms"), "got unit 'ms'"),
    ],
)
def test_constraints_are_validated(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        Constraint(*arguments)


def test_violation_is_relative_and_signed():
    values = np.array([50.0, 100.0, 150.0, np.nan])
    upper = Constraint("m", "<=", 100.0).violation(values)
    lower = Constraint("m", ">=", 100.0).violation(values)
    np.testing.assert_array_equal(upper, [-0.5, 0.0, 0.5, np.nan])
    np.testing.assert_array_equal(lower, [0.5, 0.0, -0.5, np.nan])
    np.testing.assert_array_equal(Constraint("m", "<=", 0.0).violation(values[:1]), [50.0])
    np.testing.assert_array_equal(Constraint("m", "<=", -100.0).violation(values[:1]), [1.5])


@pytest.mark.parametrize("read", [parse_quantity, parse_constraint])
@pytest.mark.parametrize("text", ["1" * 1_000_000 + "!", "a<=" + "1" * 1_000_000 + "!"])
def test_long_texts_are_refused_in_a_short_line(read, text):
    # A reader that tries every split of a number would take hours for these.
    with pytest.raises(InvalidInputError) as caught:
        read(text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("bound", [np.int64(60), np.uint8(60), np.float32(60), np.array(60)])
def test_bounds_may_be_numbers_of_numpy(bound):
    # They are hashed and kept as JSON, which takes none.
    kept = Constraint("params", "<=", bound)
    assert kept == Constraint("params", "<=", 60)
    assert type(kept.bound) in (int, float)
    assert json.dumps(kept.bound)


@pytest.mark.parametrize("bound", ["60", None, True, np.inf, np.nan, np.array([1.0, 2.0])])
def test_a_bound_is_a_finite_number(bound):
    with pytest.raises(InvalidInputError, match="the bound on params must be a finite number, got"):
        Constraint("params", "<=", bound)


def test_a_bound_is_no_number_beyond_floats():
    with pytest.raises(InvalidInputError, match="must be a finite number, got 1000"):
        Constraint("params", "<=", 10**400)
