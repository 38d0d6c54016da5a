"""What an NVIDIA GPU says about itself while it runs: energy, clock, and what holds it back."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_REASONS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Bits of what NVML calls throttle reasons, without idleness and limits that somebody has set."""

_STEPS = 3
_LONGEST = 1.0


class Gpu:
    """A GPU in NVML; every answer is None where it gives none.

    Args:
        identity: UUID of the GPU, without ``GPU-``.
    """

    def __init__(self, identity: str) -> None:
        self._nvml: Any = None
        # NVML fails in types of its own where there is no driver, or none that it knows.
        with suppress(Exception):
            import pynvml

            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}")
            self._nvml = pynvml

    def joules(self) -> float | None:
        """What it has used since its driver was loaded; grows in steps of many milliseconds."""
        found = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return None if found is None else float(found) / 1e3

    def clock(self) -> float | None:
        """Clock of its multiprocessors now, in Hz."""
        found = self._ask("nvmlDeviceGetClockInfo", 1)
        return None if found is None else 1e6 * float(found)

    def throttled(self) -> str | None:
        """What holds its clock back now, in words; empty where nothing does."""
        found = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        if found is None:
            return None
        return ", ".join(reason for bit, reason in _REASONS.items() if int(found) & bit)

    def _ask(self, function: str, *arguments: int) -> Any:
        if self._nvml is None:
            return None
        try:
            return getattr(self._nvml, function)(self._handle, *arguments)
        # As above; older cards count no energy.
        except Exception:  # noqa: BLE001
            return None


def energy_of(
    run: Callable[[], object],
    joules: Callable[[], float | None],
    clock: Callable[[], float] = time.monotonic,
) -> float | None:
    """Energy of a pass, counted from a step of a coarse counter to a later one.

    Args:
        run: Makes a pass, and returns when it has ended.
        joules: Reads the counter, which stands still between its steps.
        clock: Seconds.

    Returns:
        Joules a pass; None where the counter cannot be read, or takes no two steps in a second.
    """
    end = clock() + _LONGEST
    last, start, found = joules(), None, None
    passes = steps = 0
    while last is not None and steps < _STEPS and clock() < end:
        run()
        passes += 1
        now = joules()
        if now is None or now == last:
            continue
        last = now
        if start is None:
            # Only from here on it is known how much of a step has passed.
            start, passes = now, 0
            continue
        steps += 1
        found = (now - start) / passes
    return found
