"""Signals that ask a process to end, as a request instead of an exception amid anything.

Ctrl-C (SIGINT), what schedulers send (SIGTERM) and a closed terminal (SIGHUP) mean the same here. A
signal that the process was started to ignore stays ignored, and so does the handler of an
application that has its own.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Self, cast

_ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)

_SOON = 0.05
"""Seconds."""

INTERRUPTED = 130
"""Exit code of a command that a signal stopped, as shells have it for Ctrl-C."""


def raise_interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt: the handler of a signal that a command line ends by."""
    del number, frame
    raise KeyboardInterrupt


def leave(number: int, frame: FrameType | None) -> None:
    """End the process at once: the handler where nothing is at stake yet, or any more."""
    del number, frame
    with contextlib.suppress(OSError):
        os.write(2, b"Interrupted: nothing was lost\n")
    os._exit(INTERRUPTED)


_OURS = (signal.default_int_handler, raise_interrupt, leave)


def set_handlers(handler: Callable[[int, FrameType | None], Any]) -> dict[int, Any]:
    """Let the signals that end a process be handled, where neither ignored nor an application's.

    Args:
        handler: Called with the signal and the frame.

    Returns:
        The handlers before, by signal, for `reset_handlers`; empty outside of the main thread.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            known = signal.getsignal(number)
            if known is signal.SIG_DFL or known in _OURS:
                before[number] = signal.signal(number, handler)
    return before


def reset_handlers(before: dict[int, Any]) -> None:
    """Take back what `set_handlers` did."""
    for number, handler in before.items():
        signal.signal(number, handler)


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Within this block, every signal that ends a process raises KeyboardInterrupt."""
    before = set_handlers(raise_interrupt)
    try:
        yield
    finally:
        reset_handlers(before)


@contextlib.contextmanager
def unraised_interrupts() -> Iterator[None]:
    """Within this block, KeyboardInterrupt is raised again where Python could not pass it on.

    One that is raised in a finalizer or a callback from C is otherwise written out and forgotten.
    To be used within `signals_interrupt`.
    """
    before = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            # Raised in here, it would be lost as well.
            again = threading.Timer(_SOON, _signal_main_thread)
            again.daemon = True
            again.start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _signal_main_thread() -> None:
    if hasattr(signal, "pthread_kill"):
        # Also ends what it waits for.
        signal.pthread_kill(cast("int", threading.main_thread().ident), signal.SIGTERM)
    else:
        _thread.interrupt_main(signal.SIGTERM)


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Within this block signals wait, for what must not be left half begun; it must be short."""
    came: list[int] = []
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            if callable(signal.getsignal(number)):
                before[number] = signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        reset_handlers(before)
        for number in came[:1]:
            signal.raise_signal(number)


class Interrupt:
    """Turns the first signal into a request to stop, so that no batch is left half told.

    Signals that end the process unasked are left alone: only Ctrl-C, and within a command line (see
    `signals_interrupt`) the others. Only what may be cut short is. The handler of an application
    that has its own stays.
    """

    def __init__(self) -> None:
        self.requested = False
        self.is_cutting = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING:
                if signal.getsignal(number) in (signal.default_int_handler, raise_interrupt):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        reset_handlers(self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        again, self.requested = self.requested, True
        if again or self.is_cutting:
            raise KeyboardInterrupt

    def cutting_short(self) -> contextlib.AbstractContextManager[None]:
        """Within this block a signal raises KeyboardInterrupt at once."""
        return _Cutting(self)


class _Cutting(contextlib.AbstractContextManager[None]):
    """What `Interrupt.cutting_short` returns; a class, for it is entered in every batch."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt

    def __enter__(self) -> None:
        self._interrupt.is_cutting = True

    def __exit__(self, *_: object) -> None:
        self._interrupt.is_cutting = False
