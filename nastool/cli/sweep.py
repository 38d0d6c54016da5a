"""``nastool sweep``: one search for each limit on a metric, side by side."""

from __future__ import annotations

from pathlib import Path

import click

from nastool.cli import completion
from nastool.cli.constraints import constraint_options, read_constraints
from nastool.cli.executing import Executing, executor_options
from nastool.cli.options import (
    budget_options,
    cloud_option,
    ending_options,
    objective_option,
    parse_time,
    plugin_option,
    report_options,
    space_option,
    storage_option,
    strategy_option,
)
from nastool.cli.pages import help_page
from nastool.cli.tracking import Tracking, tracker_option


@help_page(
    "nastool sweep --space supershaper --metric params --from 40M --to 110M --step 10M",
    "nastool sweep --space supershaper --metric params --at 45M,66M --strategy exact",
    groups={
        "Limits": "--from --to --step --at",
    },
)
@click.command()
@space_option
@objective_option("What is optimised; of several, the first. Default: what the space declares.")
@click.option(
    "--metric",
    "metric_text",
    metavar="NAME",
    required=True,
    shell_complete=completion.metrics,
    help="What is limited, e.g. params.",
)
@click.option("--from", "start", metavar="N", help="First limit: 40M, 20ms.")
@click.option("--to", "stop", metavar="N", help="Last limit.")
@click.option("--step", metavar="N", help="From one limit to the next.")
@click.option(
    "--at",
    "at_texts",
    metavar="N,N,...",
    multiple=True,
    help="The limits themselves, instead of --from, --to and --step: --at 45M,55M,66M; repeatable.",
)
@strategy_option
@constraint_options
@budget_options
@ending_options
@executor_options
@tracker_option
@storage_option
@cloud_option
@report_options
@plugin_option
def sweep(
    space_text: str,
    objective_texts: tuple[str, ...],
    metric_text: str,
    start: str | None,
    stop: str | None,
    step: str | None,
    at_texts: tuple[str, ...],
    strategy_text: str,
    constraint_texts: tuple[str, ...],
    upper_texts: tuple[str, ...],
    lower_texts: tuple[str, ...],
    budget: int,
    seed: int,
    batch_size: int | None,
    settings_texts: tuple[str, ...],
    time_text: str | None,
    patience: int | None,
    executing: Executing,
    tracking: Tracking,
    storage: str,
    cloud: Path | None,
    output_format: str | None,
    output: Path | None,
    plot: Path | None,
) -> None:
    """Search once for each limit on a metric, and show the best under each.

    Each search is the study that 'nastool search' makes with that limit: a sweep that was stopped
    goes on where it was. A metric that is better when larger is limited from below.
    """
    # Here and not above: the help page must not wait for numpy.
    from nastool.cli.output import Destination
    from nastool.cli.sweeping import run, show
    from nastool.plots.clouds import measured_cloud
    from nastool.recipes.problems import default_objectives
    from nastool.recipes.settings import read_pairs
    from nastool.recipes.study_recipe import StudyRecipe
    from nastool.searching.sweeps import Sweep, read_limits
    from nastool.study import Ending

    destination = Destination(output_format, None, output, plot)
    destination.check_cloud(cloud)
    limits = read_limits(start, stop, step, at_texts)
    recipe = StudyRecipe(
        space_text,
        tuple(objective_texts or default_objectives(space_text)[:1]),
        read_constraints(constraint_texts, upper_texts, lower_texts),
        strategy_text,
        read_pairs(settings_texts, "--option"),
        budget,
        seed,
        batch_size,
    )
    plan = Sweep(recipe, metric_text, limits)
    limit_s = None if time_text is None else parse_time("--time", time_text)
    name, metric = plan.problem.objectives[0].name, plan.metric.name
    clouds = () if cloud is None else (measured_cloud(cloud, plan.problem, metric, name),)
    with executing.opened() as executor:
        found = run(plan, storage, Ending(limit_s, patience), executor, tracking)
    show(destination, plan, found, storage, clouds)
