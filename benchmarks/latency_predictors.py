"""Latency predictors on published tables: held-out scores and learning curves.

    python benchmarks/latency_predictors.py FOLDER

FOLDER holds CSV files with the columns layer_1 ... layer_12 and latency_s, one for each device.
The first table compares XGBoost on the published features (widths and parameter count) with what
``nastool fit --model auto`` chooses; the second shows how few measurements suffice, alone and
with the predictor of each other device; the third how many new shapes lie within the intervals
that are to hold 90% of them. Nothing here is tuned to a device.
"""

from __future__ import annotations

from functools import partial
from itertools import permutations
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from nastool.plugins import load_space
from nastool.predictors import Scores, create_predictor, score
from nastool.predictors.conformal import coverage
from nastool.predictors.evaluation import holdout
from nastool.predictors.selection import Maker, compare, held_out, makers
from nastool.predictors.tables import Measurements, read_measurements
from nastool.predictors.transfer import Recalibrated, most_informative

FRACTION = 0.3
SIZES = (10, 20, 50, 100, 300)
Rows = NDArray[np.int64]


def fit_and_score(make: Maker, data: Measurements, columns: int, rows: Rows, rest: Rows) -> Scores:
    predictor = make()
    features = data.features[:, :columns]
    predictor.fit(features[rows], data.targets[rows], genes=len(data.genes))
    return score(data.targets[rest], predictor.predict(features[rest]).mean)


def summary(scores: list[Scores]) -> tuple[str, str]:
    r2 = np.array([s.r2 for s in scores])
    rho = np.array([s.spearman for s in scores])
    return f"{r2.mean():.4f} ± {r2.std():.4f}", f"{rho.mean():.4f} ± {rho.std():.4f}"


def comparison(devices: dict[str, Measurements], kinds: list[str], seeds: int) -> Table:
    table = Table(title=f"Held-out {FRACTION:.0%}, {seeds} seeds")
    for name in ("Device", "Shapes", "Predictor", "R2", "Spearman"):
        table.add_column(name)
    for device, data in devices.items():
        widths = len(data.genes)
        published: list[Scores] = []
        auto: list[Scores] = []
        chosen: list[str] = []
        for seed in range(seeds):
            rows, rest = holdout(len(data), FRACTION, seed)
            xgboost = partial(create_predictor, "xgboost")
            published.append(fit_and_score(xgboost, data, widths + 1, rows, rest))
            candidates = {kind: make for kind, make in makers().items() if kind in kinds}
            features = data.features[rows, :widths]
            best = compare(candidates, features, data.targets[rows], widths, seed=seed)[0].kind
            chosen.append(best)
            auto.append(fit_and_score(candidates[best], data, widths, rows, rest))
        table.add_row(device, f"{len(data):,}", "XGBoost, widths + params", *summary(published))
        picks = ", ".join(f"{kind} x{chosen.count(kind)}" for kind in sorted(set(chosen)))
        table.add_row("", "", f"auto ({picks})", *summary(auto), end_section=True)
    return table


def learning_curves(devices: dict[str, Measurements], seeds: int) -> Table:
    table = Table(title=f"Spearman by number of measurements, mean of {seeds} seeds")
    table.add_column("Device")
    table.add_column("Predictor")
    for size in SIZES:
        table.add_column(str(size), justify="right")

    known = {}
    for device, data in devices.items():
        known[device] = create_predictor("linear")
        known[device].fit(data.features[:, :-1], data.targets)
    for device, data in devices.items():
        widths = len(data.genes)
        ways: dict[str, tuple[Maker, bool]] = {
            "XGBoost, widths + params": (partial(create_predictor, "xgboost"), False),
            "linear": (partial(create_predictor, "linear"), False),
            "linear, informative shapes": (partial(create_predictor, "linear"), True),
        }
        for target, source in permutations(devices, 2):
            if target == device and source.split("_run")[0] != device.split("_run")[0]:
                make = partial(Recalibrated, [known[source]])
                ways[f"from {source}"] = (make, False)
                ways[f"from {source}, informative shapes"] = (make, True)
        splits = []
        for seed in range(seeds):
            pool, rest = holdout(len(data), FRACTION, seed)
            pool = np.random.default_rng(seed).permutation(pool)
            order = most_informative(data.features[pool[:500], :widths], max(SIZES))
            splits.append((pool, pool[:500][order], rest))
        for name, (make, informative) in ways.items():
            columns = widths + ("params" in name)
            curve = []
            for size in SIZES:
                scores = [
                    fit_and_score(make, data, columns, (best if informative else pool)[:size], rest)
                    for pool, best, rest in splits
                ]
                curve.append(f"{np.mean([s.spearman for s in scores]):.4f}")
            table.add_row(device, name, *curve)
        table.add_section()
    return table


def coverages(devices: dict[str, Measurements], seeds: int) -> Table:
    table = Table(title=f"Share of new shapes within the 90% interval, {seeds} splits")
    for name in ("Device", "Predictor", "Mean", "Lowest", "Highest", "Half-width"):
        table.add_column(name)
    for device, data in devices.items():
        widths = len(data.genes)
        for kind in ("linear", "xgboost"):
            found, halves = [], []
            for seed in range(seeds):
                rows, new = holdout(len(data), FRACTION, seed)
                features, targets = data.features[rows, :widths], data.targets[rows]
                make = partial(create_predictor, kind)
                half = held_out(make, features, targets, widths, FRACTION, seed).interval
                predictor = make()
                predictor.fit(features, targets, genes=widths)
                errors = data.targets[new] - predictor.predict(data.features[new, :widths]).mean
                found.append(coverage(errors, half))
                halves.append(half / np.median(targets))
            ends = (f"{min(found):.1%}", f"{max(found):.1%}")
            table.add_row(device, kind, f"{np.mean(found):.1%}", *ends, f"±{np.mean(halves):.1%}")
    return table


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--seeds", default=5, show_default=True)
@click.option("--kinds", default=",".join(makers()), show_default=True, help="What auto compares.")
@click.option("--devices", "pattern", default="*.csv", show_default=True)
@click.option(
    "--part", type=click.Choice(["all", "comparison", "curves", "coverage"]), default="all"
)
def main(folder: Path, seeds: int, kinds: str, pattern: str, part: str) -> None:
    """Compare latency predictors on the tables in FOLDER."""
    space = load_space("supershaper")
    files = sorted(folder.glob(pattern))
    devices = {f.stem: read_measurements(f, "latency_s", space, ["params"]) for f in files}
    console = Console(width=120)
    if part in ("all", "curves"):
        console.print(learning_curves(devices, seeds))
    if part in ("all", "comparison"):
        console.print(comparison(devices, kinds.split(","), seeds))
    if part in ("all", "coverage"):
        console.print(coverages(devices, seeds))


if __name__ == "__main__":
    main()
