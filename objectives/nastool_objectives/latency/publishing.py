"""Devices on the hub: what is published of their folders."""

from __future__ import annotations

from pathlib import Path

from nastool.files.reading import is_file
from nastool.integrations.publishing import Publication, files_of
from nastool_objectives.latency.registry import CARD, read_card


def publication(folder: Path) -> Publication | None:
    """What is published of a measured device; None where the folder holds none.

    Args:
        folder: What ``nastool latency measure`` or ``nastool latency import`` wrote.

    Raises:
        InvalidInputError: The device's card is damaged.
    """
    if not is_file(folder / CARD):
        return None
    card = read_card(folder)
    facts = {"device": card.device, "space": card.space, "noise gate": card.verdict}
    if card.note:
        facts["noise"] = card.note
    if card.date:
        facts["measured"] = card.date
    facts |= {name: str(value) for name, value in {**card.load, **card.facts}.items()}
    return Publication(
        "device",
        f"Latency on {card.name}",
        files_of(folder),
        facts,
        (f"nastool search --space {card.space} --max 'latency[{{name}}]=20ms'",),
    )
