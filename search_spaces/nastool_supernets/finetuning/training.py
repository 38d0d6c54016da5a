"""Fine-tuning one model on one task with transformers' Trainer."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor
from torch.utils.data import Sampler, SequentialSampler
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from nastool.errors import NastoolError
from nastool.runtime.leftovers import temporary_folder
from nastool.runtime.quiet import quiet
from nastool_supernets.finetuning.encoding import Encoded
from nastool_supernets.finetuning.similarity import PairCollator, Siamese
from nastool_supernets.finetuning.tasks import METRICS, Kind, Settings, Task
from nastool_supernets.runtime.precision import resolve_dtype
from nastool_supernets.training.rules import Distillation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Outcome:
    """What fine-tuning reached.

    Args:
        scores: Metrics on the dev set after the best epoch.
        epoch: Which epoch that was, from 1; a fraction where the steps ended within one.
        seconds: Time that training and scoring took.
        chosen: Hyperparameters that a grid was searched for, by name.
    """

    scores: Mapping[str, float]
    epoch: float
    seconds: float
    chosen: Mapping[str, float] = field(default_factory=dict)


class DivergedError(NastoolError):
    """The loss of a training is not finite."""


def fine_tune(
    model: PreTrainedModel,
    task: Task,
    encoded: Encoded,
    tokenizer: PreTrainedTokenizerFast,
    settings: Settings,
    seed: int,
    *,
    device: str,
    dtype: str = "auto",
    teacher: PreTrainedModel | None = None,
    distillation: Distillation | None = None,
) -> Outcome:
    """Fine-tune a model in place; it ends with the weights of the epoch that was best on dev.

    AdamW with linear decay as published (SuperShaper, table 3), by transformers' Trainer. Of
    embeddings the weights before training count as an epoch, the only one without examples to
    train on: an encoder may be good as it is.

    Args:
        model: With the head of the task.
        task: What is scored.
        encoded: The task's examples.
        tokenizer: Says how to pad.
        settings: Hyperparameters.
        seed: Seed of the order of examples.
        device: ``cpu`` or ``cuda``.
        dtype: ``float32``, ``bfloat16`` or ``auto`` (what is fast there).
        teacher: A fine-tuned model to learn from as well.
        distillation: How; needed beside a teacher.

    Raises:
        DivergedError: The loss is not finite.
    """
    start = time.perf_counter()
    best = _BestEpoch(task.metrics[0])
    embeds = task.kind is Kind.SIMILARITY
    trained: torch.nn.Module = Siamese(model) if embeds else model
    taught = Siamese(teacher) if embeds and teacher is not None else teacher
    steps = settings.epochs * math.ceil(len(encoded.train) / settings.batch_size)
    # Without the library's advice on tokenizers and the end of training.
    with temporary_folder() as folder, quiet("transformers"):
        arguments = TrainingArguments(
            output_dir=str(folder),
            # Given alone, it would repeat the examples until it is reached.
            max_steps=min(steps, settings.max_steps or steps),
            per_device_train_batch_size=settings.batch_size,
            per_device_eval_batch_size=64,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            warmup_steps=settings.warmup_steps,
            lr_scheduler_type="linear",
            optim="adamw_torch_fused",
            adam_beta1=0.9,
            adam_beta2=0.999,
            adam_epsilon=1e-6,
            max_grad_norm=0.0,
            eval_strategy="epoch",
            save_strategy="no",
            logging_strategy="no",
            logging_nan_inf_filter=False,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            seed=seed,
            data_seed=seed,
            use_cpu=device == "cpu",
            bf16=resolve_dtype(device, dtype) == "bfloat16",
            dataloader_pin_memory=device != "cpu",
            **_order(settings),
        )
        # Several GPUs would multiply the batch.
        arguments._n_gpu = min(arguments.n_gpu, 1)  # noqa: SLF001 - there is no public way
        trainer = _DistillingTrainer(
            model=trained,
            args=arguments,
            train_dataset=cast("Any", encoded.train),
            eval_dataset=cast("Any", encoded.dev),
            data_collator=(PairCollator if embeds else DataCollatorWithPadding)(tokenizer),
            compute_metrics=encoded.score,
            callbacks=[best],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.learn_from(taught, distillation)
        if embeds:
            trainer.evaluate()
        loss = trainer.train().training_loss if encoded.train else 0.0
    if not np.isfinite(loss) or best.weights is None:
        raise DivergedError(
            f"task {task.name}: the loss became {loss}: lower the learning rate or use float32"
        )
    trained.load_state_dict(best.weights)
    return Outcome(best.scores, best.epoch, time.perf_counter() - start)


def _order(settings: Settings) -> dict[str, Any]:
    if not settings.group_by_length:
        return {}
    if "train_sampling_strategy" in {entry.name for entry in fields(TrainingArguments)}:
        return {"train_sampling_strategy": "group_by_length"}
    return {"group_by_length": True}  # its name before transformers 5


class _BestEpoch(TrainerCallback):
    """Remembers scores and weights of the evaluation that was best."""

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self.scores: dict[str, float] = {}
        self.epoch = 0.0
        self.weights: dict[str, Tensor] | None = None

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control
        scores = {
            name.removeprefix("eval_"): float(value)
            for name, value in kwargs["metrics"].items()
            if name.removeprefix("eval_") in _METRIC_NAMES
        }
        if self.weights is None or scores[self._metric] > self.scores[self._metric]:
            self.scores, self.epoch = scores, float(state.epoch or 0.0)
            weights = kwargs["model"].state_dict()
            self.weights = {name: w.detach().cpu().clone() for name, w in weights.items()}


_METRIC_NAMES = frozenset[str]().union(*METRICS.values())


class _DistillingTrainer(Trainer):
    """A Trainer whose model may learn from the predictions of another one as well."""

    _teacher: torch.nn.Module | None = None
    _distillation: Distillation | None = None

    def learn_from(
        self, teacher: torch.nn.Module | None, distillation: Distillation | None
    ) -> None:
        """Take a teacher, or none."""
        if teacher is not None:
            self._teacher = teacher.to(self.args.device).eval()
            self._distillation = distillation or Distillation()

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int]:
        # The library groups this by length too, and answers would be scored as other questions'.
        return SequentialSampler(eval_dataset)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """(1 - mix) of the task's own loss and mix of the distance to the teacher."""
        del num_items_in_batch
        outputs = model(**inputs)
        loss = outputs.loss
        if self._teacher is not None and self._distillation is not None and model.training:
            labels = ("labels", "start_positions", "end_positions")
            texts = {name: value for name, value in inputs.items() if name not in labels}
            with torch.no_grad():
                taught = self._teacher(**texts)
            mix, temperature = self._distillation.mix, self._distillation.temperature
            distance = distillation_loss(outputs, taught, temperature)
            loss = (1 - mix) * loss + mix * distance
        return (loss, outputs) if return_outputs else loss


def distillation_loss(student: Any, teacher: Any, temperature: float) -> Tensor:
    """Distance of predictions: temperature^2 * KL(teacher || student), squared error for numbers.

    Args:
        student: Output with logits (B, n_labels), or with start_logits and end_logits (B, T).
        teacher: The same.
        temperature: Divides the logits of both.
    """
    names = ("logits",) if "logits" in student else ("start_logits", "end_logits")
    distances = []
    for name in names:
        own, other = student[name].float(), teacher[name].float()
        if own.shape[-1] == 1:
            distances.append(F.mse_loss(own, other))
        else:
            divergence = F.kl_div(
                F.log_softmax(own / temperature, -1),
                F.log_softmax(other / temperature, -1),
                reduction="batchmean",
                log_target=True,
            )
            distances.append(temperature**2 * divergence)
    return torch.stack(distances).mean()
