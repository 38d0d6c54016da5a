"""From a table of latencies to a device that can be searched."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nastool.errors import InvalidInputError, NastoolError
from nastool.files.reading import is_file, read_text
from nastool.files.writing import write_whole, writing
from nastool.predictors.base import Card, Predictor, load_predictor, save_predictor
from nastool.predictors.fitting import (
    Fitted,
    check_features,
    check_kind,
    check_sources,
    fit_table,
    load_sources,
)
from nastool.predictors.selection import HeldOut
from nastool.predictors.tables import read_measurements
from nastool.space import SearchSpace
from nastool_objectives.latency.quantities import LATENCY, QUANTITIES, Quantity
from nastool_objectives.latency.registry import (
    PREDICTOR,
    TABLE,
    DeviceCard,
    Verdict,
    read_card,
    write_card,
)
from nastool_objectives.latency.repeatability import NoiseGate
from nastool_objectives.latency.tables import LatencyTable

_SEED = 0
"""Fixes the splits."""

PARAMS = "params"
"""The cost that latency predictors also see, as published (SuperShaper, section 3.3)."""

_RANKED_SHAPES = 30
"""Held-out shapes below which a rank correlation says little."""

_RANKED = 0.8
"""Rank correlation on held-out shapes that a table nobody repeated must allow.

