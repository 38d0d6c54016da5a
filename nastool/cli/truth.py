"""The true front beside a comparison: proven once, kept with its runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nastool.comparison import Comparison
from nastool.errors import InvalidInputError

if TYPE_CHECKING:
    from nastool.comparison.contests import Contest
    from nastool.problem import Problem
    from nastool.results import Result
    from nastool.store import Store

_LARGEST = 10_000_000
"""Most points of a front."""


def check_provable(problem: Problem) -> None:
    """Raise InvalidInputError unless the front of a problem can be proven."""
    from nastool.exact.forms import make_form

    try:
        make_form(problem)
    except InvalidInputError as error:
        raise InvalidInputError(f"--true-front: {error}") from error


def prove_front(contest: Contest, store: Store | None) -> Result:
    """The true front of a contest's problem, from the store if it was proven before.

    Raises:
        KeyboardInterrupt: Ctrl-C before all was proven.
    """
    from nastool.cli.proofs import prove_fully
    from nastool.strategies.exact import Exact
    from nastool.study import Study

    description = {
        "space": contest.space,
        "objectives": list(contest.objectives),
        "constraints": [str(constraint) for constraint in contest.constraints],
        "strategy": "exact",
    }
    study = Study(contest.problem, Exact, store, _name(contest.name), description=description)
    prove_fully(study.strategy)
    return study.run(_LARGEST)


def stored_front(store: Store, comparison: str, problem: Problem) -> Result | None:
    """The true front that a store keeps with a comparison, None if it was never proven."""
    from nastool.study import load_result

    stored = store.find(_name(comparison))
    if stored is None or stored.summary.stop_reason != "exhausted":
        return None
    return load_result(store, _name(comparison), problem)


def _name(comparison: str) -> str:
    return f"{comparison}/true front"


def beside(comparison: Comparison, truth: Result | None) -> Comparison:
    """A comparison with the true front as its reference, where it is known."""
    if truth is None or len(truth) == 0:
        return comparison
    return replace(comparison, true_front=truth.front().objectives)
