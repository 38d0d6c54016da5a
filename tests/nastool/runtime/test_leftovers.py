"""What a process leaves behind when it cannot tidy up by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nastool.runtime.leftovers import started, temporary_folder

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")

PROGRAM = """
import os, signal, sys
from nastool.runtime.leftovers import started, temporary_folder
with temporary_folder() as folder, started(["/bin/sh", "-c", "sleep 60 & sleep 60"], os.environ):
    print(folder, flush=True)
    {end}
"""


def ends(condition):
    return any(condition() or time.sleep(0.02) for _ in range(500))


def sleepers():
    """Processes that run what `PROGRAM` starts."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes()
            ours = (path / "environ").read_bytes()
        except OSError:
            continue
        if b"sleep" in words and f"NASTOOL_TEST={os.getpid()}\0".encode() in ours:
            found.append(int(path.name))
    return found


@pytest.mark.parametrize(
    "end", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(1)", "sys.exit(1)", "pass"]
)
def test_programs_and_folders_end_with_the_process(end):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(end=end)],
        env={**os.environ, "NASTOOL_TEST": str(os.getpid())},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    folder = Path(done.stdout.strip())
    assert folder.name.startswith("nastool-")
    assert ends(lambda: not folder.exists())
    assert ends(lambda: not sleepers())


def test_a_signal_while_a_program_starts_is_not_lost(monkeypatch):
    """It is handled when the program can be ended."""
    popen = subprocess.Popen

    def slow(*arguments, **options):
        process = popen(*arguments, **options)
        os.kill(os.getpid(), signal.SIGINT)
        slow.process = process
        return process

    with temporary_folder():  # what looks after it has begun
        monkeypatch.setattr(subprocess, "Popen", slow)
        with pytest.raises(KeyboardInterrupt), started(["/bin/sleep", "60"], os.environ):
            pytest.fail("interrupted before")
    assert slow.process.returncode == -signal.SIGKILL


def test_folders_that_are_done_with_are_gone():
    with temporary_folder() as folder:
        (folder / "file").write_text("kept for now")
    assert not folder.exists()
