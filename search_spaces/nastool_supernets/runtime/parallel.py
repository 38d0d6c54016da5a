"""Data-parallel training: processes that each take a share of every batch.

The processes are started by torchrun or Accelerate, which tell them of one another by the
environment variables RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, or by SLURM with a
script that sets these (examples/pretrain.sbatch).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nastool.errors import InvalidInputError, NastoolError, first_line, one_line
from nastool.files.writing import owned

if TYPE_CHECKING:
    from torch import Tensor

# Gradients travel in pieces of so many numbers: large enough for the network, small in memory.
_BUCKET = 1 << 24
# How long the processes wait for one that tokenises.
_PATIENCE = timedelta(days=2)
# Seconds in which a launcher that is gone is noticed, and after which its processes end anyhow.
_LOOK_EVERY, _GRACE = 1.0, 20.0
# Seconds that a process waits to hear whether the first one failed, too.
_HEARSAY = 3.0
_FAILED = "nastool/first-failed"


class LeftAloneError(NastoolError):
    """Another of the processes that share the work has ended."""


@dataclass(frozen=True)
class Workers:
    """This process among those that train one model.

    Args:
        rank: Number of this process, from 0.
        count: Number of processes.
        patient: Group of torch.distributed to wait in, for hours if need be; None where there is
            one process only.
        board: Where the first process leaves word that it failed.
    """

    rank: int = 0
    count: int = 1
    patient: Any = field(default=None, repr=False, compare=False)
    board: Any = field(default=None, repr=False, compare=False)

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
            with self._together():
                dist.all_reduce(flat)
            sums = flat.split([tensor.numel() for tensor in bucket])
            for tensor, summed in zip(bucket, sums, strict=True):
                tensor.copy_(summed.view_as(tensor))

    def follow_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of the first process, in place."""
        if self.count > 1:
            import torch
            import torch.distributed as dist

            with torch.no_grad(), self._together():
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

            with self._together():
                dist.barrier(self.patient)

    def first_says(self, flag: bool) -> bool:
        """Return the first process's flag on every process; it may take hours to come."""
        if self.patient is None:
            return flag
        import torch
        import torch.distributed as dist

        said = torch.tensor([float(flag)])
        with self._together():
            dist.broadcast(said, 0, group=self.patient)
        return bool(said.item() > 0)

    @contextmanager
    def owning(
        self,
        target: Path,
        what: str,
        wait: float = 0.0,
        say: Callable[[str], None] | None = None,
        *,
        is_file: bool = False,
    ) -> Iterator[None]:
        """Within this block these processes alone may write to a target: the first one owns it.

        Args:
            target: See `nastool.files.writing.owned`.
            what: Likewise.
            wait: Likewise.
            say: Likewise.
            is_file: Likewise.

        Raises:
            InvalidInputError: Another process owns it.
        """
        if self.is_first:
            with owned(target, what, wait=wait, say=say, is_file=is_file):
                self.wait()
                yield
        else:
            self.wait()
            yield

    def tell_failure(self) -> None:
        """Leave word for the other processes that the first one has failed."""
        if self.board is not None and self.is_first:
            with suppress(RuntimeError):
                self.board.set(_FAILED, b"1")

    def first_failed(self) -> bool:
        """Whether the first process fails within seconds, or is gone."""
        if self.board is None or self.is_first:
            return False
        end = time.monotonic() + _HEARSAY
        while time.monotonic() < end:
            try:
                if self.board.check([_FAILED]):
                    return True
            except RuntimeError:
                return True
            time.sleep(0.1)
        return False

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Within this block, the end of another process is one line."""
        try:
            yield
        # torch's errors of this kind are all of this class.
        except RuntimeError as error:
            raise LeftAloneError(
                f"process {self.rank}: another of the {self.count} processes that share the work "
                f"has ended ({first_line(error)[:120]})"
            ) from error


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
        return f"cuda:{_number('LOCAL_RANK')}"
    return device


def _number(name: str) -> int:
    try:
        return int(os.environ[name])
    except ValueError as error:
        raise InvalidInputError(
            f"environment variable {name}: expected a whole number, got {os.environ[name]!r}"
        ) from error


def _environment() -> tuple[int, int]:
    """Number of this process, and of all, as a launcher states them.

    Raises:
        InvalidInputError: What is stated is no whole, or makes no sense.
    """
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    count = _number("WORLD_SIZE")
    if count < 1:
        raise InvalidInputError(
            f"environment variable WORLD_SIZE: expected at least 1, got {count}"
        )
    if count == 1 and "RANK" not in os.environ:
        return 0, 1
    missing = [n for n in ("RANK", "MASTER_ADDR", "MASTER_PORT") if n not in os.environ]
    if "RANK" not in missing:
        rank = _number("RANK")
        if not 0 <= rank < count:
            raise InvalidInputError(
                f"environment variable RANK: expected RANK in [0, {count}), got {rank}"
            )
    if count > 1 and missing:
        raise InvalidInputError(
            f"the environment says WORLD_SIZE={count}, but not {', '.join(missing)}: start all "
            "processes by torchrun, or unset WORLD_SIZE to work with one"
        )
    if count > 1 and not 0 < (port := _number("MASTER_PORT")) < 1 << 16:
        raise InvalidInputError(
            f"environment variable MASTER_PORT: expected a port in [1, 65535], got {port}"
        )
    return _number("RANK"), count


@contextmanager
def joined_workers(device: str, say: Callable[[str], None] | None = None) -> Iterator[Workers]:
    """Join the processes that the environment names, and leave them at the end.

    Where a launcher of torch started them and dies, they end within seconds.

    Args:
        device: This process's device, as torch names it; with a GPU NCCL carries the gradients,
            else gloo.
        say: Told by the first process how many share the work, where there are several.

    Raises:
        InvalidInputError: If what the environment says makes no sense, the processes cannot meet,
            or there is no such GPU.
    """
    rank, count = _environment()
    if count == 1:
        yield ALONE
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    if say is not None and rank == 0:
        say(f"{count} processes share the work; they meet at {where}")
    on_gpu = device.startswith("cuda")
    if on_gpu:
        refused = f"process {rank}: cannot use {device!r}"
        with one_line(refused, InvalidInputError, (RuntimeError, AssertionError)):
            torch.cuda.set_device(torch.device(device))
    _follow_launcher()
    alone = f"process {rank} of {count} cannot meet the others at {where}"
    with one_line(alone, InvalidInputError, (RuntimeError, ValueError, OSError)):
        board, _, _ = next(rendezvous("env://", rank, count))
        dist.init_process_group(
            "nccl" if on_gpu else "gloo", store=board, rank=rank, world_size=count
        )
        # Not NCCL: it gives up after ten minutes, which is right within a step only.
        patient = dist.new_group(backend="gloo", timeout=_PATIENCE)
    try:
        yield Workers(rank, count, patient, board)
    finally:
        with suppress(RuntimeError):
            dist.destroy_process_group()


def _follow_launcher() -> None:
    """End this process soon after the launcher of torch that started it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    launcher = os.getppid()

    def follow() -> None:
        while os.getppid() == launcher:
            time.sleep(_LOOK_EVERY)
        # All processes see it, so that training ends as by any signal: with a checkpoint.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=follow, daemon=True).start()
