"""Devices: what deployed architectures run on, and how long they take there."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool import notebook
from nastool.attributes import attribute
from nastool.choices import as_array, check_text, plain
from nastool.devices.deployment import Deployment
from nastool.errors import InvalidInputError, NastoolError, naming
from nastool.numbers import is_number

_FEW_FACTS = 3
"""In a line."""


@dataclass(frozen=True, eq=False)
class Timing:
    """What a device says about one architecture.

    Args:
        seconds: Duration of each timed pass, shape (k,), k >= 1; finite and positive.
        memory: Peak memory of a pass in bytes, weights included; None where it is not known.
        energy: Energy of a pass in joules; None where it is not known.
        clock: Clock of what ran it in Hz; None where it is not known, or is the processor's.
        throttled: What held that clock back, empty where nothing did; None where it is not known.
        padding: What its layers were padded to, as the device calls it; None where not at all.
        following: Duration of each pass that follows, shape (k,), like `seconds`; None where none
            does, or the device does not time it.

    Raises:
        InvalidInputError: No durations, or one that is none; memory, energy or a clock that is no
            number.
    """

    seconds: NDArray[np.float64]
    memory: float | None = None
    energy: float | None = None
    clock: float | None = None
    throttled: str | None = None
    padding: str | None = None
    following: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", _durations(self.seconds))
        if self.following is not None:
            object.__setattr__(self, "following", _durations(self.following))
        for name in ("memory", "energy", "clock"):
            value = plain(getattr(self, name))
            if value is not None and not (is_number(value) and 0 <= value < math.inf):
                raise InvalidInputError(
                    f"a timing's {name} must be None or a finite number >= 0, got {value!r:.60}"
                )
            object.__setattr__(self, name, value)


def _durations(values: Any) -> NDArray[np.float64]:
    rule = "a timing needs durations of shape (k,), k >= 1"
    given = as_array(rule, values)
    if given.ndim != 1 or not len(given):
        raise InvalidInputError(f"{rule}, got shape {given.shape}")
    if given.dtype.kind not in "iuf":
        raise InvalidInputError(f"durations must be numbers, got {given.dtype}")
    seconds: NDArray[np.float64] = given.astype(np.float64, copy=False)
    if not (np.isfinite(seconds).all() and (seconds > 0).all()):
        raise InvalidInputError(
            f"durations must be positive and finite, got {seconds.min():g}..{seconds.max():g}"
        )
    return seconds


class Device(ABC):
    """Runs deployed architectures and times them.

    A subclass defines `facts` and `measure`; `nastool.testing.DeviceConformance` checks it. In
    which order architectures take turns is the campaign's business, not the device's.
    """

    times_following: bool = False
    """Whether what follows a pass is timed, too: it is given to `measure` as a pass of its own."""

    def __repr__(self) -> str:
        known = ", ".join(str(value) for value in list(self._known_facts().values())[:_FEW_FACTS])
        return f"<Device {type(self).__name__}{f': {known}' if known else ''}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: what its numbers depend on."""
        facts = {name.replace("_", " "): value for name, value in self._known_facts().items()}
        return notebook.shown(f"Device {type(self).__name__}", facts)

    def _known_facts(self) -> Mapping[str, Any]:
        """The facts; none where they cannot be told, for looking at a device must not fail."""
        try:
            return self.facts
        except Exception:  # noqa: BLE001 - whatever a plugin raises
            return {}

    @attribute
    @abstractmethod
    def facts(self) -> Mapping[str, Any]:
        """What its numbers depend on, as JSON values: processor, runtime, versions, threads."""

    @abstractmethod
    def measure(self, deployment: Deployment, warmup: int, repeats: int) -> Timing:
        """Time one architecture.

        Args:
            deployment: What to run.
            warmup: Passes before the timed ones, >= 0.
            repeats: Timed passes, >= 1; a device that times by itself may return another number.

        Raises:
            NastoolError: The architecture cannot be run here.
        """


def check_device(device: Device) -> Device:
    """Check what a device says of itself, where it enters: it is kept with what it measures.

    Raises:
        InvalidInputError: Its facts are not JSON values by name.
        NastoolError: It raised while it was asked.
    """
    what = f"device {type(device).__name__}"
    with naming(what):
        facts: object = device.facts
    if not isinstance(facts, Mapping):
        raise InvalidInputError(f"{what}: facts must be by name, got {type(facts).__name__}")
    for name, value in facts.items():
        check_text(f"{what}: the name of a fact", name)
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInputError(
                f"{what}: facts[{name!r}] must be a JSON value, got {type(value).__name__} "
                f"{value!r:.60}"
            ) from error
    return device


def timing_of(device: Device, deployment: Deployment, warmup: int, repeats: int) -> Timing:
    """Time one architecture on a device that nobody has checked.

    Args:
        device: Where it runs.
        deployment: What to run.
        warmup: Passes before the timed ones.
        repeats: Timed passes.

    Raises:
        NastoolError: The architecture cannot be run there; the device raised something, ended in
            ``sys.exit()`` or returned something else than a timing.
    """
    what = f"device {type(device).__name__}"
    with naming(what):
        timing: object = device.measure(deployment, warmup, repeats)
    if not isinstance(timing, Timing):
        raise NastoolError(f"{what} must return a Timing, got {type(timing).__name__}")
    if deployment.following is None or not device.times_following:
        return timing
    after = timing_of(device, deployment.following, warmup, repeats)
    peaks = [peak for peak in (timing.memory, after.memory) if peak is not None]
    return replace(timing, following=after.seconds, memory=max(peaks, default=None))
