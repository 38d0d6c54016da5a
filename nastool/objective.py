"""Objectives: how good an architecture is."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.attributes import attribute
from nastool.choices import as_array, check_name, whole
from nastool.errors import InvalidInputError, NastoolError, in_one_line, naming
from nastool.numbers import score_text
from nastool.space import Cost, Genotypes

NO_NUMBER = "no finite number"
"""What is said of an evaluation that failed without raising."""


class Direction(enum.Enum):
    """Which way is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    @property
    def sign(self) -> int:
        """Factor that turns a value into one to be minimised."""
        return 1 if self is Direction.MINIMIZE else -1


class Kind(enum.Enum):
    """How a number came about."""

    COMPUTED = "computed"
    MEASURED = "measured"
    PREDICTED = "predicted"


LEAST_AGREEMENT = 0.5
"""Below this rank correlation with what is published, values are said to contradict it."""


@dataclass(frozen=True)
class RankAgreement:
    """How alike two sources order the same architectures.

    Args:
        source: What the values are held against, e.g. ``news text``.
        spearman: Rank correlation, from -1 to 1.
        n: Number of architectures.
        published: Whether the source is a published result.

    Raises:
        InvalidInputError: No source, a correlation out of range, or fewer than three architectures.
    """

    source: str
    spearman: float
    n: int
    published: bool = False

    def __post_init__(self) -> None:
        source: object = self.source
        if not isinstance(source, str) or not source:
            raise InvalidInputError(f"a rank agreement needs a source, got {source!r}")
        if not -1 <= self.spearman <= 1 or self.n < 3:
            raise InvalidInputError(
                f"a rank agreement lies between -1 and 1, over three architectures or more, got "
                f"{self.spearman} over {self.n}"
            )

    def __str__(self) -> str:
        return f"{self.source} {score_text(self.spearman)} ({self.n:,} shapes)"


@dataclass(frozen=True)
class Provenance:
    """What a value is worth: every table and figure shows it.

    Args:
        kind: Computed in closed form, measured, or predicted.
        by: What produced it, e.g. ``closed form`` or ``XGBoost on 3,000 shapes of minilm-12``.
        error: How far off it is, in words, e.g. ``held-out R2 0.99``; empty where exact.
        proxy: What it stands in for and why that matters; empty when it is the thing itself.
        agreements: How alike other sources order architectures of this space.
    """

    kind: Kind
    by: str
    error: str = ""
    proxy: str = ""
    agreements: tuple[RankAgreement, ...] = ()

    def __post_init__(self) -> None:
        kind: object = self.kind
        if not isinstance(kind, Kind):
            known = ", ".join(f"Kind.{member.name}" for member in Kind)
            raise InvalidInputError(f"a provenance's kind must be one of {known}, got {kind!r}")
        for name in ("by", "error", "proxy"):
            if not isinstance(getattr(self, name), str):
                raise InvalidInputError(
                    f"a provenance's {name} must be a text, got {getattr(self, name)!r}"
                )

    @property
    def contradiction(self) -> str:
        """What to say first where the order is not the published one; empty otherwise."""
        against = [a for a in self.agreements if a.published and a.spearman < LEAST_AGREEMENT]
        return f"CONTRADICTS {', '.join(map(str, against))}" if against else ""

    @property
    def agreement(self) -> str:
        """How alike other sources order architectures, in words; empty if nothing is known."""
        if not self.agreements:
            return ""
        return f"rank agreement with {', '.join(map(str, self.agreements))}"

    def __str__(self) -> str:
        first = f"{self.contradiction}: " if self.contradiction else ""
        error = f", {self.error}" if self.error else ""
        proxy = f"PROXY: {self.proxy}" if self.proxy else ""
        rest = [f"{first}{self.kind.value} ({self.by}{error})", self.agreement, proxy]
        return "; ".join(filter(None, rest))


