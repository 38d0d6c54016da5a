"""Latency, energy and memory on a device, as predictors see them or measured anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.constraint import metric_name
from nastool.devices import Device, timing_of
from nastool.errors import InvalidInputError, MissingDependencyError, NastoolError
from nastool.files.reading import read_text
from nastool.objective import Kind, Objective, Provenance
from nastool.predicted import PredictedObjective
from nastool.space import Genotypes, SearchSpace
from nastool.store.ledger import quantity_of
from nastool_objectives.latency.fitting import require_quiet
from nastool_objectives.latency.padding import NONE
from nastool_objectives.latency.quantities import (
    DECODE,
    ENERGY,
    LATENCY,
    MEMORY,
    Quantity,
    instrument,
    lasting,
)
from nastool_objectives.latency.registry import TABLE, DeviceCard, find_device, read_card

PREFILL = "latency.prefill"


def create(
    space: SearchSpace, argument: str | None = None, name: str | None = None
) -> PredictedObjective:
    """Latency on a device, predicted from its measurements: ``latency[DEVICE]``.

    Args:
        space: What is searched.
        argument: Name of a device that is kept, or path to its folder.
        name: The metric's name; by default with the argument in brackets.

    Raises:
        InvalidInputError: No device given or known, or one that was measured on another space.
        NastoolError: Its campaign is not finished, or too noisy to rank by.
    """
    return _predicted(LATENCY, space, argument, name)


def create_prefill(
    space: SearchSpace, argument: str | None = None, name: str | None = None
) -> PredictedObjective:
    """Latency of a decoder that reads a text, predicted: ``latency[DEVICE].prefill``.

    It is the latency of the device, by a name that says what a pass is. Arguments and errors are
    those of `create`.
    """
    _check_served(argument, PREFILL)
    return _predicted(LATENCY, space, argument, name or metric_name(PREFILL, argument))


def create_decode(
    space: SearchSpace, argument: str | None = None, name: str | None = None
) -> PredictedObjective:
    """Latency of a decoder's next token, predicted: ``latency[DEVICE].decode``.

    The keys and values of a text of the campaign's length are kept from before. Arguments and
    errors are those of `create`.
    """
    _check_served(argument, DECODE.name)
    return _predicted(DECODE, space, argument, name)


def create_energy(
    space: SearchSpace, argument: str | None = None, name: str | None = None
) -> PredictedObjective:
    """Energy of a pass on a device, predicted from its measurements: ``energy[DEVICE]``.

    Arguments and errors are those of `create`.
    """
    return _predicted(ENERGY, space, argument, name)


def create_memory(
    space: SearchSpace, argument: str | None = None, name: str | None = None
) -> PredictedObjective:
    """Peak memory of a pass on a device, predicted from its measurements: ``memory[DEVICE]``.

    Arguments and errors are those of `create`.
    """
    return _predicted(MEMORY, space, argument, name)


def _predicted(
    quantity: Quantity, space: SearchSpace, argument: str | None, name: str | None
) -> PredictedObjective:
    folder, card = _device_of(argument, quantity.name)
    require_quiet(card)
    if not (folder / quantity.folder).is_dir():
        raise InvalidInputError(
            f"device {argument!r} has no predictor of {quantity.name}: 'nastool latency fit "
            f"{argument}' makes one where its passes were measured with it"
        )
    metric = name or metric_name(quantity.name, argument)
    return PredictedObjective(space, folder / quantity.folder, metric)


class Measured(Objective):
    """A quantity measured anew on the device of a campaign, with its settings and workload.

    Args:
        space: Whose architectures are measured.
        device: What they run on.
        card: Of the device.
        name: The metric's name as users type it.
        quantity: What is measured.
        rounds: Visits of each architecture.
        warmup: Passes before the timed ones of a visit.
        repeats: Timed passes of a visit.
    """

    def __init__(
        self,
        space: SearchSpace,
        device: Device,
        card: DeviceCard,
        name: str,
        quantity: Quantity = LATENCY,
        *,
        rounds: int = 3,
        warmup: int = 2,
        repeats: int = 3,
    ) -> None:
        if min(rounds, repeats) < 1 or warmup < 0:
            raise InvalidInputError(
                "measuring needs rounds >= 1, repeats >= 1 and warmup >= 0, "
                f"got {rounds}, {repeats} and {warmup}"
            )
        if card.workload is None:
            raise InvalidInputError(f"device {card.name!r} was measured under unknown conditions")
        self.space = space
        self.device = device
        self.card = card
        self.workload = card.workload
        self._name = name
        self.quantity = quantity
        self.rounds, self.warmup, self._passes = rounds, warmup, repeats

    @property
    def name(self) -> str:
        return self._name

    @property
    def unit(self) -> str:
        return self.quantity.unit

    @property
    def provenance(self) -> Provenance:
        by = (
            f"{self.card.device} of {self.card.name}, batch {self.workload.batch_size}, "
            f"median of {self.rounds} x {self._passes} passes"
        )
        return Provenance(Kind.MEASURED, by)

    @property
    def fingerprint(self) -> str:
        content: list[object] = [
            self.space.fingerprint,
            dict(self.device.facts),
            self.workload.as_dict(),
            [self.rounds, self.warmup, self._passes],
        ]
        if self.quantity != LATENCY:
            content.append(self.quantity.name)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def ledger(self) -> str:
        by = instrument(self.device.facts, self.workload, self.warmup, self._passes)
        return quantity_of(by, self.quantity.name)

    @property
    def repeats(self) -> int:
        return self.rounds

    def evaluate(self, genotypes: Genotypes) -> NDArray[np.float64]:
        values = np.full((self.rounds, len(genotypes)), np.nan)
        ran = np.zeros(len(genotypes), dtype=bool)
        failure: NastoolError | None = None
        rng = np.random.default_rng(0)
        for turn in range(self.rounds):
            for row in rng.permutation(len(genotypes)):
                deployment = self.space.deploy(genotypes[row], self.workload)
                try:
                    timing = timing_of(self.device, deployment, self.warmup, self._passes)
                except (InvalidInputError, MissingDependencyError):
                    raise
                except NastoolError as error:
                    # As in a campaign: a pass that failed costs its visit, not the run.
                    failure = error
                    continue
                ran[row] = True
                values[turn, row] = self.quantity.of(timing)
        if failure is not None and not ran.any():
            # No error of nastool, which would end the run: an executor notes why, and goes on.
            raise RuntimeError(str(failure)) from failure
        if ran.any() and np.isnan(values).all():
            raise InvalidInputError(
                f"{self.name}: the device {self.card.device} does not say the {self.quantity.name} "
                "of a pass"
            )
        return np.array([self.quantity.over(column) for column in values.T.tolist()])


def create_measured(
    space: SearchSpace,
    argument: str | None = None,
    *,
    rounds: int = 3,
    warmup: int = 2,
    repeats: int = 3,
) -> Measured:
    """Latency measured anew on the device of a campaign: ``measured_latency[DEVICE]``.

    Args:
        space: What is searched.
        argument: Name of a device that is kept, or path to its folder.
        rounds: Visits of each architecture.
        warmup: Passes before the timed ones of a visit.
        repeats: Timed passes of a visit.

    Raises:
        InvalidInputError: No device given or known, one whose table came from elsewhere, or this
            machine is another one than it was measured on.
    """
    return _measured(LATENCY, space, argument, rounds, warmup, repeats)


def create_measured_prefill(
    space: SearchSpace,
    argument: str | None = None,
    *,
    rounds: int = 3,
    warmup: int = 2,
    repeats: int = 3,
) -> Measured:
    """Latency of a decoder that reads a text, measured: ``measured_latency[DEVICE].prefill``.

    Arguments and errors are those of `create_measured`.
    """
    metric = f"measured_{PREFILL}"
    _check_served(argument, metric)
    return _measured(LATENCY, space, argument, rounds, warmup, repeats, metric)


def create_measured_decode(
    space: SearchSpace,
    argument: str | None = None,
    *,
    rounds: int = 3,
    warmup: int = 2,
    repeats: int = 3,
) -> Measured:
    """Latency of a decoder's next token, measured: ``measured_latency[DEVICE].decode``.

    Arguments and errors are those of `create_measured`.
    """
    _check_served(argument, f"measured_{DECODE.name}")
    return _measured(DECODE, space, argument, rounds, warmup, repeats)


def create_measured_energy(
    space: SearchSpace,
    argument: str | None = None,
    *,
    rounds: int = 3,
    warmup: int = 2,
    repeats: int = 3,
) -> Measured:
    """Energy measured anew on the device of a campaign: ``measured_energy[DEVICE]``.

    Arguments and errors are those of `create_measured`.
    """
    return _measured(ENERGY, space, argument, rounds, warmup, repeats)


def create_measured_memory(
    space: SearchSpace,
    argument: str | None = None,
    *,
    rounds: int = 3,
    warmup: int = 2,
    repeats: int = 3,
) -> Measured:
    """Peak memory measured anew on the device of a campaign: ``measured_memory[DEVICE]``.

    Arguments and errors are those of `create_measured`.
    """
    return _measured(MEMORY, space, argument, rounds, warmup, repeats)


def _measured(
    quantity: Quantity,
    space: SearchSpace,
    argument: str | None,
    rounds: int,
    warmup: int,
    repeats: int,
    metric: str = "",
) -> Measured:
    metric = metric or f"measured_{quantity.name}"
    _, card = _device_of(argument, metric)
    return Measured(
        space,
        device_again(card),
        card,
        metric_name(metric, argument),
        quantity,
        rounds=rounds,
        warmup=warmup,
        repeats=repeats,
    )


def device_as_begun(
    text: str,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    load: Callable[[str, Mapping[str, Any]], Device] | None = None,
) -> Device:
    """A device that pads nothing where a campaign began before there was padding.

    Args:
        text: The device as users type it.
        settings: Its settings.
        facts: What it said of itself when the campaign began.
        load: Makes it; here, unless said otherwise.
    """
    from nastool.plugins import load_device

    load = load or load_device
    device = load(text, settings)
    if "padding" in device.facts and "padding" not in facts:
        return load(text, {**settings, "pad": NONE})
    return device


def device_again(card: DeviceCard) -> Device:
    """The device of a campaign, to measure more on it.

    Raises:
        InvalidInputError: Its table came from elsewhere, or this machine is another one.
    """
    if card.device == "imported":
        raise InvalidInputError(
            f"device {card.name!r} was measured elsewhere and cannot be measured again here"
        )
    device = device_as_begun(card.device, card.settings, card.facts)
    facts = json.loads(json.dumps(dict(device.facts)))
    different = [key for key, value in lasting(card.facts).items() if facts.get(key) != value]
    if different:
        key = different[0]
        raise InvalidInputError(
            f"device {card.name!r} was measured with {key} {card.facts[key]!r}, "
            f"got {facts.get(key)!r} here"
        )
    return device


def _check_served(argument: str | None, metric: str) -> None:
    """Check that a device ran a decoder as it is served.

    Raises:
        InvalidInputError: No next token was timed there.
    """
    folder, card = _device_of(argument, metric)
    require_quiet(card)
    columns = read_text(folder / TABLE).partition("\n")[0].split(",")
    if DECODE.column not in columns:
        raise InvalidInputError(
            f"{metric_name(metric, argument)}: device {card.name!r} must have run a decoder with "
            f"its cache, got passes of {card.space} alone: 'nastool latency measure --space "
            "decoder[NET]' on cpu or cuda does"
        )


def _device_of(argument: str | None, objective: str) -> tuple[Path, DeviceCard]:
    if argument is None:
        named = metric_name(objective, "DEVICE")
        raise InvalidInputError(f"{named.replace('[DEVICE]', '')} needs a device: {named}")
    folder = find_device(argument)
    return folder, read_card(folder)
