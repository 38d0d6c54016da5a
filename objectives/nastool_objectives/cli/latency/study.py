"""``nastool latency study``: does the shape matter on these devices?"""

from __future__ import annotations

from pathlib import Path

import click

from nastool.cli.options import count, plugin_option, whole
from nastool.cli.pages import help_page
from nastool_objectives.cli.latency.options import devices_option, space_option


@help_page(
    "nastool latency study laptop --budget 2k",
)
@click.command()
@click.argument("names", metavar="DEVICE...", nargs=-1, required=True)
@space_option
@click.option(
    "--objective",
    "objective_text",
    metavar="NAME",
    default="perplexity",
    show_default=True,
    help="What shapes are searched for.",
)
@click.option(
    "--budget",
    type=count,
    default="10000",
    show_default=True,
    help="Evaluations of each search for a device.",
)
@click.option("--seed", type=whole, default=0, show_default=True, help="Of the first search.")
@click.option(
    "--seeds",
    type=count,
    default="5",
    show_default=True,
    help="Times that both searches are run.",
)
@click.option(
    "--output",
    metavar="FILE.html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Page for the figures.",
)
@devices_option
@plugin_option
def study(
    names: tuple[str, ...],
    space_text: str,
    objective_text: str,
    budget: int,
    seed: int,
    seeds: int,
    output: Path | None,
    devices_dir: Path | None,
) -> None:
    """Study devices: does the shape matter, and does it pay to search under latency?

    Prints how much of the latency the parameter count explains; --output draws shapes found under
    parameter limits, under latency limits and by heuristics, importances, and predicted against
    measured latency.
    """
    from nastool.cli.output import write_file
    from nastool.cli.progress import ProgressBar
    from nastool.recipes.problems import make_problem
    from nastool_objectives.latency.device_study import study_device
    from nastool_objectives.latency.figures import study_page
    from nastool_objectives.latency.objective import create
    from nastool_objectives.latency.registry import find_device

    problem = make_problem(space_text, [objective_text], ())
    space, quality = problem.space, problem.objectives[0]
    found = []
    for name in names:
        # A whole path: a bare name would be looked up where devices are kept by default.
        folder = find_device(name, devices_dir).resolve()
        predicted = create(space, str(folder), f"latency[{name}]")
        with ProgressBar(f"studying {name}"):
            found.append(
                study_device(space, quality, predicted, budget=budget, seed=seed, seeds=seeds)
            )
        click.echo(f"{found[-1].name}: {found[-1].sensitivity}")
        for of, source in found[-1].sources.items():
            click.echo(f"  {of}: {source}")
    if output is not None:
        write_file(output, study_page(found))
        click.echo(f"Wrote {output}", err=True)
