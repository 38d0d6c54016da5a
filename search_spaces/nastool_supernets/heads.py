"""Heads of shapes, whichever family they are of."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedModel

from nastool_supernets.family import family_of


def head_of(model: PreTrainedModel) -> str:
    """Which of its family's heads a shape has.

    Raises:
        InvalidInputError: None of them, or no shape of any family.
    """
    return family_of(model.config).head_of(model)


def with_head(
    start: PreTrainedModel, head: str, labels: Sequence[str] = (), seed: int = 0
) -> PreTrainedModel:
    """Put a head on a shape; a new head has random weights.

    Args:
        start: A shape with any head.
        head: One of its family's.
        labels: Names of the classes, for a classification.
        seed: Of the new head's weights.

    Raises:
        InvalidInputError: There is no such head, or not with these labels.
    """
    return family_of(start.config).with_head(start, head, labels, seed)
