"""Super pre-training: one set of weights that works at every shape (paper, section 2.2)."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError, NastoolError
from nastool_supershaper.checkpoints import (
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
    save_model,
)
from nastool_supershaper.masking import (
    SHAPE_STREAM,
    Blocks,
    MaskedBatches,
    Masking,
    random_generator,
)
from nastool_supershaper.measuring import perplexities
from nastool_supershaper.precision import autocast, resolve_dtype
from nastool_supershaper.pretraining_config import PRESETS, PretrainingConfig
from nastool_supershaper.training_rules import LargestOnly, Shape, Subnet

if TYPE_CHECKING:
    import torch

    from nastool_supershaper.modeling import SuperShaperForMaskedLM


__all__ = [
    "PRESETS",
    "Evaluation",
    "PretrainingConfig",
    "PretrainingResult",
    "StepReport",
    "accumulate_gradients",
    "build_optimizer",
    "pretrain",
]

# What may differ between a run and its continuation without changing the weights.
_FREE_ON_RESUME = ("log_every", "evaluate_every", "checkpoint_every", "keep_checkpoints")


@dataclass(frozen=True)
class Evaluation:
    """Held-out text, masked once, and the shapes to follow on it.

    Args:
        input_ids: Masked tokens, (n, length).
        labels: Original tokens where masked, -100 elsewhere, (n, length).
        shapes: Shapes by name, beside the largest and the smallest.
    """

    input_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    shapes: dict[str, Shape] = field(default_factory=dict)


@dataclass(frozen=True)
class StepReport:
    """What one step did.

    Args:
        step: Steps done.
        losses: Mean loss by role (largest, smallest, random).
        learning_rate: Of this step.
        tokens_per_second: Tokens of the batch over the step's time (each subnet sees them all).
        perplexities: By name of shape, at evaluations only.
    """

    step: int
    losses: dict[str, float]
    learning_rate: float
    tokens_per_second: float
    perplexities: dict[str, float] | None = None


@dataclass(frozen=True)
class PretrainingResult:
    """How a run ended.

    Args:
        step: Steps done.
        finished: False if a signal stopped it; it can be resumed.
        tokens: Tokens seen.
        seconds: Time spent in all runs.
        perplexities: Of the last evaluation, by name of shape.
    """

    step: int
    finished: bool
    tokens: int
    seconds: float
    perplexities: dict[str, float]


def pretrain(
    model: SuperShaperForMaskedLM,
    blocks: Blocks,
    masking: Masking,
    config: PretrainingConfig,
    output: str | Path,
    *,
    evaluation: Evaluation | None = None,
    resume: bool = True,
    on_step: Callable[[StepReport], None] | None = None,
) -> PretrainingResult:
    """Train a supernet; stopped at any moment and resumed, it ends as if never stopped.

    In every step each subnet of the rule runs forward and backward on the same masked batch; the
    gradients of their mean losses add up, and the optimizer makes one step (paper, section 2.2).

    Args:
        model: The supernet; it is trained in place.
        blocks: Training text, (n, length) token ids.
        masking: The masking rule; its rate gives way to the configuration's.
        config: Hyperparameters.
        output: Folder for the model, ``checkpoints/`` and ``log.jsonl``.
        evaluation: Held-out text to follow.
        resume: Continue from the newest good checkpoint in the folder, if there is one.
        on_step: Called after every step.

    Returns:
        How the run ended. SIGINT and SIGTERM end it after the current step, with a checkpoint.

    Raises:
        InvalidInputError: If the folder holds another run, or one and `resume` is False.
        NastoolError: If a loss is not finite, or a checkpoint cannot be written.
    """
    import torch

    output = Path(output)
    config = replace(config, dtype=resolve_dtype(model.device.type, config.dtype))
    run = _Run(model, blocks, replace(masking, rate=config.masking_rate), config, output)
    start = run.start(resume)
    done, perplexity = start, run.last_perplexities
    clock, before = time.perf_counter(), run.seconds
    with (
        _stop_signals() as stop,
        ThreadPoolExecutor(1) as pool,
        torch.inference_mode(False),
        _flushed_denormals(),
    ):
        upcoming = pool.submit(run.batches.batch, start)
        while done < config.steps and not stop.is_set():
            began = time.perf_counter()
            input_ids, labels = upcoming.result()
            upcoming = pool.submit(run.batches.batch, done + 1)
            losses, rate = run.step(done, input_ids, labels)
            done += 1
            speed = input_ids.size / (time.perf_counter() - began)
            is_last = done == config.steps
            found = None
            due = config.evaluate_every and done % config.evaluate_every == 0
            if evaluation is not None and (due or is_last):
                found = perplexity = run.evaluate(evaluation)
            run.seconds = before + time.perf_counter() - clock
            report = StepReport(done, losses, rate, speed, found)
            if done % config.log_every == 0 or found is not None or is_last:
                run.log(report, input_ids.size)
            if on_step is not None:
                on_step(report)
            if done % config.checkpoint_every == 0 or is_last:
                run.checkpoint(done, perplexity)
        if start < done < config.steps and done % config.checkpoint_every:
            run.checkpoint(done, perplexity)
    save_model(model, output)
    tokens = done * config.batch_size * blocks.shape[1]
    return PretrainingResult(done, done == config.steps, tokens, run.seconds, perplexity)


class _Run:
    """A run's optimizer, files and counters."""

    def __init__(
        self,
        model: SuperShaperForMaskedLM,
        blocks: Blocks,
        masking: Masking,
        config: PretrainingConfig,
        output: Path,
    ) -> None:
        if masking.vocab_size > model.config.vocab_size:
            raise InvalidInputError(
                f"the model's vocabulary must hold the tokenizer's {masking.vocab_size} tokens, "
                f"got {model.config.vocab_size}"
            )
        if blocks.shape[1] > model.config.max_position_embeddings:
            raise InvalidInputError(
                f"blocks must be at most {model.config.max_position_embeddings} tokens long, "
                f"got {blocks.shape[1]}"
            )
        self.model, self.config, self.output = model, config, output
        self.batches = MaskedBatches(blocks, masking, config.batch_size, config.seed)
        self.optimizer = build_optimizer(model, config)
        self.data = _data_fingerprint(blocks)
        self.seconds = 0.0
        self.last_perplexities: dict[str, float] = {}
        self._widths = tuple(model.config.widths)
        if config.compile:
            for layer in model.supershaper.layers:
                layer.compile()

    @property
    def _checkpoints(self) -> Path:
        return self.output / "checkpoints"

    def start(self, resume: bool) -> int:
        """Return the step to begin with, having restored what was saved there."""
        try:
            self.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInputError(f"cannot make folder {self.output}: {error}") from error
        checkpoint = latest_checkpoint(self._checkpoints)
        if checkpoint is None:
            (self.output / "log.jsonl").unlink(missing_ok=True)
            return 0
        if not resume:
            raise InvalidInputError(
                f"{self.output} already holds a run at step {checkpoint.state['step']}: "
                "resume it, or give another folder"
            )
        state = checkpoint.state
        then, now = state["config"], json.loads(json.dumps(self.config.describe()))
        for name in now:
            if name not in _FREE_ON_RESUME and then.get(name) != now[name]:
                raise InvalidInputError(
                    f"{self.output} was trained with {name}={then.get(name)!r}, got "
                    f"{now[name]!r}: resume with the same value, or give another folder"
                )
        if state["data"] != self.data:
            raise InvalidInputError(f"{self.output} was trained on other text; give another folder")
        load_checkpoint(checkpoint, self.model, self.optimizer)
        self.seconds = state["seconds"]
        self.last_perplexities = state["perplexities"]
        self._truncate_log(state["step"])
        return int(state["step"])

    def step(
        self, step: int, input_ids: NDArray[np.int64], labels: NDArray[np.int64]
    ) -> tuple[dict[str, float], float]:
        """Make one optimizer step; return losses by role and the learning rate."""
        config = self.config
        rule = LargestOnly() if step < config.head_steps else config.rule
        generator = random_generator(config.seed, SHAPE_STREAM, step)
        subnets = rule.subnets(self._widths, self.model.config.num_hidden_layers, generator)
        factor = config.rate_factor(step)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * group["rate"] * factor
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        losses = accumulate_gradients(
            self.model, input_ids, labels, subnets, config.micro_batch_size, config.dtype
        )
        for subnet, loss in zip(subnets, losses, strict=True):
            if not math.isfinite(loss):
                raise NastoolError(
                    f"the loss became {loss} in step {step + 1} ({subnet.role} subnet): lower the "
                    "learning rate or use float32; the last good checkpoint is kept in "
                    f"{self._checkpoints}"
                )
        self.optimizer.step()
        by_role: dict[str, float] = {}
        for role in dict.fromkeys(subnet.role for subnet in subnets):
            of_role = [x for s, x in zip(subnets, losses, strict=True) if s.role == role]
            by_role[role] = sum(of_role) / len(of_role)
        return by_role, config.learning_rate * factor

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        """Return held-out perplexities by name of shape."""
        n = self.model.config.num_hidden_layers
        shapes = {
            "largest": (self._widths[-1],) * n,
            "smallest": (self._widths[0],) * n,
            **evaluation.shapes,
        }
        values = perplexities(
            self.model,
            evaluation.input_ids,
            evaluation.labels,
            list(shapes.values()),
            dtype=self.config.dtype,
        )
        return dict(zip(shapes, values.tolist(), strict=True))

    def log(self, report: StepReport, batch_tokens: int) -> None:
        """Append a line to the log."""
        line = {
            "step": report.step,
            "tokens": report.step * batch_tokens,
            "seconds": round(self.seconds, 3),
            "learning_rate": report.learning_rate,
            "tokens_per_second": round(report.tokens_per_second, 1),
            "loss": report.losses,
        }
        if report.perplexities is not None:
            line["perplexity"] = report.perplexities
        with open(self.output / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def checkpoint(self, step: int, perplexity: dict[str, float]) -> None:
        """Save everything that resuming needs."""
        state = {
            "step": step,
            "seconds": self.seconds,
            "perplexities": perplexity,
            "config": self.config.describe(),
            "data": self.data,
        }
        save_checkpoint(
            self._checkpoints,
            step,
            self.model,
            self.optimizer,
            state,
            self.config.keep_checkpoints,
        )

    def _truncate_log(self, step: int) -> None:
        path = self.output / "log.jsonl"
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError):
                break  # the line that a killed run was writing
        path.write_text("".join(kept), encoding="utf-8")