class Objective(ABC):
    """A number for every architecture of a space.

    A subclass defines `name`, `provenance` and `fingerprint`, as attributes of the class or of
    instances or as properties, and `evaluate`; `nastool.testing.ObjectiveConformance` checks it.
    """

    @attribute
    @abstractmethod
    def name(self) -> str:
        """The metric's name as users type it, e.g. ``latency[pixel7]``."""

    @attribute
    def unit(self) -> str:
        """SI base unit of the values: ``s``, ``B``, ``J``; empty for plain numbers."""
        return ""

    @attribute
    def direction(self) -> Direction:
        """Which way is better; minimised unless overridden."""
        return Direction.MINIMIZE

    @attribute
    @abstractmethod
    def provenance(self) -> Provenance:
        """How the values come about."""

    @attribute
    def is_cheap(self) -> bool:
        """Whether evaluating costs so little that a constraint on it is enforced beforehand."""
        return self.provenance.kind is not Kind.MEASURED

    @attribute
    def interval(self) -> float | None:
        """Half-width that holds 90% of new measurements; None where it is not known."""
        return None

    def half_widths(self, values: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Half-widths that hold 90% of new measurements, where they differ by value.

        Args:
            values: Of this metric, shape (n,).

        Returns:
            Shape (n,); `interval` everywhere unless overridden; None where it is not known.
        """
        return None if self.interval is None else np.full(len(values), self.interval)

    def outside(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        """Which shapes of (n, d) lie outside of what the values were learned from, shape (n,)."""
        return np.zeros(len(genotypes), dtype=bool)

    def chain(self) -> Cost | None:
        """The metric as a cost with just the values of `evaluate`; None if it is not known as one.

        Bounds on it are then proved, counted and drawn within, as those on costs of the space.
        """
        return None

    @attribute
    def optimism(self) -> float | None:
        """By which share of its value the best of many is likely worse; None if not known."""
        return None

    @attribute
    @abstractmethod
    def fingerprint(self) -> str:
        """Identity of the values: equal fingerprints promise equal values."""

    @attribute
    def ledger(self) -> str:
        """Under which key measurements are kept: one for all that measure the same thing."""
        return self.fingerprint

    @attribute
    def repeats(self) -> int:
        """How often it measures; of what is kept, values of at least as many are as good."""
        return 1

    def order(self, genotypes: Genotypes) -> NDArray[np.int64]:
        """In which order genotypes (n, d) are best evaluated, as their rows (n,).

        As they are, unless some share their work: these are best side by side, since workers get
        them by the piece.
        """
        return np.arange(len(genotypes))

    @abstractmethod
    def evaluate(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """Values in the natural sign and base unit.

        Args:
            genotypes: Shape (n, d), valid for the space the objective was made for.

        Returns:
            Shape (n,); NaN where the evaluation failed.
        """


@dataclass(frozen=True)
class Evaluated:
    """What came of evaluating a batch.

    Args:
        values: Shape (n,), natural sign and base unit; NaN where the evaluation failed.
        messages: Why, by row, where it raised.
    """

    values: NDArray[np.float64]
    messages: dict[int, str] = field(default_factory=dict)


def evaluate(objective: Objective, genotypes: Genotypes) -> Evaluated:
    """Evaluate a batch with code that nobody has checked; what goes wrong costs one shape only.

    An objective that raises, calls ``sys.exit()`` or returns something else than a real number
    each is asked again for one shape at a time. Errors of nastool, which a user can act on, are
    raised.

    Args:
        objective: What to evaluate.
        genotypes: Shape (n, d); handed on read-only.
    """
    given = read_only(genotypes)
    n = len(genotypes)
    try:
        returned = objective.evaluate(given)
    except (NastoolError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001  # whatever one architecture raises is its own
        message = in_one_line(error)
    else:
        try:
            return Evaluated(checked_values(objective, returned, n))
        except InvalidInputError as error:
            message = str(error)
    if n <= 1:
        return Evaluated(np.full(n, np.nan), dict.fromkeys(range(n), message))
    singles = [evaluate(objective, genotypes[k : k + 1]) for k in range(n)]
    messages = {k: single.messages[0] for k, single in enumerate(singles) if single.messages}
    return Evaluated(np.concatenate([single.values for single in singles]), messages)


def order_of(objective: Objective, genotypes: Genotypes) -> NDArray[np.int64]:
    """In which order an objective wants genotypes (n, d) evaluated, as their rows (n,).

    Raises:
        NastoolError: It raised, or did not say each row once.
    """
    n = len(genotypes)
    rule = f"objective {objective.name}: order must be each of {n} rows once"
    with naming(f"objective {objective.name}"):
        said: object = objective.order(read_only(genotypes))
    rows = as_array(rule, said)
    fit = rows.shape == (n,) and rows.dtype.kind in "iu"
    if not fit or not np.array_equal(np.sort(rows), np.arange(n)):
        raise InvalidInputError(f"{rule}, got {rows.tolist()!r:.80}")
    return rows.astype(np.int64, copy=False)


def half_widths_of(objective: Objective, values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """What an objective says of values (n,): half-widths (n,), see `Objective.half_widths`.

    Raises:
        NastoolError: It raised, or returned something else.
    """
    rule = f"objective {objective.name}: half_widths must be None or {len(values)} numbers"
    with naming(f"objective {objective.name}"):
        said: object = objective.half_widths(read_only(values))
    return None if said is None else _column(rule, said, len(values), "biuf").astype(np.float64)


def outside_of(objective: Objective, genotypes: Genotypes) -> NDArray[np.bool_]:
    """Of which genotypes (n, d) an objective knows no error, shape (n,), see `Objective.outside`.

    Raises:
        NastoolError: It raised, or returned something else.
    """
    rule = f"objective {objective.name}: outside must be {len(genotypes)} of True or False"
    with naming(f"objective {objective.name}"):
        said: object = objective.outside(read_only(genotypes))
    return _column(rule, said, len(genotypes), "b")


def _column(rule: str, said: object, n: int, kinds: str) -> NDArray[Any]:
    array = as_array(rule, said)
    if array.shape != (n,) or array.dtype.kind not in kinds:
        raise InvalidInputError(f"{rule}, got {array.dtype} of shape {array.shape}")
    return array


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """The same array for code that is to look, not to change it."""
    if not array.flags.writeable:
        return array
    view = array.view()
    view.setflags(write=False)
    return view


def checked_values(objective: Objective, values: object, n: int) -> NDArray[np.float64]:
    """What an objective returned, as floats; infinite values count as failed (NaN).

    Args:
        objective: What returned them.
        values: What it returned for n genotypes.
        n: Number of genotypes.

    Raises:
        InvalidInputError: The values are not n real numbers.
    """
    rule = f"objective {objective.name} must return {n} real numbers of shape ({n},)"
    array = _column(rule, values, n, "biuf")
    finite = np.isfinite(array)
    if np.count_nonzero(finite) == n:
        return array.astype(np.float64, copy=False)
    return np.where(finite, array, np.nan).astype(np.float64)


def check_objective(objective: object) -> Objective:
    """Check what an objective says of itself, where it enters.

    Raises:
        InvalidInputError: It is no objective, or an attribute is missing or of another kind.
        NastoolError: It raised while it was asked.
    """
    if not isinstance(objective, Objective):
        raise InvalidInputError(
            "an objective must derive from nastool.objective.Objective, got "
            f"{type(objective).__name__}"
        )
    kind = f"objective {type(objective).__name__}"
    with naming(kind):
        name = objective.name
    check_name(f"{kind}: the name", name)
    expected: tuple[tuple[str, type | tuple[type, ...], str], ...] = (
        ("unit", str, "a text, such as 's'"),
        ("fingerprint", str, "a text"),
        ("ledger", str, "a text"),
        ("direction", Direction, "Direction.MINIMIZE or Direction.MAXIMIZE"),
        ("provenance", Provenance, "a Provenance"),
        ("is_cheap", (bool, np.bool_), "True or False"),
    )
    for said, types, words in expected:
        with naming(kind):
            value = getattr(objective, said)
        if not isinstance(value, types):
            raise InvalidInputError(f"objective {name}: {said} must be {words}, got {value!r:.60}")
    if not objective.fingerprint:
        raise InvalidInputError(f"objective {name}: fingerprint must not be empty")
    for said in ("interval", "optimism"):
        with naming(kind):
            value = getattr(objective, said)
        if value is not None and not (_is_number(value) and value >= 0):
            raise InvalidInputError(
                f"objective {name}: {said} must be None or a number >= 0, got {value!r:.60}"
            )
    with naming(kind):
        repeats: object = objective.repeats
    whole(f"objective {name}: repeats", repeats, 1)
    return objective


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
