"""What a fine-tuned model scored, kept beside its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nastool.errors import InvalidInputError
from nastool.files.reading import is_file, read_json_object
from nastool.files.writing import write_whole

_SCORES = "scores.json"


@dataclass(frozen=True)
class Evaluation:
    """How good a model was found to be.

    Args:
        metric: Name of the metric, e.g. ``perplexity`` or ``accuracy``.
        value: What was measured.
        dataset: On what.
    """

    metric: str
    value: float
    dataset: str


def write_scores(folder: Path, dataset: str, scores: Mapping[str, float]) -> None:
    """Write what a model scored into its folder, for the card of its export.

    Args:
        folder: The model's folder.
        dataset: What it was scored on, for people.
        scores: By metric.
    """
    content = {"dataset": dataset, "scores": dict(scores)}
    write_whole(folder / _SCORES, json.dumps(content, indent=2) + "\n")


def read_scores(folder: Path) -> tuple[Evaluation, ...]:
    """What `write_scores` wrote, or nothing.

    Raises:
        InvalidInputError: The file is damaged.
    """
    path = folder / _SCORES
    if not is_file(path):
        return ()
    content = read_json_object(path)
    try:
        dataset = str(content["dataset"])
        return tuple(Evaluation(n, float(v), dataset) for n, v in content["scores"].items())
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInputError(f"{path}: expected a dataset and scores by metric") from error
