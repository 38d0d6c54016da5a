"""``nastool fit``: from a table of measurements to a predictor with a card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nastool.errors import InvalidInputError

if TYPE_CHECKING:
    from rich.table import Table

    from nastool.predictors.base import Card
    from nastool.predictors.selection import HeldOut


@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option(
    "--space",
    "space_spec",
    metavar="SPEC",
    help="Space the shapes belong to. Default: read off the columns layer_1, layer_2, ...",
)
@click.option("--target", default="perplexity", show_default=True, help="Column to predict.")
@click.option("--metric", help="Name of what is predicted. Default: the target.")
@click.option("--unit", default="", help="Unit of the target, e.g. s or ms; recorded in the card.")
@click.option(
    "--cost",
    "costs",
    multiple=True,
    help="Exact cost as a further feature, e.g. params; repeatable.",
)
@click.option(
    "--model",
    default="xgboost",
    show_default=True,
    help="Kind of predictor; 'auto' compares all and keeps the best by cross-validation.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Fixes the held-out split.")
@click.option(
    "--test-fraction",
    type=float,
    default=0.3,
    show_default=True,
    help="Share of the shapes held out for the scores; the saved predictor uses all.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the predictor and its card.",
)
def fit(
    table: Path,
    space_spec: str | None,
    target: str,
    metric: str | None,
    unit: str,
    costs: tuple[str, ...],
    model: str,
    seed: int,
    test_fraction: float,
    output: Path,
) -> None:
    """Fit a predictor to a table of measured architectures.

    TABLE is a .csv, .csv.gz or .parquet file with a column for each gene and one for the target.
    The scores are those of shapes the predictor has not seen; the predictor that is saved is then
    fitted on all of them.
    """
    # The help must not wait for numpy.
    from rich.console import Console

    from nastool.predictors.base import Card, create_predictor, save_predictor
    from nastool.predictors.selection import held_out
    from nastool.predictors.tables import read_measurements

    if not 0 < test_fraction < 1:
        raise InvalidInputError(f"--test-fraction: expected between 0 and 1, got {test_fraction:g}")
    if model != "auto":
        create_predictor(model)
    space = None
    if space_spec is not None:
        from nastool.plugins import load_space

        space = load_space(space_spec)
    data = read_measurements(table, target, space, costs)
    console = Console(highlight=False)

    genes = len(data.genes)
    result = held_out(model, data.features, data.targets, genes, test_fraction, seed)
    predictor = create_predictor(model)
    predictor.fit(data.features, data.targets, genes=genes)
    card = Card(
        metric=metric or target,
        unit=unit,
        kind=predictor.kind,
        label=predictor.label,
        space=data.space,
        fingerprint=data.fingerprint,
        genes=data.genes,
        choices=data.choices,
        features=(*data.genes, *data.costs),
        shapes=len(data),
        scores=result.scores,
        interval=result.interval,
        source={**data.source, "table": table.name, "target": target, "seed": seed},
    )
    save_predictor(output, predictor, card)

    console.print(_scores_table(card, result))
    if data.dropped:
        console.print(f"{data.dropped:,} rows without a finite {target} were left out")
    console.print(f"Wrote {output}: {card.by}", soft_wrap=True)


def _scores_table(card: Card, result: HeldOut) -> Table:
    from rich.table import Table

    scores = result.scores
    table = Table(title=f"{card.metric}: {card.label} on {scores.n:,} held-out shapes")
    for name in ("R2", "Spearman", "Kendall", "RMSE", "90% within"):
        table.add_column(name, justify="right")
    unit = f" {card.unit}" if card.unit else ""
    interval = "too few" if result.interval is None else f"±{result.interval:.4g}{unit}"
    table.add_row(
        f"{scores.r2:.4f}",
        f"{scores.spearman:.4f}",
        f"{scores.kendall:.4f}",
        f"{scores.rmse:.4g}{unit}",
        interval,
    )
    return table
