"""Reading the folder of a shape, whatever its head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from nastool.errors import InvalidInputError, one_line
from nastool.files.reading import read_json_object
from nastool_supershaper.shaped_bert import MODELS, ShapedBertConfig


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
