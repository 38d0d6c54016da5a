"""Proofs on the command line: their progress and what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nastool.errors import InfeasibleError

if TYPE_CHECKING:
    from nastool.cli.progress import ProgressBar
    from nastool.exact.certificate import Certificate
    from nastool.strategies.base import Strategy

_STEPS = 1000


def prove_first(strategy: Strategy) -> dict[str, str]:
    """Let an exact strategy search before the study asks it; what to say about the proof.

    Here Ctrl-C ends the search with what is proven by then.

    Raises:
        InfeasibleError: It is proven that no architecture satisfies the constraints.
    """
    # By name: importing the class would load it for every other strategy too.
    if type(strategy).__module__ != "nastool.strategies.exact":
        return {}
    from nastool.cli.progress import ProgressBar
    from nastool.strategies.exact import Exact

    if not isinstance(strategy, Exact):
        return {}
    with ProgressBar("proving") as bar:
        certificate = strategy.prove(lambda certificate: show_progress(bar, certificate))
    if certificate.is_complete and certificate.front == 0:
        raise InfeasibleError(str(certificate))
    facts = {"certificate": str(certificate)}
    if strategy.dropped:
        facts["BOUND"] = (
            f"{', '.join(map(str, strategy.dropped))} left out of the proof: nothing that keeps it "
            "is better; shown are those of what was proven that do keep it"
        )
    return facts


def prove_fully(strategy: Strategy) -> None:
    """Let an exact strategy finish its search.

    Raises:
        KeyboardInterrupt: Ctrl-C before all was proven.
        InfeasibleError: See `prove_first`.
    """
    if not prove_first(strategy):
        return
    from nastool.strategies.exact import Exact

    if isinstance(strategy, Exact):
        certificate = strategy.certificate
        if certificate is None or not certificate.is_complete:
            raise KeyboardInterrupt("the proof is not finished")


def show_progress(bar: ProgressBar, certificate: Certificate) -> None:
    """Say how far a proof is."""
    label = f"proving, about {certificate.remaining:,.0f} s left"
    bar(round(certificate.done * _STEPS), _STEPS, label)
