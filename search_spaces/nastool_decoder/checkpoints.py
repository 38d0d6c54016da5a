"""Decoders that supernets start from: which there are, and what they need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import AutoModelForCausalLM

from nastool.errors import InvalidInputError
from nastool_decoder.modeling import Decoder
from nastool_decoder.space import ARCHITECTURES
from nastool_supernets.slicing.checkpoints import Checkpoints, read_config

_FULL = "full_attention"


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


def _sizes(config: Any, lm: Any) -> tuple[dict[str, int], tuple[int, int]]:
    """See `Checkpoints`: all sizes are as the modules have them."""
    layer = lm.model.layers[0]
    attention, feed = layer.self_attn, layer.mlp
    size = int(attention.head_dim)
    sizes = {
        "layers": len(lm.model.layers),
        "hidden": int(config.hidden_size),
        "heads": attention.q_proj.out_features // size,
        "groups": attention.k_proj.out_features // size,
        "head_dim": size,
        "ffn": int(feed.gate_proj.out_features),
        "vocabulary": int(config.vocab_size),
        "positions": int(config.max_position_embeddings),
        "qkv_bias": int(attention.q_proj.bias is not None),
        "out_bias": int(attention.o_proj.bias is not None),
        "ffn_bias": int(feed.gate_proj.bias is not None),
        "qk_norm": int(hasattr(attention, "q_norm")),
    }
    return sizes, (sizes["groups"], sizes["ffn"])


CHECKPOINTS = Checkpoints("causal language model", Decoder, AutoModelForCausalLM, _config, _sizes)
