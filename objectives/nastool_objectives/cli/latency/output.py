"""What several subcommands of ``nastool latency`` print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nastool.cli.predictor_plot import write_page
from nastool.cli.progress import ProgressBar
from nastool.files.reading import is_file, read_text

if TYPE_CHECKING:
    from nastool.predictors.base import Card
    from nastool.space import SearchSpace
    from nastool_objectives.latency.registry import DeviceCard
    from nastool_objectives.latency.tables import LatencyTable


def predictor_text(folder: Path) -> str:
    """A predictor's card in a few words; ``none`` where the folder has none."""
    card = _predictor_card(folder)
    if card is None:
        return "none"
    return f"{card.label}, {card.shapes:,} shapes" + (f", {card.error}" if card.error else "")


def device_json(folder: Path) -> dict[str, Any]:
    """What is known about a device that is kept, as JSON values; null what nobody said."""
    from nastool_objectives.latency.quantities import QUANTITIES
    from nastool_objectives.latency.registry import read_card

    card = read_card(folder)
    predictors = {}
    for quantity in QUANTITIES:
        fitted = _predictor_card(folder / quantity.folder)
        if fitted is not None:
            predictors[quantity.name] = {
                "unit": quantity.unit,
                "kind": fitted.kind,
                "label": fitted.label,
                "shapes": fitted.shapes,
                "held_out": fitted.scores.as_dict() if fitted.scores else None,
                "interval": fitted.interval,
            }
    return {
        "name": card.name,
        "device": card.device,
        "date": card.date or None,
        "space": card.space,
        **{name: card.load[name] for name in ("batch_size", "sequence_length")},
        "noise_gate": card.verdict,
        "reason": card.reason,
        "predictors": predictors,
    }


def whole_device_json(folder: Path) -> dict[str, Any]:
    """All that `device_json` says, how it was measured, and how well it repeats."""
    from nastool_objectives.latency.registry import read_card

    card, brief = read_card(folder), device_json(folder)
    repeats = {"shapes": card.shapes, "anchors": card.anchors}
    return {
        **brief,
        "settings": dict(card.settings),
        "facts": dict(card.facts),
        "conditions": {name: value for name, value in card.load.items() if name not in brief},
        "plan": dict(card.plan),
        "repeats": {name: found and found.as_dict() for name, found in repeats.items()},
        "remarks": card.remarks,
        "folder": str(folder),
    }


def _predictor_card(folder: Path) -> Card | None:
    from nastool.predictors.base import CARD, Card

    return Card.from_json(read_text(folder / CARD)) if is_file(folder / CARD) else None


def echo_table(card: DeviceCard, table: LatencyTable) -> None:
    """Say what was measured, how well it repeats and what the noise gate says."""
    from nastool.constraint import format_quantity

    low, high = (format_quantity(float(v), "s") for v in (min(table.latency), max(table.latency)))
    failed = f", {table.failed} failed" if table.failed else ""
    click.echo(f"{card.name}: {len(table):,} shapes, {low} to {high} a pass{failed}")
    if table.note:
        click.echo(table.note)
    if card.shapes is not None:
        click.echo(f"repeats, shapes:  {card.shapes}")
    if card.anchors is not None:
        click.echo(f"repeats, anchors: {card.anchors}")
    click.echo(f"noise gate: {card.verdict}" + (f" ({card.reason})" if card.reason else ""))


def fit_and_echo(
    folder: Path,
    space: SearchSpace,
    model: str | None,
    known: Sequence[Path],
    *,
    force: bool = False,
    plot: Path | None = None,
) -> None:
    """Fit the predictor of a device and say what it is worth.

    Args:
        folder: Of the device.
        space: What was measured.
        model: Kind of predictor; ``auto`` by default.
        known: Folders of known devices to recalibrate.
        force: Whether to keep a predictor that does not rank, marked as such.
        plot: Page for figures of it.
    """
    from nastool.cli.tables import within_text
    from nastool_objectives.latency.fitting import fit_device, fit_others
    from nastool_objectives.latency.registry import devices_folder

    with ProgressBar("fitting"):
        fitted, card = fit_device(folder, space, model, sources=known, force=force)
        others = fit_others(folder, space)
    for candidate in fitted.ranking:
        click.echo(f"  {candidate.label}: cross-validated {candidate.scores}")
    click.echo(f"predictor: {card}, 90% within {within_text(card)}")
    for note in fitted.notes:
        click.echo(f"  {note}")
    if fitted.optimism is not None:
        click.echo(f"  the best of many is likely about {fitted.optimism:.1%} slower")
    # Objectives know by name what is kept in the default folder.
    whole = folder.resolve()
    name = whole.name if whole.parent == devices_folder().resolve() else whole
    usable = [f"'latency[{name}]'"]
    for quantity, result in others.items():
        if isinstance(result, str):
            click.echo(f"{quantity.name} is not predicted: {result}")
            continue
        click.echo(f"predictor of {quantity.name}: {result}, 90% within {within_text(result)}")
        usable.append(f"'{quantity.metric(str(name))}'")
    click.echo(f"Wrote {folder}; use it as --objective {' or '.join(usable)}")
    if plot is not None:
        write_page(plot, fitted, card)
