"""From a table of latencies to a device that can be searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nastool.errors import NastoolError
from nastool.predictors.base import Card, save_predictor
from nastool.predictors.fitting import Fitted, check_sources, fit_table, load_sources
from nastool.predictors.selection import HeldOut
from nastool.predictors.tables import read_measurements
from nastool.space import SearchSpace
from nastool_objectives.latency.registry import (
    PREDICTOR,
    TABLE,
    DeviceCard,
    Verdict,
    read_card,
    write_atomically,
    write_card,
)
from nastool_objectives.latency.repeatability import NoiseGate
from nastool_objectives.latency.tables import LATENCY, LatencyTable

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

    Args:
        folder: Of the device.
        space: The space.
        card: With the gate to apply.
        table: The latencies.
        force: Whether to let a noisy table through, marked as such.

    Returns:
        The card with the verdict.
    """
    verdict, reason = judge(table, card.gate, force=force)
    judged = replace(
        card,
        verdict=verdict,
        reason=reason,
        shapes=table.repeats(),
        anchors=table.repeats(anchors=True) if table.n_anchors else None,
    )
    write_atomically(folder / TABLE, table.to_csv(space))
    write_card(folder, judged)
    return judged


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


def fit_device(
    folder: Path,
    space: SearchSpace,
    kind: str = "auto",
    *,
    sources: Sequence[Path] = (),
    seed: int = 0,
    force: bool = False,
) -> tuple[Fitted, Card]:
    """Fit the predictor of a device and write it into its folder.

    Args:
        folder: Of the device, with card and table.
        space: The space.
        kind: Kind of predictor; ``auto`` compares all by cross-validation.
        sources: Folders of known devices to recalibrate instead.
        seed: Fixes the splits.
        force: Whether to keep a predictor that does not rank, marked as such.

    Returns:
        The predictor with its table, and its card.

    Raises:
        NastoolError: The noise gate refused the table, or no predictor ranks one that nobody
            repeated.
        InvalidInputError: Too few architectures, an unknown kind, or sources of other features.
    """
    device = read_card(folder)
    require_quiet(device)
    costs = (PARAMS,) if PARAMS in space.costs else ()
    data = read_measurements(folder / TABLE, LATENCY, space, costs)
    known, cards = load_sources([source / PREDICTOR for source in sources])
    check_sources(data, sources, cards)
    fitted = fit_table(data, kind, sources=known, seed=seed)
    device = _judge_unrepeated(folder, device, fitted.held_out, force=force)
    source = {
        "device": device.name,
        "measured by": device.device,
        "facts": dict(device.facts),
        "workload": device.workload.as_dict(),
        "noise": device.note,
        "seed": seed,
        **({"recalibrated from": [card.metric for card in cards]} if cards else {}),
    }
    card = fitted.card(device.metric, "s", source)
    save_predictor(folder / PREDICTOR, fitted.predictor, card, data)
    return fitted, card


def _judge_unrepeated(
    folder: Path, device: DeviceCard, result: HeldOut, *, force: bool
) -> DeviceCard:
    """Refuse a table without a repetition if even its own predictor cannot rank it."""
    few = len(result.targets) < _RANKED_SHAPES
    if device.verdict != "unknown" or few or result.scores.spearman >= _RANKED:
        return device
    reason = (
        f"rank correlation of predictions on held-out shapes must be at least {_RANKED:g} "
        f"where no second run shows how well it repeats, got {result.scores.spearman:.3f}"
    )
    judged = replace(device, verdict="forced" if force else "refused", reason=reason)
    write_card(folder, judged)
    require_quiet(judged)
    return judged
