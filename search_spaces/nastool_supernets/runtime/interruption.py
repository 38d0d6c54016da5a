"""Signals that ask a training to stop, and the state of the processor while it runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nastool.runtime.interrupt import reset_handlers, set_handlers


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Turn the first signal that ends a process into a request; a second one acts as usual.

    One that the process was started to ignore stays ignored, and an application's handler stays.
    """
    stop = threading.Event()

    def request(number: int, frame: object) -> None:
        del number, frame
        stop.set()
        reset_handlers(before)

    before: dict[int, Any] = {}
    before |= set_handlers(request)
    try:
        yield stop
    finally:
        reset_handlers(before)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Within this block, treat denormal numbers as zero: on CPUs they are slow, and of no use."""
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
