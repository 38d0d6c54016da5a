"""From the texts of a command line to a problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nastool.constraint import Constraint
from nastool.errors import InvalidInputError
from nastool.objective import Objective
from nastool.plugins import OBJECTIVES, available, load_objective, load_space, parse_spec
from nastool.problem import CostObjective, Problem
from nastool.space import SearchSpace


def make_problem(
    space_text: str,
    objective_texts: Sequence[str],
    constraints: Sequence[Constraint],
    refined: Mapping[str, str] | None = None,
) -> Problem:
    """Make the problem that a command line describes.

    Args:
        space_text: E.g. ``supershaper``.
        objective_texts: E.g. ``perplexity`` and ``params``.
        constraints: On objectives, on costs of the space, or on any other metric that is known.
        refined: Folders of predictors that take the place of a metric's own, by metric.

    Raises:
        InvalidInputError: Something is unknown, or the parts do not fit together.
    """
    space = load_space(space_text)
    folders = refined or {}

    def make(text: str) -> Objective:
        metric = _metric(text, space)
        if metric.name not in folders:
            return metric
        return load_objective(f"predicted[{folders[metric.name]}]", space, {"name": metric.name})

    objectives = tuple(make(text) for text in dict.fromkeys(objective_texts))
    named = {objective.name for objective in objectives} | set(space.costs)
    others = dict.fromkeys(c.metric for c in constraints if c.metric not in named)
    return Problem(space, objectives, tuple(constraints), tuple(map(make, others)))


def _metric(text: str, space: SearchSpace) -> Objective:
    """A cost of the space by its name, else what a plugin makes."""
    spec = parse_spec(text)
    if spec.name in space.costs and spec.argument is None:
        return CostObjective(space.costs[spec.name], space)
    known = sorted({plugin.name for plugin in available(OBJECTIVES)} | set(space.costs))
    if spec.name not in known:
        raise InvalidInputError(f"unknown metric {spec.name!r}; known: {', '.join(known)}")
    return load_objective(text, space)
