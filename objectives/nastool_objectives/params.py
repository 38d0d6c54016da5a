"""The exact parameter count of the deployed architecture."""

from __future__ import annotations

from nastool.errors import InvalidInputError
from nastool.problem import CostObjective
from nastool.space import SearchSpace

_METRIC = "params"


def create(space: SearchSpace, argument: str | None = None) -> CostObjective:
    """Exact number of parameters of the deployed architecture.

    Args:
        space: Declares the cost.
        argument: None; there is nothing to choose.

    Raises:
        InvalidInputError: An argument, or a space that declares no such cost.
    """
    if argument is not None:
        raise InvalidInputError(f"{_METRIC} takes no argument, got {argument!r}")
    if _METRIC not in space.costs:
        known = ", ".join(space.costs) or "none"
        raise InvalidInputError(
            f"space {space.name} must declare the cost {_METRIC!r}; its costs: {known}"
        )
    return CostObjective(space.costs[_METRIC], space)
