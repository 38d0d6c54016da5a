"""What ``nastool validate`` shows of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from nastool.cli.cost import announce
from nastool.cli.tracking import Tracking

if TYPE_CHECKING:
    from nastool.results import Result
    from nastool_supernets.finetuning.cells import Cell
    from nastool_supernets.finetuning.report import Report
    from nastool_supernets.finetuning.training import Outcome
    from nastool_supernets.finetuning.workbench import Workbench

_WORTH_TIMING = 2_000
"""Optimizer steps of which it is worth to say how long they take."""


def say_untrained(bench: Workbench, names: Sequence[str], known: int) -> None:
    """Say which tasks have texts longer than all that the supernet was trained on."""
    lengths = {name: bench.curriculum.task(name).settings.max_length for name in names}
    if longer := [f"{name} ({length})" for name, length in lengths.items() if length > known]:
        click.echo(
            f"Texts of {', '.join(longer)} may be longer than the {known} tokens that the supernet "
            "was trained on: fine-tuning meets later positions untrained (--max-length)",
            err=True,
        )


def say_plan(
    bench: Workbench, known: Mapping[Cell, Outcome | None], pretrains: bool, *, always: bool
) -> None:
    """Say what will be trained and what is kept already, and how long it takes if that is much."""
    from nastool_supernets.finetuning.cost import seconds_of, steps_of
    from nastool_supernets.finetuning.subnets import FURTHER

    counts = [
        _counted(len({getattr(cell, name) for cell in known}), noun)
        for name, noun in (
            ("shape", "shape"),
            ("task", "task"),
            ("mode", "start"),
            ("seed", "seed"),
        )
    ]
    left = [cell for cell, outcome in known.items() if outcome is None]
    others = [other for cell in left for other in bench.needed(cell) if other not in left]
    others = list(dict.fromkeys(others))
    what = (
        f"Fine-tuning {counts[0]} on {counts[1]} from {counts[2]} with {counts[3]}: "
        f"{_counted(len(known), 'score')}, {len(known) - len(left):,} of them kept already"
    )
    if others:
        what += f", {len(others):,} more models to start or learn from"
    subnets = dict.fromkeys((cell.shape, cell.mode) for cell in known if cell.mode in FURTHER)
    further = [one for one in subnets if pretrains and not bench.is_pretrained(*one)]
    if further:
        what += f", besides the further training of {_counted(len(further), 'subnet')}"
    wanted = [*others, *left]
    worth = always or steps_of(bench, wanted) >= _WORTH_TIMING
    announce(what, seconds_of(bench, wanted) if worth and wanted else None)


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def announce_cell(
    tracking: Tracking, cell: Any, outcome: Any, known: bool, number: int, total: int
) -> None:
    """Say what a new score is, and draw it whether it is new or not."""
    start = "-".join(map(str, [*cell.shape, cell.mode]))
    tracking.log(
        cell.seed, {f"{cell.task}/{name}/{start}": value for name, value in outcome.scores.items()}
    )
    if not known:
        click.echo(f"{number}/{total} {cell_line(cell, outcome)}", err=True)


def cell_line(cell: Any, outcome: Any) -> str:
    """A cell and what it reached, in a line."""
    scores = [f"{name} {100 * value:.1f}" for name, value in outcome.scores.items()]
    chosen = [f"{name.replace('_', ' ')} {value:g}" for name, value in outcome.chosen.items()]
    shape = "-".join(map(str, cell.shape))
    return (
        f"{cell.task}, {cell.mode}, {shape}, seed {cell.seed}: {', '.join(scores)} "
        f"({', '.join(['epoch ' + format(outcome.epoch, '.3g'), *chosen])}, "
        f"{outcome.seconds:,.0f} s)"
    )


def send_report(destination: Any, report: Report, result: Result) -> None:
    """Write the report in the formats that are wanted."""
    from nastool_supernets.finetuning import report as reports
    from nastool_supernets.finetuning.pictures import validation_page

    destination.send(
        {
            "table": lambda width: reports.as_table(report, width),
            "json": lambda: reports.as_json(report),
            "csv": lambda: reports.as_csv(report),
        },
        lambda: validation_page(report, result.problem),
        result.problem,
    )
