"""Many processes share one study, and some are killed: what is lost, what is done twice.

Each round starts that many processes on a new study, kills some of them at random moments, and lets
the others finish. What is evaluated is written to a log by who evaluates it. Printed are, over all
rounds: evaluations that are missing from the study or there twice, architectures that were measured
twice though the first measurement had come back, those that were measured again because their
process was killed amid them, and turns: what each costs, and how long the study was locked for it.

    python benchmarks/sharing.py --processes 16 --rounds 10
    python benchmarks/sharing.py --store postgresql://postgres@127.0.0.1:5432
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from store_contention import _postgresql, _sqlite

from nastool.objective import Kind, Objective, Provenance
from nastool.problem import Problem
from nastool.store import open_store
from nastool.store.ledger import known_values
from nastool.study import Study, load_result
from nastool.study.keeping import Keeper
from nastool.testing import Layered


class Logged(Objective):
    """Takes a while, and says who evaluated what."""

    provenance = Provenance(Kind.MEASURED, "a log")
    name = fingerprint = "logged"

    def __init__(self, log: Path, seconds: float) -> None:
        self.log, self.seconds = log, seconds

    def evaluate(self, genotypes: np.ndarray) -> np.ndarray:
        for genotype in genotypes.tolist():
            time.sleep(self.seconds * random.SystemRandom().uniform(0.5, 1.5))
            with self.log.open("a") as file:
                file.write(f"{','.join(map(str, genotype))} {os.getpid()}\n")
        return genotypes @ np.arange(1, genotypes.shape[1] + 1.0)


def _problem(log: Path, seconds: float) -> Problem:
    return Problem(Layered(), (Logged(log, seconds),))


def _timed(turns: Any) -> None:
    """Have every turn of this process say how long it waited and how long it lasted."""
    original = Keeper.turn

    @contextlib.contextmanager
    def turn(keeper: Keeper, *arguments: Any) -> Iterator[Any]:
        asked = time.perf_counter()
        with original(keeper, *arguments) as found:
            begun = time.perf_counter()
            yield found
        turns.put((begun - asked, time.perf_counter() - begun))

    Keeper.turn = turn  # type: ignore[method-assign]


def _work(url: str, log: Path, seconds: float, budget: int, turns: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _timed(turns)
    Study(_problem(log, seconds), "evolution", url, "shared").run(budget, join=True)


def _round(
    url: str, folder: Path, arguments: argparse.Namespace, rng: random.Random, waits: list[Any]
) -> Counter[str]:
    log = folder / "log"
    context = multiprocessing.get_context("fork")
    turns = context.SimpleQueue()
    workers = [
        context.Process(
            target=_work, args=(url, log, arguments.seconds, arguments.budget, turns), daemon=True
        )
        for _ in range(arguments.processes)
    ]
    for worker in workers:
        worker.start()
    undisturbed = arguments.budget * arguments.seconds / arguments.processes
    killed = rng.sample(workers, arguments.kills)
    for moment, worker in zip(sorted(rng.random() for _ in killed), killed, strict=True):
        time.sleep(moment * undisturbed / arguments.kills + 0.05)
        if worker.is_alive():
            os.kill(worker.pid or 0, signal.SIGKILL)
        worker.join()
        while not turns.empty():
            waits.append(turns.get())
    while any(worker.is_alive() for worker in workers):
        time.sleep(0.05)
        while not turns.empty():
            waits.append(turns.get())
    failed = sum(worker.exitcode not in (0, -signal.SIGKILL) for worker in workers)
    dead = {worker.pid for worker in workers if worker.exitcode == -signal.SIGKILL}
    problem = _problem(log, 0)
    with open_store(url) as store:
        result = load_result(store, "shared", problem)
        found = result.evaluations.genotypes
        known = known_values(store, problem.space, problem.objectives[0], found)
    told = set(map(tuple, found.tolist()))
    by: dict[str, list[int]] = {}
    for line in log.read_text().splitlines():
        shape, pid = line.split()
        by.setdefault(shape, []).append(int(pid))
    again = [pids for pids in by.values() if len(pids) > 1]
    return Counter(
        kills=len(dead),
        errors=failed,
        missing=arguments.budget - len(told) + int(np.isnan(known).sum()),
        told_twice=len(found) - len(told),
        measured_twice=sum(not dead.issuperset(pids[:-1]) for pids in again),
        amid_a_kill=sum(dead.issuperset(pids[:-1]) for pids in again),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=0.2, help="of an evaluation, on average")
    parser.add_argument("--store", metavar="URL", help="a server where databases can be made")
    arguments = parser.parse_args()
    total: Counter[str] = Counter()
    waits: list[Any] = []
    rng = random.Random(0)
    for _ in range(arguments.rounds):
        place = _postgresql(arguments.store) if arguments.store else _sqlite()
        with place as url, tempfile.TemporaryDirectory() as folder:
            total += _round(url, Path(folder), arguments, rng, waits)
    print(f"{arguments.processes} processes, {arguments.rounds} rounds of {arguments.budget}:")
    for name in ("kills", "errors", "missing", "told_twice", "measured_twice", "amid_a_kill"):
        print(f"{name.replace('_', ' ')}: {total[name]}")
    waited, lasted = 1e3 * np.array(waits).T
    print(
        f"{len(waits)} turns: waited {np.median(waited):.1f} ms (90%: "
        f"{np.quantile(waited, 0.9):.1f}), lasted {np.median(lasted):.1f} ms (90%: "
        f"{np.quantile(lasted, 0.9):.1f})"
    )


if __name__ == "__main__":
    main()
