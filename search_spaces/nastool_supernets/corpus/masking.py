"""The masks of masked language modelling, and the batches of a training run.

Everything random is drawn from counter-based generators keyed by (seed, stream, step), so that any
step can be replayed alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError

Blocks = NDArray[np.unsignedinteger[Any]]
"""Token ids, (n_blocks, sequence_length), often a read-only memory map."""

IGNORED_LABEL = -100
MASK_STREAM, ORDER_STREAM, SHAPE_STREAM, FIXED_MASK_STREAM = range(4)


def random_generator(seed: int, stream: int, step: int) -> np.random.Generator:
    """Return the generator of one step of one stream of random numbers.

    Args:
        seed: The user's seed.
        stream: What the numbers are for; streams with different numbers are independent.
        step: Position in the stream; no earlier step needs to have been drawn.
    """
    # Philox advances its first counter word while drawing; the step sits in the last one, so that
    # the numbers of two steps cannot overlap.
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=[0, 0, 0, step]))


@dataclass(frozen=True)
class Masking:
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

    def apply(
        self, blocks: Blocks, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Mask blocks.

        Args:
            blocks: Token ids, (n, length).
            generator: Source of randomness; its state alone decides the masks.

        Returns:
            Input ids and labels, both (n, length); labels are -100 where nothing is predicted.
        """
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


def mask_fixed(
    blocks: Blocks, masking: Masking, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Mask held-out text once: every shape must be measured on the same masks.

    Args:
        blocks: Token ids, (n, length).
        masking: The rule.
        seed: Seed of the masks.

    Returns:
        Input ids and labels, both (n, length). A block's masks do not depend on how many follow.
    """
    parts = [
        masking.apply(blocks[i : i + 1], random_generator(seed, FIXED_MASK_STREAM, i))
        for i in range(len(blocks))
    ]
    if not parts:
        raise InvalidInputError("expected at least one block of held-out text, got none")
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


class MaskedBatches:
    """Masked training batches by step: reshuffled every epoch, and any step on its own.

    Args:
        blocks: Token ids, (n, length).
        masking: The masking rule.
        batch_size: Blocks a step.
        seed: Seed of order and masks.
    """

    def __init__(self, blocks: Blocks, masking: Masking, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise InvalidInputError(f"batch_size must be at least 1, got {batch_size}")
        if not len(blocks):
            raise InvalidInputError("expected at least one block of training text, got none")
        self._blocks, self._masking = blocks, masking
        self._batch_size, self._seed = batch_size, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def indices(self, step: int) -> NDArray[np.int64]:
        """Return the rows of the blocks that make up a step's batch, (batch_size,)."""
        n = len(self._blocks)
        positions = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        rows = np.empty(self._batch_size, np.int64)
        for epoch in np.unique(positions // n):
            here = positions // n == epoch
            rows[here] = self._permutation(int(epoch))[positions[here] % n]
        return rows

    def batch(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return input ids and labels of a step, both (batch_size, length)."""
        blocks = self._blocks[self.indices(step)]
        return self._masking.apply(blocks, random_generator(self._seed, MASK_STREAM, step))

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch != self._epoch:
            generator = random_generator(self._seed, ORDER_STREAM, epoch)
            self._epoch, self._order = epoch, generator.permutation(len(self._blocks))
        return self._order
