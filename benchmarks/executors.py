"""Busy share of workers on uneven costs, by batches and one by one; what an evaluation costs."""

from __future__ import annotations

import argparse
import time

import numpy as np

from nastool.executors import Serial, evaluated, load_executor
from nastool.objective import Kind, Objective, Provenance
from nastool.problem import Problem
from nastool.strategies.random import RandomSearch
from nastool.study import Study
from nastool.testing import Widths


class Sleeping(Objective):
    """Takes as long as its shape says, without a processor."""

    provenance = Provenance(Kind.MEASURED, "a clock")

    def __init__(self, least: float, most: float) -> None:
        self.name = self.fingerprint = f"sleeping-{least}-{most}"
        self.least, self.most = least, most

    def seconds(self, genotypes: np.ndarray) -> np.ndarray:
        share = (genotypes @ np.arange(1, genotypes.shape[1] + 1) * 7919 % 101) / 100
        return self.least + (self.most - self.least) * share**3

    def evaluate(self, genotypes: np.ndarray) -> np.ndarray:
        seconds = self.seconds(genotypes)
        time.sleep(float(seconds.sum()))
        return seconds


def busy_share(text: str, shapes: int, least: float, most: float, pending: int | None) -> float:
    objective = Sleeping(least, most)
    with load_executor(text) as executor:
        # Workers begin before the clock does.
        list(evaluated(executor, Sleeping(0, 0), np.zeros((4 * executor.workers, 4), dtype=int)))
        workers = executor.workers
        study = Study(Problem(Widths(), (objective,)), RandomSearch, executor=executor)
        began = time.perf_counter()
        result = study.run(shapes, 2 * workers, pending=pending)
        taken = time.perf_counter() - began
    return float(objective.seconds(result.evaluations.genotypes).sum() / taken / workers)


def overhead(text: str, seconds: float, shapes: int) -> float:
    objective = Sleeping(seconds, seconds)
    genotypes = Widths().sample(shapes, np.random.default_rng(0))
    with load_executor(text) as executor:
        list(evaluated(executor, Sleeping(0, 0), genotypes[:8]))
        executor.chunk = 1
        began = time.perf_counter()
        for _ in evaluated(executor, objective, genotypes):
            pass
        taken = time.perf_counter() - began
        workers = 1 if isinstance(executor, Serial) else executor.workers
    return taken * workers / shapes - seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executor", action="append", default=[])
    parser.add_argument("--shapes", type=int, default=60)
    parser.add_argument("--least", type=float, default=0.05)
    parser.add_argument("--most", type=float, default=2.0)
    arguments = parser.parse_args()
    for text in arguments.executor or ["processes:4"]:
        for seconds, n in ((0.001, 200), (0.1, 40)):
            extra = overhead(text, seconds, n)
            print(f"{text}: {1e3 * extra:.1f} ms beside {1e3 * seconds:g} ms", flush=True)
        if text == "serial":
            continue
        for name, pending in (("batches of 8", None), ("one by one, 8 under way", 8)):
            share = busy_share(text, arguments.shapes, arguments.least, arguments.most, pending)
            print(f"{text}: {name}: busy {share:.0%}", flush=True)


if __name__ == "__main__":
    main()
