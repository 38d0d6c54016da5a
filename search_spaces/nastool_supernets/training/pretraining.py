"""Super pre-training: one set of weights that works at every shape (paper, section 2.2)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nastool_supernets.corpus.tasks import (
    Blocks,
    Task,
)
from nastool_supernets.runtime.interruption import flushed_denormals, stop_signals
from nastool_supernets.runtime.parallel import ALONE, Workers
from nastool_supernets.runtime.precision import resolve_dtype
from nastool_supernets.supernet import Net
from nastool_supernets.training.config import PretrainingConfig
from nastool_supernets.training.report import (
    Evaluation,
    PretrainingResult,
    StepReport,
)
from nastool_supernets.training.run import Run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from nastool_supernets.training.teaching import Teacher

_log = logging.getLogger(__name__)

WAIT = 10.0
"""Seconds to wait for another process that trains in the same folder: it may be ending."""


def pretrain(
    net: Net,
    blocks: Blocks,
    task: Task,
    config: PretrainingConfig,
    output: str | Path,
    *,
    teacher: Teacher | None = None,
    evaluation: Evaluation | None = None,
    resume: bool = True,
    on_step: Callable[[StepReport], None] | None = None,
    workers: Workers = ALONE,
    trackers: Sequence[str] | None = None,
    tokenizer: str | Path | PreTrainedTokenizerFast | None = None,
    origin: Mapping[str, Any] | None = None,
) -> PretrainingResult:
    """Train a net; stopped at any moment and resumed, it ends as if never stopped.

    In every step each subnet of the rule runs forward and backward on the same batch; the
    gradients of their mean losses add up, and the optimizer makes one step (paper, section 2.2).

    Args:
        net: The supernet, or one shape alone; it is trained in place.
        blocks: Training text, (n, length) token ids.
        task: What is to be predicted; its rate gives way to the configuration's.
        config: Hyperparameters.
        output: Folder for the model, ``checkpoints/`` and ``log.jsonl``.
        teacher: What one shape learns from as well, as the configuration says.
        evaluation: Held-out text to follow.
        resume: Continue from the newest good checkpoint in the folder, if there is one.
        on_step: Called after every step.
        workers: The processes that share the batches; each calls this with the same arguments. The
            first one writes; the numbers are those of a single process up to rounding.
        trackers: See `open_trackers`; None takes what is installed.
        tokenizer: The text's tokenizer, or its folder, to lie beside the model from the start.
        origin: What else the run is known by, as JSON, e.g. what its weights start from. What is
            named here must be the same where the run goes on.

    Returns:
        How the run ended. SIGINT and SIGTERM end it after the current step, with a checkpoint.

    Raises:
        InvalidInputError: If the folder holds another run, one that cannot go on, or one and
            `resume` is False; or another process trains there.
        NastoolError: If a loss or a weight is not finite, or a checkpoint cannot be written.
    """
    output = Path(output)
    with workers.owning(output, "run", WAIT, _log.warning):
        config = replace(config, dtype=resolve_dtype(net.model.device.type, config.dtype))
        rated = task.with_rate(config.masking_rate)
        run = Run(net, blocks, rated, config, output, workers, origin or {}, teacher)
        start = run.start(resume, tokenizer)
        return _train(run, start, evaluation, on_step, trackers)


def _train(
    run: Run,
    start: int,
    evaluation: Evaluation | None,
    on_step: Callable[[StepReport], None] | None,
    trackers: Sequence[str] | None,
) -> PretrainingResult:
    """Make the steps that are left."""
    import torch

    model, config, workers = run.model, run.config, run.workers
    if config.steps == 0:
        run.save()
        workers.wait()
        return PretrainingResult(0, True, 0, 0.0, {})
    done, perplexity = start, run.last_perplexities
    clock, before = time.perf_counter(), run.seconds
    with (
        stop_signals() as stop,
        ThreadPoolExecutor(1) as pool,
        torch.inference_mode(False),
        flushed_denormals(),
        run.tracked(trackers, start),
    ):
        upcoming = pool.submit(run.batches.batch, start)
        while done < config.steps and not workers.any(stop.is_set(), model.device):
            began = time.perf_counter()
            input_ids, labels = upcoming.result()
            upcoming = pool.submit(run.batches.batch, done + 1)
            subnets, rate = run.step(done, input_ids, labels)
            done += 1
            duration = time.perf_counter() - began
            is_last = done == config.steps
            found = None
            due = config.evaluate_every and done % config.evaluate_every == 0
            # Every process does: the others would only wait, and all return the same.
            if evaluation is not None and (due or is_last):
                found = perplexity = run.evaluate(evaluation)
            run.seconds = before + time.perf_counter() - clock
            report = run.report(done, subnets, rate, duration, input_ids.size, found)
            if done % config.log_every == 0 or found is not None or is_last:
                run.log(report, input_ids.size)
            if on_step is not None:
                on_step(report)
            if done % config.checkpoint_every == 0 or is_last:
                run.checkpoint(done, perplexity)
        if start < done < config.steps and done % config.checkpoint_every:
            run.checkpoint(done, perplexity)
    # Stopped before the first step there is nothing that a run could not start from again.
    if done > 0:
        run.save()
    workers.wait()
    tokens = done * config.batch_size * run.sequence_length
    return PretrainingResult(done, done == config.steps, tokens, run.seconds, perplexity)
