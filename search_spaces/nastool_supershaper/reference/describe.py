"""What a reference is worth, in Markdown: training, perplexities, spread, agreement with the paper.

    python describe.py SPACE FOLDER [--run RUN]

FOLDER holds perplexity.csv.gz, the predictor perplexity/ fitted on it, and possibly
perplexity_news.csv.gz and tables of other nets, as make_full_size.sh leaves them; RUN is what
`nastool pretrain` wrote.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np

from nastool import SearchSpace, load_objective, load_space
from nastool.predictors.evaluation import Scores, spearman
from nastool_supernets.genotypes import row
from nastool_supernets.measuring.tables import read_table
from nastool_supershaper.families import published_scratch, published_shapes

_TABLE = "perplexity.csv.gz"
_OTHERS = {
    "perplexity_news.csv.gz": "on held-out news, a text of another kind",
    "first_net.csv.gz": "in the first of its two nets",
    "second_net.csv.gz": "in the second",
    "third_net.csv": "in a third net",
    "seventh_net.csv.gz": "in a seventh net, the best language model",
}

SAME_SIZE = 0.01
"""Shapes count as equally large within this fraction of the median parameter count."""


@click.command()
@click.argument("space_name", metavar="SPACE")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--run", type=click.Path(path_type=Path), help="Folder of the training run.")
def main(space_name: str, folder: Path, run: Path | None) -> None:
    """Print what a reference is worth."""
    space = load_space(space_name)
    table = read_table(folder / _TABLE, space)
    genotypes, values = np.array(list(table)), np.array(list(table.values()))
    params = load_objective("params", space).evaluate(genotypes)
    if run is not None:
        _describe_run(run)
    card = json.loads((folder / "perplexity.csv.gz.card.json").read_text())
    click.echo(
        f"- {len(table):,} shapes measured on {card['masked_tokens']:,} masked tokens of "
        f"held-out text: perplexity {values.min():,.1f} to {values.max():,.1f}"
    )
    near = np.abs(params / np.median(params) - 1) <= SAME_SIZE
    low, middle, high = np.quantile(values[near], (0, 0.5, 1))
    click.echo(
        f"- {near.sum():,} shapes of {np.median(params) / 1e6:.1f}M parameters, within "
        f"{SAME_SIZE:.0%}: perplexity {low:,.1f} to {high:,.1f}, median {middle:,.1f}"
    )
    click.echo(f"- rank correlation of parameters and perplexity: {_rank(params, values)}")
    for name, what in _OTHERS.items():
        if (folder / name).exists():
            others = read_table(folder / name, space)
            common = [(others[shape], table[shape]) for shape in table if shape in others]
            there, here = np.array(common).T
            click.echo(
                f"- {what}: perplexity {there.min():,.1f} to {there.max():,.1f}; rank correlation "
                f"with the table's, {len(common):,} shapes: {_rank(there, here)}"
            )
    predictor = json.loads((folder / "perplexity" / "card.json").read_text())
    scores = Scores(**predictor["scores"])
    click.echo(f"- predictor, {scores.n:,} shapes held out: {scores}")
    _describe_published(space, folder)


def _describe_run(run: Path) -> None:
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    found = ", ".join(f"{k} {v:,.1f}" for k, v in last.get("perplexity", {}).items())
    click.echo(
        f"- trained on {last['tokens']:,} tokens in {last['seconds'] / 60:.0f} minutes: {found}"
    )


def _describe_published(space: SearchSpace, folder: Path) -> None:
    families = getattr(space, "heuristics", {})
    if "published" not in families:
        return
    genotypes = families["published"]
    names = [n for n, shape in published_shapes().items() if shape.source == "table 6"]
    alone = published_scratch()
    published = {
        "the published perplexities": [published_shapes()[name].perplexity for name in names],
        "those published of the same trained alone": [alone[name] for name in names],
    }
    predicted = load_objective(f"perplexity[{folder / 'perplexity'}]", space).evaluate(genotypes)
    orders = {"predicted": predicted}
    for name in (_TABLE, *_OTHERS):
        if (folder / name).exists():
            table = read_table(folder / name, space)
            orders[name] = np.array([table.get(row(shape), np.nan) for shape in genotypes])
    for source, values in published.items():
        found = ", ".join(f"{name} {_rank(values, order)}" for name, order in orders.items())
        click.echo(f"- the {len(names)} shapes of table 6, rank correlation with {source}: {found}")


def _rank(a: object, b: object) -> str:
    x, y = (np.asarray(values, np.float64) for values in (a, b))
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 3:
        return "too few"
    return f"{spearman(x[known], y[known]):.3f}"


if __name__ == "__main__":
    main()
