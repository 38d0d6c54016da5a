"""Where fine-tuning starts: inherited weights, weights trained further, or random ones.

The paper calls them G_direct, G_partial and G_scratch (section 2.3).
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from nastool.errors import InvalidInputError
from nastool.files.reading import parse_json, read_text
from nastool.space import Architecture
from nastool_supernets.family import net_of
from nastool_supernets.finetuning.data import TaskData
from nastool_supernets.finetuning.tasks import Kind, Task
from nastool_supernets.measuring.perplexities import perplexities
from nastool_supernets.positions import positions_of
from nastool_supernets.supernet import Supernet
from nastool_supernets.training.config import PretrainingConfig
from nastool_supernets.training.pretraining import pretrain
from nastool_supernets.training.report import Evaluation
from nastool_supernets.training.rules import OneShape

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nastool_supernets.corpus.corpus import Corpus

EVALUATIONS = 20
"""How often a pre-training is evaluated: steps to a perplexity are known to a twentieth of it."""

_ADDED = ("clip_norm", "distil_hidden", "head_learning_rate")
"""Hyperparameters that fingerprints of older versions lack."""


class Mode(StrEnum):
    """Where fine-tuning starts."""

    DIRECT = "direct"
    PARTIAL = "partial"
    SCRATCH = "scratch"
    TRAINED = "trained"


FURTHER = (Mode.PARTIAL, Mode.SCRATCH)
"""Starts that fine-tuning may pre-train itself."""


@dataclass(frozen=True)
class Trajectory:
    """Held-out perplexity of a subnet while it is pre-trained.

    Args:
        steps: Optimizer steps, from 0.
        perplexities: After each of them.
    """

    steps: tuple[int, ...]
    perplexities: tuple[float, ...]

    def steps_to(self, perplexity: float) -> int | None:
        """The first step at which a perplexity was seen to be reached; None if it was not."""
        reached = (s for s, p in zip(self.steps, self.perplexities, strict=True) if p <= perplexity)
        return next(reached, None)


@dataclass(frozen=True)
class Pretraining:
    """How subnets are trained before they are fine-tuned.

    Args:
        config: Hyperparameters; its rule gives way to the one shape.
        corpus: Text to train on, and held-out text to follow.
        evaluation_blocks: Blocks of held-out text.
    """

    config: PretrainingConfig
    corpus: Corpus
    evaluation_blocks: int = 64

    @property
    def evaluated(self) -> tuple[int, ...]:
        """Steps at which the perplexity is measured, from 0 to the last."""
        return (*range(0, self.config.steps, self._every), self.config.steps)

    @property
    def _every(self) -> int:
        return max(1, self.config.steps // EVALUATIONS)

    def of(self, shape: Architecture) -> PretrainingConfig:
        """The hyperparameters for one shape."""
        return replace(
            self.config,
            rule=OneShape(shape=shape),
            head_steps=0,
            evaluate_every=self._every,
            checkpoint_every=max(1, self.config.steps // 5),
            keep_checkpoints=1,
        )

    def fingerprint(self) -> str:
        """Hex digest of hyperparameters and text."""
        config = self.of(())
        # What there was not when the first stores were written counts where it is used only.
        described = {
            name: value
            for name, value in config.describe().items()
            if name not in _ADDED or value != getattr(PretrainingConfig(), name)
        }
        text = [self.corpus.card, self.corpus.train.shape, self.evaluation_blocks]
        return hashlib.sha256(json.dumps([described, text], sort_keys=True).encode()).hexdigest()

    def run(self, supernet: Supernet, shape: Architecture, folder: Path) -> Trajectory | None:
        """Train one shape in place; what a run in the folder has done is not done again.

        Args:
            supernet: Its other weights are left alone.
            shape: Its choices, gene by gene.
            folder: For checkpoints and the log.

        Returns:
            What the perplexity did; None if a signal stopped the run.
        """
        from nastool_supernets.corpus.corpus import fixed_masks

        ids, labels = fixed_masks(self.corpus, "held_out", self.evaluation_blocks, 0, supernet.task)
        config, genotype = self.of(shape), supernet.genotype(shape)
        first = float(perplexities(supernet, ids, labels, [genotype], dtype=config.dtype)[0])
        result = pretrain(
            supernet,
            self.corpus.train,
            self.corpus.task(supernet.task),
            config,
            folder,
            evaluation=Evaluation(ids, labels, {"subnet": genotype}),
            resume=True,
            trackers=(),
        )
        if not result.finished:
            return None
        seen = {0: first}
        log = folder / "log.jsonl"
        for number, line in enumerate(read_text(log).splitlines(), 1):
            entry = parse_json(line, f"{log}, line {number}")
            if "perplexity" in entry:
                seen[entry["step"]] = entry["perplexity"]["subnet"]
        return Trajectory(self.evaluated, tuple(seen[step] for step in self.evaluated))


def random_supernet(supernet: Supernet, seed: int) -> Supernet:
    """Return a supernet of the same sizes with random weights."""
    torch.manual_seed(seed)
    old = supernet.model
    fresh: Any = type(old)(copy.deepcopy(old.config))
    return cast("Supernet", net_of(fresh.to(old.device)))


def copied(supernet: Supernet) -> Supernet:
    """Return a supernet with the same weights in a place of their own."""
    return cast("Supernet", net_of(copy.deepcopy(supernet.model)))


def load_teacher(
    path: Path, task: Task, data: TaskData, vocabulary: int, segments: int = 2
) -> PreTrainedModel:
    """Load a fine-tuned model to learn from.

    Args:
        path: Its folder.
        task: The task it was fine-tuned on.
        data: Says the classes.
        vocabulary: Tokens that the student's tokenizer has; the teacher reads the same ids.
        segments: That the student tells apart; the teacher is told as many.

    Raises:
        InvalidInputError: There is none, it was not fine-tuned, or it does not fit.
    """
    from transformers import (
        AutoModel,
        AutoModelForQuestionAnswering,
        AutoModelForSequenceClassification,
    )

    headless = task.kind is Kind.SIMILARITY
    by_kind = {Kind.SIMILARITY: AutoModel, Kind.QUESTION_ANSWERING: AutoModelForQuestionAnswering}
    auto: Any = by_kind.get(task.kind, AutoModelForSequenceClassification)
    try:
        # Deployed models run nastool's own code; nobody asked for that of the folder.
        model, loading = auto.from_pretrained(
            path, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
        )
    except Exception as error:  # damaged files raise errors of many libraries
        reason = str(error).strip().partition("\n")[0]
        raise InvalidInputError(f"no fine-tuned model can be read from {path}: {reason}") from error
    # A pooler, which embeddings do without, may be missing.
    if loading["missing_keys"] and not headless:
        raise InvalidInputError(
            f"teacher {path}: expected a model with the head of task {task.name}, got "
            f"{' '.join(model.config.architectures or ['one'])}"
        )
    expected = len(data.names) or 1
    if task.kind not in by_kind and model.config.num_labels != expected:
        raise InvalidInputError(
            f"teacher {path}: task {task.name} needs {expected} labels, got "
            f"{model.config.num_labels}"
        )
    named = [str(name) for _, name in sorted((model.config.id2label or {}).items())]
    if set(named) == set(data.names) and named != list(data.names):
        raise InvalidInputError(
            f"teacher {path}: expected labels in the order {', '.join(data.names)}, "
            f"got {', '.join(named)}"
        )
    if model.config.vocab_size < vocabulary:
        raise InvalidInputError(
            f"teacher {path}: expected the supernet's tokenizer of {vocabulary} tokens, got a "
            f"vocabulary of {model.config.vocab_size}"
        )
    longest = task.settings.max_length
    if (positions := positions_of(model.config)) < longest:
        raise InvalidInputError(
            f"teacher {path}: expected one that reads {longest} tokens, got {positions}: lower "
            "--max-length"
        )
    # Models without types, such as DistilBERT, leave them out.
    told = 1 if headless else min(segments, len(task.texts))
    if getattr(model.config, "type_vocab_size", told) < told:
        raise InvalidInputError(
            f"teacher {path}: task {task.name} has two texts, got a model that tells none apart"
        )
    return cast("PreTrainedModel", model)
