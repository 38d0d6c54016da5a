"""Engines started for a benchmark as their own documentation says, and ended with it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil

from nastool.errors import NastoolError
from nastool.executors import load_executor


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def _wait_for_port(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.2)
    raise SystemExit(f"nobody listens at port {port}")


@contextlib.contextmanager
def _started(*commands: list[str]) -> Iterator[None]:
    """Modules run as programs, in groups of their own, which end with the block."""
    begun = []
    try:
        for module, *arguments in commands:
            program = [sys.executable, "-m", module]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            begun.append(subprocess.Popen([*program, *arguments], start_new_session=True, **quiet))
        yield
    finally:
        # Some begin groups of their own.
        left = [one for p in begun for one in psutil.Process(p.pid).children(recursive=True)]
        for process in reversed(begun):
            process.terminate()
        psutil.wait_procs(left, 5)
        for one in [*left, *begun]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        for process in begun:
            process.wait()


@contextlib.contextmanager
def engine(text: str, workers: int) -> Iterator[str]:
    """An executor's text, with the engine that it names running where it is ``dask`` or ``ray``."""
    port = _free_port()
    if text == "dask":
        address = f"tcp://127.0.0.1:{port}"
        scheduler = ["dask", "scheduler", "--host", "127.0.0.1", "--port", str(port)]
        worker = ["dask", "worker", address, "--nworkers", str(workers), "--nthreads", "1"]
        quiet = ["--dashboard-address", "127.0.0.1:0"]
        with _started([*scheduler, *quiet], [*worker, *quiet]):
            yield f"dask[{address}]"
    elif text == "ray":
        # Its node asks for a password even of itself, which not every machine can give it.
        os.environ["RAY_AUTH_MODE"] = "disabled"
        node = ["ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", str(workers)]
        memory = ["--object-store-memory", str(100 * 2**20), "--include-dashboard", "false"]
        with _started([*node, *memory, "--port", str(port)]):
            _wait_for_port(port)
            yield f"ray[127.0.0.1:{port}]"
    else:
        yield text


def wait_for_workers(text: str, workers: int) -> None:
    """Wait until an engine has as many workers."""
    end = time.monotonic() + 180
    while True:
        try:
            with load_executor(text) as executor:
                if executor.workers >= workers:
                    return
        except NastoolError:
            pass
        if time.monotonic() > end:
            raise SystemExit(f"{text}: not {workers} workers in three minutes")
        time.sleep(1)
