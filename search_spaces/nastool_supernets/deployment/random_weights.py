"""Random weights for timing, where weights do not matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from nastool.devices import Workload
from nastool.errors import InvalidInputError

_ALIGNMENT = 64
"""Elements (256 bytes) that a parameter starts at a multiple of, as an allocator would do."""

_PERIOD = 1 << 20
"""Elements after which the random numbers repeat; a power of two, as the block's length is."""


def fill(model: nn.Module) -> None:
    """Replace the parameters of a model on the meta device by pieces of one random block.

    All models share it, so that thousands can take turns on a device without being built.

    Args:
        model: Whose parameters are replaced; what they share stays shared.
    """
    offset = 0
    begins: dict[int, int] = {}
    places: list[tuple[str, int, torch.Size]] = []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        places.append((name, begins.setdefault(id(parameter), offset), parameter.shape))
        if begins[id(parameter)] < offset:
            continue
        offset += -(-parameter.numel() // _ALIGNMENT) * _ALIGNMENT
    # In few sizes, so that a second shape rarely needs a second block.
    block = _random_block(1 << (offset - 1).bit_length())
    made: dict[int, nn.Parameter] = {}
    for name, start, size in places:
        owner, _, attribute = name.rpartition(".")
        if start not in made:
            piece = block[start : start + size.numel()].view(size)
            made[start] = nn.Parameter(piece, requires_grad=False)
        setattr(model.get_submodule(owner), attribute, made[start])


@lru_cache(maxsize=4)
def _random_block(elements: int) -> torch.Tensor:
    """Normal numbers of the size of trained weights: neither overflow nor denormals on the way."""
    generator = torch.Generator().manual_seed(0)
    # Repeated, because drawing them takes longer than a forward pass.
    period = torch.empty(min(elements, _PERIOD)).normal_(0.0, 0.02, generator=generator)
    return period.repeat(elements // len(period))


def random_tensors(shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Tensors of random numbers, each in a piece of one block of its own.

    Args:
        shapes: Of the tensors.
    """
    sizes = [math.prod(shape) for shape in shapes]
    block = _random_block(1 << max(sum(sizes) - 1, 1).bit_length())
    pieces = block[: sum(sizes)].split(sizes)
    return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]


def random_texts(
    name: str, vocabulary: int, positions: int, workload: Workload
) -> dict[str, Tensor]:
    """The inputs of a pass: full texts, as padding is work on some devices and none on others.

    Args:
        name: Of the space, for the message.
        vocabulary: Tokens there are.
        positions: Tokens that a text may have.
        workload: What is given in one pass.

    Returns:
        Token ids and attention mask, each of shape (batch, sequence length).

    Raises:
        InvalidInputError: The sequence is longer than the space has positions.
    """
    if workload.sequence_length > positions:
        raise InvalidInputError(
            f"the sequence length must be at most {positions} for {name}, "
            f"got {workload.sequence_length}"
        )
    ids = torch.randint(
        vocabulary,
        (workload.batch_size, workload.sequence_length),
        generator=torch.Generator().manual_seed(0),
    )
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
