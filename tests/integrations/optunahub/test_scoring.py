"""Samplers are scored on the benchmark by one command."""

import importlib.util
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("optunahub")

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "samplers.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("samplers_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def run(script, *args):
    found = CliRunner().invoke(script.main, [*args, "--evaluations", "30", "--seeds", "3"])
    assert found.exit_code == 0, found.output
    rows = [line.strip("| ").split(" | ") for line in found.stdout.splitlines() if "`" in line]
    return {cells[0].strip("`"): cells[1:] for cells in rows}


def test_samplers_of_every_library_are_scored(script):
    named = ["nastool:random", "NastoolSampler:pareto", "optuna:RandomSampler", "pymoo:nsga2"]
    if importlib.util.find_spec("rustuna"):
        named.append("rustuna:NSGAIISampler")
    if not importlib.util.find_spec("pymoo"):
        named.remove("pymoo:nsga2")
    rows = run(script, *(word for name in named for word in ("--sampler", name)))
    assert set(rows) == set(named)
    for share, ends, duplicates, _, *p in rows.values():
        worst, best = ends.split(", ")
        assert 0 < float(worst[:-1]) <= float(share[:-1]) <= float(best[:-1]) < 100
        assert 0 <= int(duplicates) < 30
        assert all(0 < float(value) <= 1 for value in p)


def test_runs_that_take_too_long_are_said_to_be_unfinished(script):
    rows = run(script, "--sampler", "optuna:RandomSampler", "--limit", "0")
    assert rows["optuna:RandomSampler"][0] == "not finished"
    rows = run(script, "--sampler", "nastool:random", "--limit", "0")
    assert rows["nastool:random"][0] == "not finished"
