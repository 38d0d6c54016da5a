"""Calls of functions that are no objectives."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from nastool.errors import InvalidInputError, NastoolError
from nastool.executors import Serial, called
from nastool.executors.processes import Processes

pytest.importorskip("loky")


def once(number: int, folder: str) -> int:
    """Ends its worker where it is called for the first time with an odd number."""
    mark = Path(folder, str(number))
    if number % 2 and not mark.exists():
        mark.touch()
        os._exit(9)
    return 10 * number


def always(number: int) -> int:
    return os._exit(9) if number else 0


def refused(number: int) -> int:
    if number == 2:
        raise InvalidInputError("two is too many")
    return number


@pytest.fixture(scope="module")
def pool():
    with Processes(2) as executor:
        yield executor


def test_what_a_dead_worker_had_is_called_once_more(pool, tmp_path):
    calls = [(number, str(tmp_path)) for number in range(4)]
    assert dict(called(pool, once, calls)) == {0: 0, 1: 10, 2: 20, 3: 30}
    with pytest.raises(NastoolError, match=r"exit code 9, and it had been tried before"):
        list(called(pool, always, [(0,), (1,)]))


def test_what_a_user_can_act_on_comes_back(pool):
    for executor in (pool, Serial()):
        with pytest.raises(InvalidInputError, match="two is too many"):
            list(called(executor, refused, [(1,), (2,)]))
        assert dict(called(executor, refused, [(1,), (3,)])) == {0: 1, 1: 3}


def test_a_worker_that_dies_with_nothing_to_do_costs_nothing(pool):
    (pid,) = dict(called(pool, os.getpid, [()])).values()
    os.kill(pid, signal.SIGKILL)
    # loky notices it in a moment, once who has answered is idle again.
    pool._tidy()
    until = time.monotonic() + 10
    while time.monotonic() < until and not any(idle._flags.broken for idle in pool._idle):
        time.sleep(0.02)
    assert dict(called(pool, refused, [(1,), (3,)])) == {0: 1, 1: 3}


def test_what_takes_too_long_is_given_up(pool):
    pool.timeout = 0.5
    try:
        with pytest.raises(NastoolError, match=r"took longer than 0\.5 s"):
            list(called(pool, time.sleep, [(60,)]))
    finally:
        pool.timeout = None
