"""Signals that ask a training to stop, and the state of the processor while it runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into a request; a second one acts as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    old: dict[signal.Signals, Any] = {}

    def request(number: int, frame: object) -> None:
        del number, frame
        stop.set()
        for known, handler in old.items():
            signal.signal(known, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        old[number] = signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Within this block, treat denormal numbers as zero: on CPUs they are slow, and of no use."""
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
