"""What a fitted predictor predicts, by its folder."""

from __future__ import annotations

from nastool.errors import InvalidInputError
from nastool.predicted import PredictedObjective
from nastool.space import SearchSpace


def create(
    space: SearchSpace, argument: str | None = None, *, name: str | None = None
) -> PredictedObjective:
    """Whatever a fitted predictor predicts: ``predicted[FOLDER]``.

    Args:
        space: What is searched.
        argument: Folder of the predictor.
        name: The metric's name; by default with the folder in brackets.

    Raises:
        InvalidInputError: No folder given, or see `PredictedObjective`.
    """
    if argument is None:
        raise InvalidInputError("predicted needs the folder of a predictor: predicted[FOLDER]")
    return PredictedObjective(space, argument, name or f"predicted[{argument}]")
