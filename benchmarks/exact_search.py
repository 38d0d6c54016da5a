"""Seconds and memory of proofs over all 7^12 shapes of the SuperShaper space.

The predictor is XGBoost, fitted to a synthetic perplexity in which the last and the first layers
matter most, as in the paper (SuperShaper, appendix E), with interactions and 1% noise.

    python benchmarks/exact_search.py --trees 100 --task front
    python benchmarks/exact_search.py --trees 100 --task optimum --enumerate
    python benchmarks/exact_search.py --trees 100 --task two-predictors
    python benchmarks/exact_search.py --trees 100 --task unlimited
    python benchmarks/exact_search.py --predictor FOLDER --task front
    python benchmarks/exact_search.py --predictor FOLDER --task three-objectives

The second predictor is XGBoost too, fitted to a synthetic latency in which widths are padded to
blocks, so that it does not follow from the parameter count. The third objective beside a
predictor and the parameters is the latency of the H100 that ships.
"""

import argparse
import hashlib
import os
import resource
import time
from collections.abc import Callable

import numpy as np

from nastool import load_objective
from nastool.arrays import Floats
from nastool.constraint import Constraint
from nastool.exact.boxes import BoxSum, from_trees
from nastool.exact.certificate import Certificate
from nastool.exact.forms import make_form, predictor_boxes
from nastool.exact.prove import prove
from nastool.exact.search import ExactSearch
from nastool.objective import Kind, Objective, Provenance
from nastool.predictors.base import Predictor, load_predictor
from nastool.predictors.boosted_trees import BoostedTrees
from nastool.problem import CostObjective, Problem
from nastool.space import Genotypes
from nastool.strategies.evolution import Evolution
from nastool_supershaper.space import SuperShaperSpace

WEIGHTS = np.array([1.6, 0.5, 0.4, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.5, 3.0])
LIMIT = 66e6
LATENCY_LIMIT = 20.0


def perplexity(widths: Floats, rng: np.random.Generator) -> Floats:
    """Synthetic: falls with every width, the last and the first ones above all."""
    missing = 1 - widths / 768
    alone = missing**1.5 @ WEIGHTS
    jumps = 0.35 * np.abs(np.diff(missing, axis=1)).sum(axis=1)
    pair = 1.6 * missing[:, -1] * missing[:, -2] + 0.5 * missing.min(axis=1)
    noise = 1 + 0.01 * rng.standard_normal(len(widths))
    return 5.5 * np.exp(0.12 * alone + 0.08 * (jumps + pair)) * noise


def latency(widths: Floats, rng: np.random.Generator) -> Floats:
    """Synthetic milliseconds: a fixed cost a layer, and products of widths padded to blocks."""
    padded = np.ceil(widths / 256) * 256 / 768
    before = np.column_stack([np.ones(len(widths)), padded[:, :-1]])
    layers = 0.4 + 1.1 * padded**2 + 0.8 * padded * before
    noise: Floats = 1 + 0.02 * rng.standard_normal(len(widths))
    return layers.sum(axis=1) * noise


TASKS = (
    "front",
    "optimum",
    "unlimited",
    "two-predictors",
    "three-objectives",
    "front-under-latency",
    "optimum-under-latency",
)


class Predicted(Objective):
    """A fitted predictor as an objective."""

    provenance = Provenance(Kind.PREDICTED, "XGBoost on synthetic values")

    def __init__(
        self, predictor: Predictor, choices: list[Floats], name: str = "perplexity"
    ) -> None:
        self.predictor, self.choices, self._name = predictor, choices, name
        self.grid = predictor.on_grid(choices)

    @property
    def name(self) -> str:
        return self._name

    @property
    def fingerprint(self) -> str:
        return f"benchmark {self._name}"

    def evaluate(self, genotypes: Genotypes) -> Floats:
        if self.grid is not None:
            return self.grid.predict(genotypes)
        return self.predictor.predict(self.features(genotypes)).mean

    def features(self, genotypes: Genotypes) -> Floats:
        return np.stack([c[genotypes[:, i]] for i, c in enumerate(self.choices)], axis=1)

    def boxes(self) -> BoxSum:
        if isinstance(self.predictor, BoostedTrees):
            return from_trees(self.predictor.ensemble, self.choices)
        return predictor_boxes(self.predictor, self.choices, self.features)


