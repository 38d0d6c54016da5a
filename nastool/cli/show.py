"""``nastool show``: the front of a stored study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nastool.cli.options import (
    corrected_option,
    output_options,
    plugin_option,
    storage_option,
)

if TYPE_CHECKING:
    from nastool.cli.output import Destination
    from nastool.problem import Problem
    from nastool.store import Store, StudySummary


@click.command()
@click.argument("study", metavar="STUDY")
@storage_option
@output_options
@corrected_option
@plugin_option
def show(
    study: str,
    storage: str,
    everything: bool,
    cloud: Path | None,
    output_format: str | None,
    limit: int | None,
    output: Path | None,
    plot: Path | None,
    corrected: bool,
) -> None:
    """Show the front of a stored study, or how the strategies of a comparison stand.

    STUDY is a name that 'nastool studies' lists.
    """
    from nastool.cli.output import Destination
    from nastool.comparison import runs_of
    from nastool.errors import InvalidInputError
    from nastool.store import open_store
    from nastool.study import load_result

    destination = Destination(output_format, limit, output, plot, everything, corrected=corrected)
    with open_store(storage, create=False) as store:
        runs = runs_of(store, study)
        if runs:
            if cloud is not None:
                raise InvalidInputError(
                    f"--cloud: expected a study, which has a front, got the comparison {study!r}"
                )
            if limit is not None:
                raise InvalidInputError(
                    f"--limit: expected a study, which has a front, got the comparison {study!r}"
                )
            _show_comparison(destination, store, study, runs)
            return
        summary = store.load(study).summary
        clouds = destination.clouds(cloud, problem_of(summary)) if cloud else ()
        result = load_result(store, study, problem_of(summary))
        verification = store.annotation(study, "verification")
    facts: dict[str, str | int] = {
        "strategy": summary.text("strategy"),
        "seed": summary.number("seed"),
        "storage": store.url,
    }
    destination.write(result, facts, verification, clouds)


def _show_comparison(
    destination: Destination, store: Store, name: str, runs: list[StudySummary]
) -> None:
    from nastool.cli.compare import write
    from nastool.cli.truth import beside, stored_front
    from nastool.comparison import load_comparison
    from nastool.constraint import parse_constraint

    # The latest one knows what was asked for last.
    latest = runs[-1]
    bounds = [
        parse_constraint(text)
        for text in (latest.texts("bounds") if "bounds" in latest.description else ())
    ]
    problem = problem_of(runs[0])
    comparison = load_comparison(store, name, problem, bounds=bounds)
    comparison = beside(comparison, stored_front(store, name, problem))
    write(destination, comparison, name, store.url)
    finished = len(comparison.seeds) * len(comparison.results)
    if finished < len(runs):
        click.echo(
            f"{len(runs) - finished} of {len(runs)} runs are left out: not every strategy has "
            "finished their seeds.",
            err=True,
        )


def problem_of(summary: StudySummary) -> Problem:
    """The problem of a stored study, made again from its description.

    Raises:
        InvalidInputError: A part is unknown; it may come from a plugin file that is not loaded.
        StoreError: The description is damaged.
    """
    from nastool.cli.problems import make_problem
    from nastool.constraint import parse_constraint
    from nastool.errors import InvalidInputError

    refined = summary.description.get("refined")
    if refined is not None and not (
        isinstance(refined, dict) and all(isinstance(path, str) for path in refined.values())
    ):
        raise summary.damaged("refined", "name a folder for each metric", refined)
    try:
        constraints = [parse_constraint(text) for text in summary.texts("constraints")]
        return make_problem(
            summary.text("space"), summary.texts("objectives"), constraints, refined
        )
    except InvalidInputError as error:
        raise InvalidInputError(
            f"study {summary.name!r} cannot be opened: {error} "
            "(what a plugin file defines needs --plugin FILE.py again)"
        ) from error
