"""``nastool latency fit``: the predictor of a device, again."""

from __future__ import annotations

from pathlib import Path

import click

from nastool.cli.options import plugin_option
from nastool.cli.pages import help_page
from nastool.cli.predictor_plot import plot_option
from nastool_objectives.cli.latency.options import devices_option, fit_options
from nastool_objectives.cli.latency.output import fit_and_echo


@help_page(
    "nastool latency fit laptop --like pixel7",
)
@click.command()
@click.argument("name", metavar="DEVICE")
@click.option("--force", is_flag=True, help="Let noise through, marked as such.")
@fit_options
@plot_option
@devices_option
@plugin_option
def fit(
    name: str,
    force: bool,
    model: str | None,
    sources: tuple[str, ...],
    plot: Path | None,
    devices_dir: Path | None,
) -> None:
    """Fit the predictor of a device again.

    DEVICE is a name that 'nastool latency list' shows, or the path to a device's folder.
    """
    from nastool.plugins import load_space
    from nastool_objectives.latency.registry import find_device, own_device, read_card

    folder = own_device(name, devices_dir)
    space = load_space(read_card(folder).space)
    known = [find_device(source, devices_dir) for source in sources]
    fit_and_echo(folder, space, model, known, force=force, plot=plot)
