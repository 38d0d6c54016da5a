"""``nastool latency compare``: do two runs of the same shapes say the same?"""

from __future__ import annotations

from pathlib import Path

import click

from nastool.cli.options import plugin_option
from nastool.cli.pages import help_page
from nastool.errors import InvalidInputError
from nastool_objectives.cli.latency.options import (
    devices_option,
    gate_options,
    space_option,
    where_option,
)


@help_page(
    "nastool latency compare laptop phone",
)
@click.command()
@click.argument("first")
@click.argument("second")
@click.option("--unit", default="s", show_default=True, help="Unit of the latencies in files.")
@click.option("--column", default="latency_s", show_default=True, help="Column of the latencies.")
@space_option
@where_option
@gate_options
@devices_option
@plugin_option
def compare(
    first: str,
    second: str,
    unit: str,
    column: str,
    space_text: str,
    where: tuple[str, ...],
    min_spearman: float,
    max_difference: float,
    force: bool,
    devices_dir: Path | None,
) -> None:
    """Compare two runs of the same shapes: do they say the same?

    FIRST and SECOND are tables or devices. The exit code is 2 where the noise gate refuses.
    """
    from nastool.files.reading import is_file
    from nastool.plugins import load_space
    from nastool_objectives.latency.fitting import judge
    from nastool_objectives.latency.registry import TABLE, find_device
    from nastool_objectives.latency.repeatability import NoiseGate
    from nastool_objectives.latency.tables import join, read_latencies

    space = load_space(space_text)
    runs = []
    for text in (first, second):
        if is_file(Path(text)):
            runs.append(read_latencies(Path(text), space, unit, column, where))
        else:
            runs.append(read_latencies(find_device(text, devices_dir) / TABLE, space, "s"))
    both = join(space, *runs)
    click.echo(f"{first} against {second}: {both.repeats()}")
    verdict, reason = judge(both, NoiseGate(min_spearman, max_difference), force=force)
    if verdict == "refused":
        raise InvalidInputError(f"too noisy to rank by: {reason}")
    click.echo(f"noise gate: {verdict}" + (f" ({reason})" if reason else ""))
