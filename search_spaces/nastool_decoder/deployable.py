"""Subnets with random weights, as they are deployed: for timing, where weights do not matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from nastool.deployment import Deployment, Workload
from nastool.space import Architecture
from nastool_decoder.shapes import make, shape_config
from nastool_decoder.space import DecoderSpace
from nastool_supernets.deployment.random_weights import fill, random_texts


def deploy(space: DecoderSpace, shape: Architecture, workload: Workload) -> Deployment:
    """Build a shape, which reads texts and predicts what follows every token.

    All subnets take their weights from one block of random numbers, so that thousands of them can
    take turns on a device without being built or copied.

    Args:
        space: Says the sizes that all shapes share.
        shape: Key-value groups and feed-forward size of every layer.
        workload: What it is given in one pass.

    Raises:
        InvalidInputError: The sequence is longer than the space has positions.
    """
    inputs = random_texts(space.name, space.vocabulary, space.positions, workload)
    config, is_uniform = shape_config(_checkpoint(space), space, shape)
    config.use_cache = False
    with torch.device("meta"):
        model: Any = make(config, is_uniform=is_uniform)
    fill(model)
    # Cosines are no weights: they are computed where the model runs.
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return Deployment(model.eval(), inputs, workload)


def _checkpoint(space: DecoderSpace) -> Mapping[str, Any]:
    """A configuration of these sizes: the least special architecture that has such layers."""
    sizes: dict[str, Any] = {
        "vocab_size": space.vocabulary,
        "hidden_size": space.hidden,
        "intermediate_size": space.ffn,
        "num_hidden_layers": space.layers,
        "num_attention_heads": space.heads,
        "num_key_value_heads": space.groups,
        "head_dim": space.head_dim,
        "max_position_embeddings": space.positions,
        "tie_word_embeddings": bool(space.tied),
    }
    if space.qk_norm:
        return sizes | {"model_type": "qwen3", "attention_bias": bool(space.qkv_bias)}
    if space.qkv_bias and not space.out_bias:
        return sizes | {"model_type": "qwen2"}
    biases = {"attention_bias": bool(space.qkv_bias), "mlp_bias": bool(space.ffn_bias)}
    return sizes | {"model_type": "llama", **biases}
