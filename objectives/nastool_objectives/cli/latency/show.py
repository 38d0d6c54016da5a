"""``nastool latency show``: what is known about a device."""

from __future__ import annotations

from pathlib import Path

import click

from nastool.cli.options import format_option
from nastool.cli.pages import help_page
from nastool_objectives.cli.latency.options import devices_option
from nastool_objectives.cli.latency.output import predictor_text, whole_device_json


@help_page(
    "nastool latency show laptop",
    "nastool latency show h100 --format json",
)
@click.command()
@click.argument("name", metavar="DEVICE")
@devices_option
@format_option
def show(name: str, devices_dir: Path | None, output_format: str) -> None:
    """Show what is known about a device.

    DEVICE is a name that 'nastool latency list' shows, or the path to a device's folder.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from nastool.cli.output import print_whole
    from nastool.files.reading import is_folder
    from nastool_objectives.latency.quantities import LATENCY, QUANTITIES
    from nastool_objectives.latency.registry import PREDICTOR, find_device, read_card

    folder = find_device(name, devices_dir)
    if output_format == "json":
        from nastool.files.documents import json_document

        click.echo(json_document("device", whole_device_json(folder)))
        return
    card = read_card(folder)
    rows: dict[str, object] = {
        "device": card.name,
        "measured by": card.device,
        "date": card.date,
        **dict(card.settings),
        **dict(card.facts),
        **{
            key.replace("_", " "): "unknown" if value is None else value
            for key, value in card.load.items()
        },
        "space": card.space,
        **{key.replace("_", " "): value for key, value in card.plan.items()},
        "repeats, shapes": card.shapes or "not known",
        "repeats, anchors": card.anchors or "not known",
        "noise gate": f"{card.verdict}: {card.reason}" if card.reason else card.verdict,
        "predictor": predictor_text(folder / PREDICTOR),
        **{
            f"predictor of {quantity.name}": predictor_text(folder / quantity.folder)
            for quantity in QUANTITIES
            if quantity != LATENCY and is_folder(folder / quantity.folder)
        },
        "remarks": card.remarks,
        "folder": folder,
    }
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for key, value in rows.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        if text:
            grid.add_row(Text(key), Text(text))
    print_whole(Console(highlight=False), grid)
