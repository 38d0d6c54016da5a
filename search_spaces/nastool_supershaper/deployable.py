"""Subnets with random weights, as they are deployed: for timing, where weights do not matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from nastool.devices import Deployment, Workload
from nastool_supernets.deployment.random_weights import fill, random_texts
from nastool_supershaper.shaped_bert import ShapedBertConfig, ShapedBertModel

if TYPE_CHECKING:
    from nastool_supershaper.space import SuperShaperSpace


def deploy(space: SuperShaperSpace, shape: Sequence[int], workload: Workload) -> Deployment:
    """Build the merged subnet without masked-LM head: what a task is fine-tuned on.

    All subnets take their weights from one block of random numbers, so that thousands of them can
    take turns on a device without being built or copied.

    Args:
        space: Says the sizes that all shapes share.
        shape: Width of every layer.
        workload: What it is given in one pass.

    Raises:
        InvalidInputError: The sequence is longer than the space has positions.
    """
    inputs = random_texts(space.name, space.vocabulary, space.positions, workload)
    config = ShapedBertConfig(
        shape=shape,
        vocab_size=space.vocabulary,
        hidden_size=space.hidden,
        num_attention_heads=space.heads,
        intermediate_size=space.ffn,
        max_position_embeddings=space.positions,
        type_vocab_size=space.segments,
    )
    with torch.device("meta"):
        model = ShapedBertModel(config)
    fill(model)
    model.eval()
    return Deployment(model, inputs, workload, padded=lambda size: model.padded(widths=size))
