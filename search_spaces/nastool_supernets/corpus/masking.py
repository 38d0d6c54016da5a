"""The masks of masked language modelling."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool_supernets.corpus.tasks import IGNORED_LABEL, Blocks, Task


@dataclass(frozen=True)
class Masking(Task):
    """BERT's masking: of the chosen tokens 80% become [MASK], 10% a random token, 10% stay.

    The number of chosen tokens is the same in every block, round(rate * (length - 2)), so that
    batches have one size and every block has the same weight in the loss.

    Args:
        mask_id: Id of [MASK].
        special_ids: Ids that are never chosen ([CLS], [SEP], [PAD] ...).
        vocab_size: Ids are below it; random tokens are drawn from all of them.
        gaps: Ids that are no tokens, first and next after the last, in order.
        rate: Fraction of the tokens to predict, in (0, 1).
    """

    mask_id: int
    special_ids: tuple[int, ...]
    vocab_size: int
    rate: float = 0.15
    gaps: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise InvalidInputError(f"masking rate must be in (0, 1), got {self.rate}")
        if not 0 <= self.mask_id < self.vocab_size:
            raise InvalidInputError(
                f"mask id must be in [0, {self.vocab_size}), got {self.mask_id}"
            )

    def with_rate(self, rate: float) -> Masking:
        return replace(self, rate=rate)

    def apply(
        self, blocks: Blocks, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        tokens = np.asarray(blocks).astype(np.int64)
        n, length = tokens.shape
        n_masked = max(1, round(self.rate * (length - 2)))
        keys = generator.random(tokens.shape, dtype=np.float32)
        is_special = np.zeros(self.vocab_size, np.bool_)
        is_special[list(self.special_ids)] = True
        keys[is_special[tokens]] = 2.0
        chosen = np.argpartition(keys, n_masked - 1, axis=1)[:, :n_masked]
        # argpartition leaves the order open; sorting makes the pairing with the draws canonical.
        chosen.sort(axis=1)
        rows = np.arange(n)[:, None]
        # A block of almost nothing but special tokens has fewer than n_masked to choose.
        valid = keys[rows, chosen] < 2.0
        original = tokens[rows, chosen]
        labels = np.full_like(tokens, IGNORED_LABEL)
        labels[rows, chosen] = np.where(valid, original, IGNORED_LABEL)
        fate = generator.random(chosen.shape, dtype=np.float32)
        n_tokens = self.vocab_size - sum(end - start for start, end in self.gaps)
        random_ids = generator.integers(0, n_tokens, chosen.shape)
        for start, end in self.gaps:
            random_ids[random_ids >= start] += end - start
        replaced = np.where(fate < 0.8, self.mask_id, np.where(fate < 0.9, random_ids, original))
        tokens[rows, chosen] = np.where(valid, replaced, original)
        return tokens, labels
