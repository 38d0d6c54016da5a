"""Sizes that people name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SIZES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "widths": (16, 32, 48),
    },
    "small": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "widths": (60, 120, 180, 240, 276, 300, 384),
    },
    "base": {},
}
"""Sizes of supernets with random weights; what is not named is as in BERT-base."""
