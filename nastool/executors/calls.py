"""Calls of functions that are no objectives: long ones, each for itself."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any

from nastool.errors import NastoolError, in_one_line
from nastool.executors.base import Executor


@dataclass(frozen=True)
class _Said:
    """What came of a call: its value, or what a user can act on."""

    value: Any = None
    error: NastoolError | None = None


def called(
    executor: Executor, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]
) -> Generator[tuple[int, Any]]:
    """Call a function with each of these arguments; which it was and what it returned, as it comes.

    A call whose worker dies is made once more, as often as a shape is.

    Args:
        executor: Where; its time a shape is that of a call.
        function: What workers can import.
        calls: Arguments, which can be pickled.

    Raises:
        NastoolError: The function raised one, a worker died twice of a call, or it took too long.
    """
    waiting = deque(range(len(calls)))
    again: deque[int] = deque()
    running: dict[Future[Any], tuple[int, float]] = {}
    suspects: Counter[int] = Counter()
    try:
        while waiting or again or running:
            # One after the other, where it would not be known who was it.
            alone = not executor.dies_alone and bool(suspects.keys() & {*again, *_numbers(running)})
            while (waiting or again) and len(running) < (1 if alone else executor.workers):
                number = again.popleft() if again else waiting.popleft()
                future = executor.submit(_said, function, *calls[number])
                running[future] = number, time.monotonic()
                alone = alone or (not executor.dies_alone and number in suspects)
            wait(running, timeout=executor.timeout, return_when=FIRST_COMPLETED)
            for future, (number, began) in list(running.items()):
                if future.done():
                    del running[future]
                    why = _lost(executor, future)
                    if not why:
                        yield number, _value(future.result())
                    elif suspects[number] + 1 >= executor.deaths:
                        raise NastoolError(f"{why}, and it had been tried before")
                    else:
                        suspects[number] += 1
                        again.append(number)
                elif executor.timeout and time.monotonic() - began >= executor.timeout:
                    raise NastoolError(f"took longer than {executor.timeout:g} s")
    finally:
        for future in running:
            executor.drop(future)


def _numbers(running: dict[Future[Any], tuple[int, float]]) -> set[int]:
    return {number for number, _ in running.values()}


def _lost(executor: Executor, future: Future[Any]) -> str:
    """Why a call has no answer because its worker is gone; empty where it has one.

    Raises:
        NastoolError: It has failed for another reason.
    """
    if future.cancelled():
        return "its worker was lost"
    error = future.exception()
    if error is None:
        return ""
    if why := executor.died(error):
        return why
    if isinstance(error, NastoolError):
        raise error
    raise NastoolError(f"a worker failed: {in_one_line(error)}") from error


def _said(function: Callable[..., Any], *arguments: Any) -> _Said:
    """Call it; what a user can act on comes back as a value, for a class need not survive."""
    try:
        return _Said(function(*arguments))
    except NastoolError as error:
        own = type(error).__module__ == "nastool.errors"
        return _Said(error=error if own else NastoolError(str(error)))


def _value(said: _Said) -> Any:
    if said.error is not None:
        raise said.error
    return said.value
