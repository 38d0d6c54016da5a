"""What a training run follows and tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nastool.space import Architecture
from nastool_supernets.genotypes import Genotype


@dataclass(frozen=True)
class Evaluation:
    """Held-out text as one batch, and the subnets to follow on it.

    Args:
        input_ids: What the net reads, (n, length).
        labels: What it is to predict, -100 where nothing, (n, length).
        genotypes: Subnets by name, beside those that the net itself names.
    """

    input_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    genotypes: dict[str, Genotype] = field(default_factory=dict)


class SubnetLoss(NamedTuple):
    """Mean cross-entropy of one subnet in one step."""

    role: str
    shape: Architecture
    loss: float


@dataclass(frozen=True)
class StepReport:
    """What one step did.

    Args:
        step: Steps done.
        losses: Mean loss by role (largest, smallest, random).
        learning_rate: Of this step.
        tokens_per_second: Tokens of the batch over the step's time (each subnet sees them all).
        perplexities: By name of shape, at evaluations only.
        subnets: Loss of every subnet.
        utilisation: Model FLOPs of the step over what the devices could do in its time.
    """

    step: int
    losses: dict[str, float]
    learning_rate: float
    tokens_per_second: float
    perplexities: dict[str, float] | None = None
    subnets: tuple[SubnetLoss, ...] = ()
    utilisation: float | None = None


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
