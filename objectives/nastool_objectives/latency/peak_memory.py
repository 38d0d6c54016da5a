"""The most memory that tensors take at once during a pass on the processor."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class _Tracker(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch is partly untyped
    """Counts the bytes of the storages that operators return, until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the same
        self.sizes: dict[int, int] = {}
        self.alive = 0
        self.peak = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        output = func(*args, **(kwargs or {}))
        for item in output if isinstance(output, (tuple, list)) else (output,):
            if isinstance(item, torch.Tensor):
                self._count(item.untyped_storage())
        return output

    def _count(self, storage: torch.UntypedStorage) -> None:
        address = storage.data_ptr()
        if address in self.sizes:
            return
        self.sizes[address] = storage.nbytes()
        self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._free, address)

    def _free(self, address: int) -> None:
        self.alive -= self.sizes.pop(address, 0)


def peak_memory(module: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> float:
    """Bytes of a module's weights plus those of the most activations alive at once.

    What a library allocates for itself inside an operator is not seen.

    Args:
        module: On the processor.
        inputs: By name of the parameter.
    """
    parameters = list(module.parameters())
    tracker = _Tracker()
    # Weights and inputs may come back from operators as views; they are counted apart.
    for known in (*parameters, *module.buffers(), *inputs.values()):
        tracker.sizes[known.untyped_storage().data_ptr()] = 0
    with torch.no_grad(), tracker:
        module(**inputs)
    return float(sum(p.numel() * p.element_size() for p in parameters) + tracker.peak)
