"""A device of another machine, which a worker of an executor times there."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.attributes import attribute
from nastool.devices import Deployment, Device, Timing, Workload, timing_of
from nastool.errors import InvalidInputError, MissingDependencyError, NastoolError
from nastool.executors import Executor, called
from nastool.plugins import load_device, load_space
from nastool.recipes.objectives import enter, plugin_contents
from nastool.space import SearchSpace
from nastool_objectives.latency import system


@dataclass(frozen=True)
class DeviceRecipe:
    """What a device is made from, with the space whose architectures it times.

    Args:
        device: Its text.
        settings: Its keyword settings, as sorted pairs.
        space: Text of the space.
        folder: Where relative paths begin.
        plugins: Paths and contents of the files that register what is named here.
    """

    device: str
    settings: tuple[tuple[str, Any], ...]
    space: str
    folder: str
    plugins: tuple[tuple[str, str], ...] = field(default_factory=plugin_contents)


@dataclass(frozen=True)
class Timed:
    """What a worker says of one visit.

    Args:
        timing: What the device said; None where it failed.
        clock: Clock of what ran it in Hz, None where it is not known.
        load: Load of the machine, likewise.
        host: The machine.
        error: Why it failed; empty where it did not.
    """

    timing: Timing | None
    clock: float | None
    load: float | None
    host: str = ""
    error: str = ""


class Elsewhere(Device):
    """A device that the one worker of an executor has.

    Args:
        executor: Has one worker, on the device's machine.
        recipe: Of the device.

    Raises:
        InvalidInputError: The executor has more workers, or the device cannot be made there.
    """

    def __init__(self, executor: Executor, recipe: DeviceRecipe) -> None:
        if (workers := executor.workers) != 1:
            raise InvalidInputError(
                f"a device has one worker, on its own machine, such as processes:1, got {workers}"
            )
        self._executor, self._recipe = executor, recipe
        self._facts: Mapping[str, Any]
        self._host: str
        self._facts, self._host = self._call(_facts, recipe)

    @attribute
    def facts(self) -> Mapping[str, Any]:
        return self._facts

    def measure(self, deployment: Deployment, warmup: int, repeats: int) -> Timing:
        del deployment, warmup, repeats
        raise NastoolError("a device of another machine makes what it runs itself")

    def visit(
        self, genotype: NDArray[np.int64], workload: Workload, warmup: int, repeats: int
    ) -> Timed:
        """Time one architecture there.

        Args:
            genotype: Shape (d,).
            workload: What it is given in one pass.
            warmup: Passes before the timed ones.
            repeats: Timed passes.

        Raises:
            InvalidInputError: Another machine has answered than before.
        """
        try:
            timed: Timed = self._call(_visit, self._recipe, genotype, workload, warmup, repeats)
        except (InvalidInputError, MissingDependencyError):
            raise
        except NastoolError as error:
            return Timed(None, None, None, error=" ".join(str(error).split()))
        if timed.host != self._host:
            raise InvalidInputError(
                f"a device has one worker, on its own machine: visits began on {self._host}, got "
                f"one on {timed.host}"
            )
        return timed

    def _call(self, function: Any, *arguments: Any) -> Any:
        ((_, value),) = called(self._executor, function, [arguments])
        return value


@lru_cache(maxsize=2)
def _made(recipe: DeviceRecipe) -> tuple[Device, SearchSpace]:
    enter(recipe.folder, recipe.plugins)
    return load_device(recipe.device, dict(recipe.settings)), load_space(recipe.space)


def _facts(recipe: DeviceRecipe) -> tuple[dict[str, Any], str]:
    return dict(_made(recipe)[0].facts), platform.node()


def _visit(
    recipe: DeviceRecipe, genotype: NDArray[np.int64], workload: Workload, warmup: int, repeats: int
) -> Timed:
    device, space = _made(recipe)
    timing = timing_of(device, space.deploy(genotype, workload), warmup, repeats)
    clock = system.clock() if timing.clock is None else timing.clock
    return Timed(timing, clock, system.load(), platform.node())
