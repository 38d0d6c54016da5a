"""The contract of an executor: functions go in, futures come back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Self

from nastool.attributes import attribute
from nastool.errors import InvalidInputError

DEATHS_OF_NOTHING = 4
"""Workers that must have died of a shape where those count on which it only waited, too."""


class Executor(ABC):
    """Calls functions somewhere, several at a time; what is called is `nastool.executors.serving`.

    A subclass says how many `workers` there are and hands a call on to its engine in `submit`;
    `nastool.testing.ExecutorConformance` checks it. Which shapes go to which worker, what is tried
    again and what has failed is not its concern but that of `nastool.executors.work.Work`.
    """

    is_elsewhere = True
    """Whether calls may leave this process, so that an objective must be able to travel."""

    dies_alone = True
    """Whether a worker that dies fails the calls only that it was busy with."""

    deaths = 2
    """Workers that must have died of a shape for it to be at fault."""

    timeout: float | None = None
    """Seconds that one shape may take; None for as long as it needs."""

    chunk: int | None = None
    """Shapes that a worker is handed at a time; None for as many as take a moment."""

    @attribute
    @abstractmethod
    def workers(self) -> int:
        """How many calls are worth having under way, at least 1; may change as workers come."""

    @abstractmethod
    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Have a function called, which workers can import, with arguments that can be pickled."""

    def died(self, error: BaseException) -> str:
        """What to say where a call failed because its worker is gone; empty for other errors."""
        del error
        return ""

    def drop(self, future: Future[Any]) -> None:
        """Give up a call: it need not begin any more, and what runs on for it is best ended."""
        future.cancel()

    def close(self) -> None:  # noqa: B027  # most executors hold nothing
        """Give back what the executor holds; it can be used again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def at_least_one(name: str, value: int) -> int:
    """Return a number that counts something.

    Raises:
        InvalidInputError: It is below 1.
    """
    if value < 1:
        raise InvalidInputError(f"{name} must be at least 1, got {value}")
    return value
