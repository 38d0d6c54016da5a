"""Curves of a run in TensorBoard and Weights & Biases, where these are installed."""

from __future__ import annotations

import hashlib
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nastool.errors import InvalidInputError, MissingDependencyError

TRACKERS = ("tensorboard", "wandb")


class Tracker(ABC):
    """Take numbers as training goes."""

    name: str
    """Where the numbers go; for messages."""

    @abstractmethod
    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers by name, of one step."""

    @abstractmethod
    def close(self) -> None:
        """Write what is still held back."""


class TensorBoard(Tracker):
    """Event files in the folder ``tensorboard`` of a run.

    Args:
        output: The run's folder.
        start: Steps done; curves of a run that was killed later are cut there.
    """

    def __init__(self, output: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.name = str(output / "tensorboard")
        # Its thread prints what stops it, e.g. a full disk, and also hands it to the next call.
        self._hook = threading.excepthook
        threading.excepthook = self._report
        self._writer: Any = SummaryWriter(str(output / "tensorboard"), purge_step=start + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def _report(self, failure: threading.ExceptHookArgs) -> None:
        if not type(failure.thread).__module__.startswith("tensorboard"):
            self._hook(failure)

    def close(self) -> None:
        try:
            self._writer.close()
        finally:
            threading.excepthook = self._hook


class WeightsAndBiases(Tracker):
    """A run of Weights & Biases; the same folder continues the same run.

    Args:
        output: The run's folder.
        config: Hyperparameters to show with it.
    """

    def __init__(self, output: Path, config: Mapping[str, Any]) -> None:
        self.name = "Weights & Biases"
        # By name: it may be missing where types are checked.
        wandb = import_module("wandb")
        folder = str(output.resolve())
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "nastool"),
            name=output.name,
            id=hashlib.blake2b(folder.encode(), digest_size=8).hexdigest(),
            resume="allow",
            dir=folder,
            config=dict(config),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


def open_trackers(
    names: Sequence[str] | None, output: Path, start: int, config: Mapping[str, Any]
) -> list[Tracker]:
    """Open the trackers of a run.

    Args:
        names: Out of ``tensorboard`` and ``wandb``. None takes TensorBoard if it is installed, and
            Weights & Biases if it is installed and the environment names its key or mode.
        output: The run's folder.
        start: Steps done.
        config: Hyperparameters.

    Raises:
        InvalidInputError: If a name is unknown.
        MissingDependencyError: If one that was asked for is not installed.
    """
    if names is None:
        # Without a key it would stop the run to ask for one.
        ready = {"WANDB_API_KEY", "WANDB_MODE"} & os.environ.keys()
        names = [n for n in TRACKERS if find_spec(n) and (n != "wandb" or ready)]
    unknown = set(names) - set(TRACKERS)
    if unknown:
        raise InvalidInputError(
            f"trackers: expected some of {', '.join(TRACKERS)}, got {', '.join(sorted(unknown))}"
        )
    for name in names:
        if find_spec(name) is None:
            raise MissingDependencyError(f"tracking with {name} needs it: pip install {name}")
    trackers: list[Tracker] = []
    if "tensorboard" in names:
        trackers.append(TensorBoard(output, start))
    if "wandb" in names:
        trackers.append(WeightsAndBiases(output, config))
    return trackers
