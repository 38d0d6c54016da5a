"""Subnets with random weights, as they are deployed: for timing, where weights do not matter."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nastool.deployment import Deployment, Workload
from nastool.errors import InvalidInputError
from nastool_supernets.deployment.random_weights import fill
from nastool_supershaper.shaped_bert import ShapedBertConfig, ShapedBertModel
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
    if workload.sequence_length > space.positions:
        raise InvalidInputError(
            f"the sequence length must be at most {space.positions} for {space.name}, "
            f"got {workload.sequence_length}"
        )
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
    ids = torch.randint(
        space.vocabulary,
        (workload.batch_size, workload.sequence_length),
        generator=torch.Generator().manual_seed(0),
    )
    # Full texts: padding would be work on some devices and none on others.
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    model.eval()
    return Deployment(model, inputs, workload, padded=lambda size: model.padded(widths=size))
