"""Runs of a comparison in worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from nastool.cli.entrants import Contest
from nastool.errors import NastoolError
from nastool.store import open_store

_LOOK = 0.2
"""Seconds between two looks at the workers."""


@dataclass(frozen=True)
class _Shared:
    """What the processes see of each other.

    Args:
        done: Evaluations of every run.
        stop: Set when the runs are to stop.
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
    shared = _Shared(context.Array("q", len(contest.runs), lock=False), context.Event())
    # Forked copies of a process with threads (torch, BLAS) can hang: start fresh ones.
    pool = ProcessPoolExecutor(
        min(jobs, len(contest.runs)),
        mp_context=context,
        initializer=_initialize,
        initargs=(shared.done, shared.stop, os.getpid()),
    )
    waiting: set[Future[None]] = set()
    try:
        waiting |= {pool.submit(_run, contest, url, index) for index in range(len(contest.runs))}
        while waiting:
            finished, waiting = wait(waiting, timeout=_LOOK, return_when=FIRST_COMPLETED)
            progress(sum(shared.done))
            for future in finished:
                future.result()
    except BrokenProcessPool as error:
        raise NastoolError(
            "a worker process died; what was evaluated is kept, and the same command goes on"
        ) from error
    finally:
        # After an error or Ctrl-C: every run commits what it has and ends.
        shared.stop.set()
        pool.shutdown(cancel_futures=True)


def _initialize(done: Any, stop: Any, parent: int) -> None:
    global _shared
    _shared = _Shared(done, stop)
    # Ctrl-C reaches every process of a terminal; the parent alone decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    """Stop when the parent was killed and could not say so."""
    while os.getppid() == parent:
        time.sleep(1.0)
    _shared.stop.set()


def _run(contest: Contest, url: str, index: int) -> None:
    def report(done: int, total: int) -> None:
        del total
        _shared.done[index] = done
        if _shared.stop.is_set():
            raise KeyboardInterrupt

    if not _shared.stop.is_set():
        with open_store(url) as store:
            contest.run_one(store, index, report)
