"""What must not outlive its process: workers, programs that it started, temporary folders.

A process that ends in order tidies up by itself. One that is killed cannot: workers then notice
that their parent is gone, and a small process beside it, which no signal to the terminal reaches,
ends programs and removes folders.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import IO, Any, cast

from nastool.runtime.interrupt import signals_wait

_HAS_GROUPS = hasattr(os, "killpg")

_CHUNK = 1 << 16
"""Bytes read at a time."""

# Reads what there is to tidy up, one a line, until its input ends with the process that it is for.
_CARETAKER = """
import os, shutil, signal, sys
left = {}
for line in sys.stdin.buffer:
    word, kind, what = line.rstrip(b"\\n").split(b" ", 2)
    if word == b"+":
        left[kind, what] = True
    else:
        left.pop((kind, what), None)
for kind, what in sorted(left, reverse=True):
    if kind == b"group":
        try:
            os.killpg(int(what), signal.SIGKILL)
        except OSError:
            pass
    else:
        shutil.rmtree(bytes.fromhex(what.decode()), ignore_errors=True)
"""

_lock = threading.Lock()
_caretaker: tuple[int, subprocess.Popen[bytes]] | None = None


def follow_parent(end: Callable[[], None]) -> None:
    """In a worker process: ignore Ctrl-C, and call a function when the process that began it died.

    The function is called in a thread of its own.

    Args:
        end: E.g. what ends the worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        end()

    threading.Thread(target=watch, name="follow-parent", daemon=True).start()


@contextlib.contextmanager
def workers_begin() -> Iterator[None]:
    """Within this block begun worker processes never get Ctrl-C, not even while they begin.

    It reaches every process of a terminal; the parent alone decides what to do.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    # Beginning with the first worker, it would take the mask back.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a folder for the time of the block; it vanishes even when the process is killed."""
    with tempfile.TemporaryDirectory(prefix="nastool-") as name, _noted("folder", name):
        yield Path(name)


@functools.cache
def _kept() -> contextlib.ExitStack:
    kept = contextlib.ExitStack()
    atexit.register(kept.close)
    return kept


def kept_folder() -> Path:
    """A folder of its own for as long as this process lives."""
    return _kept().enter_context(temporary_folder())


@functools.cache
def shipped_folder(package: str, name: str) -> Path:
    """A folder that ships within a package: where it lies, or unpacked from an archive for now.

    Args:
        package: E.g. ``nastool_supershaper``.
        name: Of the folder.
    """
    found = resources.files(package).joinpath(name)
    if isinstance(found, Path):
        return found
    target = kept_folder() / name
    _unpack(found, target)
    return target


def _unpack(source: Traversable, target: Path) -> None:
    if source.is_dir():
        target.mkdir()
        for item in source.iterdir():
            _unpack(item, target / item.name)
    else:
        target.write_bytes(source.read_bytes())


@contextlib.contextmanager
def started(words: Sequence[str], environment: Mapping[str, str]) -> Iterator[Program]:
    """Run a program for the time of the block; what it started ends with it, as one group.

    Args:
        words: The program and its arguments.
        environment: Its variables.

    Raises:
        OSError: It cannot be started.
    """
    process = None
    try:
        with contextlib.ExitStack() as notes:
            with signals_wait():
                process = _start(words, environment)
                notes.enter_context(_noted("group", str(process.pid)))
            yield Program(process)
    finally:
        # Also where it has ended: what it left in the background would run on.
        if process is not None:
            _end(process)


def _start(words: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the caller says what
        list(words),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A group of its own, to be ended as one: what a script has started, such as an ssh, would
        # live on. A terminal's Ctrl-C does not reach it: this process ends it.
        start_new_session=True,
    )


@dataclass(frozen=True)
class Program:
    """A program that runs, or has run; `started` makes one."""

    _process: subprocess.Popen[bytes]

    @property
    def exit_code(self) -> int:
        """What it ended with; known after the block."""
        return int(self._process.returncode)

    def collect(self, timeout: float, most: int, kept: int) -> tuple[bytes, bytes]:
        """Wait for its end and take what it prints.

        Args:
            timeout: Seconds that it may take.
            most: Bytes that it may print on standard output.
            kept: Last bytes of standard error to keep.

        Returns:
            Standard output, and the end of standard error.

        Raises:
            TimeoutError: It takes longer.
            OverflowError: It prints more.
        """
        output, errors = bytearray(), bytearray()
        deadline = time.monotonic() + timeout
        if not _HAS_GROUPS:  # Windows, where pipes cannot be selected from
            try:
                printed, said = self._process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired as error:
                raise TimeoutError from error
            if len(printed) > most:
                raise OverflowError
            return printed, said[-kept:]
        with selectors.DefaultSelector() as selector:
            for pipe, taken in ((self._process.stdout, output), (self._process.stderr, errors)):
                selector.register(cast("IO[bytes]", pipe), selectors.EVENT_READ, taken)
            while selector.get_map():
                left = deadline - time.monotonic()
                ready = selector.select(left) if left > 0 else []
                if not ready:
                    raise TimeoutError
                for key, _ in ready:
                    data = os.read(key.fd, _CHUNK)
                    key.data.extend(data)
                    if not data:
                        selector.unregister(key.fileobj)
                if len(output) > most:
                    raise OverflowError
                del errors[:-kept]
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error
        return bytes(output), bytes(errors)


def _end(process: subprocess.Popen[bytes]) -> None:
    if _HAS_GROUPS:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


@contextlib.contextmanager
def _noted(kind: str, what: str) -> Iterator[None]:
    """Within this block, the caretaker tidies that up when this process dies."""
    if not _HAS_GROUPS:
        yield
        return
    text = os.fsencode(what).hex() if kind == "folder" else what
    _tell(f"+ {kind} {text}\n")
    try:
        yield
    finally:
        _tell(f"- {kind} {text}\n")


def _tell(line: str) -> None:
    global _caretaker
    with _lock:
        # A forked copy of this process has none: its parent's must not be told of its things.
        if _caretaker is None or _caretaker[0] != os.getpid():
            _caretaker = os.getpid(), _new_caretaker()
        pipe: Any = _caretaker[1].stdin
        with contextlib.suppress(OSError):
            pipe.write(line.encode("ascii"))
            pipe.flush()


def _new_caretaker() -> subprocess.Popen[bytes]:
    # In a session of its own and idle in a read: it disturbs no measurement.
    process = subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-I", "-S", "-c", _CARETAKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    atexit.register(_dismiss)
    return process


def _dismiss() -> None:
    if _caretaker is not None and _caretaker[0] == os.getpid():
        _caretaker[1].communicate()
