"""Shapes as they ship: a subnet with a head, and reading its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from nastool.errors import InvalidInputError, one_line
from nastool.files.reading import read_json_object
from nastool_supershaper.named import HEADS
from nastool_supershaper.shaped_bert import (
    MODELS,
    ShapedBertConfig,
    ShapedBertForMaskedLM,
    ShapedBertForQuestionAnswering,
    ShapedBertForSequenceClassification,
    ShapedBertModel,
)


def with_head(
    start: PreTrainedModel, head: str, labels: Sequence[str] = (), seed: int = 0
) -> PreTrainedModel:
    """Put a task's head on a subnet; a new head has random weights.

    Args:
        start: A deployed model with any head; the pooler of one for sequences is kept in another.
        head: One of the heads; masked-lm for a model that has it; encoder for no head at all.
        labels: Names of the classes, for a classification.
        seed: Of the new head's weights.

    Raises:
        InvalidInputError: An unknown head, fewer than two classes, classes of another head, or
            masked-lm for a model without it.
    """
    if head not in HEADS:
        raise InvalidInputError(f"the head must be one of {', '.join(HEADS)}, got {head!r}")
    if (head == "classification") != bool(labels):
        wanted = "labels" if head == "classification" else "no labels"
        raise InvalidInputError(f"head {head} takes {wanted}, got {len(labels)}")
    if head == "masked-lm":
        if head_of(start) != head:
            raise InvalidInputError(f"expected a model with a {head} head, got {head_of(start)}")
        return start
    settings: dict[str, Any] = {}
    kind: type[PreTrainedModel] = ShapedBertForQuestionAnswering
    if head == "encoder":
        kind = ShapedBertModel
    elif head == "regression":
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
        kind = ShapedBertForSequenceClassification
        settings["id2label"] = dict(enumerate(labels))
        settings["label2id"] = {label: index for index, label in enumerate(labels)}
    inherited = start.config.to_dict()
    for name in ("id2label", "label2id", "problem_type", "architectures", "dtype"):
        inherited.pop(name, None)
    config = ShapedBertConfig(**{**inherited, **settings})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
    model.base_model.load_state_dict(start.base_model.state_dict())
    if isinstance(start, ShapedBertForSequenceClassification) and labels:
        model.get_submodule("pooler").load_state_dict(start.pooler.state_dict())
    return model.eval()


def head_of(model: PreTrainedModel) -> str:
    """Which of the heads a deployed model has.

    Raises:
        InvalidInputError: None of them.
    """
    if isinstance(model, ShapedBertForMaskedLM):
        return "masked-lm"
    if isinstance(model, ShapedBertForQuestionAnswering):
        return "question-answering"
    if isinstance(model, ShapedBertForSequenceClassification):
        one = model.config.problem_type == "regression" or model.config.num_labels == 1
        return "regression" if one else "classification"
    if isinstance(model, ShapedBertModel):
        return "encoder"
    raise InvalidInputError(
        f"expected a deployed model with a head, got {type(model).__name__}; "
        f"heads: {', '.join(HEADS)}"
    )


def load_shape(folder: Path) -> PreTrainedModel:
    """Load a deployed model in float32, whatever its head, by nastool's own code.

    Args:
        folder: What holds its configuration and its weights.

    Raises:
        InvalidInputError: There is none, or it is damaged.
    """
    path = folder / "config.json"
    content = read_json_object(path)
    names = content.get("architectures")
    kind = MODELS.get(str(names[0])) if isinstance(names, list) and names else None
    if content.get("model_type") != ShapedBertConfig.model_type or kind is None:
        raise InvalidInputError(
            f"{folder}: expected a deployed model ({ShapedBertConfig.model_type}), "
            f"got {content.get('model_type')} with architectures {names}"
        )
    weights = _weights(folder / "model.safetensors")
    # What its last user wanted returned is no part of it.
    settings = {**content, "return_dict": True, "output_hidden_states": False}
    # transformers and torch raise their own types for sizes that are none.
    with one_line(f"{path} describes no deployed model", InvalidInputError):
        config = ShapedBertConfig.from_dict(settings)
        # A damaged number must not build millions of layers.
        layers = {name.partition("layers.")[2].partition(".")[0] for name in weights} - {""}
        if len(layers) != len(config.shape):
            raise InvalidInputError(
                f"{folder}: expected the weights of {len(config.shape)} layers as in config.json, "
                f"got {len(layers)}"
            )
        with torch.device("meta"):
            model = kind(config)
        expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    _check_weights(folder / "model.safetensors", expected, weights)
    # Not from_pretrained: it keeps the precision of the file, which may be 16 bits.
    model.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)
    loaded: PreTrainedModel = model.eval()
    return loaded


def _weights(path: Path) -> dict[str, Tensor]:
    # safetensors raises types of its own for a damaged or a foreign file.
    with one_line(f"no weights can be read from {path}", InvalidInputError):
        return load_file(path)


def _check_weights(
    path: Path, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, Tensor]
) -> None:
    """Refuse weights that are not those of a model, or no numbers.

    Raises:
        InvalidInputError: They are; the message names one of them.
    """
    for name in sorted(expected.keys() ^ found.keys()):
        what = "lacks" if name in expected else "has left over"
        raise InvalidInputError(f"{path} {what} the weights {name} of the model in config.json")
    for name, shape in expected.items():
        if tuple(found[name].shape) != shape:
            raise InvalidInputError(
                f"{path}: expected {name} of {shape} as in config.json, "
                f"got {tuple(found[name].shape)}"
            )
        if not bool(torch.isfinite(found[name]).all()):
            raise InvalidInputError(f"{path}: {name} holds NaN or infinite weights")
