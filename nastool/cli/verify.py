"""``nastool verify``: measure the front of a stored study."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nastool.cli import completion
from nastool.cli.executing import Executing, executor_options
from nastool.cli.measuring import Measuring, measuring_names, measuring_options
from nastool.cli.options import count, format_option, plugin_option, storage_option
from nastool.cli.pages import help_page

if TYPE_CHECKING:
    from nastool.verification import Verification


@help_page(
    "nastool verify mine --supernet runs/supernet",
    "nastool verify mine --supernet runs/supernet --limit 10 --text held_out.txt",
    groups={
        "What measures": f"{measuring_names()} --limit",
    },
)
@click.command()
@click.argument("study", metavar="STUDY", shell_complete=completion.studies)
@measuring_options
@click.option("--limit", type=count, metavar="N", help="Shapes measured at most. Default: all.")
@executor_options
@format_option
@storage_option
@plugin_option
def verify(
    study: str,
    measuring: Measuring,
    limit: int | None,
    executing: Executing,
    output_format: str,
    storage: str,
) -> None:
    """Measure the front of a stored study: predicted against measured.

    STUDY is a name that 'nastool studies' lists. Measurements are kept in the store, and the
    study is marked as verified until its front changes.
    """
    from nastool.cli.progress import ProgressBar
    from nastool.recipes.study_recipe import stored_problem
    from nastool.store import open_store
    from nastool.study import load_result
    from nastool.verification import verify as measure_front

    with open_store(storage, create=False) as store:
        result = load_result(store, study, stored_problem(store.load(study).summary))
        measured = measuring.objectives(result.problem)
        with executing.opened() as executor, ProgressBar("measuring") as progress:
            found = measure_front(result, measured, limit, store, executor, progress)
        store.annotate(study, "verification", found.as_dict())
    if output_format == "json":
        from nastool.files.documents import json_document

        content = {"study": study, **found.as_dict(), "architectures": found.records()}
        click.echo(json_document("verification", content))
    else:
        _print(found, study)


def _print(found: Verification, study: str) -> None:
    import numpy as np
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from nastool.cli.output import print_whole
    from nastool.constraint import format_quantity
    from nastool.predictors.trust import trust

    problem = found.result.problem
    values = found.result.values(found.genotypes)
    worth = {
        name: trust(problem.metric(name), found.genotypes, values[name]) for name in found.measured
    }
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
            ends = worth[name].interval(row)
            missed = ends is not None and not ends[0] <= value <= ends[1]
            off = f"{(value - predicted) / abs(predicted):+.1%}" if predicted else ""
            shown = "failed" if np.isnan(value) else format_quantity(value, unit)
            said = f"{format_quantity(predicted, unit)} {worth[name].text(row)}".rstrip()
            cells += [said, shown, off + ("*" if missed else " ")]
        table.add_row(*map(Text, cells))
    console = Console(highlight=False)
    print_whole(console, table)
    console.print()
    for agreement in found.agreements:
        console.print(Text(str(agreement)))
        console.print(Text(f"  measured by: {agreement.by}"))
    for name, judged in worth.items():
        source = judged.metric.provenance
        for note in filter(None, (source.contradiction, source.agreement, *judged.notes)):
            console.print(Text(f"{name}: {note}"))
    if any(agreement.hits is not None for agreement in found.agreements):
        console.print("  *: outside of the interval that was to hold 90%")
    if found.satisfying is not None:
        bounds = ", ".join(map(str, problem.constraints))
        console.print(
            Text(f"{found.satisfying} of {len(found.genotypes)} shapes still satisfy {bounds}")
        )
    console.print(
        f"{found.kept} of {len(found.genotypes)} shapes are on the front of the measured values"
    )
    console.print(
        Text(f"Study {study} is verified on {len(found.genotypes)} of {found.front} shapes")
    )
