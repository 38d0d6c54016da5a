"""Runs of a comparison in worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from nastool.comparison.contests import Contest
from nastool.errors import NastoolError
from nastool.runtime.interrupt import signals_interrupt
from nastool.runtime.leftovers import follow_parent, workers_begin
from nastool.store import open_store

_LOOK = 0.2
"""Seconds between two looks at the workers."""

_GRACE = 5.0
"""Seconds that a worker without a parent has to keep what it has evaluated."""


@dataclass(frozen=True)
class _Shared:
    """What the processes see of each other.

    Args:
        done: Evaluations of every run.
        stop: Set when the runs are to stop; without a lock, which might end with who holds it.
    """

    done: Any
    stop: Any


_shared: _Shared


def run_in_processes(
    contest: Contest, url: str, jobs: int, progress: Callable[[int], None]
) -> None:
    """Make the runs of a comparison, several at a time; the store holds them afterwards.

    Args:
        contest: What is to be run.
        url: Store, one that several processes can write to.
        jobs: Processes.
        progress: Told the evaluations of all runs together.

    Raises:
        NastoolError: A run failed or its process died; the others have stopped, and are kept.
        KeyboardInterrupt: Ctrl-C; what was evaluated is kept.
    """
    context = multiprocessing.get_context("spawn")
    shared = _Shared(
        context.Array("q", len(contest.runs), lock=False), context.Array("b", 1, lock=False)
    )
    # Forked copies of a process with threads (torch, BLAS) can hang: start fresh ones. Each is a
    # pool of its own, for one that ends while it waits for work keeps the lock of its queue, and
    # others would wait for that for ever.
    pools = [
        ProcessPoolExecutor(
            1, mp_context=context, initializer=_initialize, initargs=(shared.done, shared.stop)
        )
        for _ in range(min(jobs, len(contest.runs)))
    ]
    runs = iter(range(len(contest.runs)))
    busy: dict[Future[None], ProcessPoolExecutor] = {}

    def begin(pool: ProcessPoolExecutor) -> None:
        index = next(runs, None)
        if index is not None:
            with workers_begin():
                busy[pool.submit(_run, contest, url, index)] = pool

    try:
        for pool in pools:
            begin(pool)
        while busy:
            finished, _ = wait(busy, timeout=_LOOK, return_when=FIRST_COMPLETED)
            progress(sum(shared.done))
            for future in finished:
                pool = busy.pop(future)
                future.result()
                begin(pool)
    except BaseException as error:
        # After an error or a signal: every run commits what it has and ends, though it evaluates.
        shared.stop[0] = True
        for pool in pools:
            for process in list((pool._processes or {}).values()):  # noqa: SLF001 - only it knows
                process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise NastoolError(
                "a worker process died; what was evaluated is kept, and the same command goes on"
            ) from error
        raise
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)


def _initialize(done: Any, stop: Any) -> None:
    global _shared
    _shared = _Shared(done, stop)
    follow_parent(_stop)


def _stop() -> None:
    """Stop when the parent was killed and could not say so."""
    _shared.stop[0] = True
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os._exit(1)


def _run(contest: Contest, url: str, index: int) -> None:
    def report(done: int, total: int) -> None:
        del total
        _shared.done[index] = done
        if _shared.stop[0]:
            raise KeyboardInterrupt

    # Only here: between two runs a worker that is told to end has nothing to keep.
    with signals_interrupt():
        if not _shared.stop[0]:
            with open_store(url) as store:
                contest.run_one(store, index, report)
