"""Causal language modelling: each token from those before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nastool_supernets.corpus.tasks import IGNORED_LABEL, Blocks, Task


@dataclass(frozen=True)
class NextTokens(Task):
    """Predict at every position but the last the token that follows.

    Args:
        vocab_size: Ids are below it.
    """

    vocab_size: int

    def apply(
        self, blocks: Blocks, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        del generator
        tokens = np.asarray(blocks).astype(np.int64)
        labels = np.full_like(tokens, IGNORED_LABEL)
        labels[:, :-1] = tokens[:, 1:]
        return tokens, labels
