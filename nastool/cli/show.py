"""``nastool show``: the front of a stored study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nastool.cli import completion
from nastool.cli.executing import how_it_went
from nastool.cli.options import (
    PLUGIN_FILES,
    corrected_option,
    output_options,
    plugin_option,
    storage_option,
)
from nastool.cli.pages import help_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nastool.cli.output import Destination
    from nastool.store import Store, StudySummary


@help_page(
    "nastool show under-66M",
    "nastool show under-66M --all --output evaluations.csv",
    "nastool show under-66M --recipe > study.toml",
)
@click.command()
@click.argument("study", metavar="STUDY", shell_complete=completion.studies)
@storage_option
@click.option(
    "--recipe",
    "as_recipe",
    is_flag=True,
    help="Show what the study is made from, as a file for 'nastool run'; --format json for JSON.",
)
@output_options
@corrected_option
@plugin_option
def show(
    study: str,
    as_recipe: bool,
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
    from nastool.comparison.comparison import runs_of
    from nastool.recipes.study_recipe import stored_problem
    from nastool.store import open_store
    from nastool.study import load_result

    destination = Destination(output_format, limit, output, plot, everything, corrected=corrected)
    of_a_front = {
        "--cloud": cloud is not None,
        "--limit": limit is not None,
        "--corrected": corrected,
    }
    if as_recipe:
        csv = destination.format == "csv"
        _none_of({**of_a_front, "--plot": plot, "--all": everything, "csv": csv}, "its --recipe")
    with open_store(storage, create=False) as store:
        if as_recipe:
            _show_recipe(destination, store.load(study).summary)
            return
        runs = runs_of(store, study)
        if runs:
            _none_of(of_a_front, f"the comparison {study!r}")
            _show_comparison(destination, store, study, runs)
            return
        summary = store.load(study).summary
        clouds = destination.clouds(cloud, stored_problem(summary)) if cloud else ()
        result = load_result(store, study, stored_problem(summary))
        verification = store.annotation(study, "verification")
    facts: dict[str, str | int] = {
        "strategy": summary.text("strategy"),
        "seed": summary.number("seed"),
        "storage": store.url,
        **how_it_went(summary.description),
    }
    destination.write(result, facts, verification, clouds)


def _none_of(options: Mapping[str, object], got: str) -> None:
    """Raise InvalidInputError where an option is given that only the front of a study takes."""
    from nastool.errors import InvalidInputError

    for option, given in options.items():
        if given:
            raise InvalidInputError(f"{option}: expected a study, which has a front, got {got}")


def _show_comparison(
    destination: Destination, store: Store, name: str, runs: list[StudySummary]
) -> None:
    from nastool.cli.compare import write
    from nastool.cli.truth import beside, stored_front
    from nastool.comparison import load_comparison
    from nastool.constraint import parse_constraint
    from nastool.recipes.study_recipe import stored_problem

    # The latest one knows what was asked for last.
    latest = runs[-1]
    bounds = [
        parse_constraint(text)
        for text in (latest.texts("bounds") if "bounds" in latest.description else ())
    ]
    problem = stored_problem(runs[0])
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


def _show_recipe(destination: Destination, summary: StudySummary) -> None:
    from nastool.cli.output import write_file
    from nastool.recipes.study_recipe import shared_recipe

    files = click.get_current_context().meta.get(PLUGIN_FILES, ())
    recipe = replace(shared_recipe(summary), plugins=tuple(map(str, files)))
    text = (recipe.to_json() if destination.format == "json" else recipe.to_toml()).rstrip("\n")
    if destination.output is None:
        click.echo(text)
    else:
        write_file(destination.output, text)
        click.echo(f"Wrote {destination.output}", err=True)
