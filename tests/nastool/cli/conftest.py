import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from nastool.cli.main import main

PLUGIN = str(Path(__file__).with_name("toy_plugin.py"))


@pytest.fixture
def nastool(tmp_path, monkeypatch):
    """Runs the command line in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NASTOOL_STORAGE", raising=False)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments):
        return CliRunner().invoke(main, ["--plugin", PLUGIN, *arguments], prog_name="nastool")

    return run


@pytest.fixture
def search(nastool):
    """Runs a search of the toy space: loss against params, 300 evaluations."""

    def run(*arguments, objectives=("loss", "params"), budget="300"):
        wanted = [part for name in objectives for part in ("--objective", name)]
        return nastool("search", "--space", "toy", *wanted, "--budget", budget, *arguments)

    return run


@pytest.fixture
def process(tmp_path):
    """Runs the command line as a process of its own, in an empty folder."""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "nastool", *arguments],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "120"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run
