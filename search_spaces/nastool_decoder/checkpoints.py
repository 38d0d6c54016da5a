"""Decoders that supernets start from: which there are, and what they need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import AutoModelForCausalLM

from nastool.errors import InvalidInputError
from nastool_decoder.modeling import Decoder
from nastool_decoder.space import ARCHITECTURES, DecoderSpace
from nastool_supernets.family import Options
from nastool_supernets.slicing.checkpoints import (
    chosen,
    read_config,
    read_model,
    skeleton,
    supernet_of,
)

_FULL = "full_attention"

_WHAT = "causal language model"


def from_checkpoint(path: str, choices: Options, *, skips: bool = True) -> Decoder:
    """Make a supernet whose largest subnet is a checkpoint, bit for bit.

    Args:
        path: A folder, or a model on the hub.
        choices: See `SlicedFamily.read`.
        skips: Whether layers can do without attention, without feed-forward block, or without both.

    Raises:
        InvalidInputError: There is no such model, or one that cannot be sliced.
    """
    config = _config(path)
    lm: Any = read_model(path, AutoModelForCausalLM, _WHAT)
    sizes = _sizes(config, lm) | {"tied": int(lm.lm_head.weight is lm.model.embed_tokens.weight)}
    sizes |= chosen(DecoderSpace, sizes, choices, skips)
    return supernet_of(Decoder, lm, sizes)


def space_of(path: str, choices: Options, *, skips: bool = True) -> DecoderSpace:
    """The space of the supernet that a checkpoint becomes, from its configuration alone.

    Args and errors are those of `from_checkpoint`.
    """
    config = _config(path)
    sizes = _sizes(config, skeleton(path, config, AutoModelForCausalLM, _WHAT))
    return DecoderSpace(**sizes, **chosen(DecoderSpace, sizes, choices, skips))


def _config(path: str) -> Any:
    """The configuration of a checkpoint that can be sliced.

    Raises:
        InvalidInputError: There is none.
    """
    config = read_config(path, ARCHITECTURES)
    if getattr(config, "is_heterogeneous", False) or "per_layer_config" in config.__dict__:
        raise InvalidInputError(
            f"--from: the layers must be alike, got {path}, whose layers differ (per_layer_config)"
        )
    kinds_of_layers: Sequence[str] = getattr(config, "layer_types", None) or ()
    if getattr(config, "sliding_window", None) is not None and (
        not kinds_of_layers or {*kinds_of_layers} != {_FULL}
    ):
        raise InvalidInputError(
            f"--from: every layer must see the whole text, got {path}, which has a sliding window "
            f"of {config.sliding_window} tokens"
        )
    if other := {*kinds_of_layers} - {_FULL}:
        raise InvalidInputError(
            f"--from: every layer must see the whole text, got {path} with layers of type "
            f"{min(other)}"
        )
    return config


def _sizes(config: Any, lm: Any) -> dict[str, Any]:
    """Sizes of a space but for its choices, as the modules have them."""
    layer = lm.model.layers[0]
    attention, feed = layer.self_attn, layer.mlp
    size = int(attention.head_dim)
    return {
        "layers": len(lm.model.layers),
        "hidden": int(config.hidden_size),
        "heads": attention.q_proj.out_features // size,
        "groups": attention.k_proj.out_features // size,
        "head_dim": size,
        "ffn": int(feed.gate_proj.out_features),
        "vocabulary": int(config.vocab_size),
        "positions": int(config.max_position_embeddings),
        "tied": int(bool(config.tie_word_embeddings)),
        "qkv_bias": int(attention.q_proj.bias is not None),
        "out_bias": int(attention.o_proj.bias is not None),
        "ffn_bias": int(feed.gate_proj.bias is not None),
        "qk_norm": int(hasattr(attention, "q_norm")),
    }
