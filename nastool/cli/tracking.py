"""``--tracker``: curves of what a command does in TensorBoard, W&B, MLflow or trackio."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nastool.errors import one_line
from nastool.integrations.trackers import TRACKERS

if TYPE_CHECKING:
    from nastool.comparison import Comparison
    from nastool.integrations.trackers import Tracker
    from nastool.study import Progress, Study

_F = TypeVar("_F", bound=Callable[..., Any])

TRACKER = click.Choice((*TRACKERS, "none"))
"""What ``--tracker`` takes."""

_FOLDER = Path("nastool-runs")
"""Where studies without a folder of their own have one for what trackers write."""

_POINTS = 200
"""Points of a study's curves, about."""


@dataclass(frozen=True)
class Tracking:
    """Where curves go.

    Args:
        names: Of the trackers; empty for none.
    """

    names: tuple[str, ...] = ()
    _open: list[Tracker] = field(default_factory=list)

    @contextmanager
    def opened(self, name: str, start: int, config: Mapping[str, Any]) -> Iterator[None]:
        """Keep the trackers open.

        Args:
            name: Of the study or the comparison: the run's.
            start: Steps done before.
            config: Settings to show with the run.

        Raises:
            NastoolError: One is missing, or cannot be opened or written.
        """
        if not self.names:
            yield
            return
        from nastool.files.writing import file_part, writing
        from nastool.integrations.trackers import open_trackers

        folder = _FOLDER / file_part(name)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with one_line("cannot write curves to the trackers"):
            self._open.extend(open_trackers(self.names, folder, start, config))
        try:
            yield
        except BaseException:
            # What ended the work is told, not that the trackers end with it.
            for tracker in self._open:
                with suppress(Exception):
                    tracker.close()
            raise
        else:
            for tracker in self._open:
                with one_line(f"cannot write curves to {tracker.name}"):
                    tracker.close()
        finally:
            self._open.clear()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers by name, of one step."""
        for tracker in self._open:
            with one_line(f"cannot write curves to {tracker.name}"):
                tracker.log(step, values)

    def following(self, study: Study, progress: Progress) -> Progress:
        """What is told of a study's progress, told to the trackers as well."""
        if not self._open:
            return progress
        last = len(study) - study.known

        def told(done: int, budget: int) -> None:
            nonlocal last
            progress(done, budget)
            if done - last >= max(budget // _POINTS, 1) and done < budget:
                last = done
                self.log(done, numbers_of(study))

        return told

    def ended(self, study: Study) -> None:
        """Record where a study has come to, which may have nothing left to do."""
        if self._open:
            self.log(len(study) - study.known, numbers_of(study))


def numbers_of(study: Study) -> dict[str, float]:
    """What curves show of a study: points of its front, best values, failures and seconds."""
    import numpy as np

    result = study.result()
    front = result.front()
    numbers = {"front": float(len(front.genotypes)), "failed": float(result.failed.sum())}
    for column, objective in enumerate(result.problem.objectives):
        values = front.objectives[:, column]
        if len(values) and np.isfinite(values).any():
            best = float(np.nanmin(values))
            numbers[f"best/{objective.name}"] = best * objective.direction.sign
    return {**numbers, "seconds": result.seconds}


def log_comparison(tracking: Tracking, comparison: Comparison) -> None:
    """Medians over the seeds of every indicator of every strategy, by evaluations."""
    import numpy as np

    steps: dict[int, dict[str, float]] = {}
    for indicator in comparison.indicators:
        curve = comparison.curve(indicator.name)
        for strategy, values in curve.values.items():
            for step, column in zip(curve.x.tolist(), values.T, strict=True):
                if not np.isnan(column).any():
                    name = f"{indicator.name}/{strategy}"
                    steps.setdefault(int(step), {})[name] = float(np.median(column))
    for step in sorted(steps):
        tracking.log(step, steps[step])


def tracker_option(command: _F) -> _F:
    """Add ``--tracker``, handed over as ``tracking``."""

    @click.option(
        "--tracker",
        "trackers",
        multiple=True,
        type=TRACKER,
        metavar="NAME",
        help=f"Also draw curves in {', '.join(TRACKERS)}; repeatable. TensorBoard's lie in "
        f"{_FOLDER}/NAME. Default: none.",
    )
    @functools.wraps(command)
    def packed(*arguments: Any, trackers: tuple[str, ...], **options: Any) -> Any:
        names = tuple(dict.fromkeys(name for name in trackers if name != "none"))
        return command(*arguments, tracking=Tracking(names), **options)

    return packed  # type: ignore[return-value]  # what click calls takes the options instead
