"""A run of pre-training: its optimizer, files and counters, and its single steps."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError, NastoolError, WriteError, first_line
from nastool.files.reading import read_json_object
from nastool.files.writing import write_whole, writing
from nastool.integrations.trackers import Tracker, open_trackers
from nastool_supernets.corpus.identity import (
    describe_blocks,
    describe_net,
    differences,
    is_same_text,
)
from nastool_supernets.corpus.tasks import (
    IGNORED_LABEL,
    SHAPE_STREAM,
    Batches,
    Blocks,
    Task,
    random_generator,
)
from nastool_supernets.corpus.tokenizer import load_tokenizer, save_tokenizer
from nastool_supernets.family import family_of
from nastool_supernets.measuring.perplexities import perplexities
from nastool_supernets.positions import positions_of
from nastool_supernets.runtime.parallel import Workers
from nastool_supernets.runtime.precision import resolve_dtype
from nastool_supernets.saved import Checkpoint, latest_checkpoint, save_config, save_model
from nastool_supernets.supernet import Net, SingleShape, Supernet
from nastool_supernets.training.checkpoints import (
    load_checkpoint,
    resumable_checkpoint,
    save_checkpoint,
)
from nastool_supernets.training.config import PretrainingConfig
from nastool_supernets.training.gradients import accumulate_gradients
from nastool_supernets.training.log import TrainingLog
from nastool_supernets.training.optimizer import build_optimizer, set_rates, update
from nastool_supernets.training.report import (
    Evaluation,
    StepReport,
    SubnetLoss,
)
from nastool_supernets.training.rules import OneShape, Subnet
from nastool_supernets.training.utilisation import measure_peak_flops, training_flops

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from nastool_supernets.training.teaching import Teacher

CARD = "run.json"
"""File in the folder of a run that says what it is made of."""


def _check_rule(config: PretrainingConfig, net: Net, *, has_teacher: bool) -> None:
    """Check that a rule, a net and a teacher belong together."""
    is_alone = isinstance(config.rule, OneShape)
    shape = net.shape if isinstance(net, SingleShape) else None
    if shape is not None and (not is_alone or tuple(config.rule.describe()["shape"]) != (*shape,)):
        raise InvalidInputError(
            f"one shape alone is trained by the rule of that shape, {list(shape)}, got "
            f"{config.rule.describe()}"
        )
    learns = config.distillation is not None or config.distil_hidden > 0
    if is_alone and learns != has_teacher:
        raise InvalidInputError(
            "one shape learns from a teacher by distillation: expected both or neither, got "
            + ("a teacher alone" if has_teacher else "no teacher")
        )
    if has_teacher and shape is None:
        raise InvalidInputError("expected one shape to learn from the teacher, got a supernet")


class Run:
    """What a run is made of, and what it has done."""

    def __init__(
        self,
        net: Net,
        blocks: Blocks,
        task: Task,
        config: PretrainingConfig,
        output: Path,
        workers: Workers,
        origin: Mapping[str, Any],
        teacher: Teacher | None = None,
    ) -> None:
        model = net.model
        if task.vocab_size > model.config.vocab_size:
            raise InvalidInputError(
                f"the model's vocabulary must hold the tokenizer's {task.vocab_size} tokens, "
                f"got {model.config.vocab_size}"
            )
        if blocks.shape[1] > (longest := positions_of(model.config)):
            raise InvalidInputError(
                f"blocks must be at most {longest} tokens long, got {blocks.shape[1]}"
            )
        if workers.count > config.batch_size:
            raise InvalidInputError(
                f"batch_size must be at least the {workers.count} processes that share it, "
                f"got {config.batch_size}"
            )
        _check_rule(config, net, has_teacher=teacher is not None)
        self.model, self.config, self.output, self.workers = model, config, output, workers
        self.net, self._teacher = net, teacher
        self.trackers: list[Tracker] = []
        self._log = TrainingLog(output)
        self._peak_flops = self._flops = 0.0
        self.batches = Batches(blocks, task, config.batch_size, config.seed)
        self._maps = None if teacher is None else teacher.maps
        self.optimizer = build_optimizer(net, config, self._maps)
        self._blocks, self._origin = blocks, dict(origin)
        self._card: dict[str, Any] = {}
        self.seconds = 0.0
        self.last_perplexities: dict[str, float] = {}
        net.prepare(compiled=config.compile, checkpointing=config.gradient_checkpointing)
        if config.cuda_graphs:
            share = workers.share(config.batch_size)
            size = min(config.micro_batch_size or config.batch_size, share.stop - share.start)
            net.capture(size, self.sequence_length, resolve_dtype(model.device.type, config.dtype))

    @property
    def sequence_length(self) -> int:
        """Tokens a block."""
        return int(self._blocks.shape[1])

    @property
    def _checkpoints(self) -> Path:
        return self.output / "checkpoints"

    def start(self, resume: bool, tokenizer: str | Path | PreTrainedTokenizerFast | None) -> int:
        """Return the step to begin with, having restored what was saved there."""
        import torch

        checkpoint = resumable_checkpoint(self.output, resume)
        found = 0 if checkpoint is None else int(checkpoint.state["step"])
        first = torch.tensor([found], device=self.model.device)
        self.workers.follow_first([first])
        if self.workers.any(found != first.item(), self.model.device):
            raise InvalidInputError(
                f"{self.output}: expected a checkpoint of the same step for every process, got "
                f"{found} here and {first.item()} for the first; all must see the same folder"
            )
        if checkpoint is not None:
            self._check_continues(checkpoint)
        net = self.model.config
        known = getattr(net, "trained_positions", 0)
        net.trained_positions = max(known, self.sequence_length)
        self._card = {
            "config": self.config.describe(),
            "data": describe_blocks(self._blocks),
            "net": describe_net(net),
            "origin": (checkpoint.state.get("origin", {}) if checkpoint else {}) | self._origin,
        }
        if checkpoint is None:
            if self.workers.is_first:
                self._log.clear()
            self.workers.follow_first(list(self.model.parameters()))
        else:
            self._go_on(checkpoint)
        if self.workers.is_first:
            self._save_description(tokenizer)
        return found

    def _check_continues(self, checkpoint: Checkpoint) -> None:
        """Check that this is the run that the checkpoint is of."""
        state, kind = checkpoint.state, type(self.model.config)
        saved_kind = read_json_object(checkpoint.path / "config.json").get("model_type")
        if saved_kind != kind.model_type:
            raise InvalidInputError(
                f"{self.output} was trained as a model of type {saved_kind}, got "
                f"{kind.model_type}: resume with the same, or give another folder"
            )
        saved = kind.from_pretrained(checkpoint.path)
        origin = state.get("origin", {})
        compared = {name: value for name, value in self._origin.items() if name in origin}
        found = [
            *differences(describe_net(saved), describe_net(self.model.config)),
            *self.config.changes(state["config"]),
            *differences(origin, compared),
        ]
        if not found and isinstance(self.net, Supernet):
            own, other = self.net.space, family_of(saved).space(saved.to_dict())
            if own.fingerprint != other.fingerprint:
                found = [f"space {other.name}, got {own.name}"]
        if found:
            raise InvalidInputError(
                f"{self.output} was trained with {'; '.join(found)}: resume with the same, or give "
                "another folder"
            )
        if not is_same_text(state["data"], self._blocks):
            raise InvalidInputError(
                f"{self.output} was trained on other text (blocks {state['data']['blocks']}, got "
                f"{list(self._blocks.shape)}); give another folder"
            )

    def _go_on(self, checkpoint: Checkpoint) -> None:
        load_checkpoint(checkpoint, self.model, self.optimizer, self._maps)
        self.seconds = checkpoint.state["seconds"]
        self.last_perplexities = checkpoint.state["perplexities"]
        if self.workers.is_first:
            self._log.cut(checkpoint.state["step"])

    def _save_description(self, tokenizer: str | Path | PreTrainedTokenizerFast | None) -> None:
        """Save what the folder of an unfinished run is read with: sizes, card and tokenizer."""
        save_config(self.model, self.output)
        write_whole(self.output / CARD, json.dumps(self._card, indent=2) + "\n")
        if tokenizer is not None:
            if isinstance(tokenizer, str | Path):
                tokenizer = load_tokenizer(tokenizer)
            save_tokenizer(tokenizer, self.output)

    def step(
        self, step: int, input_ids: NDArray[np.int64], labels: NDArray[np.int64]
    ) -> tuple[tuple[SubnetLoss, ...], float]:
        """Make one optimizer step; return every subnet's loss and the learning rate."""
        config = self.config
        subnets = self._subnets(step)
        rate = set_rates(self.optimizer, config, step)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=not config.cuda_graphs)
        summed = accumulate_gradients(
            self.net,
            input_ids,
            labels,
            subnets,
            config.micro_batch_size,
            config.dtype,
            distillation=config.distillation,
            teacher=self._teacher,
            distil_hidden=config.distil_hidden,
            compiled=config.compile,
            workers=self.workers,
        )
        self._flops = training_flops(
            self.net,
            [subnet.genotype for subnet in subnets],
            input_ids.shape[0],
            input_ids.shape[1],
            int((labels != IGNORED_LABEL).sum()),
        )
        losses = update(self.optimizer, config.clip_norm, summed)
        for subnet, loss in zip(subnets, losses, strict=True):
            if not math.isfinite(loss):
                raise NastoolError(
                    f"the loss became {loss} in step {step + 1} ({subnet.role} subnet): lower the "
                    f"learning rate or use float32; {self._what_is_kept()}"
                )
        found = (
            SubnetLoss(subnet.role, self.net.architecture(subnet.genotype), loss)
            for subnet, loss in zip(subnets, losses, strict=True)
        )
        return tuple(found), rate

    def _subnets(self, step: int) -> list[Subnet]:
        if not isinstance(self.net, Supernet):
            return [Subnet("subnet", ())]
        generator = random_generator(self.config.seed, SHAPE_STREAM, step)
        return self.config.rule_of(step).subnets(self.net.space, generator)

    def report(
        self,
        step: int,
        subnets: tuple[SubnetLoss, ...],
        learning_rate: float,
        duration: float,
        tokens: int,
        perplexities: dict[str, float] | None,
    ) -> StepReport:
        """Put together what is told of a step."""
        losses = {}
        for role in dict.fromkeys(subnet.role for subnet in subnets):
            losses[role] = fmean(subnet.loss for subnet in subnets if subnet.role == role)
        return StepReport(
            step,
            losses,
            learning_rate,
            tokens / duration,
            perplexities,
            subnets,
            self._flops / duration / self._peak_flops,
        )

    @contextmanager
    def tracked(self, names: Sequence[str] | None, start: int) -> Iterator[None]:
        """Measure the peak that utilisation refers to, and keep the trackers open."""
        config = self.config
        self._peak_flops = config.peak_flops or (
            self.workers.count * measure_peak_flops(self.model.device, config.dtype)
        )
        if self.workers.is_first:
            with writing(self.output):
                self.trackers = open_trackers(names, self.output, start, config.describe())
        try:
            yield
        except BaseException:
            # What ended the run is told, not that the trackers end with it.
            for tracker in self.trackers:
                with suppress(Exception):
                    tracker.close()
            raise
        for tracker in self.trackers:
            with self._tracking(tracker):
                tracker.close()

    @contextmanager
    def _tracking(self, tracker: Tracker) -> Iterator[None]:
        """Turn what a tracker raises, in types of its own, into one line."""
        try:
            yield
        except Exception as error:
            said = f"{first_line(error)}; {self._what_is_kept()}"
            raise WriteError(f"cannot write curves to {tracker.name}: {said}") from error

    def evaluate(self, evaluation: Evaluation) -> dict[str, float]:
        """Return held-out perplexities by name of shape."""
        followed = self.net.followed() | evaluation.genotypes
        ids, labels, dtype = evaluation.input_ids, evaluation.labels, self.config.dtype
        values = perplexities(self.net, ids, labels, list(followed.values()), dtype=dtype)
        return dict(zip(followed, values.tolist(), strict=True))

    def log(self, report: StepReport, batch_tokens: int) -> None:
        """Append a line to the log, and tell the trackers."""
        if not self.workers.is_first:
            return
        tokens = report.step * batch_tokens
        try:
            numbers = self._log.append(report, tokens, self.seconds)
        except NastoolError as error:
            raise NastoolError(f"{error}; {self._what_is_kept()}") from error
        for tracker in self.trackers:
            with self._tracking(tracker):
                tracker.log(report.step, numbers)

    def checkpoint(self, step: int, perplexity: dict[str, float]) -> None:
        """Save everything that resuming needs."""
        # A gradient can overflow where the loss did not; such weights must not be gone on from.
        for name, weights in self.model.named_parameters():
            if not bool(weights.isfinite().all()):
                raise NastoolError(
                    f"{name} holds numbers that are not finite after step {step}: lower the "
                    f"learning rate or use float32; {self._what_is_kept()}"
                )
        if not self.workers.is_first:
            return
        state = {
            "step": step,
            "seconds": self.seconds,
            "perplexities": perplexity,
            **self._card,
        }
        save_checkpoint(
            self._checkpoints,
            step,
            self.model,
            self.optimizer,
            state,
            self.config.keep_checkpoints,
            self._maps,
        )
        # Weights of an earlier end are older than this: who loads the run gets its checkpoint.
        (self.output / "model.safetensors").unlink(missing_ok=True)

    def save(self) -> None:
        """Write the model where the run lies."""
        if not self.workers.is_first:
            return
        try:
            save_model(self.model, self.output)
        # safetensors reports a full disk by an exception of its own.
        except Exception as error:
            raise NastoolError(
                f"cannot write the model to {self.output}: {error}; {self._what_is_kept()}"
            ) from error

    def _what_is_kept(self) -> str:
        newest = latest_checkpoint(self._checkpoints)
        if newest is None:
            return "no checkpoint had been written yet"
        return f"the last good checkpoint is kept: {newest.path}"
