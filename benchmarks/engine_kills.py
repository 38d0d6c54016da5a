"""Workers of an engine are killed amid a study: what is lost, what is measured twice.

Each round runs a study on eight workers, hands them shapes one by one, and kills three of them at
random moments. What is measured is written to a log by who measures it. Printed are, by engine and
mode: workers killed, evaluations that failed or are missing, shapes whose measuring was finished
twice, those of them that a killed worker had finished in the moment in which it died, and rounds
whose front differs from the undisturbed one (by batches; one by one it may).

``dask`` and ``ray`` stand for engines that are started for it as their documentation says: a
scheduler and eight workers, a node of eight processors.

    python benchmarks/engine_kills.py --executor processes:8 --executor dask --executor ray
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
from engines import engine, wait_for_workers

from nastool.executors import load_executor
from nastool.objective import Kind, Objective, Provenance
from nastool.problem import CostObjective, Problem
from nastool.study import Study
from nastool.testing import Widths


class Logged(Objective):
    """Takes a while, and says who has measured what."""

    provenance = Provenance(Kind.MEASURED, "a log")
    name = fingerprint = "logged"

    def __init__(self, log: str, seconds: float) -> None:
        self.log, self.seconds = log, seconds

    def evaluate(self, genotypes: np.ndarray) -> np.ndarray:
        for genotype in genotypes.tolist():
            with open(f"{self.log}.workers", "a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(self.seconds)
            with open(self.log, "a") as file:
                file.write(f"{','.join(map(str, genotype))} {os.getpid()}\n")
        return -(genotypes @ np.arange(1, genotypes.shape[1] + 1.0))


_WORKERS = 8


def _workers(log: Path) -> list[int]:
    file = Path(f"{log}.workers")
    known = {int(line) for line in file.read_text().split()} if file.exists() else set()
    return sorted(pid for pid in known if Path(f"/proc/{pid}").exists())


def _run(
    text: str, log: Path, seconds: float, budget: int, pending: int | None, kills: int, seed: int
) -> tuple[list[list[int]], Counter[str]]:
    """The front, and what happened."""
    rng, killed = random.Random(seed), set()
    over = threading.Event()

    def kill() -> None:
        pause = budget * seconds / _WORKERS / (kills + 1)
        for _ in range(kills):
            while True:
                if over.wait(rng.uniform(0.3, 1.0) * pause):
                    return
                if alive := [pid for pid in _workers(log) if pid not in killed]:
                    break
            chosen = rng.choice(alive)
            os.kill(chosen, signal.SIGKILL)
            killed.add(chosen)

    space = Widths()
    problem = Problem(
        space, (Logged(str(log), seconds), CostObjective(space.costs["params"], space))
    )
    with load_executor(text) as executor:
        executor.chunk = 1
        study = Study(problem, "evolution", executor=executor)
        thread = threading.Thread(target=kill)
        thread.start()
        result = study.run(budget, 16, pending=pending)
        over.set()
        thread.join()
    by: dict[str, list[int]] = {}
    for line in log.read_text().splitlines():
        shape, pid = line.split()
        by.setdefault(shape, []).append(int(pid))
    again = [pids for pids in by.values() if len(pids) > 1]
    told = {",".join(map(str, row)) for row in result.evaluations.genotypes.tolist()}
    counts = Counter(
        killed=len(killed),
        lost=budget - len(result) + int(result.failed.sum()) + len(told - by.keys()),
        twice=sum(not killed.issuperset(pids[:-1]) for pids in again),
        amid=sum(killed.issuperset(pids[:-1]) for pids in again),
    )
    for failure in result.failures:
        print(f"{text}: {failure.architecture}: {failure.message}", flush=True)
    return result.front().genotypes.tolist(), counts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--executor", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=96)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--kills", type=int, default=3)
    arguments = parser.parse_args()
    for text in arguments.executor or ["processes:8"]:
        with engine(text, _WORKERS) as address:
            wait_for_workers(address, _WORKERS)
            for mode, pending in (("by batches", None), ("one by one", 16)):
                total = _rounds(address, pending, arguments)
                print(
                    f"{text}, {mode}: {total['killed']} killed, lost {total['lost']}, measured "
                    f"twice {total['twice']}, again {total['amid']}, other fronts "
                    f"{total['fronts']}",
                    flush=True,
                )


def _rounds(text: str, pending: int | None, arguments: argparse.Namespace) -> Counter[str]:
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        given = (arguments.seconds, arguments.budget, pending)
        whole, _ = _run(text, Path(folder, "whole"), *given, 0, 0)
        for number in range(arguments.rounds):
            log = Path(folder, f"log-{number}")
            front, counts = _run(text, log, *given, arguments.kills, number)
            total += counts + Counter(fronts=int(front != whole))
    return total


if __name__ == "__main__":
    main()
