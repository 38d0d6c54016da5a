r"""Quality of searching: how much of the true front each strategy finds, and the best under bounds.

    python benchmarks/quality.py --true-front --jobs 8 --output quality.csv
    python benchmarks/quality.py --true-front --at 300 --strategy pareto --strategy tpe@300 \
        --strategy nsga2 --strategy random        # where evaluations are few

Runs are kept in a store: stopping is harmless, and the same command goes on. With a true front,
which is proven once, hypervolume is a share of the best possible; without one the front of all
runs together stands in for it. A strategy with an at sign has a budget of its own (``tpe@1000``)
and is left out at larger ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from nastool import open_store, parse_constraint
from nastool.cli.progress import ProgressBar
from nastool.cli.truth import beside, prove_front
from nastool.comparison import Comparison
from nastool.comparison.contests import Contest
from nastool.comparison.workers import run_in_processes
from nastool.files.tables import csv_text
from nastool.files.writing import write_whole
from nastool.pareto.indicators import Summary

STRATEGIES = (
    "random",
    "local",
    "evolution",
    "evolution:paper",
    "evolution,selection=elitist",
    "evolution,mutation=step",
    "evolution,mutation_probability=0.4",
    "nsga2",
    "pareto",
)
BOUNDS = ("params<=45M", "params<=66M", "params<=90M")
CHECKPOINTS = (1_000, 5_000, 30_000)


@dataclass(frozen=True)
class Row:
    """What a strategy reached after a number of evaluations."""

    evaluations: int
    summary: Summary


def rows(comparison: Comparison, contest: Contest, checkpoints: tuple[int, ...]) -> Iterator[Row]:
    """Indicators at each checkpoint, of the strategies whose budget reaches it."""
    budgets = {entrant.name: contest.evaluations(entrant) for entrant in contest.entrants}
    names = ["hypervolume"] + [i.name for i in comparison.indicators if i.under is not None]
    # A bound on an objective says nothing about that objective itself.
    for name in names:
        for evaluations in checkpoints:
            for summary in comparison.summaries(name, evaluations):
                if budgets[summary.strategy] >= evaluations:
                    yield Row(evaluations, summary)


def show(found: list[Row], reference: str, seeds: int) -> Table:
    table = Table(title=f"Medians of {seeds} seeds with 95% intervals; {reference}")
    for heading in ("indicator", "evaluations", "strategy"):
        table.add_column(heading)
    for heading in ("median", "low", "high"):
        table.add_column(heading, justify="right")
    for row in found:
        s = row.summary
        style = "{:.4%}" if s.indicator.name == "hypervolume" else "{:.5g}"
        numbers = [
            style.format(value) if np.isfinite(value) else "none"
            for value in (s.median, s.low, s.high)
        ]
        table.add_row(s.indicator.name, f"{row.evaluations:,}", s.strategy, *numbers)
    return table


def write(file: Path, found: list[Row]) -> None:
    rows = (
        [row.summary.indicator.name, row.evaluations, row.summary.strategy, seed, value]
        for row in found
        for seed, value in enumerate(row.summary.values.tolist())
    )
    write_whole(file, csv_text(["indicator", "evaluations", "strategy", "seed", "value"], rows))


@click.command()
@click.option("--space", default="supershaper", show_default=True)
@click.option(
    "--objective", "objectives", multiple=True, default=("perplexity", "params"), show_default=True
)
@click.option("--strategy", "strategies", multiple=True, default=STRATEGIES, show_default=True)
@click.option("--bound", "bounds", multiple=True, default=BOUNDS, show_default=True)
@click.option(
    "--at", "checkpoints", type=int, multiple=True, default=CHECKPOINTS, show_default=True
)
@click.option("--seeds", default=20, show_default=True)
@click.option("--jobs", default=1, show_default=True, help="Processes.")
@click.option("--true-front", is_flag=True, help="Prove it, or take it from the storage.")
@click.option("--storage", default="sqlite:///quality.db", show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default="quality.csv")
def main(
    space: str,
    objectives: tuple[str, ...],
    strategies: tuple[str, ...],
    bounds: tuple[str, ...],
    checkpoints: tuple[int, ...],
    seeds: int,
    jobs: int,
    true_front: bool,
    storage: str,
    output: Path,
) -> None:
    """Judge strategies at several budgets."""
    limits = tuple(parse_constraint(text) for text in bounds)
    contest = Contest(space, objectives, (), strategies, seeds, max(checkpoints), limits)
    contest.check()
    total = sum(contest.evaluations(entrant) for entrant, _ in contest.runs)
    with open_store(storage) as store, ProgressBar("searching") as bar:
        truth = prove_front(contest, store) if true_front else None
        if jobs > 1:
            run_in_processes(contest, storage, jobs, lambda done: bar(done, total))
        comparison = beside(contest.run(store), truth)
    found = list(rows(comparison, contest, tuple(sorted(checkpoints))))
    reference = "relative to the true front" if true_front else "relative to the front of all runs"
    Console(width=120, markup=False).print(show(found, reference, seeds))
    write(output, found)


if __name__ == "__main__":
    main()
