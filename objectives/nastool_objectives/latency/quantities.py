"""What a device says of a pass, each of which is a metric: latency, energy, memory, decoding."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nastool.constraint import metric_name
from nastool.devices import Timing, Workload

_INCIDENTAL = ("system", "python")
"""Facts that an update changes, and measurements hardly."""


@dataclass(frozen=True)
class Quantity:
    """One of them.

    Args:
        name: As in ``energy[DEVICE]``; ``latency.decode`` is that of ``latency[DEVICE].decode``.
        unit: Base unit.
        column: Of a device's table.
        folder: Of its predictor, in the device's folder.
    """

    name: str
    unit: str
    column: str
    folder: str

    def of(self, timing: Timing) -> float:
        """What a visit says of it; NaN where the device does not know."""
        if self == LATENCY:
            return float(np.median(timing.seconds))
        if self == DECODE:
            return float("nan") if timing.following is None else float(np.median(timing.following))
        value = timing.energy if self == ENERGY else timing.memory
        # No pass takes nothing: the device's counter did not move in so short a time.
        return float(value) if value else float("nan")

    def metric(self, device: str) -> str:
        """The metric's name, e.g. ``energy[pixel7]``."""
        return metric_name(self.name, device)

    def over(self, visits: Sequence[float]) -> float:
        """What several visits say together: the median, of peaks the largest; NaN of none."""
        known = [value for value in visits if not np.isnan(value)]
        if not known:
            return float("nan")
        return max(known) if self == MEMORY else float(np.median(known))


LATENCY = Quantity("latency", "s", "latency_s", "predictor")
ENERGY = Quantity("energy", "J", "energy_J", "energy")
MEMORY = Quantity("memory", "B", "memory_B", "memory")
DECODE = Quantity("latency.decode", "s", "decode_s", "decode")
"""Of one more token, once a decoder has read a text and keeps its keys and values."""

QUANTITIES = (LATENCY, ENERGY, MEMORY, DECODE)


def lasting(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same for two measurements to be of one device."""
    return {key: value for key, value in facts.items() if key not in _INCIDENTAL}


def instrument(facts: Mapping[str, Any], workload: Workload, warmup: int, repeats: int) -> str:
    """Fingerprint of a device as it measures: what is measured by one is as good by another.

    How often it measures is not part of it: the ledger keeps that beside every value.

    Args:
        facts: Of the device.
        workload: What it is given in one pass.
        warmup: Passes before the timed ones of a visit.
        repeats: Timed passes of a visit.
    """
    content = [lasting(facts), workload.as_dict(), [warmup, repeats]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
