"""How far every strategy stops from the truth, after 1,000, 5,000 and 30,000 evaluations.

python benchmarks/regret.py                        # the synthetic predictor of exact_search.py
python benchmarks/regret.py --predictor FOLDER --figure regret.html
python benchmarks/regret.py --predictor FOLDER --limit 66e6     # the optimum, not the front
"""

import argparse
from pathlib import Path

import numpy as np
from exact_search import Predicted, fitted

from nastool.comparison.contests import parse_entrant
from nastool.constraint import Constraint
from nastool.exact.prove import prove
from nastool.exact.regret import front_regret
from nastool.plugins import load_objective
from nastool.problem import CostObjective, Problem
from nastool.study import Study
from nastool_supershaper.space import SuperShaperSpace

COUNTS = (1_000, 5_000, 30_000)
STRATEGIES = (
    "random",
    "local",
    "evolution",
    "evolution:paper",
    "evolution,selection=elitist",
    "nsga2",
    "pareto",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--predictor", help="folder of a fitted predictor")
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=int, default=COUNTS[-1])
    parser.add_argument("--limit", type=float, help="parameters: one objective, at most so many")
    parser.add_argument("--strategy", action="append", help=f"default: {', '.join(STRATEGIES)}")
    parser.add_argument("--figure", type=Path, help="HTML file")
    options = parser.parse_args()

    space = SuperShaperSpace()
    if options.predictor:
        objective = load_objective(f"predicted[{options.predictor}]", space)
    else:
        choices = [np.array(gene.choices, dtype=float) for gene in space.genes]
        objective = Predicted(fitted(space, options.trees, 6), choices)
    if options.limit:
        problem = Problem(space, [objective], [Constraint("params", "<=", options.limit)])
    else:
        problem = Problem(space, [objective, CostObjective(space.costs["params"], space)])
    proof = prove(problem)
    print(proof.certificate)
    truth = problem.evaluate(proof.genotypes).objectives

    counts = [n for n in COUNTS if n <= options.budget]
    print("| strategy | " + " | ".join(f"{n:,}" for n in counts) + " |")
    print("| --- |" + " ---: |" * len(counts))
    curves = {}
    for text in options.strategy or STRATEGIES:
        entrant = parse_entrant(text)
        reached = [n for n in counts if n <= (entrant.budget or options.budget)]
        gaps = np.empty((options.seeds, len(reached)))
        for seed in range(options.seeds):
            study = Study(problem, entrant(problem, seed))
            found = study.run(reached[-1]).evaluations.objectives
            gaps[seed] = [regret(found[:n], truth) for n in reached]
        curves[entrant.name] = np.median(gaps, axis=0)
        cells = [
            f"{100 * np.median(column):.2f}% ({100 * column.min():.2f}-{100 * column.max():.2f})"
            for column in gaps.T
        ]
        cells += [""] * (len(counts) - len(cells))
        print(f"| {entrant.name} | {' | '.join(cells)} |", flush=True)
    if options.figure:
        what = "above the optimum, % of it" if options.limit else "missing hypervolume, %"
        draw(curves, counts, what, options.figure)


def regret(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true hypervolume that is missing, or of the optimum that is too much."""
    if truth.shape[1] > 1:
        return front_regret(found, truth).gap
    return float(found.min() / truth.min() - 1)


def draw(curves: dict[str, np.ndarray], counts: list[int], what: str, file: Path) -> None:
    """Regret over evaluations, both on logarithmic axes."""
    import plotly.graph_objects as go

    figure = go.Figure(
        [
            go.Scatter(x=counts[: len(gaps)], y=100 * gaps, mode="lines+markers", name=name)
            for name, gaps in curves.items()
        ]
    )
    figure.update_xaxes(
        type="log", title="evaluations", tickvals=counts, ticktext=[f"{n:,}" for n in counts]
    )
    figure.update_yaxes(type="log", dtick=1, tickformat="~g", title=what)
    figure.update_layout(template="plotly_white", margin={"t": 20, "b": 50, "l": 70, "r": 20})
    figure.write_html(file, include_plotlyjs=True, config={"displayModeBar": False})


if __name__ == "__main__":
    main()
