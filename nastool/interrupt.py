"""Ctrl-C as a request instead of an exception in the middle of anything."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Self


class Interrupt:
    """Turns the first Ctrl-C into a request to stop, so that no batch is left half told.

    Only evaluating is cut short. The handler of an application that has its own stays.
    """

    def __init__(self) -> None:
        self.requested = False
        self._cutting = False
        self._installed = False

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)
            self._installed = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        again, self.requested = self.requested, True
        if again or self._cutting:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def cutting_short(self) -> Iterator[None]:
        """Within this block Ctrl-C raises KeyboardInterrupt at once."""
        self._cutting = True
        try:
            yield
        finally:
            self._cutting = False
