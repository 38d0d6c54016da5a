"""Points of other origin for the figure of a front: measured tables and shapes that have a name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nastool.errors import InvalidInputError
from nastool.objective import evaluate
from nastool.plots.axes import EVALUATION
from nastool.plots.front import CLOUD, Cloud
from nastool.predictors.tables import SUFFIXES, read_measurements
from nastool.problem import Problem


def measured_cloud(path: Path, problem: Problem, x: str, y: str) -> Cloud:
    """The rows of a table of measurements, thinned where there are very many.

    Args:
        path: A table with a column for each gene and one for each metric; a cost of the space, such
            as the parameter count, needs no column.
        problem: Of the figure.
        x: Metric on the horizontal axis.
        y: Metric on the vertical axis.

    Raises:
        InvalidInputError: The table lacks a column, or the figure has no two metrics.
        MissingDependencyError: A parquet file, and pyarrow is not installed.
    """
    if EVALUATION in (x, y):
        raise InvalidInputError(
            f"{path}: a figure needs two metrics to draw measurements, got {y} alone"
        )
    space = problem.space
    # What is exact is computed, what is measured is read.
    target, other = (y, x) if y not in space.costs else (x, y)
    table = read_measurements(path, target, space, [other])
    genes = len(space.genes)
    values = {target: table.targets, other: table.features[:, genes]}
    rows = np.arange(len(table))
    if len(rows) > CLOUD:
        rows = np.sort(np.random.default_rng(0).choice(rows, CLOUD, replace=False))
    name = path.name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        name = name.removesuffix(suffix)
    texts = tuple("-".join(f"{v:g}" for v in row) for row in table.features[rows, :genes].tolist())
    return Cloud(f"measured: {name}", values[x][rows], values[y][rows], texts)


def named_shapes(problem: Problem, x: str, y: str) -> tuple[Cloud, ...]:
    """The families of shapes by rule that a space knows, where their metrics cost nothing.

    Args:
        problem: Of the figure.
        x: Metric on the horizontal axis.
        y: Metric on the vertical axis.
    """
    if EVALUATION in (x, y):
        return ()
    metrics = [problem.metric(name) for name in (x, y)]
    if not all(metric.is_cheap for metric in metrics):
        return ()
    clouds = []
    for family, members in problem.space.heuristics.items():
        genotypes = problem.space.validate(members)
        along, up = (evaluate(metric, genotypes).values for metric in metrics)
        texts = tuple(f"{family}: {problem.space.format(genotype)}" for genotype in genotypes)
        clouds.append(Cloud(family.replace("_", " "), along, up, texts, marked=True))
    return tuple(clouds)
