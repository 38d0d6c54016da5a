"""Shapes as they ship: the stock model where layers are alike, else one that carries its code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from transformers import AutoModelForMaskedLM, PreTrainedModel

from nastool.space import Architecture
from nastool_encoder.architectures import KINDS, kind_of
from nastool_encoder.carried.sliced_bert import MODELS
from nastool_supernets.slicing import shapes
from nastool_supernets.slicing.config import stock_config
from nastool_supernets.slicing.modeling import Kept, Sliced

if TYPE_CHECKING:
    from nastool_encoder.space import EncoderSpace


def shape_config(
    checkpoint: Mapping[str, Any], space: EncoderSpace, shape: Sequence[Any]
) -> tuple[Any, bool]:
    """The configuration of a shape, and whether it is a model of transformers.

    An encoder of transformers has heads of its hidden size divided by their number: all heads, and
    one feed-forward size, or none of it.

    Args:
        checkpoint: The configuration of the checkpoint.
        space: Its space.
        shape: Heads and feed-forward size of every layer; layers without both are left out.
    """
    kind = KINDS[checkpoint["model_type"]]
    kept = [pair for pair in shapes.pairs_of(shape) if any(pair)]
    own: dict[str, Any] = {
        "num_hidden_layers": len(kept),
        "shape": [int(size) for size in shape],
    }
    different = {*kept} or {(space.all_heads, space.ffn)}
    heads, ffn = min(different)
    if len(different) == 1 and heads == space.all_heads and ffn:
        return stock_config(checkpoint, **own, **{kind.ffn: ffn}), True
    own["sliced_layers"] = [{"heads": heads, "ffn": ffn} for heads, ffn in kept]
    return stock_config(checkpoint, **own), False


def make(config: Any, *, is_stock: bool) -> PreTrainedModel:
    """Make a shape with random weights: of transformers where it has one."""
    own = None if is_stock else MODELS[f"Sliced{kind_of(config).classes}ForMaskedLM"]
    return shapes.make(config, AutoModelForMaskedLM, own)


def cut_out(model: Sliced, shape: Architecture, kept: Sequence[Kept]) -> PreTrainedModel:
    """Cut a shape out of a supernet.

    Args:
        model: The supernet's weights.
        shape: Heads and feed-forward size of every layer.
        kept: What every layer keeps of its heads and of its channels.
    """
    space = cast("EncoderSpace", model.space)
    config, is_stock = shape_config(model.config.checkpoint, space, shape)
    made = make(config, is_stock=is_stock)
    kind = kind_of(config)
    layers = f"{made.base_model_prefix}.{kind.layers}."
    return shapes.cut_out(model, made, kept, layers, kind.feed.modules)
