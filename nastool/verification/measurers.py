"""What measures the metrics of a problem that are predicted."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from nastool.discovery import OBJECTIVES, find
from nastool.errors import InvalidInputError, NastoolError
from nastool.objective import Objective
from nastool.plugins import parse_spec
from nastool.problem import Problem
from nastool.recipes.fidelity import make_objective
from nastool.recipes.settings import typed_settings
from nastool.verification.verification import predicted_metrics

MEASURED = "measured_"
"""What the name of an objective begins with that measures another one, where no space says it."""


def measurers(
    problem: Problem,
    settings: Mapping[str, Any] | None = None,
    given: Mapping[str, str] | None = None,
) -> tuple[dict[str, Objective], dict[str, str]]:
    """Make what measures each predicted metric, as ``nastool verify`` finds it.

    Args:
        problem: With predicted metrics.
        settings: Keyword settings of what measures, such as a supernet, for those that have them.
        given: Objectives by metric, where neither the space nor a metric's name says what
            measures it.

    Returns:
        Objectives by metric, and of the other metrics why they cannot be measured.

    Raises:
        InvalidInputError: Nothing is predicted, nothing can be measured, a metric is not predicted,
            or nothing that measures has a setting.
    """
    wanted, settings = dict(given or {}), dict(settings or {})
    names = [metric.name for metric in predicted_metrics(problem)]
    if not names:
        raise InvalidInputError("the problem predicts nothing: there is nothing to measure")
    for metric, text in wanted.items():
        if metric not in names or not text:
            got = f"{metric}={text}" if text else metric
            raise InvalidInputError(
                f"--measure: expected METRIC=OBJECTIVE with METRIC one of {', '.join(names)}, "
                f"got {got!r}"
            )
    measured: dict[str, Objective] = {}
    skipped: dict[str, str] = {}
    ignored = set(settings)
    for name in names:
        declared = problem.space.measurers
        said = declared.get(name) or declared.get(parse_spec(name).name)
        spec = wanted.get(name) or said or f"{MEASURED}{parse_spec(name)}"
        try:
            taken = _taken(spec, settings)
            ignored -= taken.keys()
            measured[name] = make_objective(spec, problem.space, taken)
        except NastoolError as error:
            if name in wanted:
                raise
            skipped[name] = str(error)
    if not measured:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise InvalidInputError(
            f"no predicted metric can be measured, and --measure METRIC=OBJECTIVE names no "
            f"other way: {reasons}"
        )
    if ignored:
        # Settings are named as their options.
        unused = [name.replace("_", "-") for name in settings if name in ignored]
        options = " and ".join(f"--{name}" for name in unused)
        by = ", ".join(objective.name for objective in measured.values())
        raise InvalidInputError(
            f"{options}: what measures must have such a setting, got {by}, which has not"
        )
    return measured, skipped


def _taken(spec: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that an objective has, those given as texts in the types that it takes."""
    plugin = find(OBJECTIVES, parse_spec(spec).name)
    factory: Any = plugin.load()
    known = inspect.signature(factory).parameters
    taken = {name: value for name, value in settings.items() if name in known}
    texts = {name: value for name, value in taken.items() if isinstance(value, str)}
    return taken | typed_settings(plugin, texts, "--measuring")
