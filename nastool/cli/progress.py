"""Progress on stderr, which quick work never shows: a bar, or lines where there is no terminal."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress

_PATIENCE = 1.0
"""Seconds before the bar appears."""

_FIRST = 5.0
"""Seconds before the first line where there is no terminal."""

_LONGEST = 300.0
"""Most seconds between two lines."""


class ProgressBar:
    """Shows how far work is, on stderr and only when it takes a while.

    On a terminal a bar; elsewhere a line every now and then, ever less often, which also comes
    while nothing else is said.

    Args:
        label: What is being done.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._start = time.perf_counter()
        self._is_terminal = sys.stderr.isatty()
        self._bar: Progress | None = None
        self._ended = threading.Event()
        self._said = label

    def __enter__(self) -> Self:
        if not self._is_terminal:
            threading.Thread(target=self._write_lines, daemon=True).start()
        return self

    def __call__(self, done: int, total: int | None, label: str | None = None) -> None:
        """Say how far the work is, and where a label is given, at what.

        Args:
            done: What is done.
            total: What is to be done; None where nobody knows.
            label: What is being done, in place of the usual one.
        """
        text = label or self._label
        if not self._is_terminal:
            of = "" if total is None else f" of {total:,} ({done / max(total, 1):.0%})"
            self._said = f"{text}: {done:,}{of}"
            return
        if time.perf_counter() - self._start < _PATIENCE:
            return
        if self._bar is None:
            self._bar = _start(self._label)
        self._bar.update(self._bar.task_ids[0], completed=done, total=total, description=text)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._bar is not None:
            self._bar.stop()

    def _write_lines(self) -> None:
        pause = _FIRST
        while not self._ended.wait(pause):
            seconds = time.perf_counter() - self._start
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(f"{self._said}, {seconds:,.0f} s\n")
                sys.stderr.flush()
            pause = min(_LONGEST, seconds / 2)


def _start(label: str) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task(label, total=None)
    bar.start()
    return bar
