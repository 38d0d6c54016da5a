"""Heads of encoders, by what their classes of transformers are called."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nastool.errors import InvalidInputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HEADS = ("masked-lm", "classification", "regression", "question-answering", "encoder")
"""Heads of a shape."""

ENDS = ("ForMaskedLM", "ForSequenceClassification", "ForQuestionAnswering", "Model")
"""What names of classes with these heads end with."""

_ENDS = {
    "classification": "ForSequenceClassification",
    "regression": "ForSequenceClassification",
    "question-answering": "ForQuestionAnswering",
    "encoder": "Model",
}


def head_named(model: PreTrainedModel, kinds: Collection[type]) -> str:
    """Which of the heads a model has.

    Args:
        model: The model.
        kinds: Classes that have one.

    Raises:
        InvalidInputError: None of them.
    """
    name = type(model).__name__ if type(model) in kinds else ""
    if name.endswith("ForMaskedLM"):
        return "masked-lm"
    if name.endswith("ForSequenceClassification"):
        config: Any = model.config
        one = config.problem_type == "regression" or config.num_labels == 1
        return "regression" if one else "classification"
    if name.endswith("ForQuestionAnswering"):
        return "question-answering"
    if name.endswith("Model"):
        return "encoder"
    raise InvalidInputError(
        f"expected a deployed model with a head, got {type(model).__name__}; heads: "
        f"{', '.join(HEADS)}"
    )


def put_head(
    start: PreTrainedModel, head: str, labels: Sequence[str], seed: int, kinds: Mapping[str, Any]
) -> PreTrainedModel:
    """Put a task's head on a model; a new head has random weights.

    Args:
        start: With any head; the pooler of one for sequences is kept in another.
        head: One of the heads; masked-lm for a model that has it; encoder for no head at all.
        labels: Names of the classes, for a classification.
        seed: Of the new head's weights.
        kinds: Its classes by what their names end with, one of `ENDS` each.

    Raises:
        InvalidInputError: An unknown head, fewer than two classes, classes of another head, or
            masked-lm for a model without it.
    """
    import torch

    if head not in HEADS:
        raise InvalidInputError(f"the head must be one of {', '.join(HEADS)}, got {head!r}")
    if (head == "classification") != bool(labels):
        wanted = "labels" if head == "classification" else "no labels"
        raise InvalidInputError(f"head {head} takes {wanted}, got {len(labels)}")
    if head == "masked-lm":
        if (own := head_named(start, [type(start)])) != head:
            raise InvalidInputError(f"expected a model with a {head} head, got {own}")
        return start
    settings: dict[str, Any] = {}
    if head == "regression":
        labels = ("score",)
        settings = {"problem_type": "regression"}
    elif head == "classification":
        if len(set(labels)) != len(labels) or len(labels) < 2 or "" in labels:
            raise InvalidInputError(
                f"a classification needs two or more different labels, none of them empty, "
                f"got {', '.join(map(repr, labels))}"
            )
        settings = {"problem_type": "single_label_classification"}
    if labels:
        settings["id2label"] = dict(enumerate(labels))
        settings["label2id"] = {label: index for index, label in enumerate(labels)}
    inherited = start.config.to_dict()
    for name in ("id2label", "label2id", "problem_type", "architectures", "dtype"):
        inherited.pop(name, None)
    config = type(start.config)(**{**inherited, **settings})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kinds[_ENDS[head]](config)
    # A pooler within, which is some heads' own, stays new where the other model had none.
    model.base_model.load_state_dict(start.base_model.state_dict(), strict=False)
    if labels and "pooler" in dict(start.named_children()) and hasattr(model, "pooler"):
        model.get_submodule("pooler").load_state_dict(start.get_submodule("pooler").state_dict())
    put: PreTrainedModel = model.eval()
    return put
