"""One worker process: it is sent an objective once, then genotypes, and answers with values.

The processes of `concurrent.futures` die together; of one's own it is known which died, of what.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import connection, process, reduction
from multiprocessing.util import Finalize
from typing import Any

from nastool.errors import InvalidInputError, NastoolError, in_one_line
from nastool.leftovers import follow_parent, workers_begin
from nastool.objective import Evaluated, Objective, evaluate
from nastool.space import Genotypes

_NAME = "nastool-worker"
_UNGUARDED = 79
"""Exit code of a worker that is about to start workers of its own while it still starts."""

_PATIENCE = 5.0
"""Seconds that a process has to end by itself."""


@dataclass(frozen=True)
class Died:
    """A worker ended without an answer.

    Args:
        code: Its exit code, below 0 where a signal ended it.
    """

    code: int | None

    def __str__(self) -> str:
        if self.code is not None and self.code < 0:
            number = -self.code
            known = {member.value: member.name for member in signal.Signals}
            return f"the worker process was ended by {known.get(number, f'signal {number}')}"
        return f"the worker process died with exit code {self.code}"


class Worker:
    """A process that evaluates.

    Args:
        objective: What it evaluates.

    Raises:
        InvalidInputError: The objective cannot be pickled.
    """

    def __init__(self, objective: Objective) -> None:
        current = process.current_process()
        if current.name == _NAME and getattr(current, "_inheriting", False):
            # This is a worker, and runs the script that started it: see `_cannot_start`.
            os._exit(_UNGUARDED)
        try:
            content = bytes(reduction.ForkingPickler.dumps(objective))
        except Exception as error:
            raise InvalidInputError(
                f"an objective must be picklable to run in worker processes, got "
                f"{objective.name}: {in_one_line(error)}"
            ) from error
        # Forked copies of a process with threads (torch, BLAS) can hang: start fresh ones.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), name=_NAME)
        with workers_begin():
            self._process.start()
        theirs.close()
        self._objective = objective.name
        self._started = False
        # When Python ends it waits for its children, which wait for the pipe to be closed.
        self._finalizer = Finalize(self, self._connection.close, exitpriority=10)
        self._send(content)

    @property
    def sources(self) -> tuple[Any, Any]:
        """What becomes ready when there is an answer, or never will be one."""
        return self._connection, self._process.sentinel

    def _send(self, content: object) -> None:
        # Where it has died the answer will say so.
        with contextlib.suppress(OSError):
            self._connection.send(content)

    def send(self, genotypes: Genotypes) -> None:
        """Have a batch (n, d) evaluated."""
        self._send(genotypes)

    def receive(self) -> Evaluated | Died | None:
        """The answer to a batch; None where it is not there yet.

        Raises:
            NastoolError: The objective raised it, or the worker could not even start.
        """
        try:
            if not self._connection.poll():
                if self._process.is_alive():
                    return None
                raise EOFError
            answer = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(_PATIENCE)
            self.terminate()
            if not self._started:
                raise self._cannot_start() from None
            return Died(self._process.exitcode)
        if answer is None:
            self._started = True
            return None
        if isinstance(answer, NastoolError):
            raise answer
        made: Evaluated = answer
        return made

    def _cannot_start(self) -> NastoolError:
        guard = (
            "a script that evaluates in worker processes must do so under "
            '`if __name__ == "__main__":`, because each of them imports it again'
        )
        if self._process.exitcode == _UNGUARDED:
            return InvalidInputError(guard)
        return NastoolError(
            f"a worker process for {self._objective} ended while it started, with exit code "
            f"{self._process.exitcode} and what it says above; {guard}"
        )

    def terminate(self) -> None:
        """End it, whatever it does."""
        self._process.terminate()
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._finalizer()

    def close(self) -> None:
        """End it when it is idle."""
        self._finalizer()
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self.terminate()


def answers(workers: Iterable[Worker]) -> Iterator[tuple[Worker, Evaluated | Died]]:
    """Wait until some of the workers have answered or died; what they answered.

    Raises:
        NastoolError: As `Worker.receive`.
    """
    sources = {source: worker for worker in workers for source in worker.sources}
    ready = connection.wait(list(sources))
    for worker in dict.fromkeys(sources[source] for source in ready):
        answer = worker.receive()
        if answer is not None:
            yield worker, answer


def _serve(pipe: connection.Connection) -> None:
    """Evaluate whatever comes through the pipe, in the worker."""
    follow_parent(lambda: os._exit(1))
    # Its end is that the parent closes the pipe.
    with contextlib.suppress(EOFError, OSError):
        try:
            objective = _load(pipe.recv())
        except NastoolError as error:
            pipe.send(error)
            return
        pipe.send(None)
        while True:
            pipe.send(_answer(objective, pipe.recv()))


def _load(content: bytes) -> Objective:
    try:
        made: Objective = reduction.ForkingPickler.loads(content)
    except Exception as error:
        raise InvalidInputError(
            "an objective that runs in worker processes must come from a module that they can "
            f"import: {in_one_line(error)}"
        ) from error
    return made


def _answer(objective: Objective, genotypes: Genotypes) -> Evaluated | NastoolError:
    try:
        return evaluate(objective, genotypes)
    except NastoolError as error:
        # A class of a plugin need not survive the way to the other process.
        return error if type(error).__module__ == "nastool.errors" else NastoolError(str(error))