def fitted(
    space: SuperShaperSpace,
    trees: int,
    depth: int,
    target: Callable[[Floats, np.random.Generator], Floats] = perplexity,
) -> BoostedTrees:
    rng = np.random.default_rng(1)
    features = space.features(space.sample(10_000, rng))
    predictor = BoostedTrees(trees=trees, depth=depth, learning_rate=10 / trees)
    predictor.fit(features, target(features, rng))
    return predictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--predictor", help="folder of a fitted predictor")
    parser.add_argument("--task", choices=TASKS, default="front")
    parser.add_argument("--start", type=int, default=2000, help="evaluations of evolution")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--enumerate", action="store_true", help="no bounds")
    options = parser.parse_args()

    space = SuperShaperSpace()
    choices = [np.array(gene.choices, dtype=float) for gene in space.genes]
    if options.predictor:
        predictor, card = load_predictor(options.predictor)
        print(card)
    else:
        predictor = fitted(space, options.trees, options.depth)
    objective = Predicted(predictor, choices)
    cost = CostObjective(space.costs["params"], space)
    if options.task == "front":
        problem = Problem(space, [objective, cost])
    elif options.task == "optimum":
        problem = Problem(space, [objective], [Constraint("params", "<=", LIMIT)])
    elif options.task == "unlimited":
        problem = Problem(space, [objective])
    elif options.task == "three-objectives":
        problem = Problem(space, [objective, cost, load_objective("latency[h100]", space)])
    else:
        slow = fitted(space, options.trees, options.depth, latency)
        second = Predicted(slow, choices, "latency")
        limit = Constraint("latency", "<=", LATENCY_LIMIT)
        problem = {
            "two-predictors": Problem(space, [objective, second]),
            "front-under-latency": Problem(space, [objective, cost], [limit], [second]),
            "optimum-under-latency": Problem(space, [objective], [limit], [second]),
        }[options.task]

    def clock() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    if options.task == "unlimited":
        began = clock()
        proof = prove(problem)
        wall, processor = (b - a for a, b in zip(began, clock(), strict=True))
        print(f"proof: {wall:.2f} s, {processor:.2f} s of processor time")
        print(proof.certificate)
        return
    times = [clock()]
    form = make_form(problem)
    search = ExactSearch(
        form.task,
        threads=options.threads,
        prune=not options.enumerate,
    )
    times.append(clock())
    evolution = Evolution(problem, 0)
    found = []
    for _ in range(options.start // 100):
        genotypes = evolution.ask(100)
        evolution.tell(problem.evaluate(genotypes))
        found.append(genotypes)
    search.start_from(np.concatenate(found))
    times.append(clock())
    reported = [0.0]

    def progress(certificate: Certificate) -> None:
        if certificate.done >= reported[0] + 0.1:
            reported[0] = certificate.done
            print(
                f"  {certificate.done:4.0%}, about {certificate.remaining:.0f} s left", flush=True
            )

    outcome = search.run(progress)
    times.append(clock())
    for label, before, after in zip(
        ("tables", "first front", "sweep"), times, times[1:], strict=False
    ):
        wall, processor = after[0] - before[0], after[1] - before[1]
        print(f"{label}: {wall:.1f} s, {processor:.1f} s of processor time")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"tables {search.nbytes / 2**20:.0f} MiB, process {peak:.0f} MiB at most")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    points = np.column_stack([outcome.costs, outcome.values])
    digest = hashlib.sha256(np.ascontiguousarray(points).tobytes()).hexdigest()[:8]
    print(f"{len(points)} points, digest {digest}; best value {outcome.values.min()!r}")
    print(outcome.certificate)


if __name__ == "__main__":
    main()
