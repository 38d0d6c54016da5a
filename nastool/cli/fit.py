"""``nastool fit``: from a table of measurements to a predictor with a card."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nastool.cli import completion
from nastool.cli.options import format_option, number, plugin_option, whole
from nastool.cli.pages import help_page
from nastool.cli.predictor_plot import plot_option, write_page
from nastool.errors import InvalidInputError, NastoolError

if TYPE_CHECKING:
    from rich.table import Table

    from nastool.predictors.base import Card
    from nastool.predictors.fitting import Fitted
    from nastool.predictors.selection import Candidate, HeldOut
    from nastool.predictors.tables import Measurements
    from nastool.space import SearchSpace


@help_page(
    "nastool fit perplexities.csv --space supershaper --output predictor",
    "nastool fit latencies.csv --space supershaper --unit ms --model linear --output predictor",
    groups={
        "The table": "--space --target --metric --unit --maximize --cost --where",
        "The predictor": "--model --transfer --against --keep-outliers --test-fraction --seed",
    },
)
@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option(
    "--space",
    "space_spec",
    metavar="SPEC",
    help="Space the shapes belong to. Default: read off the columns layer_1, layer_2, ...",
)
@click.option(
    "--target",
    help="Column to predict. Default: the first of the space's own objectives; without --space, of "
    "those of the installed spaces, which the table has.",
)
@click.option("--metric", help="Name of what is predicted. Default: the target.")
@click.option("--unit", default="", help="Unit of the target, e.g. s or ms.")
@click.option("--maximize", is_flag=True, help="What is predicted is better when larger.")
@click.option(
    "--cost",
    "costs",
    multiple=True,
    help="Exact cost as a further feature, e.g. params; repeatable.",
)
@click.option(
    "--model",
    shell_complete=completion.predictors,
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
@click.option(
    "--where",
    metavar="COLUMN=VALUE",
    multiple=True,
    help="Only rows that say so, e.g. batch_size=1; repeatable.",
)
@click.option(
    "--against",
    metavar="SOURCE=TABLE",
    multiple=True,
    help="Further measurements to hold its order of shapes against, e.g. 'news text=news.csv', "
    "told wherever it is used; repeatable.",
)
@click.option(
    "--keep-outliers",
    is_flag=True,
    help="Fit on rows that lie far from all others, too. Default: they are left out, and said.",
)
@click.option(
    "--seed",
    type=whole,
    default=0,
    show_default=True,
    help="Fixes the held-out split.",
)
@click.option(
    "--test-fraction",
    type=number,
    help="Share of the shapes held out for the scores, 0 for cross-validation; the predictor that "
    "is saved uses all. Default: 0.3, but 0 below 100 shapes.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the predictor and its card.",
)
@plot_option
@format_option
@plugin_option
def fit(
    table: Path,
    space_spec: str | None,
    target: str | None,
    metric: str | None,
    unit: str,
    maximize: bool,
    costs: tuple[str, ...],
    model: str | None,
    sources: tuple[Path, ...],
    where: tuple[str, ...],
    against: tuple[str, ...],
    keep_outliers: bool,
    seed: int,
    test_fraction: float | None,
    output: Path,
    plot: Path | None,
    output_format: str,
) -> None:
    """Fit a predictor to a table of measured architectures.

    TABLE is a .csv, .csv.gz or .parquet file with a column for each gene, or, with
    --space, one of shapes, and one for the target.
    The scores are those of shapes the predictor has not seen; the predictor that is saved is then
    fitted on all of them. It predicts in SI base units: a table in ms makes one of seconds.
    """
    # The help must not wait for numpy.
    from rich.console import Console

    from nastool.choices import check_name
    from nastool.cli.progress import ProgressBar
    from nastool.constraint import in_base
    from nastool.objective import Direction
    from nastool.predictors.base import check_folder, create_predictor, save_predictor
    from nastool.predictors.evidence import stated_unit
    from nastool.predictors.fitting import check_sources, fit_table, load_sources
    from nastool.predictors.tables import read_measurements

    if test_fraction is not None and not 0 <= test_fraction < 1:
        raise InvalidInputError(
            f"--test-fraction: expected at least 0 and below 1, got {test_fraction:g}"
        )
    if metric is not None:
        check_name("--metric", metric)
    if sources and model not in (None, "transfer"):
        raise InvalidInputError(f"--transfer: expected no other --model, got {model!r}")
    if not sources and model == "transfer":
        raise InvalidInputError("--model transfer needs --transfer DIR, got none")
    model = model or "xgboost"
    if model != "auto":
        create_predictor(model)
    known, cards = load_sources(sources)
    if cards and costs not in ((), cards[0].costs):
        expected = " ".join(f"--cost {cost}" for cost in cards[0].costs) or "no --cost"
        raise InvalidInputError(
            f"--transfer: expected {expected}, as {sources[0]} was fitted, got {', '.join(costs)}"
        )
    space = None
    if space_spec is not None:
        from nastool.plugins import load_space

        space = load_space(space_spec)
    target = target or _default_target(space, table)
    data = read_measurements(table, target, space, cards[0].costs if cards else costs, where)
    one = in_base(stated_unit(data.conditions, unit, table))
    data = replace(data, targets=data.targets * one.value)
    tables = check_sources(data, sources, cards)
    others = {
        source: read_measurements(path, target, space, data.costs)
        for source, path in map(_parse_against, against)
    }
    check_folder(output)
    larger = maximize or any(c.direction is Direction.MAXIMIZE for c in cards)
    direction = Direction.MAXIMIZE if larger else Direction.MINIMIZE
    console = Console(highlight=False, markup=False)
    with ProgressBar("fitting"), console.status("Fitting"):
        fitted = fit_table(
            data,
            model,
            sources=known,
            tables=tables,
            fraction=test_fraction,
            seed=seed,
            direction=direction,
            keep_outliers=keep_outliers,
        )
    source = {
        **data.source,
        "table": table.name,
        "target": target,
        "seed": seed,
        **({"transferred_from": [f"{c.metric}: {c}" for c in cards]} if cards else {}),
    }
    card = fitted.card(metric or target, one.unit, source, direction)
    card = replace(card, agreements=fitted.agreements(others))
    save_predictor(output, fitted.predictor, card, data)
    if plot is not None:
        write_page(plot, fitted, card, seed)

    notes = [*fitted.notes, *_unknown(sources, tables)]
    if output_format == "json":
        from nastool.files.documents import json_document

        click.echo(json_document("fit", _as_json(output, card, fitted, data, notes)))
        return
    if fitted.ranking:
        console.print(_ranking_table(fitted.ranking))
    console.print(_scores_table(card, fitted.held_out))
    if data.dropped:
        console.print(f"{data.dropped:,} rows without a finite {target} were left out")
    for note in notes:
        console.print(note, soft_wrap=True)
    if data.conditions:
        stated = ", ".join(f"{name} {value}" for name, value in data.conditions.items())
        console.print(f"Measured with {stated}, as the table says", soft_wrap=True)
    if fitted.optimism is not None:
        console.print(
            f"The best of many predictions is likely about {fitted.optimism:.1%} worse than "
            "predicted"
        )
    for agreement in card.agreements:
        console.print(f"Rank agreement with {agreement}", soft_wrap=True)
    console.print(f"Wrote {output}: {card.by}", soft_wrap=True)


def _default_target(space: SearchSpace | None, table: Path) -> str:
    """What a space optimises first, or the first installed one of which the table has it.

    Raises:
        InvalidInputError: None says it, or the table cannot be read.
    """
    from nastool.discovery import SEARCH_SPACES, available
    from nastool.errors import naming
    from nastool.predictors.tables import read_cells

    if space is not None and space.objectives:
        return space.objectives[0]
    first: list[str] = []
    for plugin in available(SEARCH_SPACES):
        # Of a space that is broken, or needs an argument, nothing is known.
        with contextlib.suppress(NastoolError), naming(f"space {plugin.name}"):
            factory: Any = plugin.load()
            first += factory(None).objectives[:1]
    if not first:
        raise InvalidInputError("--target: expected the column to predict, got none")
    # Spaces mostly agree; only where they do not the table is read for it.
    columns = read_cells(table).columns if len(set(first)) > 1 else first
    return next((name for name in first if name in columns), first[0])


def _parse_against(text: str) -> tuple[str, Path]:
    source, equals, table = (part.strip() for part in text.rpartition("="))
    if not (source and equals and table):
        raise InvalidInputError(f"--against: expected SOURCE=TABLE, got {text!r}")
    return source, Path(table)


def _unknown(sources: Sequence[Path], tables: Sequence[object]) -> list[str]:
    """What to say of known predictors whose table nobody kept."""
    return [
        f"{folder}: what it was fitted on is not known; where it has seen these measurements, "
        "the scores flatter"
        for folder, table in zip(sources, tables, strict=True)
        if table is None
    ]


def _as_json(
    folder: Path, card: Card, fitted: Fitted, data: Measurements, notes: Sequence[str]
) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "metric": card.metric,
        "unit": card.unit,
        "direction": card.direction.value,
        "kind": card.kind,
        "label": card.label,
        "space": card.space,
        "features": list(card.features),
        "shapes": card.shapes,
        "held_out": card.scores.as_dict() if card.scores else None,
        "interval": card.interval,
        "widths": None if card.widths is None else asdict(card.widths),
        "optimism": card.optimism,
        "agreements": [asdict(agreement) for agreement in card.agreements],
        "ranking": [
            {"kind": candidate.kind, "label": candidate.label, **candidate.scores.as_dict()}
            for candidate in fitted.ranking
        ],
        "dropped": data.dropped,
        "conditions": dict(data.conditions),
        "notes": list(notes),
    }


def _ranking_table(ranking: Sequence[Candidate]) -> Table:
    from rich.table import Table

    from nastool.numbers import score_text

    table = Table(title="Cross-validation, best first")
    table.add_column("Predictor")
    for name in ("R2", "Spearman", "Kendall", "RMSE"):
        table.add_column(name, justify="right")
    for candidate in ranking:
        s = candidate.scores
        numbers = (*(score_text(x, 4) for x in (s.r2, s.spearman, s.kendall)), f"{s.rmse:.4g}")
        table.add_row(candidate.kind, *numbers)
    return table


def _scores_table(card: Card, result: HeldOut) -> Table:
    from rich.table import Table

    from nastool.cli.tables import within_text
    from nastool.constraint import format_quantity
    from nastool.numbers import score_text

    scores = result.scores
    table = Table(title=f"{card.metric}: {card.label} on {scores.n:,} held-out shapes")
    for name in ("R2", "Spearman", "Kendall", "RMSE", "90% within"):
        table.add_column(name, justify="right")
    interval = within_text(card)
    table.add_row(
        *(score_text(value, 4) for value in (scores.r2, scores.spearman, scores.kendall)),
        format_quantity(scores.rmse, card.unit),
        interval,
    )
    return table
