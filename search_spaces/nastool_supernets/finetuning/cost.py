"""How long fine-tuning many cells takes here, by a few steps of every task."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nastool_supernets.finetuning.cells import Cell
from nastool_supernets.finetuning.tasks import Settings
from nastool_supernets.finetuning.training import DivergedError
from nastool_supernets.finetuning.workbench import Workbench

_STEPS = 4
"""Optimizer steps that are timed."""

_TRAINED = 3
"""What training on an example costs, in examples scored."""


def steps_of(bench: Workbench, cells: Sequence[Cell]) -> int:
    """Optimizer steps of all cells."""
    return sum(
        _steps(settings, len(bench.curriculum.data(cell.task).train))
        for cell in cells
        for settings in bench.curriculum.choices(bench.curriculum.task(cell.task))
    )


def seconds_of(bench: Workbench, cells: Sequence[Cell]) -> float | None:
    """How long training cells takes here; None where a task's loss is not finite.

    Every task is tried on a shape from the middle of its cells, with one step and with a few:
    the difference is what examples take, the rest is what every fine-tuning takes anyway.

    Args:
        bench: Trains; nothing is kept.
        cells: What is to be trained, smaller shapes before larger ones.
    """
    total = 0.0
    try:
        for position, name in enumerate(dict.fromkeys(cell.task for cell in cells)):
            own = [cell for cell in cells if cell.task == name]
            task, data = bench.curriculum.task(name), bench.curriculum.data(name)
            if not data.train:
                continue  # scoring as it is takes no time worth telling
            cell = sorted(own, key=lambda cell: cell.shape)[len(own) // 2]
            many = min(_STEPS * task.settings.batch_size, len(data.train))
            few = math.ceil(many / _STEPS)
            if position == 0:
                bench.timed(cell, few)  # the first one of a process takes longer
            work = [_TRAINED * n + min(n, len(data.dev)) for n in (few, many)]
            times = [bench.timed(cell, n) for n in (few, many)]
            pace = max(times[1] - times[0], 0.0) / max(work[1] - work[0], 1)
            anyway = max(times[0] - pace * work[0], 0.0)
            for one in own:
                # A teacher reads the examples as well.
                trained = _TRAINED + one.taught
                for settings in bench.curriculum.choices(task):
                    steps = _steps(settings, len(data.train))
                    scored = math.ceil(steps / _steps_per_epoch(settings, len(data.train)))
                    examples = trained * steps * settings.batch_size + scored * len(data.dev)
                    total += anyway + pace * examples
    except DivergedError:  # said again where it is trained
        return None
    return total


def _steps_per_epoch(settings: Settings, n_train: int) -> int:
    return math.ceil(n_train / settings.batch_size)


def _steps(settings: Settings, n_train: int) -> int:
    steps = settings.epochs * _steps_per_epoch(settings, n_train)
    return min(steps, settings.max_steps or steps)
