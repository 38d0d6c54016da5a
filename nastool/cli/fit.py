"""``nastool fit``: from a table of measurements to a predictor with a card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nastool.errors import InvalidInputError

if TYPE_CHECKING:
    from rich.table import Table

    from nastool.predictors.base import Card
    from nastool.predictors.selection import Candidate, HeldOut, Maker

_FEW = 100
"""Shapes below which a part held out is too small to score on."""


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
    help="Kind of predictor; 'auto' compares all and keeps the best by cross-validation. "
    "Default: xgboost.",
)
@click.option(
    "--transfer",
    "sources",
    metavar="DIR",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Predictor of a known device to recalibrate, from ten shapes on; repeatable.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Fixes the held-out split.")
@click.option(
    "--test-fraction",
    type=float,
    help="Share of the shapes held out for the scores, 0 for cross-validation; the predictor that "
    f"is saved uses all. Default: 0.3, but 0 below {_FEW} shapes.",
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
    model: str | None,
    sources: tuple[Path, ...],
    seed: int,
    test_fraction: float | None,
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
    from nastool.predictors.evaluation import holdout
    from nastool.predictors.selection import compare, held_out, makers
    from nastool.predictors.tables import read_measurements

    if test_fraction is not None and not 0 <= test_fraction < 1:
        raise InvalidInputError(
            f"--test-fraction: expected at least 0 and below 1, got {test_fraction:g}"
        )
    if sources and model not in (None, "transfer"):
        raise InvalidInputError(f"--transfer: expected no other --model, got {model!r}")
    if not sources and model == "transfer":
        raise InvalidInputError("--model transfer needs --transfer DIR, got none")
    model = model or "xgboost"
    if model != "auto":
        create_predictor(model)
    recalibrate, cards = _recalibration(sources)
    if sources:
        costs = cards[0].costs
    space = None
    if space_spec is not None:
        from nastool.plugins import load_space

        space = load_space(space_spec)
    data = read_measurements(table, target, space, costs)
    for source, card in zip(sources, cards, strict=True):
        if card.features != (*data.genes, *data.costs):
            raise InvalidInputError(
                f"{source}: a predictor to recalibrate must have the features "
                f"{', '.join((*data.genes, *data.costs))}; got {', '.join(card.features)}"
            )
    console = Console(highlight=False)
    genes = len(data.genes)
    if test_fraction is None:
        test_fraction = 0.0 if len(data) < _FEW else 0.3

    make = recalibrate or makers().get(model)
    if make is None:
        # The held-out shapes must not take part in the choice, or their scores would flatter.
        rows, _ = holdout(len(data), test_fraction, seed) if test_fraction else (slice(None), None)
        with console.status("Comparing predictors"):
            ranking = compare(makers(), data.features[rows], data.targets[rows], genes, seed=seed)
        console.print(_ranking_table(ranking))
        make = makers()[ranking[0].kind]
    result = held_out(make, data.features, data.targets, genes, test_fraction, seed)
    predictor = make()
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
        source={
            **data.source,
            "table": table.name,
            "target": target,
            "seed": seed,
            **({"transferred_from": [f"{c.metric}: {c}" for c in cards]} if cards else {}),
        },
    )
    save_predictor(output, predictor, card)

    console.print(_scores_table(card, result))
    if data.dropped:
        console.print(f"{data.dropped:,} rows without a finite {target} were left out")
    console.print(f"Wrote {output}: {card.by}", soft_wrap=True)


def _recalibration(sources: tuple[Path, ...]) -> tuple[Maker | None, list[Card]]:
    """What makes a predictor out of those of known devices, and their cards."""
    if not sources:
        return None, []
    from nastool.predictors.base import load_predictor
    from nastool.predictors.transfer import Recalibrated

    loaded = [load_predictor(source) for source in sources]
    known = [predictor for predictor, _ in loaded]
    return (lambda: Recalibrated(known)), [card for _, card in loaded]


def _ranking_table(ranking: list[Candidate]) -> Table:
    from rich.table import Table

    table = Table(title="Cross-validation, best first")
    table.add_column("Predictor")
    for name in ("R2", "Spearman", "Kendall", "RMSE"):
        table.add_column(name, justify="right")
    for candidate in ranking:
        s = candidate.scores
        numbers = (f"{s.r2:.4f}", f"{s.spearman:.4f}", f"{s.kendall:.4f}", f"{s.rmse:.4g}")
        table.add_row(candidate.kind, *numbers)
    return table


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
