"""Subnets with random weights, as they are deployed: for timing, where weights do not matter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from nastool.devices import Deployment, Workload
from nastool.space import Architecture
from nastool_encoder.architectures import KINDS
from nastool_encoder.shapes import make, shape_config
from nastool_supernets.deployment.random_weights import fill, random_texts

if TYPE_CHECKING:
    from nastool_encoder.space import EncoderSpace


def deploy(space: EncoderSpace, shape: Architecture, workload: Workload) -> Deployment:
    """Build a shape without masked-LM head: what a task is fine-tuned on.

    All subnets take their weights from one block of random numbers, so that thousands of them can
    take turns on a device without being built or copied.

    Args:
        space: Says the sizes that all shapes share.
        shape: Heads and feed-forward size of every layer.
        workload: What it is given in one pass.

    Raises:
        InvalidInputError: The sequence is longer than the space has positions.
    """
    inputs = random_texts(space.name, space.vocabulary, space.positions, workload)
    kind = "distilbert" if space.distil else "roberta" if space.offset else "bert"
    checkpoint = {
        "model_type": kind,
        "vocab_size": space.vocabulary,
        "hidden_size": space.hidden,
        KINDS[kind].ffn: space.ffn,
        "num_hidden_layers": space.layers,
        "num_attention_heads": space.all_heads,
        "max_position_embeddings": space.offset + space.positions,
        "type_vocab_size": space.segments,
        "pad_token_id": max(space.offset - 1, 0),
        "tie_word_embeddings": bool(space.tied),
    }
    config, is_stock = shape_config(checkpoint, space, shape)
    with torch.device("meta"):
        model: Any = make(config, is_stock=is_stock).base_model
    fill(model)
    # Numbers of positions and segments are no weights: they are made where the model runs.
    embeddings = model.embeddings
    embeddings.position_ids = torch.arange(space.offset + space.positions)[None]
    embeddings.token_type_ids = torch.zeros_like(embeddings.position_ids)
    return Deployment(model.eval(), inputs, workload)
