"""``nastool latency import``: a device out of a table that was measured elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nastool.cli.options import count, plugin_option
from nastool.cli.pages import help_page
from nastool.errors import InvalidInputError
from nastool_objectives.cli.latency.options import (
    devices_option,
    fit_options,
    gate_options,
    space_option,
    where_option,
)
from nastool_objectives.cli.latency.output import echo_table, fit_and_echo

if TYPE_CHECKING:
    from nastool_objectives.latency.registry import DeviceCard


@help_page(
    "nastool latency import measured.csv --device phone --unit ms",
    groups={
        "Table": "--column --where --about --batch-size --sequence-length --space",
        "Noise gate and predictor": (
            "--min-spearman --max-difference --force --model --like --devices-dir"
        ),
    },
)
@click.command("import")
@click.argument("tables", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--device", "name", metavar="NAME", required=True, help="What to call the device.")
@click.option("--unit", required=True, help="Unit of the latencies: s, ms, us or ns.")
@click.option("--column", default="latency_s", show_default=True, help="Column of the latencies.")
@click.option("--about", default="", help="What was measured, on what: kept with the table.")
@click.option("--batch-size", type=count, help="Inputs of one pass. Default: as a table says.")
@click.option("--sequence-length", type=count, help="Tokens of an input. Default: likewise.")
@where_option
@space_option
@gate_options
@fit_options
@devices_option
@plugin_option
def import_table(
    tables: tuple[Path, ...],
    name: str,
    unit: str,
    column: str,
    about: str,
    batch_size: int | None,
    sequence_length: int | None,
    where: tuple[str, ...],
    space_text: str,
    min_spearman: float,
    max_difference: float,
    force: bool,
    model: str | None,
    sources: tuple[str, ...],
    devices_dir: Path | None,
) -> None:
    """Import a table measured elsewhere, or two runs of the same shapes.

    A table has a column for each gene (layer_1, layer_2, ...) and one of latencies. With two runs
    the noise gate can tell whether they agree; with one only where shapes were measured again.
    Conditions are taken from columns such as batch_size or threads; what nobody says is unknown.
    """
    from nastool.plugins import load_space
    from nastool_objectives.latency.fitting import check_fit, keep
    from nastool_objectives.latency.registry import DeviceCard, devices_folder, find_device
    from nastool_objectives.latency.repeatability import NoiseGate
    from nastool_objectives.latency.tables import join, read_latencies, stated

    if len(tables) > 2:
        raise InvalidInputError(f"expected one table, or two runs of it, got {len(tables)}")
    space = load_space(space_text)
    folder = devices_folder(devices_dir) / name
    known = [find_device(source, devices_dir) for source in sources]
    check_fit(folder, space, model, known)
    read = [read_latencies(path, space, unit, column, where) for path in tables]
    table = read[0] if len(read) == 1 else join(space, *read)
    card = DeviceCard(
        name=name,
        device="imported",
        settings={},
        facts={"about": about, "tables": [table.name for table in tables]},
        workload=None,
        space=space_text,
        fingerprint=space.fingerprint,
        gate=NoiseGate(min_spearman, max_difference),
        conditions=stated(
            table.conditions, {"batch_size": batch_size, "sequence_length": sequence_length}
        ),
    )
    _free(folder, card)
    judged = keep(folder, space, card, table, force=force)
    echo_table(judged, table)
    load = ", ".join(
        f"{key.replace('_', ' ')} {'unknown' if value is None else value}"
        for key, value in judged.load.items()
    )
    click.echo(f"measured with: {load}")
    fit_and_echo(folder, space, model, known, force=force)


def _free(folder: Path, card: DeviceCard) -> None:
    """Keep an import from replacing a device that came from something else."""
    from nastool.files.reading import is_file
    from nastool_objectives.latency.registry import CARD, read_card

    if is_file(folder / CARD) and read_card(folder).device != card.device:
        raise InvalidInputError(
            f"{card.name!r} is a device that was measured here; take another name, or remove "
            f"{folder}"
        )
