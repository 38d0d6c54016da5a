"""How many steps a training can make within a time, from the measured pace of its first ones."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch

from nastool.errors import InvalidInputError
from nastool_supernets.corpus.tasks import Blocks, Task
from nastool_supernets.genotypes import row
from nastool_supernets.runtime.interruption import flushed_denormals
from nastool_supernets.runtime.parallel import ALONE, Workers
from nastool_supernets.runtime.precision import resolve_dtype
from nastool_supernets.supernet import Net, Supernet
from nastool_supernets.training.checkpoints import save_checkpoint
from nastool_supernets.training.config import PretrainingConfig
from nastool_supernets.training.report import Evaluation
from nastool_supernets.training.rules import OneShape, Subnet
from nastool_supernets.training.run import Run

if TYPE_CHECKING:
    from nastool_supernets.training.teaching import Teacher

_WARM, _TIMED = 2, 8
"""Steps before timing begins, and steps that are timed."""

_SHARE = 0.05
"""Share of the time after which no further step is timed, beyond the second."""

_PART = 8
"""Of so many blocks of an evaluation one is timed."""

_SPARE = 0.05
"""Share of the time that is left for what varies."""

_USUAL = 1000
"""Steps of the training whose pace is measured."""

_MOST = 1 << 40
"""Steps."""


@dataclass(frozen=True)
class Pace:
    """Seconds that parts of a training take.

    Args:
        step: A step of the rule.
        head_step: A step of the head stage.
        evaluation: An evaluation.
        checkpoint: A checkpoint; the model at the end takes as long again at most.
    """

    step: float
    head_step: float
    evaluation: float
    checkpoint: float

    def seconds(self, config: PretrainingConfig) -> float:
        """Return how long a training with a configuration takes."""
        head = min(config.head_steps, config.steps)
        evaluations, checkpoints = 1, 2
        if config.evaluate_every:
            evaluations += (config.steps - 1) // config.evaluate_every
        checkpoints += (config.steps - 1) // config.checkpoint_every
        return (
            self.head_step * head
            + self.step * (config.steps - head)
            + self.evaluation * evaluations
            + self.checkpoint * checkpoints
        )

    def steps_within(self, seconds: float, config_of: Callable[[int], PretrainingConfig]) -> int:
        """Return the most steps that end in time; 0 where not one does.

        Args:
            seconds: The time.
            config_of: The configuration of a number of steps.
        """
        fits, too_many = 0, 1
        while too_many < _MOST and self.seconds(config_of(too_many)) <= seconds:
            fits, too_many = too_many, too_many * 2
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if self.seconds(config_of(middle)) <= seconds:
                fits = middle
            else:
                too_many = middle
        return fits


def steps_within(
    seconds: float,
    net: Net,
    blocks: Blocks,
    task: Task,
    config_of: Callable[[int], PretrainingConfig],
    output: str | Path,
    *,
    teacher: Teacher | None = None,
    evaluation: Evaluation | None = None,
    workers: Workers = ALONE,
) -> int:
    """Measure a training's pace and return how many steps end in time, this measuring included.

    The model is left as it was, bit by bit, and so is everything that the training depends on.

    Args:
        seconds: The time.
        net: See `pretrain`.
        blocks: Likewise.
        task: Likewise.
        config_of: The hyperparameters of a number of steps.
        output: Folder of the run; what a checkpoint takes is measured there.
        teacher: See `pretrain`.
        evaluation: Likewise.
        workers: Likewise; all processes get the same number.

    Raises:
        InvalidInputError: If not one step ends in time.
    """
    began = time.monotonic()
    pace = measured_pace(
        seconds,
        net,
        blocks,
        task,
        config_of(_USUAL),  # of some length: what the number of steps decides is in it
        output,
        teacher=teacher,
        evaluation=evaluation,
        workers=workers,
    )
    left = seconds * (1 - _SPARE) - (time.monotonic() - began)
    # Clocks differ: the first process says.
    steps = torch.tensor([pace.steps_within(left, config_of)], device=net.model.device)
    workers.follow_first([steps])
    if not steps.item():
        raise InvalidInputError(
            f"expected time for at least one step, got {seconds:g} s: measuring the pace took "
            f"{time.monotonic() - began:.1f} s, and a run of one step takes "
            f"{pace.seconds(config_of(1)):.1f} s"
        )
    return int(steps.item())


def measured_pace(
    seconds: float,
    net: Net,
    blocks: Blocks,
    task: Task,
    config: PretrainingConfig,
    output: str | Path,
    *,
    teacher: Teacher | None = None,
    evaluation: Evaluation | None = None,
    workers: Workers = ALONE,
) -> Pace:
    """Measure a training's pace, for some twentieths of a time; the model is left as it was.

    Args:
        seconds: The time.
        net: See `pretrain`.
        blocks: Likewise.
        task: Likewise.
        config: The hyperparameters.
        output: Folder of the run; what a checkpoint takes is measured there.
        teacher: See `pretrain`.
        evaluation: Likewise.
        workers: Likewise.
    """
    began, model = time.monotonic(), net.model
    config = replace(config, dtype=resolve_dtype(model.device.type, config.dtype))
    rated = task.with_rate(config.masking_rate)
    run = Run(net, blocks, rated, config, Path(output), workers, {}, teacher)
    trained = [p for group in run.optimizer.param_groups for p in group["params"]]
    kept = [parameter.detach().clone() for parameter in trained]
    was_training = model.training
    try:
        with torch.inference_mode(False), flushed_denormals():
            return _measure(run, seconds, began, evaluation)
    finally:
        with torch.no_grad():
            for parameter, before in zip(trained, kept, strict=True):
                parameter.copy_(before)
                parameter.grad = None
        model.train(was_training)


def _measure(run: Run, seconds: float, began: float, evaluation: Evaluation | None) -> Pace:
    """Time some of everything."""
    whole = run.config
    if whole.compile:
        _compile_all(run)
    run.config = replace(whole, steps=_MOST, head_steps=0, head_learning_rate=None)
    step = head_step = _time_steps(run, began + seconds * _SHARE)
    # Its own steps are of the largest net alone.
    if whole.head_steps and not isinstance(whole.rule, OneShape):
        run.config = replace(run.config, head_steps=_MOST)
        head_step = _time_steps(run, began + 2 * seconds * _SHARE)
    run.config = whole
    evaluated = 0.0 if evaluation is None else _time_evaluation(run, evaluation)
    saved = _timed(run, lambda: _save(run))
    return Pace(step, head_step, evaluated, saved)


def _time_evaluation(run: Run, evaluation: Evaluation) -> float:
    """Seconds an evaluation, from a part of its blocks."""
    blocks = len(evaluation.input_ids)
    few = -(-blocks // _PART)
    part = replace(evaluation, input_ids=evaluation.input_ids[:few], labels=evaluation.labels[:few])
    return _timed(run, lambda: run.evaluate(part)) * blocks / few


def _time_steps(run: Run, end: float) -> float:
    """Seconds a step, the mean of some."""
    times: list[float] = []
    for number in range(_WARM + _TIMED):
        input_ids, labels = run.batches.batch(number)
        times.append(_timed(run, lambda n=number, x=input_ids, y=labels: run.step(n, x, y)))  # type: ignore[misc]
        # Where steps are slow, the first ones must not take all the time there is.
        if run.workers.any(len(times) >= 2 and time.monotonic() > end, run.model.device):
            break
    return fmean(times[min(_WARM, len(times) - 1) :])


def _compile_all(run: Run) -> None:
    """Let every choice of every gene be compiled before steps are timed."""
    from nastool_supernets.training.gradients import accumulate_gradients

    input_ids, labels = run.batches.batch(0)
    config, net = run.config, run.net
    if not isinstance(net, Supernet):
        return
    run.model.train()
    for choice in range(int(net.space.cardinalities.max())):
        genotype = row(np.minimum(choice, net.space.largest))
        accumulate_gradients(
            net,
            input_ids,
            labels,
            [Subnet("compiled", genotype)],
            config.micro_batch_size,
            config.dtype,
            workers=run.workers,
        )
        run.optimizer.zero_grad(set_to_none=not config.cuda_graphs)


def _save(run: Run) -> None:
    """Write a checkpoint and remove it."""
    if run.workers.is_first:
        folder = run.output / ".pace"
        try:
            save_checkpoint(folder, 1, run.model, run.optimizer, {})
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    run.workers.wait()


def _timed(run: Run, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    if run.model.device.type == "cuda":
        torch.cuda.synchronize(run.model.device)
    return time.perf_counter() - began
