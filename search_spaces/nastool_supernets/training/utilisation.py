"""How much of a device's arithmetic a training step uses: model FLOPs over measured peak."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from nastool_supernets.genotypes import Genotype
    from nastool_supernets.supernet import Net


def training_flops(
    net: Net, genotypes: Sequence[Genotype], blocks: int, length: int, n_targets: int
) -> float:
    """Count a training step of several subnets: the backward pass computes twice the forward one.

    Args:
        net: The net.
        genotypes: Its subnets.
        blocks: Blocks of the batch.
        length: Tokens a block.
        n_targets: Tokens that the batch is to predict.
    """
    return 3 * sum(net.flops(genotype, blocks, length, n_targets) for genotype in genotypes)


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
