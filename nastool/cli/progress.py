"""How far long work is, on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from rich.progress import Progress

_PATIENCE = 1.0
"""Seconds before the bar appears."""

_FIRST_LINE = 5.0
"""Seconds before the first line where there is no terminal; the next one takes twice as long."""


class ProgressBar:
    """Shows evaluations done of a budget, only when it takes a while.

    Args:
        label: What is being done.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._start = time.perf_counter()
        self._terminal = sys.stderr.isatty()
        self._next_line = _FIRST_LINE
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __call__(self, done: int, total: int, label: str | None = None) -> None:
        """Say how far the work is, and where a label is given, at what."""
        passed = time.perf_counter() - self._start
        if not self._terminal:
            if passed >= self._next_line:
                self._next_line = 2 * passed
                click.echo(f"{label or self._label}: {done:,} of {total:,}", err=True)
            return
        if passed < _PATIENCE:
            return
        if self._bar is None:
            self._bar = _start(self._label)
        text = label or self._label
        self._bar.update(self._bar.task_ids[0], completed=done, total=total, description=text)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


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
