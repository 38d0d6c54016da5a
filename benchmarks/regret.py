"""How far every strategy stops from the true front, after 1,000, 5,000 and 30,000 evaluations.

python benchmarks/regret.py                        # the synthetic predictor of exact_search.py
python benchmarks/regret.py --predictor FOLDER --figure regret.html
"""

import argparse
from pathlib import Path

import numpy as np
from exact_search import Predicted, fitted

from nastool.exact.prove import prove
from nastool.exact.regret import front_regret
from nastool.plugins import load_strategy
from nastool.predictors.base import load_predictor
from nastool.problem import CostObjective, Problem
from nastool.study import Study
from nastool_supershaper.space import SuperShaperSpace

COUNTS = (1_000, 5_000, 30_000)
STRATEGIES = ("random", "local", "evolution", "nsga2", "pareto")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--predictor", help="folder of a fitted predictor")
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=int, default=COUNTS[-1])
    parser.add_argument("--strategy", action="append", help=f"default: {', '.join(STRATEGIES)}")
    parser.add_argument("--figure", type=Path, help="HTML file")
    options = parser.parse_args()

    space = SuperShaperSpace()
    choices = [np.array(gene.choices, dtype=float) for gene in space.genes]
    predictor = (
        load_predictor(options.predictor)[0]
        if options.predictor
        else fitted(space, options.trees, 6)
    )
    problem = Problem(
        space, (Predicted(predictor, choices), CostObjective(space.costs["params"], space))
    )
    proof = prove(problem)
    print(proof.certificate)
    truth = problem.evaluate(proof.genotypes).objectives

    counts = [n for n in COUNTS if n <= options.budget]
    print("| strategy | " + " | ".join(f"{n:,}" for n in counts) + " |")
    print("| --- |" + " ---: |" * len(counts))
    curves = {}
    for name in options.strategy or STRATEGIES:
        gaps = np.empty((options.seeds, len(counts)))
        for seed in range(options.seeds):
            strategy = load_strategy(name, problem, seed, {})
            found = Study(problem, strategy).run(options.budget).evaluations.objectives
            for column, n in enumerate(counts):
                gaps[seed, column] = front_regret(found[:n], truth).gap
        curves[name] = np.median(gaps, axis=0)
        cells = " | ".join(
            f"{100 * np.median(column):.2f}% ({100 * column.min():.2f}-{100 * column.max():.2f})"
            for column in gaps.T
        )
        print(f"| {name} | {cells} |", flush=True)
    if options.figure:
        draw(curves, counts, options.figure)


def draw(curves: dict[str, np.ndarray], counts: list[int], file: Path) -> None:
    """Regret over evaluations, both on logarithmic axes."""
    import plotly.graph_objects as go

    figure = go.Figure(
        [
            go.Scatter(x=counts, y=100 * gaps, mode="lines+markers", name=name)
            for name, gaps in curves.items()
        ]
    )
    figure.update_xaxes(type="log", title="evaluations")
    figure.update_yaxes(type="log", title="missing hypervolume, % of the true front's")
    figure.write_html(file, include_plotlyjs=True)


if __name__ == "__main__":
    main()
