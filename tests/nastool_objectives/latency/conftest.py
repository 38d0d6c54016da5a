import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from nastool.cli.main import main
from nastool.devices import Deployment, Device, Timing, Workload
from nastool.discovery import load_file
from nastool.errors import NastoolError
from nastool.testing import Widths

PLUGIN = str(Path(__file__).with_name("device_plugin.py"))


class Runnable(Widths):
    """Widths whose "model" is the number of seconds a pass takes."""

    def deploy(self, genotype, workload):
        seconds = (
            1e-3 * workload.batch_size * float(self.costs["params"].evaluate(genotype[None])[0])
        )
        return Deployment(seconds, {}, workload)


class Simulated(Device):
    """Takes the seconds that the model says, with noise of a known size.

    Args:
        noise: Relative standard deviation of a pass.
        drift: By how much a visit is slower than the one before.
        fails: Models slower than that cannot be run.
    """

    def __init__(self, noise=0.0, drift=0.0, fails=np.inf):
        self.noise, self.drift, self.fails = noise, drift, fails
        self.calls = 0

    @property
    def facts(self):
        return {"noise": self.noise, "drift": self.drift}

    def measure(self, deployment, warmup, repeats):
        self.calls += 1
        if deployment.module > self.fails:
            raise NastoolError(f"too slow\nby {deployment.module - self.fails:g} s")
        # From the call's number, not a generator: a campaign that went on sees the same noise.
        rng = np.random.default_rng([zlib.crc32(str(deployment.module).encode()), self.calls])
        factor = 1 + self.noise * rng.standard_normal(repeats) + self.drift * self.calls
        return Timing(deployment.module * np.maximum(factor, 0.01), memory=1000.0)


@pytest.fixture(autouse=True, scope="module")
def _few_trees(few_trees):
    pass


@pytest.fixture
def space():
    return Runnable(layers=4)


@pytest.fixture
def simulated():
    return Simulated


@pytest.fixture
def workload():
    return Workload(batch_size=2)


def command_line(folder, monkeypatch):
    """Runs the command line in a folder, with a registry of its own there."""
    load_file(PLUGIN)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NASTOOL_DEVICES", str(folder / "devices"))
    monkeypatch.delenv("NASTOOL_STORAGE", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        return CliRunner().invoke(main, ["--plugin", PLUGIN, *arguments], prog_name="nastool")

    return run


@pytest.fixture
def nastool(tmp_path, monkeypatch):
    """Runs the command line in an empty folder."""
    return command_line(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def kept_run(tmp_path_factory):
    """Runs a command once, and gives its folder and result to every test that asks for it."""
    kept = {}

    def run(*arguments):
        if arguments not in kept:
            folder = tmp_path_factory.mktemp("kept")
            with pytest.MonkeyPatch.context() as monkeypatch:
                kept[arguments] = folder, command_line(folder, monkeypatch)(*arguments)
        return kept[arguments]

    return run


@pytest.fixture
def begun(nastool, kept_run, tmp_path):
    """Puts into the test's empty folder what a command makes there, as if it had just run."""

    def run(*arguments):
        folder, result = kept_run(*arguments)
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        return result

    return run
