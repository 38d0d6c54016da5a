"""What intervals hold, and how well it is told by how much the best of many predictions flatters.

    python benchmarks/intervals.py [TABLE.csv:COLUMN ...] [--models xgboost,linear] [--repeats 8]

Part of a table is fitted on; the rest says the truth. Coverage is that of 90% intervals, over all,
by fifth of the predicted values, and over the shapes that have at most the median size; in brackets
is the standard error in units of the last digit, of the mean over draws (all shapes of one draw
depend on the same few errors, so that draws count). Optimism is by which share the best predictions
under bounds on the size are worse in truth, and what was told of it; in nine draws of ten the truth
is at most the last column. The tables of single nets that ship are read where none is named.
Prints Markdown.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

import numpy as np
import xgboost
from numpy.typing import ArrayLike

import nastool_supershaper
from nastool.objective import Direction
from nastool.predictors.fitting import fit_table
from nastool.predictors.optimism import flattery, trade
from nastool.predictors.tables import read_measurements

SHIPPED = Path(nastool_supershaper.__file__).parent / "reference"
TABLES = (  # of single nets each
    "supershaper/first_net.csv.gz",
    "minilm-6/perplexity.csv.gz",
    "supershaper/second_net.csv.gz",
)
ROWS = (30, 100, 300, 1_000)
FIFTHS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tables", nargs="*", help="TABLE:COLUMN")
    parser.add_argument("--models", default="xgboost,linear")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--rows", default=",".join(map(str, ROWS)))
    options = parser.parse_args()
    tables = options.tables or [f"{SHIPPED / name}:perplexity" for name in TABLES]
    begin = time.perf_counter()
    print(
        "| table | model | rows | coverage | by fifth, from low to high | lower half of sizes "
        "| told | true | 9 of 10 |\n| --- | --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |"
    )
    for text in tables:
        name, _, column = text.rpartition(":")
        path = Path(name)
        table = path.parent.name if path.name == "perplexity.csv.gz" else path.name.split(".")[0]
        label = table.replace("_", " ")
        for model in options.models.split(","):
            for rows in map(int, options.rows.split(",")):
                line = judged(path, column, model, rows, options.repeats)
                if line:
                    print(f"| {label} | {model} | {rows} | {line} |", flush=True)
    packages = f"numpy {np.__version__}, xgboost {xgboost.__version__}"
    print(
        f"\n{time.perf_counter() - begin:.0f} s on {platform.processor() or platform.machine()}; "
        f"Python {platform.python_version()}, {packages}; {options.repeats} draws each; "
        f"python {' '.join(sys.argv[:1] + [Path(a).name for a in sys.argv[1:]])}"
    )


def judged(path: Path, column: str, model: str, rows: int, repeats: int) -> str:
    """Numbers of a table, a model and a number of rows, as cells; empty for too small a table."""
    data = read_measurements(path, column)
    genes = len(data.genes)
    if len(data) < 1.2 * rows:
        return ""
    over_all, fifths, small, told, true = [], [], [], [], []
    rng = np.random.default_rng(0)
    pool = np.stack([rng.choice(np.unique(c), 4_000) for c in data.features[:, :genes].T], axis=1)
    for seed in range(repeats):
        order = np.random.default_rng(seed).permutation(len(data))
        fitted_rows, rest = np.sort(order[:rows]), order[rows:]
        part = data.take(fitted_rows)
        object.__setattr__(part, "pool", pool)
        fitted = fit_table(part, model, seed=seed)
        features, targets = data.features[rest], data.targets[rest]
        values = fitted.predictor.predict(features).mean
        if fitted.held_out.widths is None:
            return ""
        hit = np.abs(values - targets) <= fitted.held_out.widths.at(values)
        over_all.append(hit.mean())
        fifths.append([h.mean() for h in np.array_split(hit[np.argsort(values)], FIFTHS)])
        size = trade(features[:, :genes], values, Direction.MINIMIZE)
        small.append(hit[size <= np.median(size)].mean())
        told.append(np.nan if fitted.optimism is None else fitted.optimism)
        true.append(flattery(values, targets, size))
    by_fifth = " ".join(share_of(shares, 2) for shares in np.transpose(fifths))
    return (
        f"{share_of(over_all, 3)} | {by_fifth} | {share_of(small, 3)} | {np.mean(told):.1%} "
        f"| {np.mean(true):.1%} | {np.quantile(true, 0.9):.1%}"
    )


def share_of(shares: ArrayLike, digits: int) -> str:
    """Mean of the shares of draws, and its standard error in units of the last digit."""
    values = np.asarray(shares, dtype=np.float64)
    if len(values) < 2:
        return f"{values.mean():.{digits}f}"
    error = values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.{digits}f}({error * 10**digits:.0f})"


if __name__ == "__main__":
    main()
