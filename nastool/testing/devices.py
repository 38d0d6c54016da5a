"""What every device must fulfil."""

# ruff: noqa: S101 - a suite of tests asserts; nothing here runs outside of pytest
from __future__ import annotations

import copy
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nastool.devices import Deployment, Device, Timing
from nastool.testing.surroundings import global_generators_kept

_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
"""Seconds that a pass is made longer, at least and at most, to see whether durations show it."""


class DeviceConformance(ABC):
    """What every device must fulfil."""

    @abstractmethod
    def make(self) -> Device:
        """A fresh instance of the device under test."""

    @abstractmethod
    def deployment(self) -> Deployment:
        """A small architecture that the device can run, and its inputs."""

    simulated = False
    """Whether the durations do not pass here, as those of a simulator or of a table."""

    def larger(self) -> Deployment:
        """An architecture that takes longer; the same with more weights and inputs by default."""
        deployment = self.deployment()
        module = copy.deepcopy(deployment.module)
        if callable(getattr(module, "add_module", None)):
            module.add_module("beside", copy.deepcopy(deployment.module))
        inputs = {name: _repeated(value) for name, value in deployment.inputs.items()}
        return replace(deployment, module=module, inputs=inputs, file=None)

    def test_measure_returns_a_timing(self) -> None:
        timing = self.make().measure(self.deployment(), 1, 3)
        assert isinstance(timing, Timing)
        assert len(timing.seconds) >= 1
        assert timing.memory is None or timing.memory > 0
        assert timing.energy is None or timing.energy >= 0

    def test_no_warmup_and_a_single_repeat_are_enough(self) -> None:
        assert len(self.make().measure(self.deployment(), 0, 1).seconds) >= 1

    def test_an_architecture_can_be_measured_again(self) -> None:
        device, deployment = self.make(), self.deployment()
        for _ in range(2):
            assert np.all(device.measure(deployment, 0, 1).seconds > 0)

    def test_an_architecture_is_left_as_it_was(self) -> None:
        deployment = self.deployment()
        before = _content(deployment)
        with global_generators_kept():
            self.make().measure(deployment, 1, 2)
        after = _content(deployment)
        assert list(after) == list(before), "measuring changed what the architecture consists of"
        for name, value in before.items():
            assert _same(after[name], value), f"measuring changed {name}"

    def test_warmup_is_not_timed(self) -> None:
        device, deployment = self.make(), self.deployment()
        without, many = (len(device.measure(deployment, n, 2).seconds) for n in (0, 5))
        assert many == without, f"{many} durations with five passes of warm-up, {without} without"
        usual = float(device.measure(deployment, 1, 3).seconds.max())
        pause = min(max(_PAUSE, 2 * usual), _LONGEST_PAUSE)
        timing, passes = _paused(device, deployment, 8, 2, lambda k: pause if k < 8 else 0)
        assert passes != 10 or timing.seconds.min() < usual + pause / 2, "warm-up is timed"

    def test_durations_are_seconds(self) -> None:
        """A pass lasts as long as it says, no longer than the measuring and no shorter."""
        device, deployment = self.make(), self.deployment()
        timing, passes = _paused(device, deployment, 0, 2, lambda _: _PAUSE)
        if passes == 2 and not self.simulated:
            assert np.median(timing.seconds) >= 0.9 * _PAUSE, (
                f"passes of at least {_PAUSE} s took {timing.seconds.tolist()}"
            )
        begin = time.perf_counter()
        once = float(np.median(device.measure(deployment, 0, 2).seconds))
        # So many that what they say outweighs the preparations.
        repeats = min(1_000, max(2, math.ceil(2 * (time.perf_counter() - begin) / once)))
        begin = time.perf_counter()
        seconds = device.measure(deployment, 0, repeats).seconds
        passed = time.perf_counter() - begin
        # Of a real clock no two readings of many are the same.
        if not self.simulated and len(set(seconds.tolist())) > 1:
            assert seconds.sum() <= passed, (
                f"{len(seconds)} passes took {seconds.sum():g} s, measuring them {passed:g} s: "
                "durations are in seconds; set `simulated` where they do not pass here"
            )

    def test_durations_depend_on_the_architecture(self) -> None:
        device = self.make()
        small, large = (device.measure(d, 1, 5).seconds for d in (self.deployment(), self.larger()))
        known = {*small.tolist(), *large.tolist()}
        assert len(known) > 1, f"each pass took {known}, whatever was run: override `larger`?"

    def test_facts_are_json_and_stable(self) -> None:
        facts = dict(self.make().facts)
        assert facts
        assert all(isinstance(key, str) for key in facts)
        assert json.loads(json.dumps(facts)) == facts
        assert dict(self.make().facts) == facts


def _repeated(value: Any) -> Any:
    """Sixteen times the inputs, along the first axis."""
    if not getattr(value, "shape", ()):
        return value
    return value[np.arange(len(value)).repeat(16)]


def _content(deployment: Deployment) -> dict[str, Any]:
    """Copies of all that a device could change, by name."""
    module = deployment.module
    state = module.state_dict() if callable(getattr(module, "state_dict", None)) else {}
    parts: Mapping[str, Any] = {
        **{f"input {name}": value for name, value in deployment.inputs.items()},
        **{f"the module's {name}": value for name, value in state.items()},
        "the module's mode": getattr(module, "training", None),
    }
    return copy.deepcopy(dict(parts))


def _same(one: Any, other: Any) -> bool:
    kinds = [tuple(str(getattr(x, of, "")) for of in ("dtype", "shape", "device"))
             for x in (one, other)]  # fmt: skip
    if type(one) is not type(other) or kinds[0] != kinds[1]:
        return False
    alike = one == other
    return bool(alike.all()) if hasattr(alike, "all") else bool(alike)


def _paused(
    device: Device, deployment: Deployment, warmup: int, repeats: int, pause: Callable[[int], float]
) -> tuple[Timing, int]:
    """Measure an architecture some of whose passes are made longer.

    Args:
        device: Where it runs.
        deployment: What to run.
        warmup: Passes before the timed ones.
        repeats: Timed passes.
        pause: Seconds that each pass takes longer, by its number.

    Returns:
        The timing, and how many passes could be made longer: all of them only where the device
        runs the module itself.
    """
    module = copy.deepcopy(deployment.module)
    passes = 0

    def wait(*_: object) -> None:
        nonlocal passes
        time.sleep(pause(passes))
        passes += 1

    if not callable(getattr(module, "register_forward_pre_hook", None)):
        return device.measure(deployment, warmup, repeats), 0
    module.register_forward_pre_hook(wait)
    try:
        timing = device.measure(replace(deployment, module=module, file=None), warmup, repeats)
    except Exception:  # noqa: BLE001 - a runtime that cannot take the module with its pauses
        return device.measure(deployment, warmup, repeats), 0
    return timing, passes
