"""The executor without workers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from nastool.errors import InvalidInputError
from nastool.executors.base import Executor, at_least_one

_CHUNK = 8
"""Small beside what each evaluation costs."""


class Serial(Executor):
    """Evaluates in this process, one after the other.

    Args:
        chunk: Genotypes handed to an objective at a time, at least 1: what an interrupt may lose.
    """

    is_elsewhere = False

    def __init__(self, chunk: int = _CHUNK) -> None:
        self.chunk = at_least_one("chunk", chunk)

    @property
    def workers(self) -> int:
        return 1

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*arguments))
        return future


def create(argument: str | None = None) -> Serial:
    """Evaluates in this process, one after the other: ``serial``.

    Raises:
        InvalidInputError: An argument.
    """
    if argument is not None:
        raise InvalidInputError(f"serial takes no argument, got {argument!r}")
    return Serial()
