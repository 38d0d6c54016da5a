"""What the active loop is worth where the truth is known.

    python benchmarks/refinement.py --seeds 3

The predictor that ships for supershaper plays the truth. A predictor of it is fitted to a few
uniform shapes, refined round by round, and compared with one fitted to as many uniform shapes as
the loop has measured by then. Printed is how far the best shape under the limit, in truth, lies
above the optimum: of all measured shapes and of the shape that the last search calls the best.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from nastool.arrays import Floats
from nastool.constraint import parse_constraint
from nastool.predicted import PredictedObjective
from nastool.predictors import save_predictor
from nastool.predictors.fitting import fit_table
from nastool.predictors.tables import Measurements
from nastool.problem import Problem
from nastool.recipes.problems import make_problem
from nastool.results import Result
from nastool.space import Genotypes
from nastool.strategies.evolution import Evolution
from nastool.study import Study
from nastool.verification import refine


class Bench:
    """A truth, and searches on what is known of it."""

    def __init__(self, limit: str, kind: str, budget: int) -> None:
        self.problem = make_problem("supershaper", ["perplexity"], [parse_constraint(limit)])
        self.truth = self.problem.objectives[0]
        self.kind, self.budget = kind, budget
        # Elitist evolution finds the optimum that `--strategy exact` proves (docs/exact.md).
        found = Study(self.problem, lambda p, s: Evolution(p, s, selection="elitist")).run(30_000)
        self.optimum = self.regret_from(0.0, found.best().genotypes)

    def regret_from(self, optimum: float, genotypes: Genotypes) -> float:
        return float(self.truth.evaluate(genotypes).min()) - optimum

    def regret(self, genotypes: Genotypes) -> float:
        """Relative distance of the best of some shapes from the optimum."""
        return self.regret_from(self.optimum, genotypes) / self.optimum

    def search(self, problem: Problem) -> Result:
        return Study(problem, Evolution).run(self.budget)

    def predicted(self, genotypes: Genotypes, folder: Path) -> Problem:
        """The problem with a predictor of these shapes."""
        space = self.problem.space
        data = Measurements(
            genes=tuple(gene.name for gene in space.genes),
            choices=tuple(gene.choices for gene in space.genes),
            costs=(),
            features=space.features(genotypes)[:, : len(space.genes)],
            targets=self.truth.evaluate(genotypes),
            dropped=0,
            space=space.name,
            fingerprint=space.fingerprint,
            source={},
        )
        fitted = fit_table(data, self.kind)
        save_predictor(folder, fitted.predictor, fitted.card("perplexity", "", {}), data)
        return Problem(space, (PredictedObjective(space, folder),), self.problem.constraints)


def run(bench: Bench, start: int, rounds: int, shapes: int, seed: int) -> Floats:
    """Regrets of one seed, shape (rounds + 1, 4): loop and uniform, measured and predicted best."""
    first = bench.problem.sample(start, np.random.default_rng(seed))
    more = bench.problem.sample(rounds * shapes, np.random.default_rng([seed, 1]))
    rows = []
    with tempfile.TemporaryDirectory() as root:
        problem = bench.predicted(first, Path(root, "first"))
        seen = first
        results = []

        def search(asked: Problem, _: object) -> Result:
            results.append(bench.search(asked))
            return results[-1]

        found = refine(
            problem, {"perplexity": bench.truth}, search,
            rounds=rounds, shapes=shapes, folder=Path(root, "refined"),
        )  # fmt: skip
        results.append(bench.search(found.problem))
        for number, result in enumerate(results):
            if number:
                seen = np.concatenate([seen, found.rounds[number - 1].genotypes])
            uniform = np.concatenate([first, more[: number * shapes]])
            alone = bench.search(bench.predicted(uniform, Path(root, f"uniform-{number}")))
            rows.append([
                bench.regret(seen), bench.regret(result.best().genotypes),
                bench.regret(uniform), bench.regret(alone.best().genotypes),
            ])  # fmt: skip
    return np.array(rows)


@click.command()
@click.option("--start", default=50, show_default=True, help="Uniform shapes at the beginning.")
@click.option("--rounds", default=4, show_default=True)
@click.option("--shapes", default=16, show_default=True, help="Measured in a round.")
@click.option("--limit", default="params<=66M", show_default=True)
@click.option("--kind", default="xgboost", show_default=True)
@click.option("--budget", default=5_000, show_default=True, help="Evaluations of a search.")
@click.option("--seeds", default=3, show_default=True)
def main(
    start: int, rounds: int, shapes: int, limit: str, kind: str, budget: int, seeds: int
) -> None:
    """Compare the active loop with uniform draws."""
    bench = Bench(limit, kind, budget)
    found = np.mean([run(bench, start, rounds, shapes, seed) for seed in range(seeds)], axis=0)
    table = Table(title=f"{kind}, {limit}: above the optimum of {bench.optimum:.1f}, {seeds} seeds")
    for name in ("measured", "loop: best measured", "best predicted", "uniform: best measured",
                 "best predicted"):  # fmt: skip
        table.add_column(name, justify="right")
    for number, row in enumerate(found):
        table.add_row(str(start + number * shapes), *(f"{value:.1%}" for value in row))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
