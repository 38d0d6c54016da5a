"""Curves of runs and studies in TensorBoard, W&B, MLflow and trackio, where installed."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

from nastool.errors import InvalidInputError, MissingDependencyError

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")

_READY = {
    "wandb": {"WANDB_API_KEY", "WANDB_MODE"},
    "mlflow": {"MLFLOW_TRACKING_URI"},
    "trackio": {"TRACKIO_DIR", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"},
}
"""Trackers that are not taken unasked unless the environment names one of these."""

LOGS = "wandb"
"""Folder that W&B makes in that of a run, with what it noted of user, machine and surroundings."""

_PROJECT = "nastool"

_AXIS = "step"
"""What W&B draws curves over: its own steps may not fall, as those of curve after curve do."""

_ONE = "nastool.run"
"""Tag of MLflow by which a run is found again."""


class Tracker(ABC):
    """Take numbers as work goes on."""

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
        # By name: it may be missing where types are checked.
        events = import_module("tensorboard.compat.proto.event_pb2")
        self._summary: Any = import_module("tensorboard.compat.proto.summary_pb2").Summary
        self._event: Any = events.Event
        self.name = str(output / "tensorboard")
        # Its thread prints what stops it, e.g. a full disk, and also hands it to the next call.
        self._hook = threading.excepthook
        threading.excepthook = self._report
        writer = import_module("tensorboard.summary.writer.event_file_writer")
        self._writer: Any = writer.EventFileWriter(self.name)
        begun = events.SessionLog(status=events.SessionLog.START)
        self._add(start + 1, file_version="brain.Event:2")
        self._add(start + 1, session_log=begun)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        scalars = [self._summary.Value(tag=k, simple_value=float(v)) for k, v in values.items()]
        self._add(step, summary=self._summary(value=scalars))

    def _add(self, step: int, **what: Any) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, **what))

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
        output: The run's folder, which exists.
        config: Settings to show with it.
    """

    def __init__(self, output: Path, config: Mapping[str, Any]) -> None:
        self.name = "Weights & Biases"
        wandb = import_module("wandb")
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=output.name,
            id=_digest(output),
            resume="allow",
            dir=str(output.resolve()),
            config=dict(config),
        )
        self._run.define_metric(_AXIS)
        self._run.define_metric("*", step_metric=_AXIS)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, _AXIS: step})

    def close(self) -> None:
        self._run.finish()


class MLflow(Tracker):
    """A run of MLflow, where MLFLOW_TRACKING_URI says; the same folder continues the same run.

    Args:
        output: The run's folder.
        config: Settings to show with it.
    """

    def __init__(self, output: Path, config: Mapping[str, Any]) -> None:
        mlflow = import_module("mlflow")
        self.name = f"MLflow at {mlflow.get_tracking_uri()}"
        self._metric: Any = import_module("mlflow.entities").Metric
        self._client: Any = mlflow.MlflowClient()
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        known = self._client.get_experiment_by_name(experiment)
        place = known.experiment_id if known else self._client.create_experiment(experiment)
        found = self._client.search_runs([place], f"tags.`{_ONE}` = '{_digest(output)}'")
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        tags = {_ONE: _digest(output)}
        self._run = self._client.create_run(place, tags=tags, run_name=output.name).info.run_id
        for key, value in config.items():
            self._client.log_param(self._run, _plain(key), str(value))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = time.time_ns() // 1_000_000
        metrics = [self._metric(_plain(k), float(v), now, step) for k, v in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        self._client.set_terminated(self._run)


class Trackio(Tracker):
    """A run of trackio, where its variables say; the same folder continues the same run.

    Args:
        output: The run's folder.
        config: Settings to show with it.
    """

    def __init__(self, output: Path, config: Mapping[str, Any]) -> None:
        self.name = "trackio"
        self._trackio = import_module("trackio")
        with _silence():
            self._run: Any = self._trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", _PROJECT),
                # Runs are told apart by their names alone.
                name=f"{output.name}-{_digest(output)}",
                resume="allow",
                config=dict(config),
                embed=False,
            )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        with _silence():
            self._trackio.finish()


def _silence() -> redirect_stdout[StringIO]:
    """Keep what a tracker prints away from the tables and JSON on standard output."""
    return redirect_stdout(StringIO())


def _plain(name: str) -> str:
    """A name that MLflow takes, as a path: ``latency[h100]`` is ``latency:h100``."""
    return posixpath.normpath(re.sub(r"[^\w\-. :/]", "_", name.replace("[", ":").replace("]", "")))


def _digest(folder: Path) -> str:
    return hashlib.blake2b(str(folder.resolve()).encode(), digest_size=8).hexdigest()


def open_trackers(
    names: Sequence[str] | None, output: Path, start: int, config: Mapping[str, Any]
) -> list[Tracker]:
    """Open the trackers of a run.

    Args:
        names: Out of `TRACKERS`. None takes TensorBoard if it is installed, and the others if they
            are and the environment names a key, a mode or an address of theirs.
        output: The run's folder.
        start: Steps done.
        config: Settings.

    Raises:
        InvalidInputError: If a name is unknown.
        MissingDependencyError: If one that was asked for is not installed.
    """
    if names is None:
        # Without a key one would stop the run to ask for it, or write where nobody looks.
        ready = {name for name, keys in _READY.items() if keys & os.environ.keys()}
        names = [n for n in TRACKERS if find_spec(n) and (n not in _READY or n in ready)]
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
    if "mlflow" in names:
        trackers.append(MLflow(output, config))
    if "trackio" in names:
        trackers.append(Trackio(output, config))
    return trackers
