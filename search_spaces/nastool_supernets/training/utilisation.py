"""How much of a device's arithmetic a training step uses: model FLOPs over measured peak."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from nastool_supershaper.modeling import SuperShaperConfig


def forward_flops(
    config: SuperShaperConfig, shape: Sequence[int], blocks: int, length: int, n_masked: int
) -> float:
    """Count what a subnet's forward pass must compute, two operations a multiplication.

    Counted are the matrix products of the merged subnet, at masked positions only where no others
    are needed (the last layer's queries and feed-forward, the head): nothing that padding,
    recomputing or unmerged bottlenecks add.

    Args:
        config: Sizes of the supernet.
        shape: Width of every layer.
        blocks: Blocks of the batch.
        length: Tokens a block.
        n_masked: Masked tokens of the batch.
    """
    size, inner = config.hidden_size, config.intermediate_size
    tokens = blocks * length
    total = sum(tokens * before * after for before, after in pairwise((size, *shape)))
    for index, width in enumerate(shape):
        asked = n_masked if index == len(shape) - 1 else tokens
        # Keys and values; scores and their sums; queries, output projection and feed-forward.
        total += tokens * 2 * width**2
        total += asked * 2 * length * width
        total += asked * (2 * width**2 + 2 * width * inner)
    total += n_masked * (shape[-1] * size + size**2 + size * config.vocab_size)
    return 2.0 * total


def training_flops(
    config: SuperShaperConfig,
    shapes: Sequence[Sequence[int]],
    blocks: int,
    length: int,
    n_masked: int,
) -> float:
    """Count a training step of several subnets: the backward pass computes twice the forward one.

    Args:
        config: Sizes of the supernet.
        shapes: Width of every layer, subnet by subnet.
        blocks: Blocks of the batch.
        length: Tokens a block.
        n_masked: Masked tokens of the batch.
    """
    return 3 * sum(forward_flops(config, shape, blocks, length, n_masked) for shape in shapes)


def measure_peak_flops(
    device: torch.device, dtype: str, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Measure what a large matrix product reaches, in operations a second; takes a moment.

    Args:
        device: Where.
        dtype: ``float32`` or ``bfloat16``.
        clock: Tells the time, in seconds.
    """
    import torch

    size = 8192 if device.type == "cuda" else 512
    kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    best = float("inf")
    with torch.inference_mode():
        matrix = torch.ones(size, size, device=device, dtype=kind)
        # The first ones warm up; of the others the best, for peak is what nothing disturbed.
        for _ in range(5):
            began = clock()
            product = matrix @ matrix
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, clock() - began)
            del product
    return 2.0 * size**3 / best
