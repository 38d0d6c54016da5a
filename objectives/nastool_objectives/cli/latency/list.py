"""``nastool latency list``: the devices that are kept."""

from __future__ import annotations

from pathlib import Path

import click

from nastool.cli.options import format_option
from nastool.cli.pages import help_page
from nastool_objectives.cli.latency.options import devices_option
from nastool_objectives.cli.latency.output import device_json, predictor_text


@help_page(
    "nastool latency list",
    "nastool latency list --shipped",
    "nastool latency list --format json",
)
@click.command("list")
@click.option("--shipped", is_flag=True, help="List the devices that ship with nastool instead.")
@devices_option
@format_option
def list_devices(shipped: bool, devices_dir: Path | None, output_format: str) -> None:
    """List the devices that are kept."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from nastool.cli.output import print_whole
    from nastool_objectives.latency.registry import (
        PREDICTOR,
        device_names,
        devices_folder,
        read_card,
        shipped_devices,
    )

    root = shipped_devices() if shipped else devices_folder(devices_dir)
    names = device_names(root)
    if output_format == "json":
        from nastool.files.documents import json_document

        devices = [device_json(root / name) for name in names]
        click.echo(json_document("devices", {"folder": str(root), "devices": devices}))
        return
    if not names:
        click.echo(f"No devices in {root}; 'nastool latency list --shipped' lists those that ship")
        return
    table = Table(box=None, pad_edge=False)
    headers = ["device", "measured by", "date", "space", "batch", "length", "noise gate"]
    for header in (*headers, "predictor"):
        table.add_column(header, overflow="fold", no_wrap=header == "device")
    for name in names:
        card = read_card(root / name)
        batch, length = (
            "?" if card.load[name] is None else card.load[name]
            for name in ("batch_size", "sequence_length")
        )
        sizes = (str(batch), str(length))
        cells = (name, card.device, card.date or "?", card.space, *sizes, card.verdict)
        fitted = predictor_text(root / name / PREDICTOR)
        table.add_row(*map(Text, (*cells, fitted)))
    print_whole(Console(highlight=False), table)
