"""What an evaluation costs beside its own time, and the busy share of workers on uneven costs.

``dask`` and ``ray`` stand for engines that are started for it as their documentation says. Of the
busy share there are two: of the whole run, and up to the moment in which the last evaluation began;
what comes after that is the end of every run, which has nothing left for some of the workers.

    python benchmarks/executors.py --executor serial --executor processes:4 --executor dask
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from engines import engine, wait_for_workers

from nastool.executors import Serial, evaluated, load_executor
from nastool.objective import Kind, Objective, Provenance
from nastool.problem import Problem
from nastool.strategies.random import RandomSearch
from nastool.study import Study
from nastool.testing import Widths

_WORKERS = 4


class Sleeping(Objective):
    """Takes as long as its shape says, without a processor, and may write down when."""

    provenance = Provenance(Kind.MEASURED, "a clock")

    def __init__(self, least: float, most: float, log: Path | None = None) -> None:
        self.name = self.fingerprint = f"sleeping-{least}-{most}"
        self.least, self.most, self.log = least, most, log

    def seconds(self, genotypes: np.ndarray) -> np.ndarray:
        share = (genotypes @ np.arange(1, genotypes.shape[1] + 1) * 7919 % 101) / 100
        return self.least + (self.most - self.least) * share**3

    def evaluate(self, genotypes: np.ndarray) -> np.ndarray:
        seconds = self.seconds(genotypes)
        for one in seconds.tolist():
            began = time.time()
            time.sleep(one)
            if self.log is not None:
                with self.log.open("a") as file:
                    file.write(f"{os.getpid()} {began} {time.time()}\n")
        return seconds


def _warm(executor: object, workers: int) -> None:
    """Have every worker begin and load what it needs before the clock does."""
    ready = Sleeping(0.05, 0.05)
    for _ in range(3):
        list(evaluated(executor, ready, np.zeros((8 * workers, 4), dtype=int)))  # type: ignore[arg-type]


def busy_share(
    text: str, shapes: int, least: float, most: float, pending: int | None
) -> tuple[float, float, float]:
    """Busy share of all and until the last evaluation began; seconds between two of a worker."""
    with tempfile.TemporaryDirectory() as folder, load_executor(text) as executor:
        log = Path(folder, "log")
        objective = Sleeping(least, most, log)
        workers = executor.workers
        _warm(executor, workers)
        study = Study(Problem(Widths(), (objective,)), RandomSearch, executor=executor)
        began = time.time()
        study.run(shapes, 2 * workers, pending=pending)
        ended = time.time()
        by: dict[str, list[tuple[float, float]]] = {}
        for line in log.read_text().splitlines():
            who, first, last = line.split()
            by.setdefault(who, []).append((float(first), float(last)))
    times = np.array([pair for pairs in by.values() for pair in pairs])
    last_begun = times[:, 0].max()
    busy = (times[:, 1] - times[:, 0]).sum()
    before = (np.minimum(times[:, 1], last_begun) - times[:, 0]).sum()
    gaps = [b[0] - a[1] for pairs in by.values() for a, b in itertools.pairwise(pairs)]
    return (
        float(busy / (ended - began) / workers),
        float(before / (last_begun - began) / workers),
        float(np.median(gaps)),
    )


def overhead(text: str, seconds: float, shapes: int) -> float:
    """Seconds of a worker that an evaluation takes beside its own, handed out one by one."""
    objective = Sleeping(seconds, seconds)
    genotypes = Widths().sample(shapes, np.random.default_rng(0))
    with load_executor(text) as executor:
        workers = 1 if isinstance(executor, Serial) else executor.workers
        _warm(executor, workers)
        executor.chunk = 1
        began = time.perf_counter()
        for _ in evaluated(executor, objective, genotypes):
            pass
        taken = time.perf_counter() - began
    return taken * workers / shapes - seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--executor", action="append", default=[])
    parser.add_argument("--shapes", type=int, default=60)
    parser.add_argument("--least", type=float, default=0.1)
    parser.add_argument("--most", type=float, default=5.0)
    parser.add_argument("--only", choices=["overhead", "busy"])
    arguments = parser.parse_args()
    for text in arguments.executor or ["processes:4"]:
        with engine(text, _WORKERS) as address:
            if address != text:
                wait_for_workers(address, _WORKERS)
            if arguments.only != "busy":
                for seconds, n in ((0.001, 200), (0.1, 80), (10.0, 8)):
                    extra = overhead(address, seconds, 2 if text == "serial" and n == 8 else n)
                    print(f"{text}: {1e3 * extra:.1f} ms beside {1e3 * seconds:g} ms", flush=True)
            if text == "serial" or arguments.only == "overhead":
                continue
            for name, pending in (("batches of 8", None), ("one by one, 8 under way", 8)):
                whole, before, gap = busy_share(
                    address, arguments.shapes, arguments.least, arguments.most, pending
                )
                print(
                    f"{text}: {name}: busy {whole:.1%}, until the last began {before:.1%}, "
                    f"{1e3 * gap:.0f} ms between two",
                    flush=True,
                )


if __name__ == "__main__":
    main()
