"""Perplexity as a predictor of the space, or of the user's own supernet, sees it."""

from __future__ import annotations

from nastool.errors import InvalidInputError
from nastool.predicted import PredictedObjective
from nastool.space import SearchSpace

_METRIC = "perplexity"


def create(space: SearchSpace, argument: str | None = None) -> PredictedObjective:
    """Perplexity by the predictor that ships, or by one of your own: ``perplexity[FOLDER]``.

    Args:
        space: What is searched.
        argument: Folder of a predictor; the one that ships for the space by default.

    Raises:
        InvalidInputError: Nothing ships for the space, or the folder holds no predictor for it.
    """
    if argument is not None:
        return PredictedObjective(space, argument, f"{_METRIC}[{argument}]")
    folder = space.reference(_METRIC)
    if folder is None:
        raise InvalidInputError(
            f"no {_METRIC} predictor ships for space {space.name}: make one with "
            "'nastool measure' and 'nastool fit', then name its folder: "
            f"--objective '{_METRIC}[FOLDER]'"
        )
    return PredictedObjective(space, folder, _METRIC)