Nothing predicts noise: where two runs agree at r, no predictor of one reaches more than the square
root of r.
"""


def judge(table: LatencyTable, gate: NoiseGate, *, force: bool) -> tuple[Verdict, str]:
    """What the noise gate says about a table.

    Args:
        table: With halves, or the verdict is ``unknown``.
        gate: The thresholds; all architectures must pass them, and of the anchors the relative
            difference.
        force: Whether to let a noisy table through, marked as such.

    Returns:
        The verdict, and why the gate refused; empty where it did not.
    """
    shapes, anchors = table.repeats(), table.repeats(anchors=True)
    if shapes is None:
        if table.halves is not None:
            return ("forced" if force else "refused"), "no architecture was measured in both halves"
        return "unknown", ""
    reason = gate.refusal(shapes)
    # Few anchors rank themselves by chance, or by their sizes: how far they move is what they say.
    if anchors is not None and anchors.error > gate.error and not reason:
        reason = (
            f"relative difference between repeats of the anchors must be at most {gate.error:.0%}, "
            f"got {anchors.error:.1%}"
        )
    if not reason:
        return "passed", ""
    return ("forced" if force else "refused"), reason


def keep(
    folder: Path,
    space: SearchSpace,
    card: DeviceCard,
    table: LatencyTable,
    *,
    force: bool = False,
) -> DeviceCard:
    """Write a table and what the noise gate says about it into a device's folder.

    Predictors of another table that are there are removed.

    Args:
        folder: Of the device.
        space: The space.
        card: With the gate to apply.
        table: The latencies.
        force: Whether to let a noisy table through, marked as such.

    Returns:
        The card with the verdict.

    Raises:
        NastoolError: Something cannot be written or removed.
    """
    verdict, reason = judge(table, card.gate, force=force)
    judged = replace(
        card,
        verdict=verdict,
        reason=reason,
        shapes=table.repeats(),
        anchors=table.repeats(anchors=True) if table.n_anchors else None,
    )
    text = table.to_csv(space)
    if not is_file(folder / TABLE) or read_text(folder / TABLE) != text:
        for quantity in QUANTITIES:
            _remove(folder / quantity.folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / TABLE, text)
    write_card(folder, judged)
    return judged


def _remove(folder: Path) -> None:
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise NastoolError(f"cannot remove {folder}: {error.strerror or error}") from error


def require_quiet(card: DeviceCard) -> None:
    """Let only measurements that repeat become objectives.

    Raises:
        NastoolError: The noise gate refused it, or the campaign is not finished.
    """
    if card.verdict == "unfinished":
        raise NastoolError(
            f"the campaign of device {card.name!r} is not finished; the same "
            "'nastool latency measure' goes on with it"
        )
    if card.verdict == "refused":
        raise NastoolError(
            f"device {card.name!r} is too noisy to rank by: {card.reason}. Measure it on a quiet "
            "machine, with more --rounds and --repeats, or pass --force"
        )


def check_fit(
    folder: Path, space: SearchSpace, kind: str | None = None, sources: Sequence[Path] = ()
) -> tuple[list[Predictor], list[Card]]:
    """Check what a device is to be fitted with: before anything is measured or written.

    Args:
        folder: Of the device; it need not be there yet.
        space: The space.
        kind: Kind of predictor, see `fit_device`.
        sources: Folders of known devices to recalibrate instead.

    Returns:
        The predictors of the known devices, and their cards.

    Raises:
        InvalidInputError: An unknown kind, one beside known devices, a known device without a
            predictor or with one of other features, or the device itself.
    """
    if sources and kind is not None:
        raise InvalidInputError(f"--like: expected no --model, got {kind!r}")
    check_kind(kind or "auto")
    if folder.resolve() in [source.resolve() for source in sources]:
        raise InvalidInputError(f"--like: expected another device, got {folder.name!r} itself")
    folders = [source / PREDICTOR for source in sources]
    known, cards = load_sources(folders)
    check_features((*(gene.name for gene in space.genes), *_costs(space)), folders, cards)
    return known, cards


def _costs(space: SearchSpace) -> tuple[str, ...]:
    return (PARAMS,) if PARAMS in space.costs else ()


def fit_device(
    folder: Path,
    space: SearchSpace,
    kind: str | None = None,
    *,
    sources: Sequence[Path] = (),
    force: bool = False,
) -> tuple[Fitted, Card]:
    """Fit the predictor of a device and write it into its folder.

    A predictor that is refused leaves one that is there as it was.

    Args:
        folder: Of the device, with card and table.
        space: The space.
        kind: Kind of predictor; ``auto``, the default, compares all by cross-validation.
        sources: Folders of known devices to recalibrate instead.
        force: Whether to let a noisy table, or a predictor that does not rank, through, marked as
            such.

    Returns:
        The predictor with its table, and its card.

    Raises:
        NastoolError: The noise gate refused the table, or no predictor ranks one that nobody
            repeated.
        InvalidInputError: Too few architectures, or see `check_fit`; or known devices that were
            fitted on rows of this table.
    """
    known, cards = check_fit(folder, space, kind, sources)
    device = read_card(folder)
    if _is_unrepeated(device):
        # What an earlier predictor of the table did says nothing of this one.
        device = replace(device, verdict="unknown", reason="")
    elif force and device.verdict == "refused":
        device = replace(device, verdict="forced")
    require_quiet(device)
    data = read_measurements(folder / TABLE, LATENCY.column, space, _costs(space))
    tables = check_sources(data, [source / PREDICTOR for source in sources], cards)
    fitted = fit_table(data, kind or "auto", sources=known, tables=tables, seed=_SEED)
    device = _judge_unrepeated(device, fitted.held_out, force=force)
    if device.verdict == "refused" and not (folder / PREDICTOR).is_dir():
        write_card(folder, device)
    require_quiet(device)
    source = _source(device)
    if cards:
        source["recalibrated from"] = [card.metric for card in cards]
    card = fitted.card(device.metric, LATENCY.unit, source)
    save_predictor(folder / PREDICTOR, fitted.predictor, card, data)
    write_card(folder, device)
    return fitted, card


def fit_others(folder: Path, space: SearchSpace) -> dict[Quantity, Card | str]:
    """Fit what else a device was measured by, such as energy, beside its latency.

    The kind is that of the latency's predictor: what suits a device's times suits what else its
    layers add up to, and comparing all kinds takes minutes.

    Args:
        folder: Of a device whose latency has a predictor.
        space: The space.

    Returns:
        The card of each quantity that the table has, or why it cannot be predicted.
    """
    device = read_card(folder)
    _, latency = load_predictor(folder / PREDICTOR)
    kind = "linear" if latency.kind == "transfer" else latency.kind
    columns = read_text(folder / TABLE).partition("\n")[0].split(",")
    found: dict[Quantity, Card | str] = {}
    for quantity in QUANTITIES:
        if quantity == LATENCY or quantity.column not in columns:
            continue
        try:
            data = read_measurements(folder / TABLE, quantity.column, space, _costs(space))
            fitted = fit_table(data, kind, seed=_SEED)
        except InvalidInputError as error:
            # Such as a peak that is the same for all shapes.
            found[quantity] = str(error)
            continue
        scores = fitted.held_out.scores
        if len(fitted.held_out.targets) >= _RANKED_SHAPES and scores.spearman < _RANKED:
            # Some counters are too coarse for a pass.
            found[quantity] = (
                f"rank correlation of predictions on held-out shapes must be at least {_RANKED:g}, "
                f"got {scores.spearman:.6g}"
            )
            continue
        card = fitted.card(quantity.metric(device.name), quantity.unit, _source(device))
        save_predictor(folder / quantity.folder, fitted.predictor, card, data)
        found[quantity] = card
    return found


def _source(device: DeviceCard) -> dict[str, Any]:
    """What the card of a predictor says of the device."""
    return {
        "device": device.name,
        "measured by": device.device,
        "facts": dict(device.facts),
        "workload": device.load,
        "noise": device.note,
        "seed": _SEED,
    }


def _is_unrepeated(device: DeviceCard) -> bool:
    """Whether a table came from elsewhere, measured once; a campaign always has two halves."""
    return device.shapes is None and not device.plan


def _judge_unrepeated(device: DeviceCard, result: HeldOut, *, force: bool) -> DeviceCard:
    """Refuse a table without a repetition if even its own predictor cannot rank it."""
    few = len(result.targets) < _RANKED_SHAPES
    if device.verdict != "unknown" or few or result.scores.spearman >= _RANKED:
        return device
    reason = (
        f"rank correlation of predictions on held-out shapes must be at least {_RANKED:g} "
        f"where no second run shows how well it repeats, got {result.scores.spearman:.6g}"
    )
    return replace(device, verdict="forced" if force else "refused", reason=reason)
