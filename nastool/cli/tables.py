"""A front as a table for people, as JSON or as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nastool.constraint import format_quantity
from nastool.objective import Objective
from nastool.problem import Problem
from nastool.space import Genotypes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nastool.study import Result

TABLE_ROWS = 20
BEST_ROWS = 10
"""Rows shown of a front, and of a ranking by a single objective."""

_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class FrontView:
    """The rows of a result that are shown.

    Args:
        problem: What was searched.
        genotypes: Shape (n, d), in the order shown.
        values: By metric, shape (n,), natural sign and base unit.
        total: How many there are; n of them are shown.
        facts: What else to say, by label: study, strategy, seed, evaluations, seconds.
    """

    problem: Problem
    genotypes: Genotypes
    values: Mapping[str, NDArray[np.float64]]
    total: int
    facts: Mapping[str, str | int | float] = field(default_factory=dict)

    @property
    def metrics(self) -> tuple[Objective, ...]:
        """The columns."""
        return tuple(self.problem.metric(name) for name in self.values)

    @property
    def title(self) -> str:
        """One line that says what the rows are."""
        objectives = self.problem.objectives
        shown = len(self.genotypes)
        if len(objectives) == 1:
            what = f"The {shown} best of {self.total:,} by {objectives[0].name}"
        elif shown < self.total:
            what = f"Pareto front: {shown} of its {self.total:,} shapes, evenly spread"
        else:
            what = f"Pareto front: {self.total:,} shapes"
        under = " and ".join(map(str, self.problem.constraints))
        return f"{what}, {under}" if under else what


def front_view(
    result: Result, limit: int | None, facts: Mapping[str, str | int | float]
) -> FrontView:
    """Choose the rows: spread evenly over the front, or the best for a single objective.

    Args:
        result: Of a study.
        limit: At most that many rows; None for all of a front (and `BEST_ROWS` of a ranking).
        facts: See `FrontView`.
    """
    problem = result.problem
    if len(problem.objectives) == 1:
        evaluations = result.evaluations.take(result.evaluations.feasible)
        order = np.argsort(evaluations.objectives[:, 0], kind="stable")
        keys = problem.space.keys(evaluations.genotypes[order])
        distinct = np.array(
            sorted({key: i for i, key in reversed(list(enumerate(keys)))}.values()), dtype=np.int64
        )
        rows = evaluations.genotypes[order][distinct]
        shown = rows[: BEST_ROWS if limit is None else limit]
    else:
        rows = result.front().genotypes
        shown = rows if limit is None else rows[spread(len(rows), limit)]
    return FrontView(problem, shown, _natural(result, shown), len(rows), dict(facts))


def _natural(result: Result, genotypes: Genotypes) -> dict[str, NDArray[np.float64]]:
    if len(genotypes) == 0:
        return {metric.name: np.empty(0) for metric in result.problem.reported}
    return dict(result.values(genotypes))


def spread(n: int, limit: int) -> NDArray[np.int64]:
    """Indices of at most `limit` of n rows, evenly spaced, both ends included."""
    if n <= limit:
        return np.arange(n)
    return np.linspace(0, n - 1, limit).round().astype(np.int64)


def as_json(view: FrontView) -> str:
    """The rows with everything needed to understand them."""
    problem = view.problem
    content: dict[str, Any] = {
        **view.facts,
        "space": problem.space.name,
        "constraints": [
            {"metric": c.metric, "sense": c.sense, "bound": c.bound, "unit": c.unit}
            for c in problem.constraints
        ],
        "metrics": [
            {
                "name": metric.name,
                "unit": metric.unit,
                "direction": metric.direction.value,
                "objective": metric in problem.objectives,
                "provenance": {
                    "kind": metric.provenance.kind.value,
                    "by": metric.provenance.by,
                    "error": metric.provenance.error,
                    "proxy": metric.provenance.proxy,
                },
            }
            for metric in view.metrics
        ],
        "total": view.total,
        "shapes": [
            {
                "shape": list(architecture),
                **{name: float(column[i]) for name, column in view.values.items()},
            }
            for i, architecture in enumerate(problem.space.decode(view.genotypes))
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def as_csv(view: FrontView) -> str:
    """A header and one line a row: the shape as text, then each metric in its base unit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["shape", *view.values])
    columns = [column.tolist() for column in view.values.values()]
    shapes = [view.problem.space.format(genotype) for genotype in view.genotypes]
    writer.writerows(zip(shapes, *columns, strict=True))
    return text.getvalue().removesuffix("\n")


def bars(problem: Problem, genotypes: Genotypes) -> list[str]:
    """Each genotype as a row of block characters, as high as its choices; empty if not ordered."""
    genes = problem.space.genes
    if not all(gene.is_numeric or gene.ordered for gene in genes):
        return [""] * len(genotypes)
    values = problem.space.features(genotypes)
    every = [
        problem.space.features(np.full((1, len(genes)), 0)),
        problem.space.features(problem.space.cardinalities[None] - 1),
    ]
    top = max(float(np.max(every)), float(values.max(initial=1.0)), 1e-9)
    levels = np.clip(np.ceil(values / top * len(_BARS)).astype(int) - 1, 0, len(_BARS) - 1)
    return ["".join(_BARS[level] for level in row) for row in levels.tolist()]


def as_table(view: FrontView) -> RenderableType:
    """The rows for people, and under them where every number comes from."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(view.title), title_justify="left", box=None, pad_edge=False)
    table.add_column("shape", no_wrap=True)
    glyphs = bars(view.problem, view.genotypes)
    if any(glyphs):
        table.add_column("", no_wrap=True)
    for metric in view.metrics:
        table.add_column(metric.name, justify="right", no_wrap=True)
    for i, genotype in enumerate(view.genotypes):
        cells = [Text(view.problem.space.format(genotype))]
        if any(glyphs):
            cells.append(Text(glyphs[i], style="cyan"))
        cells += [
            Text(format_quantity(float(view.values[m.name][i]), m.unit)) for m in view.metrics
        ]
        table.add_row(*cells)
    return Group(table, Text(""), *_caption(view))


def _caption(view: FrontView) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for metric in view.metrics:
        source = metric.provenance
        error = f", {source.error}" if source.error else ""
        grid.add_row(metric.name, Text(f"{source.kind.value}: {source.by}{error}"))
        if source.proxy:
            grid.add_row("", Text(f"PROXY: {source.proxy}", style="bold yellow"))
    for label, value in view.facts.items():
        grid.add_row(label, Text(_fact(label, value)))
    return [grid]


def _fact(label: str, value: str | float) -> str:
    if isinstance(value, str):
        return value
    if label == "seconds":
        return f"{value:,.2f}"
    return f"{value:,}" if label == "evaluations" else f"{value}"


def proxies(problem: Problem) -> list[str]:
    """One line for each metric whose numbers stand in for something else."""
    return [
        f"{metric.name} is a PROXY: {metric.provenance.proxy}"
        for metric in problem.reported
        if metric.provenance.proxy
    ]