def accumulate_gradients(
    model: SuperShaperForMaskedLM,
    input_ids: NDArray[np.int64],
    labels: NDArray[np.int64],
    subnets: list[Subnet],
    micro_batch_size: int | None = None,
    dtype: str = "float32",
) -> list[float]:
    """Add the gradients of every subnet's mean loss on one batch to the weights' gradients.

    Args:
        model: The supernet.
        input_ids: Masked tokens, (n, length).
        labels: Original tokens where masked, -100 elsewhere, (n, length).
        subnets: Shapes whose losses are summed.
        micro_batch_size: Blocks a forward pass; None for all at once.
        dtype: ``float32`` or ``bfloat16``.

    Returns:
        Mean loss of every subnet over the masked tokens of the whole batch.
    """
    import torch

    size = micro_batch_size or len(input_ids)
    device = model.device
    n_masked = max(1, int((labels != -100).sum()))
    losses = [0.0] * len(subnets)
    for start in range(0, len(input_ids), size):
        part = labels[start : start + size]
        ids = torch.as_tensor(input_ids[start : start + size], device=device)
        targets = torch.as_tensor(part, device=device)
        weight = int((part != -100).sum()) / n_masked
        for i, subnet in enumerate(subnets):
            with autocast(device.type, dtype):
                loss = model(input_ids=ids, labels=targets, shape=subnet.shape).loss * weight
            loss.backward()
            losses[i] += loss.item()
    return losses


