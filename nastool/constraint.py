"""Constraints and the text users write them in: ``params<=66M``, ``latency[pixel7]<=20ms``."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nastool.choices import check_text, plain
from nastool.errors import InvalidInputError
from nastool.numbers import is_number

Sense = Literal["<=", ">="]

_PREFIXES = {"": "1", "k": "1e3", "K": "1e3", "M": "1e6", "G": "1e9", "T": "1e12"}
_UNITS = {
    "s": ("1", "s"),
    "ms": ("1e-3", "s"),
    "us": ("1e-6", "s"),
    "µs": ("1e-6", "s"),
    "ns": ("1e-9", "s"),
    "B": ("1", "B"),
    "kB": ("1e3", "B"),
    "KB": ("1e3", "B"),
    "MB": ("1e6", "B"),
    "GB": ("1e9", "B"),
    "KiB": (str(2**10), "B"),
    "MiB": (str(2**20), "B"),
    "GiB": (str(2**30), "B"),
    "J": ("1", "J"),
    "mJ": ("1e-3", "J"),
}
_BINARY = (("GiB", 30), ("MiB", 20), ("KiB", 10))
# Products are rounded once, to the nearest float: 66.1M, 66.1e6 and 66100000 are one bound.
_DECIMALS = Context(prec=60, traps=[])
_BASE_UNITS = ("", *dict.fromkeys(base for _, base in _UNITS.values()))
_GREEK_MU, _MICRO_SIGN = "\N{GREEK SMALL LETTER MU}", "\N{MICRO SIGN}"
# One way only to read any digit: a second one would be tried for each digit of a long text.
_QUANTITY = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-zµ]*)")
# Folders may have brackets in their names, such as predictor[1].
_CONSTRAINT = re.compile(
    r"\s*(?P<name>[A-Za-z_][\w.-]*)"
    r"(?:\[(?P<brackets>(?:[^\[\]]|\[[^\[\]]*\])+)\](?:\.(?P<part>\w+))?"
    r"|:(?P<colon>(?:[^\[\]<=>\n]|\[[^\[\]<=>\n]*\])*(?:[^\[\]<=>\s]|\[[^\[\]<=>\n]*\])))?"
    r"\s*(?P<sense><=|>=)\s*(?P<bound>\S(?:.*\S)?)\s*"
)


@dataclass(frozen=True)
class Quantity:
    """A number in base units, with the unit it was written in (empty for a plain number)."""

    value: float
    unit: str


@dataclass(frozen=True)
class Constraint:
    """A bound on a metric.

    Args:
        metric: The metric's name, which need not be an objective.
        sense: ``<=`` or ``>=``.
        bound: In the metric's base unit; finite. A number of NumPy's is kept as Python's own.
        unit: Base unit the bound was written in; empty when it was a plain number.

    Raises:
        InvalidInputError: An unknown sense or unit, or a bound that is not finite.
    """

    metric: str
    sense: Sense
    bound: float
    unit: str = ""

    def __post_init__(self) -> None:
        if self.sense not in ("<=", ">="):
            raise InvalidInputError(f"a constraint's sense must be <= or >=, got {self.sense!r}")
        bound = plain(self.bound)
        if not (is_number(bound) and abs(bound) <= sys.float_info.max):
            raise InvalidInputError(
                f"the bound on {self.metric} must be a finite number, got {self.bound!r:.80}"
            )
        object.__setattr__(self, "bound", bound)
        if self.unit not in _BASE_UNITS:
            raise InvalidInputError(
                f"the bound on {self.metric} must be in {', '.join(filter(None, _BASE_UNITS))} "
                f"or a plain number, got unit {self.unit!r}"
            )

    def violation(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Signed distance past the bound, relative to its size; <= 0 is feasible.

        Args:
            values: Shape (n,), in the metric's base unit.
        """
        scale = abs(self.bound) or 1.0
        excess = values - self.bound if self.sense == "<=" else self.bound - values
        return excess / scale

    def holds(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which values (n,) are within the bound; NaN is not."""
        return self.violation(values) <= 0

    def __str__(self) -> str:
        # Few digits where they say it all, every digit where they do not: `parse_constraint`
        # reads it back.
        texts = [format_quantity(self.bound, self.unit), *_in_binary(self.bound, self.unit)]
        texts = [text for text in texts if _read(text).value == self.bound]
        text = min(texts, key=len, default=f"{float(self.bound)!r}{self.unit}")
        return f"{self.metric}{self.sense}{text}"


def violations(
    constraints: Sequence[Constraint], values: Mapping[str, NDArray[np.float64]], n: int
) -> NDArray[np.float64]:
    """Violation of each constraint by each of n architectures, shape (n, c).

    Args:
        constraints: On metrics whose values are given.
        values: By metric, shape (n,), in its base unit.
        n: How many architectures there are.
    """
    found = np.empty((n, len(constraints)))
    for column, constraint in enumerate(constraints):
        found[:, column] = constraint.violation(values[constraint.metric])
    return found


def limits(constraints: Sequence[Constraint], metric: str) -> tuple[float, float]:
    """The smallest and the largest allowed value of a metric, infinite where none is given."""
    bounds = [c for c in constraints if c.metric == metric]
    lower = max((c.bound for c in bounds if c.sense == ">="), default=-math.inf)
    upper = min((c.bound for c in bounds if c.sense == "<="), default=math.inf)
    return lower, upper


def parse_quantity(text: str) -> Quantity:
    """Read ``66M``, ``1.5e6``, ``66_000_000``, ``20ms`` or ``250MB``.

    Raises:
        InvalidInputError: Not a finite number, or an unknown unit.
    """
    quantity = _read(text)
    if not math.isfinite(quantity.value):
        raise InvalidInputError(f"expected a number with an optional unit, got {text!r:.200}")
    return quantity


def _read(text: str) -> Quantity:
    """What `parse_quantity` reads, or a value that is not finite."""
    digits = re.sub(r"(?<=\d)_(?=\d)", "", text.strip())
    match = _QUANTITY.fullmatch(digits.replace(_GREEK_MU, _MICRO_SIGN))
    if match is None:
        return Quantity(math.nan, "")
    number, suffix = match.groups()
    if suffix in _PREFIXES:
        factor, base = _PREFIXES[suffix], ""
    elif suffix in _UNITS:
        factor, base = _UNITS[suffix]
    else:
        # All of them: what resembles a letter or two is no hint.
        known = ", ".join([*filter(None, _PREFIXES), *_UNITS])
        raise InvalidInputError(f"unknown unit {suffix!r:.40} in {text!r:.200}; known: {known}")
    product = _DECIMALS.multiply(_DECIMALS.create_decimal(number), Decimal(factor))
    return Quantity(float(product), base)


def parse_whole(text: str, least: int) -> int | None:
    """Read ``30000``, ``30_000`` or ``30k``; None where it is no whole number of at least that."""
    try:
        quantity = parse_quantity(text.replace("_", ""))
    except InvalidInputError:
        return None
    number = math.nan if quantity.unit else quantity.value
    if not (number >= least and math.isclose(number, round(number), rel_tol=1e-12)):
        return None
    # Digits beyond those of a float are given without a suffix.
    digits = text.strip().replace("_", "").lstrip("+")
    return int(digits) if digits.isdigit() else round(number)


def in_base(unit: str) -> Quantity:
    """What one of a unit is in its base unit: ms is 0.001 s; a unit not known here is its own."""
    try:
        return parse_quantity(f"1 {unit}")
    except InvalidInputError:
        return Quantity(1.0, unit)


def parse_constraint(text: str) -> Constraint:
    """Read ``METRIC<=NUMBER`` or ``METRIC>=NUMBER``; an argument may follow a colon.

    Raises:
        InvalidInputError: The text has another form, or an unknown unit.
    """
    match = _CONSTRAINT.fullmatch(check_text("a constraint", text))
    if match is None:
        raise InvalidInputError(f"expected METRIC<=NUMBER or METRIC>=NUMBER, got {text!r:.200}")
    quantity = parse_quantity(match["bound"])
    sense: Sense = "<=" if match["sense"] == "<=" else ">="
    # latency:pixel7 is the metric latency[pixel7], without brackets for the shell to expand.
    name = f"{match['name']}.{match['part']}" if match["part"] else match["name"]
    metric = metric_name(name, match["brackets"] or match["colon"])
    return Constraint(metric, sense, quantity.value, quantity.unit)


def metric_name(name: str, argument: str | None) -> str:
    """The name of a metric: ``latency[pixel7]``, or ``latency[pixel7].decode`` of a part of it.

    Args:
        name: Of what measures it, e.g. ``latency`` or ``latency.decode``.
        argument: What stands in brackets; None where nothing does.
    """
    if not argument:
        return name
    whole, _, part = name.rpartition(".")
    return f"{whole}[{argument}].{part}" if whole and part else f"{name}[{argument}]"


def parse_bound(text: str, sense: Sense) -> Constraint:
    """Read ``METRIC=NUMBER``, the form of ``--max`` and ``--min`` that needs no shell quotes.

    Raises:
        InvalidInputError: The text has another form, or an unknown unit.
    """
    # The last one: settings in brackets have their own.
    metric, equals, number = text.rpartition("=")
    if not equals or metric.endswith(("<", ">")):
        raise InvalidInputError(f"expected METRIC=NUMBER, got {text!r:.200}")
    try:
        return parse_constraint(f"{metric}{sense}{number}")
    except InvalidInputError as error:
        if "unknown unit" in str(error) or "a number" in str(error):
            raise
        raise InvalidInputError(f"expected METRIC=NUMBER, got {text!r:.200}") from error


def _in_binary(value: float, unit: str) -> list[str]:
    """A size in the largest of KiB, MiB and GiB that it fills."""
    if unit != "B":
        return []
    filled = [(2.0**power, name) for name, power in _BINARY if abs(value) >= 2**power]
    return [f"{value / scale:.6g}{name}" for scale, name in filled[:1]]


def format_quantity(value: float, unit: str = "") -> str:
    """A value for people, three to four digits: 66M, 20ms, 6.86.

    Args:
        value: In the base unit.
        unit: ``s``, ``B``, ``J`` or empty; any other is appended as it is.
    """
    if not math.isfinite(value) or value == 0:
        return f"{value + 0.0:g}{unit}"  # no zero is negative
    if unit not in _BASE_UNITS:
        return f"{format_quantity(value)} {unit}"
    if unit == "s":
        steps = [("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)]
    elif unit == "B":
        steps = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)]
    elif unit == "J":
        steps = [("J", 1.0), ("mJ", 1e-3)]
    else:
        steps = [("G", 1e9), ("M", 1e6), ("k", 9999.5), ("", 0.0)]
    for suffix, factor in steps:
        if abs(value) >= factor:
            scale = {"k": 1e3, "": 1.0}.get(suffix, factor)
            return f"{value / scale:.4g}{suffix}"
    suffix, factor = steps[-1]
    return f"{value / factor:.4g}{suffix}"
