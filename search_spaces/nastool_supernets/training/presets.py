"""Presets of pre-training, by the entry points ``nastool.presets``: functions without arguments.

The first sentence of each is what `nastool list` and `nastool pretrain --help` say about it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from nastool.discovery import PRESETS, find
from nastool_supernets.training.config import PretrainingConfig


def preset(name: str) -> PretrainingConfig:
    """The preset of a name.

    Raises:
        InvalidInputError: There is none.
    """
    return cast("Callable[[], PretrainingConfig]", find(PRESETS, name).load())()


def supershaper() -> PretrainingConfig:
    """The published run, on 8 GPUs: 175,000 steps, 45.9B tokens of length 128."""
    return PretrainingConfig()


def laptop() -> PretrainingConfig:
    """From BERT's weights with a new head, on CPU cores: 20,000 steps, 82M tokens of length 128."""
    return PretrainingConfig(
        steps=20_000,
        batch_size=32,
        learning_rate=2e-4,
        warmup_steps=200,
        head_steps=300,
        evaluate_every=500,
        checkpoint_every=250,
    )


def short() -> PretrainingConfig:
    """About ten minutes for a small net on CPU cores: 170 steps, 348k tokens of length 128."""
    return PretrainingConfig(
        steps=170,
        batch_size=16,
        learning_rate=4e-4,
        warmup_steps=10,
        head_steps=25,
        evaluate_every=50,
        checkpoint_every=50,
    )


def smoke() -> PretrainingConfig:
    """Seconds, to see every part work: 20 steps, 20k tokens of length 128."""
    return PretrainingConfig(
        steps=20,
        batch_size=8,
        learning_rate=5e-4,
        warmup_steps=2,
        head_steps=4,
        log_every=1,
        evaluate_every=10,
        checkpoint_every=10,
    )
