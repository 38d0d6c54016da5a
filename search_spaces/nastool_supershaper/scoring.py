"""Scores of the vocabulary, and the cross-entropy of what is to be predicted."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor

from nastool_supernets.supernet import cross_entropies
from nastool_supershaper.shaped_bert import MaskedLMHead

_ALIGNED = 64
"""What the vocabulary is filled up to where products run in 16 bits."""


def score(
    head: MaskedLMHead, words: Tensor, hidden: Tensor, targets: Tensor, dtype: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    """Logits (n, V) and cross-entropies (n,) of final hidden states.

    Args:
        head: The masked language modelling head.
        words: The word embeddings, which decode, (V, D).
        hidden: Final hidden states, (n, D).
        targets: What is to be predicted, (n,).
        dtype: In which autocast lets products run; None without autocast.
    """
    missing = -len(words) % _ALIGNED
    if not missing or dtype is None:
        logits = head(hidden, words)
        return logits, cross_entropies(logits, targets)
    # Fast matrix products in 16 bits take rows in multiples of 8, which few vocabularies are.
    # Words that score minus infinity add nothing to any sum, and get no gradient.
    padded = F.pad(words.to(dtype), (0, 0, 0, missing))
    bias = F.pad(head.bias.to(dtype), (0, missing), value=-math.inf)
    logits = F.linear(head.features(hidden), padded, bias)
    return logits[:, : len(words)], cross_entropies(logits, targets)
