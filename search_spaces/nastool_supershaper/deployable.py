"""Subnets with random weights, as they are deployed: for timing, where weights do not matter."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import nn

from nastool.deployment import Deployment, Workload
from nastool.errors import InvalidInputError
from nastool_supershaper.shaped_bert import ShapedBertConfig, ShapedBertModel
from nastool_supershaper.space import SuperShaperSpace

_ALIGNMENT = 64
"""Elements (256 bytes) that a parameter starts at a multiple of, as an allocator would do."""

_PERIOD = 1 << 20
"""Elements after which the random numbers repeat; a power of two, as the block's length is."""


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
    _fill(model)
    ids = torch.randint(
        space.vocabulary,
        (workload.batch_size, workload.sequence_length),
        generator=torch.Generator().manual_seed(0),
    )
    # Full texts: padding would be work on some devices and none on others.
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    model.eval()
    return Deployment(model, inputs, workload, padded=lambda size: model.padded(widths=size))


def _fill(model: nn.Module) -> None:
    """Replace the parameters of a model on the meta device by pieces of the random block."""
    offset = 0
    places: list[tuple[str, int, torch.Size]] = []
    for name, parameter in model.named_parameters():
        places.append((name, offset, parameter.shape))
        offset += -(-parameter.numel() // _ALIGNMENT) * _ALIGNMENT
    # In few sizes, so that a second shape rarely needs a second block.
    block = _random_block(1 << (offset - 1).bit_length())
    for name, start, size in places:
        owner, _, attribute = name.rpartition(".")
        piece = block[start : start + size.numel()].view(size)
        setattr(model.get_submodule(owner), attribute, nn.Parameter(piece, requires_grad=False))


@lru_cache(maxsize=2)
def _random_block(elements: int) -> torch.Tensor:
    """Normal numbers of the size of trained weights: neither overflow nor denormals on the way."""
    generator = torch.Generator().manual_seed(0)
    # Repeated, because drawing them takes longer than a forward pass.
    period = torch.empty(min(elements, _PERIOD)).normal_(0.0, 0.02, generator=generator)
    return period.repeat(elements // len(period))
