"""Hyperparameters of super pre-training and their presets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from nastool.errors import InvalidInputError
from nastool_supernets.runtime.precision import DTYPES
from nastool_supernets.training.rules import (
    Distillation,
    LargestOnly,
    OneShape,
    RandomOnly,
    Runs,
    Sandwich,
    SizeAware,
    TrainingRule,
    Uniform,
)

# What may differ between a run and its continuation without changing the weights.
FREE_ON_RESUME = frozenset(
    {
        "micro_batch_size",
        "gradient_checkpointing",
        "log_every",
        "evaluate_every",
        "checkpoint_every",
        "keep_checkpoints",
        "peak_flops",
    }
)

RANDOM_START = "random weights"
"""What the card of a run says of a net that was trained from scratch."""

_HEAD_WARMUP = 5
"""Part of a head stage of its own rate that is warm-up: one in so many steps."""


@dataclass(frozen=True)
class PretrainingConfig:
    """Hyperparameters; the defaults are the published ones (paper, section 3 and appendix A).

    Args:
        steps: Optimizer steps in all, those of the head stage included; 0 for a net as it starts.
        batch_size: Blocks an optimizer step.
        micro_batch_size: Blocks a forward pass; gradients accumulate. None takes the whole batch.
        learning_rate: Peak learning rate.
        warmup_steps: Steps of linear warm-up; then linear decay to zero at `steps`.
        clip_norm: Largest norm of all gradients of a step; longer ones are shortened to it. None
            leaves them, as published.
        betas: AdamW's averaging coefficients.
        eps: AdamW's epsilon.
        weight_decay: On matrices; never on biases and LayerNorm.
        rule: Which subnets train in a step.
        distillation: What the smaller subnets learn from the largest, or one shape alone from its
            teacher; None for nothing.
        distil_hidden: Weight in the loss of how far hidden states are from those of who teaches, in
            a supernet the largest subnet; 0 for none.
        head_steps: First steps, in which the largest net trains alone so that a new head settles.
        head_learning_rate: Peak learning rate of the head stage, which then has a schedule of its
            own (a fifth of it warm-up, linear decay to zero); that of the other steps begins after
            it, and `head_rate` holds within it only. None for one schedule of all steps.
        head_rate: Factor on the learning rate of the masked-language-model head.
        bottleneck_rate: Factor on the learning rate of the bottlenecks.
        masking_rate: Fraction of the tokens to predict.
        dtype: ``float32``, ``bfloat16`` (autocast; the weights stay float32), or ``auto``.
        compile: Compile the layers with torch.compile.
        cuda_graphs: Run the layers by CUDA graphs, which launches narrow ones as fast as they run.
        gradient_checkpointing: Compute activations again in the backward pass, to save memory.
        seed: Seed of order, masks and shapes.
        log_every: Steps between two lines of the log.
        evaluate_every: Steps between two evaluations; 0 for only the last one.
        checkpoint_every: Steps between two checkpoints.
        keep_checkpoints: How many checkpoints to keep.
        peak_flops: Floating-point operations a second of all devices, which utilisation refers
            to; None measures one device's matrix product at the start.

    Raises:
        InvalidInputError: If a value is out of range.
    """

    steps: int = 175_000
    batch_size: int = 2048
    micro_batch_size: int | None = None
    learning_rate: float = 2e-5
    warmup_steps: int = 10_000
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-6
    weight_decay: float = 0.01
    clip_norm: float | None = None
    rule: TrainingRule = field(default_factory=Sandwich)
    distillation: Distillation | None = None
    distil_hidden: float = 0.0
    head_steps: int = 0
    head_learning_rate: float | None = None
    head_rate: float = 1.0
    bottleneck_rate: float = 1.0
    masking_rate: float = 0.15
    dtype: str = "auto"
    compile: bool = False
    cuda_graphs: bool = False
    gradient_checkpointing: bool = False
    seed: int = 0
    log_every: int = 10
    evaluate_every: int = 1000
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    peak_flops: float | None = None

    def __post_init__(self) -> None:
        some, any_, rate = "at least 1", "at least 0", "a finite number of at least 0"
        positive = "a finite number above 0"
        rules = {
            "steps": (self.steps >= 0, any_),
            "batch_size": (self.batch_size >= 1, some),
            "micro_batch_size": (self.micro_batch_size is None or self.micro_batch_size >= 1, some),
            "learning_rate": (0 < self.learning_rate < math.inf, positive),
            "head_learning_rate": (
                self.head_learning_rate is None or 0 < self.head_learning_rate < math.inf,
                positive,
            ),
            "clip_norm": (self.clip_norm is None or 0 < self.clip_norm < math.inf, positive),
            "distil_hidden": (0 <= self.distil_hidden < math.inf, rate),
            "warmup_steps": (self.warmup_steps >= 0, any_),
            "weight_decay": (0 <= self.weight_decay < math.inf, rate),
            "head_steps": (self.head_steps >= 0, any_),
            "head_rate": (0 <= self.head_rate < math.inf, rate),
            "bottleneck_rate": (0 <= self.bottleneck_rate < math.inf, rate),
            "masking_rate": (0 < self.masking_rate < 1, "above 0 and below 1"),
            "dtype": (self.dtype in DTYPES, f"one of {', '.join(DTYPES)}"),
            "seed": (0 <= self.seed < 1 << 63, "at least 0 and below 2^63"),
            "log_every": (self.log_every >= 1, some),
            "evaluate_every": (self.evaluate_every >= 0, any_),
            "checkpoint_every": (self.checkpoint_every >= 1, some),
            "keep_checkpoints": (self.keep_checkpoints >= 1, some),
            "peak_flops": (
                self.peak_flops is None or 0 < self.peak_flops < math.inf,
                positive,
            ),
        }
        for name, (holds, expected) in rules.items():
            if not holds:
                raise InvalidInputError(f"{name} must be {expected}, got {getattr(self, name)!r}")
        is_alone = isinstance(self.rule, OneShape)
        taught = {
            "distillation": self.distillation is not None,
            "distil_hidden": self.distil_hidden,
        }
        for name, is_taught in taught.items():
            if is_taught and not (is_alone or self.rule.trains_largest):
                raise InvalidInputError(
                    f"{name}: expected a rule that trains the largest subnet in every step, got "
                    f"{type(self.rule).__name__}"
                )
        if self.cuda_graphs and self.gradient_checkpointing:
            raise InvalidInputError("cuda_graphs: expected no gradient_checkpointing beside it")
        if self.cuda_graphs and is_alone:
            raise InvalidInputError("cuda_graphs: expected a supernet, got one shape alone")
        if self.head_learning_rate is not None and self.head_steps == 0:
            raise InvalidInputError("head_learning_rate: expected head_steps of at least 1, got 0")

    def rule_of(self, step: int) -> TrainingRule:
        """Return the rule of a step: the largest net alone in the head stage, steps from 0."""
        if step < self.head_steps and not isinstance(self.rule, OneShape):
            return LargestOnly()
        return self.rule

    def has_own_rate(self, step: int) -> bool:
        """Whether a step is one of a head stage that has a learning rate of its own."""
        return self.head_learning_rate is not None and step < self.head_steps

    def peak_rate(self, step: int) -> float:
        """Return the peak learning rate that a step's factor refers to, steps from 0."""
        if self.head_learning_rate is not None and step < self.head_steps:
            return self.head_learning_rate
        return self.learning_rate

    def rate_factor(self, step: int) -> float:
        """Return the schedule's factor in [0, 1] on the peak learning rate, steps from 0."""
        steps, warmup = self.steps, self.warmup_steps
        if self.has_own_rate(step):
            steps = min(self.head_steps, steps)
            warmup = steps // _HEAD_WARMUP
        elif self.head_learning_rate is not None:
            step, steps = step - self.head_steps, steps - self.head_steps
        warmup = min(warmup, steps)
        if step < warmup:
            return (step + 1) / warmup
        return max(0.0, (steps - step) / max(1, steps - warmup))

    def describe(self) -> dict[str, Any]:
        """Return everything as JSON-compatible values."""
        described = asdict(self)
        described["rule"] = self.rule.describe()
        described["betas"] = list(self.betas)
        return described

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> PretrainingConfig:
        """Return the configuration that was described so.

        Args:
            described: What `describe` returned, possibly of an older version: a field that it lacks
                counts as its default.

        Raises:
            InvalidInputError: If a value is out of range, or the rule none that has a name.
        """
        names = {part.name for part in fields(cls)}
        values = {name: value for name, value in described.items() if name in names}
        rule = dict(values.get("rule", Sandwich().describe()))
        kinds = {kind.__name__: kind for kind in (Sandwich, RandomOnly, LargestOnly, OneShape)}
        samplings = {kind.__name__: kind for kind in (Uniform, SizeAware, Runs)}
        try:
            kind = kinds[rule.pop("name")]
            if "sampling" in rule:
                sampling = dict(rule["sampling"])
                rule["sampling"] = samplings[sampling.pop("name")](**sampling)
            if "shape" in rule:
                rule["shape"] = tuple(rule["shape"])
            values["rule"] = kind(**rule)
            values["betas"] = tuple(values.get("betas", cls.betas))
            if values.get("distillation") is not None:
                values["distillation"] = Distillation(**values["distillation"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise InvalidInputError(f"no hyperparameters of a training run: {error}") from error

    def changes(self, saved: Mapping[str, Any]) -> list[str]:
        """Say what keeps a run described so from going on with this configuration.

        A field that the description lacks counts as its default: the run is then older than it.

        Args:
            saved: What `describe` returned, possibly of an older version.

        Returns:
            Each field that differs and changes the weights, with both values.
        """
        rule = {**type(self.rule)().describe(), **saved.get("rule", {})}
        then = {**PretrainingConfig().describe(), **saved, "rule": rule}
        return [
            f"{name}={then[name]!r}, got {value!r}"
            for name, value in self.describe().items()
            if name not in FREE_ON_RESUME and then[name] != value
        ]
