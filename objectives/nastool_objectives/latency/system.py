"""What this machine says about itself: processor, clock, load, energy; and staying on its cores."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")
_POWERCAP = Path("/sys/class/powercap")

_STEP = 1e-3
"""Seconds after which RAPL counts on."""

_STEPS = 20
"""Steps that a count must last, so that the part of a step at either end is little of it."""


def processor() -> str:
    """Name of the processor."""
    for key, text in _cpuinfo():
        if key == "model name":
            return text
    return platform.processor() or platform.machine()


def facts() -> dict[str, Any]:
    """What every measurement on this machine depends on, as JSON values."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def clock() -> float | None:
    """Mean clock of the cores this process may use, in Hz; None where it is not known."""
    import psutil  # here: predicted latencies, which need nothing of this, are not to wait for it

    try:
        cores = psutil.cpu_freq(percpu=True)
    except (OSError, AttributeError, RuntimeError):
        return None
    chosen = [cores[core].current for core in _allowed() if core < len(cores)] or [
        core.current for core in cores
    ]
    return 1e6 * sum(chosen) / len(chosen) if any(chosen) else None


def load() -> float | None:
    """Processes that ran or waited, averaged over the last minute; None where it is not known."""
    import psutil

    try:
        return float(psutil.getloadavg()[0])
    except OSError:
        return None


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Keep this thread, and those of libraries, on as many cores as there are threads.

    A library's pool may have started before. Other threads of Python, such as that of a progress
    bar, stay where they are. Where the system does not let a process choose its cores, nothing
    happens.

    Args:
        threads: Number of cores wanted.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    # The last cores: the first ones are where systems handle their interrupts.
    cores = sorted(allowed)[-threads:]
    before = {}
    for thread in _threads():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            before[thread] = os.sched_getaffinity(thread)
            os.sched_setaffinity(thread, cores)
    try:
        yield
    finally:
        for thread in _threads():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread, before.get(thread, allowed))


def _threads() -> set[int]:
    """This thread, and all that Python has not started."""
    others = {thread.native_id for thread in threading.enumerate()}
    try:
        running = {int(name) for name in os.listdir("/proc/self/task")}
    except OSError:
        running = set()
    return running - others | {threading.get_native_id()}


def energy_a_pass(joules: float | None, seconds: Sequence[float]) -> float | None:
    """Energy of a pass, from that of all of them.

    Args:
        joules: Of all passes; None where it is not known.
        seconds: What each pass took.

    Returns:
        Joules; None where all passes together are no longer than a few steps of the counter.
    """
    if joules is None or sum(seconds) < _STEPS * _STEP:
        return None
    return joules / len(seconds)


class EnergyCounter:
    """Energy of the processor packages (RAPL), where the system lets it be read.

    The counters belong to the whole package, so whatever else runs is counted too.
    """

    def __init__(self) -> None:
        self._domains = [
            (folder / "energy_uj", _number(folder / "max_energy_range_uj"))
            for folder in sorted(_POWERCAP.glob("intel-rapl:?"))
            if _number(folder / "energy_uj") is not None
        ]
        self._start: list[float | None] = []

    def start(self) -> None:
        """Begin to count."""
        self._start = [_number(file) for file, _ in self._domains]

    def stop(self) -> float | None:
        """Joules since `start`; None where no counter can be read."""
        if not self._domains:
            return None
        total = 0.0
        for (file, span), begin in zip(self._domains, self._start, strict=True):
            end = _number(file)
            if begin is None or end is None:
                return None
            # The counter starts over at its span.
            total += end - begin if end >= begin else end - begin + (span or 0.0)
        return total / 1e6


def _allowed() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _cpuinfo() -> list[tuple[str, str]]:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return [(key.strip(), text.strip()) for key, colon, text in pairs if colon]


def _number(file: Path) -> float | None:
    try:
        return float(file.read_text())
    except (OSError, ValueError):
        return None
