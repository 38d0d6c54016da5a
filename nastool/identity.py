"""What must stay the same for a study to go on, or for a stored one to be opened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nastool.errors import InvalidInputError
from nastool.problem import Problem

if TYPE_CHECKING:
    from nastool.store import StudySummary


def check_problem(summary: StudySummary, problem: Problem) -> None:
    """Raise InvalidInputError unless a stored study was made for that problem."""
    compare_identities(summary.name, summary.identity, problem_identity(problem))


def problem_identity(problem: Problem) -> dict[str, Any]:
    """What of a problem must stay the same, as JSON values."""
    return {
        "space": [problem.space.name, problem.space.fingerprint],
        "objectives": [[o.name, o.direction.value, o.fingerprint] for o in problem.objectives],
        "constraints": [
            [c.metric, c.sense, c.bound, problem.metric(c.metric).fingerprint]
            for c in problem.constraints
        ],
    }


def compare_identities(name: str, stored: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise InvalidInputError unless what a study was made with is what is given now."""
    for key, ours in given.items():
        if _as_kept(stored.get(key)) != _as_kept(ours):
            raise InvalidInputError(
                f"study {name!r} was made with {key} {stored.get(key)}, got {ours}: take another "
                "name, or the problem, strategy and seed of the study"
            )


def _as_kept(value: Any) -> Any:
    """A value as JSON keeps it, floats to the 15 digits that every way of writing them shares."""
    return json.loads(json.dumps(value), parse_float=lambda text: float(f"{float(text):.15g}"))