def build_optimizer(
    model: SuperShaperForMaskedLM, config: PretrainingConfig
) -> torch.optim.Optimizer:
    """Return fused AdamW with a group for every learning rate and weight decay.

    Args:
        model: The supernet.
        config: Hyperparameters.
    """
    import torch

    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        rate = 1.0
        if not name.startswith(model.base_model_prefix + "."):
            rate = config.head_rate
        elif "bottleneck" in name:
            rate = config.bottleneck_rate
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        group = groups.setdefault(
            (rate, decay), {"params": [], "rate": rate, "weight_decay": decay}
        )
        group["params"].append(parameter)
    return torch.optim.AdamW(
        list(groups.values()),
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )


def _data_fingerprint(blocks: Blocks) -> dict[str, Any]:
    sample = np.ascontiguousarray(blocks[:: max(1, len(blocks) // 1024)])
    return {
        "blocks": list(blocks.shape),
        "sample": hashlib.blake2b(sample.astype("<u4").tobytes(), digest_size=16).hexdigest(),
    }


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into a request; a second one acts as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    old: dict[signal.Signals, Any] = {}

    def request(number: int, frame: object) -> None:
        del number, frame
        stop.set()
        for known, handler in old.items():
            signal.signal(known, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        old[number] = signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def _flushed_denormals() -> Iterator[None]:
    """Treat denormal numbers as zero: on CPUs they are slow, and no training needs them."""
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
