"""How a command ends when signals come, the output cannot be written, or the machine gives up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from nastool.cli.main import LazyGroup

PROGRAM = [sys.executable, "-m", "nastool"]

SLOW = """
import os, time
from nastool import Kind, Objective, Provenance
from nastool.plugins import register_objective

class Slow(Objective):
    name = "slow"
    fingerprint = "s1"
    provenance = Provenance(Kind.MEASURED, "a test")

    def evaluate(self, genotypes):
        print("started", flush=True)
        time.sleep(60)
        return genotypes.sum(axis=1) * 1.0

@register_objective("slow")
def make(space, argument=None):
    return Slow()
"""


def group_with(function):
    group = LazyGroup("nastool")
    command = click.Command("go", callback=function)
    group.get_command = lambda ctx, name: command if name == "go" else None
    group.list_commands = lambda ctx: ["go"]
    group.resolve_command = lambda ctx, args: ("go", command, args[1:])
    return group


def ended(function):
    return CliRunner().invoke(group_with(function), ["go"], prog_name="nastool")


def raising(error):
    def go():
        raise error

    return go


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(13, "Permission denied", "a/b"), "nastool go: a/b: Permission denied"),
        (OSError(28, "No space left on device"), "nastool go: No space left on device"),
        (MemoryError(), "nastool go: not enough memory"),
        (
            RuntimeError("can't allocate memory: 9 bytes"),
            "nastool go: not enough memory: can't allocate memory: 9 bytes",
        ),
        (RecursionError("deep"), "nastool go: something is nested too deeply to be read"),
    ],
)
def test_what_a_machine_does_is_one_line(error, line):
    done = ended(raising(error))
    assert (done.exit_code, done.stderr) == (2, f"Error: {line}\n")


def test_faults_of_ours_keep_their_traceback():
    done = ended(raising(KeyError("a bug")))
    assert done.exit_code == 1
    assert isinstance(done.exception, KeyError)


def test_names_that_are_no_utf_8_are_printed_as_their_bytes():
    done = ended(lambda: click.echo("a\udcffb"))
    assert (done.exit_code, done.stdout_bytes) == (0, b"a\xffb\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent to the process itself")
def test_every_signal_is_an_interruption(number):
    before = signal.getsignal(number)
    done = ended(lambda: os.kill(os.getpid(), number))
    assert (done.exit_code, done.stderr) == (130, "Interrupted: nothing was lost\n")
    assert signal.getsignal(number) is before


def test_an_interruption_that_python_cannot_pass_on_is_raised_again():
    class Finalized:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            signal.getsignal(signal.SIGINT)

    def go():
        thing = Finalized()
        del thing
        signal.pause()

    assert ended(go).exit_code == 130


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_is_full_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    said = "Error: the standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, said)


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors of POSIX")
def test_an_output_that_is_closed_is_one_line():
    done = subprocess.run(
        ["/bin/sh", "-c", f"'{sys.executable}' -m nastool --help >&-"],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    said = "Error: the standard output: Bad file descriptor\n"
    assert (done.returncode, done.stderr) == (2, said)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_who_reads_no_longer_ends_it_quietly():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*PROGRAM, "--help"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_before_the_first_value(tmp_path, number):
    (tmp_path / "slow.py").write_text(SLOW)
    words = "search --plugin slow.py --space supershaper:minilm-6 --objective slow --budget 5"
    program = subprocess.Popen(
        [*PROGRAM, *words.split()],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whatever ran the tests may ignore it (nohup, a background job), which is inherited.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    assert program.stdout.readline() == "started\n"
    program.send_signal(number)
    said = program.communicate(timeout=60)[1]
    assert program.returncode == 130
    assert said.startswith("Interrupted: 0 of 5 evaluations are done, kept in study ")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_where_ctrl_c_is_ignored_sigterm_ends_it(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    words = "search --plugin slow.py --space supershaper:minilm-6 --objective slow --budget 5"
    program = subprocess.Popen(
        [*PROGRAM, *words.split()],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert program.stdout.readline() == "started\n"
    program.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(0.5)
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=60)
    assert program.returncode == 130
