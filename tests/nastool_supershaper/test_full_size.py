"""The script that makes a reference of full size, with a python that writes down its arguments."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

import nastool_supershaper
from nastool.cli.main import main

SCRIPT = Path(nastool_supershaper.__file__).parent / "reference" / "make_full_size.sh"
PYTHON = """#!/usr/bin/env bash
# Two at once write a line each.
echo "$(printf '%q ' "$@")" >>"$CALLS"
case "$1 $2" in
  *mend.py*) mkdir -p "$4" ;;
  *halve.py*) mkdir -p "$3" ;;
  "-c import sys, tomllib"*) echo one two ;;
esac
"""


@pytest.fixture
def run(tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin" / "python"
    stub.write_text(PYTHON)
    stub.chmod(0o755)
    for name in ("corpus", "news", "start", "net"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "corpus.json").write_text("{}")

    def run(*phases, **variables):
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        known = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        given = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(calls)}
        places = {"WORK": str(tmp_path), "RESULTS": str(tmp_path / "results")}
        subprocess.run(
            ["bash", SCRIPT, *phases],
            env=known | given | places | variables,
            check=True,
            capture_output=True,
        )
        return [shlex.split(line) for line in calls.read_text().splitlines()]

    return run


def parsed(call):
    """Options of a command that is called as a module, read as the command line reads them."""
    command, name = main, "nastool"
    assert call[:2] == ["-m", "nastool"]
    context = click.Context(main, info_name=name)
    found = command.get_command(context, call[2])
    return call[2], found.make_context(call[2], call[3:], parent=context).params


def test_every_phase_calls_commands_that_there_are(run, tmp_path):
    (tmp_path / "start" / "relative_bias.safetensors").write_text("")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "tasks.toml").write_text("")
    calls = run(START=str(tmp_path / "start"), TASKS=str(tmp_path / "tasks"))
    scripts = [Path(call[0]) for call in calls if call[0].endswith(".py")]
    assert [script.name for script in scripts] == ["mend.py", "halve.py", "describe.py"]
    assert all(script.is_file() for script in scripts)
    commands = [parsed(call) for call in calls if call[:2] == ["-m", "nastool"]]
    names = [name for name, _ in commands]
    assert names == (
        ["pretrain"] * 2 + ["measure"] * 2 + ["fit", "search", "verify"] + ["validate"] * 3
    )
    head, sandwich = (options for name, options in commands if name == "pretrain")
    assert (head["rule"], head["steps"], head["batch_size"]) == ("largest", 250, 256)
    assert (sandwich["rule"], sandwich["max_time"], sandwich["batch_size"]) == (
        "sandwich",
        "360s",
        128,
    )
    assert (sandwich["distillation_mix"], sandwich["distil_hidden"]) == (0.5, 30)
    assert sandwich["supernet"] == str(tmp_path / "head")


def test_a_net_that_is_there_goes_on(run, tmp_path):
    (call,) = [call for call in run("train", NET=str(tmp_path / "net")) if "pretrain" in call]
    _, options = parsed(call)
    assert options["supernet"] == str(tmp_path / "net")
    assert not options["reorder"]
