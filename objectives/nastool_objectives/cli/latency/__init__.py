"""``nastool latency``: measure devices, import tables, compare and list them."""

from __future__ import annotations

import click

from nastool.cli.pages import help_page
from nastool_objectives.cli.latency.compare import compare
from nastool_objectives.cli.latency.fit import fit
from nastool_objectives.cli.latency.importing import import_table
from nastool_objectives.cli.latency.list import list_devices
from nastool_objectives.cli.latency.measure import measure
from nastool_objectives.cli.latency.show import show
from nastool_objectives.cli.latency.study import study


@help_page("nastool latency measure --device cpu --threads 1 --shapes 300")
@click.group()
def latency() -> None:
    """Measure latency on devices and make objectives of it."""


for command in (compare, fit, import_table, list_devices, measure, show, study):
    latency.add_command(command)
