"""What the reference says of shapes by rule, beside what is published; in Markdown.

    python benchmarks/heuristics.py                  # about a minute
    python benchmarks/heuristics.py --limits 45M,66M

Prints four tables: the ten published shapes, measured, predicted and published; what each layer
is worth to the perplexity; the proven optima under limits of the size; and how far every member of
the cigar family lies from the proven front of its size. The front of all shapes against the
parameter count is proven once, and every optimum is looked up there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import nastool_supershaper
from nastool import Objective, Problem, load_objective, load_space
from nastool.arrays import Floats
from nastool.cli.tables import bars
from nastool.constraint import format_quantity, parse_quantity
from nastool.exact.prove import prove
from nastool.predictors.boosted_trees import BoostedTrees
from nastool.predictors.evaluation import spearman
from nastool.predictors.importance import PERMUTATION, importances
from nastool.predictors.tables import read_measurements
from nastool.space import Genotypes
from nastool_supershaper.families import published_shapes
from nastool_supershaper.space import SuperShaperSpace

TABLE = Path(nastool_supershaper.__file__).parent / "reference/supershaper/perplexity.csv.gz"


class Reference:
    """The paper's space with what is measured and predicted of it, and its proven front."""

    def __init__(self) -> None:
        space = load_space("supershaper")
        assert isinstance(space, SuperShaperSpace)
        self.space = space
        self.perplexity: Objective = load_objective("perplexity", space)
        self.params: Objective = load_objective("params", space)
        self.table = read_measurements(TABLE, "perplexity", space)
        rows = map(tuple, self.table.features.astype(int).tolist())
        self.measured = dict(zip(rows, self.table.targets.tolist(), strict=True))
        self.problem = Problem(space, [self.perplexity, self.params])
        proof = prove(self.problem)
        self.certificate = proof.certificate
        self.front = proof.genotypes
        self.best = self.perplexity.evaluate(self.front)
        self.sizes = self.params.evaluate(self.front)

    def under(self, limit: float) -> int:
        """Place in the front of the proven optimum with at most so many parameters."""
        allowed = np.flatnonzero(self.sizes <= limit)
        return int(allowed[np.argmin(self.best[allowed])])

    def measurements(self, genotypes: Genotypes) -> Floats:
        """Measured perplexity of each shape, NaN where the table does not have it."""
        shapes = self.space.features(genotypes).astype(int)
        return np.array([self.measured.get(tuple(row), np.nan) for row in shapes.tolist()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--limits", default="45M,55M,66M,80M,90M")
    options = parser.parse_args()
    reference = Reference()
    print(f"{reference.certificate}\n")
    published(reference)
    layers(reference)
    optima(reference, [parse_quantity(text).value for text in options.limits.split(",")])
    distances(reference)


def published(reference: Reference) -> None:
    """The ten shapes of table 6 beside what is published of them."""
    known = [shape for shape in published_shapes().values() if shape.source == "table 6"]
    genotypes = reference.space.heuristics["published"]
    columns = {
        "published": np.array([shape.perplexity for shape in known], np.float64),
        "measured": reference.measurements(genotypes),
        "predicted": reference.perplexity.evaluate(genotypes),
        "parameters": reference.params.evaluate(genotypes),
    }
    ranks = {name: np.argsort(np.argsort(column)) + 1 for name, column in columns.items()}
    print("| shape | " + " | ".join(columns) + " |\n| --- |" + " ---: |" * len(columns))
    for i, shape in enumerate(known):
        cells = [f"{format_quantity(c[i], '')} ({ranks[name][i]})" for name, c in columns.items()]
        print(f"| {shape.name.replace('_', ' ')} | {' | '.join(cells)} |")
    cells = [f"{spearman(columns['published'], column):.2f}" for column in columns.values()]
    print(f"| Spearman with published | {' | '.join(cells)} |\n")


def layers(reference: Reference) -> None:
    """What each layer is worth: to a predictor on held-out rows, and as a slope."""
    names = [gene.name for gene in reference.space.genes]
    widths, values = reference.table.features, reference.table.targets
    permuted = importances(BoostedTrees, widths, values, names)[PERMUTATION]
    logs = np.column_stack([np.log(widths), np.ones(len(widths))])
    slopes = np.linalg.lstsq(logs, np.log(values), rcond=None)[0][:-1]
    print("| layer | permutation | slope |\n| ---: | ---: | ---: |")
    for i, name in enumerate(names):
        print(f"| {i + 1} | {permuted[name]:.1%} | {slopes[i]:+.4f} |")
    print()


def optima(reference: Reference, limits: list[float]) -> None:
    """The proven optimum under each limit, drawn."""
    print("| at most | perplexity | parameters | shape | |\n| ---: | ---: | ---: | --- | --- |")
    for limit in limits:
        i = reference.under(limit)
        shape = reference.front[i : i + 1]
        print(
            f"| {format_quantity(limit, '')} | {reference.best[i]:.1f} | "
            f"{format_quantity(reference.sizes[i], '')} | {reference.space.format(shape[0])} | "
            f"`{bars(reference.problem, shape)[0]}` |"
        )
    print()


def distances(reference: Reference) -> None:
    """How far each member of the cigar family lies from the best of its size."""
    print(
        "| member | parameters | measured | predicted | proven optimum | above it | half-widths |\n"
        "| --- |" + " ---: |" * 6
    )
    heuristics = reference.space.heuristics
    far = []
    for kind in ("published_cigar", "cigar"):
        members = heuristics[kind]
        predicted = reference.perplexity.evaluate(members)
        sizes, measured = reference.params.evaluate(members), reference.measurements(members)
        widths = reference.perplexity.half_widths(predicted)
        for i, member in enumerate(members):
            best = reference.best[reference.under(sizes[i])]
            excess = predicted[i] - best
            if kind == "cigar":
                far.append(excess / best)
                continue
            half = "" if widths is None else f"{excess / widths[i]:.1f}"
            print(
                f"| {reference.space.format(member)} | {format_quantity(sizes[i], '')} | "
                f"{measured[i]:.1f} | {predicted[i]:.1f} | {best:.1f} | {excess / best:.1%} | "
                f"{half} |"
            )
    print(
        f"\nThe {len(far)} members that the algorithm makes lie {min(far):.1%} to {max(far):.1%} "
        f"above, {np.median(far):.1%} in the median."
    )


if __name__ == "__main__":
    main()
