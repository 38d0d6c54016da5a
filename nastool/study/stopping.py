"""Ends of a run other than its budget: a time, or nothing gained for long."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nastool import pareto
from nastool.choices import plain
from nastool.errors import InvalidInputError
from nastool.numbers import is_number
from nastool.results import StopReason
from nastool.strategies.base import MOST_AT_ONCE
from nastool.study.study import Study, Until

if TYPE_CHECKING:
    from nastool.evaluations import Evaluations
    from nastool.exact.certificate import Certificate
    from nastool.problem import Problem

_ROUNDING = 1e-9
"""Relative difference between two values that counts as none."""


@dataclass
class TimeLimit:
    """Ends a run after a time, at the end of the batch in hand.

    Args:
        seconds: Counted from when it is made.

    Raises:
        InvalidInputError: No time is left from the start.
    """

    seconds: float
    _end: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not is_number(plain(self.seconds)) or not self.seconds > 0:
            raise InvalidInputError(f"a time limit must be longer than 0 s, got {self.seconds!r}")
        self._end = time.monotonic() + self.seconds

    def __call__(self, study: Study) -> StopReason:
        del study
        return "time" if time.monotonic() >= self._end else ""


@dataclass
class Patience:
    """Ends a run when so many evaluations in a row have gained nothing.

    What counts is the study, earlier runs included: one that has ended so ends at once when it is
    run again, and the same study is stopped after the same batch whether it was interrupted or not.

    Args:
        evaluations: How many; while nothing is feasible, all count. What the study began with does
            not: it was not paid for.

    Raises:
        InvalidInputError: Fewer than one.
    """

    evaluations: int
    _next: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if not is_number(plain(self.evaluations)) or self.evaluations < 1:
            raise InvalidInputError(
                f"patience must be at least 1 evaluation, got {self.evaluations!r}"
            )

    def __call__(self, study: Study) -> StopReason:
        # A front of thousands takes longer than a batch: no earlier than it could be over.
        if len(study) < self._next:
            return ""
        gained = max(last_gain(study.evaluations) + 1, study.known)
        self._next = gained + self.evaluations
        return "patience" if len(study) >= self._next else ""


class Proven:
    """Ends a run when it has found what exact search proves to be best: the optimum, or the front.

    Args:
        problem: Of the study.
        progress: Told of the proof every now and then.

    Raises:
        InvalidInputError: Nothing can be proven of the problem; the message says why.
        KeyboardInterrupt: Ctrl-C before all was proven.
    """

    def __init__(
        self, problem: Problem, progress: Callable[[Certificate], None] | None = None
    ) -> None:
        # Loads compiled kernels.
        from nastool.strategies.exact import Exact

        exact = Exact(problem)
        if exact.dropped:
            left_out = ", ".join(map(str, exact.dropped))
            raise InvalidInputError(
                f"what is best can be proven only under constraints that are predicted or exact, "
                f"got {left_out}"
            )
        self.certificate = exact.prove(progress)
        if not self.certificate.is_complete:
            raise KeyboardInterrupt("the proof is not finished")
        best = problem.evaluate(exact.ask(MOST_AT_ONCE))
        self._missing = best.objectives[best.feasible]
        self._seen = 0

    def __call__(self, study: Study) -> StopReason:
        new = study.evaluations_from(self._seen)
        self._seen = len(study)
        found = new.objectives[new.feasible]
        # Sums may be rounded otherwise in a batch of another size.
        least = self._missing + _ROUNDING * np.abs(self._missing)
        missing = [not (found <= point).all(axis=1).any() for point in least]
        self._missing = self._missing[np.array(missing, dtype=bool)]
        return "" if len(self._missing) else "proven"


def any_of(ends: Sequence[Until]) -> Until:
    """What ends a run as soon as one of these does, for its reason."""

    def until(study: Study) -> StopReason | bool:
        return next((reason for end in ends if (reason := end(study))), "")

    return until


@dataclass(frozen=True)
class Ending:
    """When a search ends before its budget.

    Args:
        limit_s: Seconds after which it does; None for no such end.
        patience: Evaluations without a gain after which it does.
        proven: What it must have found.
    """

    limit_s: float | None = None
    patience: int | None = None
    proven: Proven | None = None

    def __bool__(self) -> bool:
        return self != NO_END

    def until(self) -> Until | None:
        """What is asked between batches; the time counts from now."""
        ends: list[Until] = []
        if self.limit_s is not None:
            ends.append(TimeLimit(self.limit_s))
        if self.patience is not None:
            ends.append(Patience(self.patience))
        if self.proven is not None:
            ends.append(self.proven)
        return any_of(ends) if ends else None


NO_END = Ending()
"""At the budget and no earlier."""


def last_gain(evaluations: Evaluations) -> int:
    """Row of the last evaluation that improved on all before it, -1 where none is feasible.

    With one objective it is the last new best; with more, the last point that no earlier one
    dominated or equalled: hypervolume was gained there, and not since.

    Args:
        evaluations: In the order in which they were made.
    """
    feasible = np.flatnonzero(evaluations.feasible)
    if not len(feasible):
        return -1
    points = evaluations.objectives[feasible]
    # What was gained last is dominated by nothing later, else that would have been a gain: it is
    # on the front of all, and nothing there is later but what equals an earlier point.
    front = np.flatnonzero(pareto.non_dominated(points))
    _, first = np.unique(points[front], axis=0, return_index=True)
    return int(feasible[front[first]].max())
