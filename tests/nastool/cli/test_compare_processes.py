"""Comparisons in worker processes, as a program of their own: they get signals."""

import os
import signal
import subprocess
import sys
import time

import pytest

SLOW = """
import os, pathlib, time
from nastool.objective import Kind, Objective, Provenance
from nastool.plugins import register_objective, register_space
from nastool.space import Gene, SearchSpace

@register_space("line")
class Line(SearchSpace):
    name = "line"
    genes = tuple(Gene(f"g{k}", tuple(range(9)), True) for k in range(3))

    def __init__(self, argument=None):
        pass

@register_objective("slow")
class Slow(Objective):
    name = fingerprint = "slow"
    provenance = Provenance(Kind.MEASURED, "a clock")

    def __init__(self, space, argument=None):
        pass

    def evaluate(self, genotypes):
        if genotypes[:, 0].max() < 9 and pathlib.Path("go").exists():
            for _ in genotypes:
                pathlib.Path(f"{os.getpid()}.pid").touch()
                time.sleep(0.05)
        return genotypes.sum(axis=1) * 1.0
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_has_nothing_left_to_do_holds_up_no_end(tmp_path, number):
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "go").touch()
    options = "--plugin slow.py --space line --objective slow --seeds 1 --jobs 2"
    strategies = "--strategy random@4 --strategy evolution@700"
    command = f"-m nastool compare {options} {strategies}".split()
    with subprocess.Popen(
        [sys.executable, *command], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        # Both workers and what timed the objective have evaluated; the first is done at once.
        while len(list(tmp_path.glob("*.pid"))) < 3 and process.poll() is None:
            time.sleep(0.05)
        time.sleep(1.0)
        process.send_signal(number)
        try:
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130, said
    assert "of 2 runs" in said
