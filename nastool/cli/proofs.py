"""Proofs on the command line: their progress and what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nastool.errors import InfeasibleError

if TYPE_CHECKING:
    from nastool.cli.progress import ProgressBar
    from nastool.exact.certificate import Certificate
    from nastool.problem import Problem
    from nastool.results import Result
    from nastool.strategies.base import Strategy
    from nastool.strategies.exact import Exact
    from nastool.study import Proven

_STEPS = 1000


def prove_first(strategy: Strategy) -> dict[str, str]:
    """Let an exact strategy search before the study asks it; what to say about the proof.

    Here Ctrl-C ends the search with what is proven by then.

    Raises:
        InfeasibleError: It is proven that no architecture satisfies the constraints.
    """
    exact = _as_exact(strategy)
    if exact is None:
        return {}
    from nastool.cli.progress import ProgressBar

    with ProgressBar("proving") as bar:
        certificate = exact.prove(lambda certificate: show_progress(bar, certificate))
    if certificate.is_complete and certificate.front == 0:
        raise InfeasibleError(str(certificate))
    facts = {"certificate": str(certificate)}
    if exact.dropped:
        facts["BOUND"] = (
            f"{', '.join(map(str, exact.dropped))} left out of the proof: nothing that keeps it "
            "is better; shown are those of what was proven that do keep it"
        )
    return facts


def certificate_of(strategy: Strategy) -> Certificate | None:
    """What an exact search has proven; None for another strategy."""
    exact = _as_exact(strategy)
    return None if exact is None else exact.certificate


def cut_short(strategy: Strategy, result: Result) -> dict[str, str]:
    """What to say where a budget holds only a part of the front that an exact search found."""
    exact = _as_exact(strategy)
    certificate = exact.certificate if exact is not None else None
    if certificate is None or result.stop_reason != "budget" or len(result) >= certificate.front:
        return {}
    return {
        "BUDGET": (
            f"only the first {len(result):,} of the {certificate.front:,} points found, from one "
            f"end of the front; --budget {certificate.front} shows all"
        )
    }


def proven_best(problem: Problem) -> Proven:
    """What ends a search that has found all that is best, which is proven first.

    Raises:
        InvalidInputError: Nothing can be proven of the problem.
        KeyboardInterrupt: Ctrl-C before all was proven.
    """
    from nastool.cli.progress import ProgressBar
    from nastool.errors import InvalidInputError
    from nastool.study import Proven

    with ProgressBar("proving") as bar:
        try:
            return Proven(problem, lambda certificate: show_progress(bar, certificate))
        except InfeasibleError:
            raise
        except InvalidInputError as error:
            raise InvalidInputError(f"--until proven: {error}") from error


def prove_fully(strategy: Strategy) -> None:
    """Let an exact strategy finish its search.

    Raises:
        KeyboardInterrupt: Ctrl-C before all was proven.
        InfeasibleError: See `prove_first`.
    """
    prove_first(strategy)
    if not is_proven(strategy):
        raise KeyboardInterrupt("the proof is not finished")


def is_proven(strategy: Strategy) -> bool:
    """Whether a strategy that proves something has; False where Ctrl-C ended its search."""
    exact = _as_exact(strategy)
    return exact is None or (exact.certificate is not None and exact.certificate.is_complete)


def _as_exact(strategy: Strategy) -> Exact | None:
    # By name: importing the class would load it for every other strategy too.
    if type(strategy).__module__ != "nastool.strategies.exact":
        return None
    from nastool.strategies.exact import Exact

    return strategy if isinstance(strategy, Exact) else None


def show_progress(bar: ProgressBar, certificate: Certificate) -> None:
    """Say how far a proof is."""
    label = f"proving, about {certificate.remaining:,.0f} s left"
    bar(round(certificate.done * _STEPS), _STEPS, label)
