"""From a table of latencies to a device that can be searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nastool.errors import InvalidInputError, NastoolError
from nastool.predictors.base import Card, Predictor, load_predictor, save_predictor
from nastool.predictors.evaluation import holdout
from nastool.predictors.selection import Candidate, HeldOut, Maker, compare, held_out, makers
from nastool.predictors.tables import Measurements, read_measurements
from nastool.predictors.transfer import Recalibrated
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

_FEW = 100
"""Architectures below which scores come from cross-validation instead of a part held out."""

_RANKED_SHAPES = 30
"""Held-out shapes below which a rank correlation says little."""

_RANKED = 0.8
"""Rank correlation on held-out shapes that a table nobody repeated must allow.

Nothing predicts noise: where two runs agree at r, no predictor of one reaches more than the square
root of r.
"""


@dataclass(frozen=True)
class Fit:
    """A device's predictor.

    Args:
        card: What it is worth.
        held_out: Predictions of architectures that it was not fitted on.
        ranking: Kinds that were compared, best first; empty where none were.
    """

    card: Card
    held_out: HeldOut
    ranking: tuple[Candidate, ...]


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
) -> Fit:
    """Fit the predictor of a device and write it into its folder.

    Args:
        folder: Of the device, with card and table.
        space: The space.
        kind: Kind of predictor; ``auto`` compares all by cross-validation.
        sources: Folders of known devices to recalibrate instead.
        seed: Fixes the splits.
        force: Whether to keep a predictor that does not rank, marked as such.

    Raises:
        NastoolError: The noise gate refused the table, or no predictor ranks one that nobody
            repeated.
        InvalidInputError: Too few architectures, an unknown kind, or sources of other features.
    """
    device = read_card(folder)
    require_quiet(device)
    costs = (PARAMS,) if PARAMS in space.costs else ()
    data = read_measurements(folder / TABLE, LATENCY, space, costs)
    genes = len(data.genes)
    fraction = 0.0 if len(data) < _FEW else 0.3
    known, names = _sources(sources, data)
    ranking: list[Candidate] = []
    make: Maker
    if sources:
        make = _recalibrated(known)
    elif kind == "auto":
        # The held-out part must not take part in the choice, or its scores would flatter.
        rows: Any = holdout(len(data), fraction, seed)[0] if fraction else slice(None)
        ranking = compare(makers(), data.features[rows], data.targets[rows], genes, seed=seed)
        make = makers()[ranking[0].kind]
    elif kind in makers():
        make = makers()[kind]
    else:
        raise InvalidInputError(
            f"a predictor must be auto or one of {', '.join(makers())}, got {kind!r}"
        )
    result = held_out(make, data.features, data.targets, genes, fraction, seed)
    device = _judge_unrepeated(folder, device, result, force=force)
    predictor = make()
    predictor.fit(data.features, data.targets, genes=genes)
    card = Card(
        metric=device.metric,
        unit="s",
        kind=predictor.kind,
        label=predictor.label,
        space=data.space,
        fingerprint=data.fingerprint,
        genes=data.genes,
        choices=data.choices,
        features=(*data.genes, *data.costs),
        shapes=len(data),
        scores=result.scores,
        interval=result.interval,
        source={
            "device": device.name,
            "measured by": device.device,
            "facts": dict(device.facts),
            "workload": device.workload.as_dict(),
            "noise": device.note,
            "seed": seed,
            **({"recalibrated from": names} if names else {}),
        },
    )
    save_predictor(folder / PREDICTOR, predictor, card)
    return Fit(card, result, tuple(ranking))


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


def _recalibrated(known: Sequence[Predictor]) -> Maker:
    return lambda: Recalibrated(known)


def _sources(folders: Sequence[Path], data: Measurements) -> tuple[list[Predictor], list[str]]:
    predictors, names = [], []
    for folder in folders:
        predictor, card = load_predictor(folder / PREDICTOR)
        if card.features != (*data.genes, *data.costs):
            raise InvalidInputError(
                f"{folder}: a device to recalibrate must have the features "
                f"{', '.join((*data.genes, *data.costs))}; got {', '.join(card.features)}"
            )
        predictors.append(predictor)
        names.append(card.metric)
    return predictors, names
