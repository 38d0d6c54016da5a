"""Shapes as they ship: the stock model where layers are alike, else one that carries its code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

from nastool.runtime.quiet import quiet
from nastool.space import Architecture
from nastool_decoder.carried.shaped_decoder import MODELS
from nastool_supernets.slicing import shapes
from nastool_supernets.slicing.config import stock_config
from nastool_supernets.slicing.modeling import Kept, Sliced

if TYPE_CHECKING:
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
    pairs = shapes.pairs_of(shape)
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
    """Make a shape with random weights: of transformers where it is uniform."""
    kinds: Any = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING
    own = None if is_uniform else MODELS[f"Shaped{kinds[type(config)].__name__}"]
    return shapes.make(config, AutoModelForCausalLM, own)


def cut_out(model: Sliced, shape: Architecture, kept: Sequence[Kept]) -> PreTrainedModel:
    """Cut a shape out of a supernet.

    Args:
        model: The supernet's weights.
        shape: Groups and feed-forward size of every layer.
        kept: What every layer keeps of its heads and of its channels.
    """
    space = cast("DecoderSpace", model.space)
    config, is_uniform = shape_config(model.config.checkpoint, space, shape)
    made = make(config, is_uniform=is_uniform)
    return shapes.cut_out(model, made, kept, "model.layers.", ("mlp.",))
