"""Problems from names: what the command line, a run file and a store say of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nastool.constraint import Constraint
from nastool.discovery import OBJECTIVES, available
from nastool.errors import InvalidInputError, nearest
from nastool.objective import Objective
from nastool.plugins import load_objective, load_space, parse_spec
from nastool.problem import CostObjective, Problem
from nastool.recipes.fidelity import make_objective
from nastool.space import SearchSpace


def default_objectives(space: SearchSpace | str) -> tuple[str, ...]:
    """What is optimised where nothing else is said: what the space declares, else its first cost.

    Raises:
        InvalidInputError: The space is unknown, or has neither.
    """
    if isinstance(space, str):
        space = load_space(space)
    found = tuple(space.objectives) or tuple(space.costs)[:1]
    if not found:
        raise InvalidInputError(
            f"space {space.name} declares no objectives: say what is optimised (--objective)"
        )
    return found


def make_problem(
    space: SearchSpace | str,
    objectives: Sequence[Objective | str],
    constraints: Sequence[Constraint] = (),
    predictors: Mapping[str, str] | None = None,
) -> Problem:
    """Make a problem from names, or from objects where a part has no name.

    Args:
        space: E.g. ``supershaper``.
        objectives: E.g. ``perplexity`` and ``params``.
        constraints: On objectives, on costs of the space, or on any other metric that is known.
        predictors: Folders of predictors that take the place of a metric's own, by metric.

    Raises:
        InvalidInputError: Something is unknown, or the parts do not fit together.
    """
    if isinstance(space, str):
        space = load_space(space)
    folders = predictors or {}

    def make(given: Objective | str) -> Objective:
        if not isinstance(given, str):
            return given
        metric = named_metric(given, space)
        if metric.name not in folders:
            return metric
        return load_objective(f"predicted[{folders[metric.name]}]", space, {"name": metric.name})

    # What is named twice is wanted once.
    wanted = [
        g for i, g in enumerate(objectives) if not isinstance(g, str) or g not in objectives[:i]
    ]
    made = tuple(map(make, wanted))
    named = {objective.name for objective in made} | set(space.costs)
    others = dict.fromkeys(c.metric for c in constraints if c.metric not in named)
    return Problem(space, made, tuple(constraints), tuple(map(make, others)))


def named_metric(text: str, space: SearchSpace) -> Objective:
    """A cost of the space by its name, else what a plugin makes.

    Raises:
        InvalidInputError: Unknown, or a plugin that rejects the space or the argument.
    """
    spec = parse_spec(text)
    if spec.name in space.costs and spec.argument is None:
        return CostObjective(space.costs[spec.name], space)
    known = sorted({plugin.name for plugin in available(OBJECTIVES)} | set(space.costs))
    if spec.name not in known:
        raise InvalidInputError(f"unknown metric {spec.name!r}; {nearest(spec.name, known)}")
    return make_objective(text, space)
