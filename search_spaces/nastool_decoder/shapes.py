"""Shapes as they ship: the stock model where layers are alike, else one that carries its code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

from nastool.errors import InvalidInputError, one_line
from nastool.files.reading import read_json_object
from nastool.quiet import quiet
from nastool.space import Architecture
from nastool_decoder.carried.shaped_decoder import MODELS
from nastool_decoder.decoder_config import stock_config

if TYPE_CHECKING:
    from nastool_decoder.modeling import Decoder, Slices
    from nastool_decoder.space import DecoderSpace

_LISTS = ("layer_types", "no_rope_layers")
"""What a configuration says of every layer."""


def shape_config(
    checkpoint: Mapping[str, Any], space: DecoderSpace, shape: Sequence[Any]
) -> tuple[Any, bool]:
    """The configuration of a shape, and whether its layers are alike.

    Args:
        checkpoint: The configuration of the checkpoint.
        space: Its space.
        shape: Groups and feed-forward size of every layer; layers without both are left out.
    """
    pairs = [(int(kv), int(ffn)) for kv, ffn in zip(shape[::2], shape[1::2], strict=True)]
    kept = [index for index, pair in enumerate(pairs) if any(pair)]
    own: dict[str, Any] = {
        "num_hidden_layers": len(kept),
        "head_dim": space.head_dim,
        "shape": [int(size) for size in shape],
    }
    for name in _LISTS:
        if checkpoint.get(name) is not None:
            own[name] = [checkpoint[name][index] for index in kept]
    share = space.heads // space.groups
    different = {pairs[index] for index in kept}
    if len(different) <= 1:
        kv, ffn = different.pop() if different else (space.groups, space.ffn)
        # Transformers wants the hidden size to be a multiple of the heads.
        if kv and ffn and (kv == space.groups or space.hidden % (kv * share) == 0):
            own |= {"num_attention_heads": kv * share, "num_key_value_heads": kv}
            return stock_config(checkpoint, **own, intermediate_size=ffn), True
    layers: dict[str, dict[str, Any]] = {}
    for place, index in enumerate(kept):
        kv, ffn = pairs[index]
        layer: dict[str, Any] = {}
        if kv:
            layer |= {"num_attention_heads": kv * share, "num_key_value_heads": kv}
        if ffn:
            layer["intermediate_size"] = ffn
        if not (kv and ffn):
            layer["skip"] = ["mlp"] if kv else ["attention"]
        layers[str(place)] = layer
    # Without it, a configuration of Llama refuses heads that differ: it compares them by itself.
    own["allow_global_per_layer_attribute_access"] = True
    # Of layers that differ, transformers warns of what its own checks read.
    with quiet("transformers"):
        return stock_config(checkpoint, **own, per_layer_config=layers), False


def make(config: Any, *, is_uniform: bool) -> PreTrainedModel:
    """Make a shape with random weights, without touching anybody's random numbers."""
    with torch.random.fork_rng(devices=[]):
        if is_uniform:
            auto: Any = AutoModelForCausalLM
            stock: PreTrainedModel = auto.from_config(config, attn_implementation="sdpa")
            return stock
        kinds: Any = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING
        shaped: PreTrainedModel = MODELS[f"Shaped{kinds[type(config)].__name__}"](config)
        return shaped


def cut_out(
    model: Decoder, shape: Architecture, slices: Sequence[tuple[Slices | None, Slices | None]]
) -> PreTrainedModel:
    """Cut a shape out of a supernet.

    Args:
        model: The supernet's weights.
        shape: Groups and feed-forward size of every layer.
        slices: What every layer keeps of its heads and of its channels.
    """
    config, is_uniform = shape_config(model.config.checkpoint, model.space, shape)
    made: Any = make(config, is_uniform=is_uniform)
    made = made.to(model.device, model.dtype)
    kept = [index for index, pair in enumerate(slices) if any(part is not None for part in pair)]
    for name, target in made.named_parameters():
        place, _, inner = name.removeprefix("model.layers.").partition(".")
        if name.startswith("model.layers."):
            index = kept[int(place)]
            part = slices[index]["mlp." in inner]
            weight = model.layers[index].get_parameter(inner)
            source = weight if part is None else part.cut(inner, weight)
        else:
            source = model.lm.get_parameter(name)
        target.data = source.detach().clone()
    cut: PreTrainedModel = made.requires_grad_(True).train(model.training)
    return cut


def shape_of(model: PreTrainedModel) -> Architecture:
    """Groups and feed-forward size of every layer of the net that a shape was cut out of.

    Args:
        model: A shape, or any model of an architecture of ours, which is its own net.
    """
    config: Any = model.config
    if (shape := getattr(config, "shape", None)) is not None:
        return tuple(shape)
    return (config.num_key_value_heads, config.intermediate_size) * config.num_hidden_layers


def load_shape(folder: Path) -> PreTrainedModel:
    """Load a shape, or a checkpoint, in float32 and in evaluation mode, by nastool's own code.

    Args:
        folder: Its folder.

    Raises:
        InvalidInputError: It is damaged, or no causal language model.
    """
    content = read_json_object(folder / "config.json")
    names = content.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    kind: Any = MODELS.get(name)
    if kind is None and name.endswith("ForCausalLM"):
        kind = getattr(transformers, name, None)
    if kind is None:
        raise InvalidInputError(
            f"{folder}: expected a causal language model, got architectures {names}"
        )
    with one_line(f"{folder} holds no model that can be read", InvalidInputError):
        loaded, loading = kind.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa", output_loading_info=True
        )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if loading.get(what):
            first = min(map(str, loading[what]))
            raise InvalidInputError(f"{folder}: the weights have {what.replace('_', ' ')}: {first}")
    shape: PreTrainedModel = loaded.eval()
    return shape
