"""Data-parallel training: processes that each take a share of every batch.

The processes are started by torchrun or Accelerate, which tell them of one another by the
environment variables RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, or by SLURM with a
script that sets these (examples/pretrain.sbatch).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from nastool.errors import InvalidInputError

if TYPE_CHECKING:
    from torch import Tensor

# Gradients travel in pieces of so many numbers: large enough for the network, small in memory.
_BUCKET = 1 << 24
# How long the processes wait for one that tokenises.
_PATIENCE = timedelta(days=2)


@dataclass(frozen=True)
class Workers:
    """This process among those that train one model.

    Args:
        rank: Number of this process, from 0.
        count: Number of processes.
        patient: Group of torch.distributed to wait in, for hours if need be.
    """

    rank: int = 0
    count: int = 1
    patient: Any = field(default=None, repr=False, compare=False)

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def share(self, n: int) -> range:
        """Return this process's rows of n; the shares are disjoint and cover them all."""
        return range(self.rank * n // self.count, (self.rank + 1) * n // self.count)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, alike on every process, by their sums over the processes, in place."""
        if self.count == 1:
            return
        import torch
        import torch.distributed as dist

        # A tensor that a subnet leaves untouched is untouched everywhere: the shapes are the same.
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            dist.all_reduce(flat)
            sums = flat.split([tensor.numel() for tensor in bucket])
            for tensor, summed in zip(bucket, sums, strict=True):
                tensor.copy_(summed.view_as(tensor))

    def follow_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of the first process, in place."""
        if self.count > 1:
            import torch
            import torch.distributed as dist

            with torch.no_grad():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def any(self, flag: bool, device: object = "cpu") -> bool:
        """Return whether the flag is set on any process."""
        if self.count == 1:
            return flag
        import torch

        total = torch.tensor([float(flag)], device=torch.device(str(device)))
        self.add_up([total])
        return bool(total.item() > 0)

    def wait(self) -> None:
        """Wait for the other processes."""
        if self.count > 1:
            import torch.distributed as dist

            dist.barrier(self.patient)


ALONE = Workers()


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        full = sum(t.numel() for t in bucket) + tensor.numel() > _BUCKET
        if bucket and (full or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def own_device(device: str | None) -> str:
    """Return the device of this process: where no GPU is named by number, each takes its own.

    Args:
        device: As torch names it; None for cuda if there is one, else cpu.
    """
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return device


@contextmanager
def joined_workers(device: str) -> Iterator[Workers]:
    """Join the processes that the environment names, and leave them at the end.

    Args:
        device: This process's device, as torch names it; with a GPU NCCL carries the gradients,
            else gloo.

    Raises:
        InvalidInputError: If the environment's numbers make no sense, or there is no such GPU.
    """
    try:
        count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    except ValueError as error:
        raise InvalidInputError(f"WORLD_SIZE and RANK: expected whole numbers: {error}") from error
    if not 0 <= rank < count:
        raise InvalidInputError(f"expected RANK in [0, {count}), got {rank}")
    if count == 1:
        yield ALONE
        return
    import torch
    import torch.distributed as dist

    on_gpu = device.startswith("cuda")
    if on_gpu:
        try:
            torch.cuda.set_device(torch.device(device))
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InvalidInputError(f"process {rank}: cannot use {device!r}: {reason}") from error
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        # Not NCCL: it gives up after ten minutes, which is right within a step only.
        yield Workers(rank, count, dist.new_group(backend="gloo", timeout=_PATIENCE))
    finally:
        dist.destroy_process_group()
