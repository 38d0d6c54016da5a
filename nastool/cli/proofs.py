"""Proofs on the command line: their progress and what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nastool.cli.progress import ProgressBar
    from nastool.exact.certificate import Certificate
    from nastool.strategies.base import Strategy

_STEPS = 1000


def prove_first(strategy: Strategy) -> dict[str, str]:
    """Let an exact strategy search before the study asks it; what to say about the proof.

    Here Ctrl-C ends the search with what is proven by then.
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
    facts = {"certificate": str(certificate)}
    if strategy.dropped:
        facts["BOUND"] = (
            f"{', '.join(map(str, strategy.dropped))} left out of the proof: nothing that keeps it "
            "is better; shown are those of what was proven that do keep it"
        )
    return facts


def show_progress(bar: ProgressBar, certificate: Certificate) -> None:
    """Say how far a proof is."""
    label = f"proving, about {certificate.remaining:,.0f} s left"
    bar(round(certificate.done * _STEPS), _STEPS, label)
