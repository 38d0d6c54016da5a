"""``nastool verify``: measure the front of a stored study."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nastool.cli.options import count, plugin_option, storage_option
from nastool.errors import InvalidInputError, NastoolError

if TYPE_CHECKING:
    from nastool.objective import Objective
    from nastool.results import Result
    from nastool.verification import Verification

MEASURED = "measured_"
"""What the name of an objective begins with that measures what another one predicts."""


@click.command()
@click.argument("study", metavar="STUDY")
@click.option(
    "--supernet",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Supernet that quality is measured on.",
)
@click.option(
    "--text",
    metavar="FILE",
    multiple=True,
    help="Held-out text to measure it with; repeatable. Default: what training held out.",
)
@click.option(
    "--measure",
    "measure_texts",
    metavar="METRIC=OBJECTIVE",
    multiple=True,
    help="What measures a metric, where its name does not say it; repeatable.",
)
@click.option("--limit", type=count, metavar="N", help="Shapes measured at most. Default: all.")
@click.option("--format", "output_format", type=click.Choice(["table", "json"]), default="table")
@storage_option
@plugin_option
def verify(
    study: str,
    supernet: Path | None,
    text: tuple[str, ...],
    measure_texts: tuple[str, ...],
    limit: int | None,
    output_format: str,
    storage: str,
) -> None:
    """Measure the front of a stored study: predicted against measured.

    STUDY is a name that 'nastool studies' lists. Measurements are kept in the store, and the
    study is marked as verified until its front changes.
    """
    from nastool.cli.progress import ProgressBar
    from nastool.cli.show import problem_of
    from nastool.store import open_store
    from nastool.study import load_result
    from nastool.verification import verify as measure_front

    settings: dict[str, Any] = {}
    if supernet is not None:
        settings["supernet"] = str(supernet)
    if text:
        settings["text"] = text
    with open_store(storage, create=False) as store:
        result = load_result(store, study, problem_of(store.load(study).summary))
        measured, skipped = _measured(result, measure_texts, settings)
        for name, reason in skipped.items():
            click.echo(f"{name} is not measured: {reason}", err=True)
        with ProgressBar("measuring") as progress:
            found = measure_front(result, measured, limit, store, progress=progress)
        store.annotate(study, "verification", found.as_dict())
    if output_format == "json":
        import json

        content = {"study": study, **found.as_dict(), "architectures": found.records()}
        click.echo(json.dumps(content, indent=2))
    else:
        _print(found, study)


def _measured(
    result: Result, texts: tuple[str, ...], settings: Mapping[str, Any]
) -> tuple[dict[str, Objective], dict[str, str]]:
    """What measures each predicted metric, and why the others cannot be measured."""
    from nastool.plugins import load_objective, parse_spec
    from nastool.verification import predicted_metrics

    names = [metric.name for metric in predicted_metrics(result)]
    if not names:
        raise InvalidInputError(f"study {result.name!r} predicts nothing: there is nothing to do")
    given: dict[str, str] = {}
    for text in texts:
        metric, equals, objective = text.rpartition("=")
        if not equals or metric not in names:
            raise InvalidInputError(
                f"--measure: expected METRIC=OBJECTIVE with METRIC one of {', '.join(names)}, "
                f"got {text!r}"
            )
        given[metric] = objective
    measured: dict[str, Objective] = {}
    skipped: dict[str, str] = {}
    for name in names:
        spec = given.get(name, f"{MEASURED}{parse_spec(name)}")
        try:
            measured[name] = load_objective(spec, result.problem.space, _taken(spec, settings))
        except NastoolError as error:
            if name in given:
                raise
            skipped[name] = str(error)
    if not measured:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise InvalidInputError(f"nothing of study {result.name!r} can be measured: {reasons}")
    return measured, skipped


def _taken(spec: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that an objective has."""
    from nastool.plugins import OBJECTIVES, find, parse_spec

    factory: Any = find(OBJECTIVES, parse_spec(spec).name).load()
    known = inspect.signature(factory).parameters
    return {name: value for name, value in settings.items() if name in known}


def _print(found: Verification, study: str) -> None:
    import numpy as np
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from nastool.constraint import format_quantity

    problem = found.result.problem
    values = found.result.values(found.genotypes)
    intervals = {agreement.metric: agreement.interval for agreement in found.agreements}
    table = Table(box=None, pad_edge=False)
    table.add_column("shape", overflow="fold")
    for name in found.measured:
        for header in (name, "measured", "off"):
            table.add_column(Text(header), justify="right", no_wrap=True)
    for row, genotype in enumerate(found.genotypes):
        cells = [problem.space.format(genotype)]
        for name, measured in found.measured.items():
            unit = problem.metric(name).unit
            predicted, value = float(values[name][row]), float(measured[row])
            half = intervals[name]
            outside = half is not None and not abs(value - predicted) <= half
            off = f"{(value - predicted) / abs(predicted):+.1%}" if predicted else ""
            shown = "failed" if np.isnan(value) else format_quantity(value, unit)
            cells += [format_quantity(predicted, unit), shown, off + ("!" if outside else " ")]
        table.add_row(*map(Text, cells))
    console = Console(highlight=False)
    console.print(table)
    console.print()
    for agreement in found.agreements:
        console.print(Text(str(agreement)))
        console.print(Text(f"  measured by: {agreement.by}"))
    if any(agreement.hits is not None for agreement in found.agreements):
        console.print("  !: outside of the interval that was to hold 90%")
    console.print(
        f"{found.kept} of {len(found.genotypes)} shapes are on the front of the measured values"
    )
    console.print(
        Text(f"Study {study} is verified on {len(found.genotypes)} of {found.front} shapes")
    )
