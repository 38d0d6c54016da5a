"""What nets learn to predict of blocks of tokens, and the batches of a training run.

Everything random is drawn from counter-based generators keyed by (seed, stream, step), so that any
step can be replayed alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError

TaskName = Literal["masked-lm", "causal-lm"]
"""Masked tokens from both sides, or each token from those before it."""

Blocks = NDArray[np.unsignedinteger[Any]]
"""Token ids, (n_blocks, sequence_length), often a read-only memory map."""

IGNORED_LABEL = -100

_TRIED = 64
"""Blocks of a training text, evenly spread, in one of which there must be something to predict."""

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


class Task(ABC):
    """How blocks become what a net reads and what it is to predict."""

    vocab_size: int
    """Ids are below it."""

    @abstractmethod
    def apply(
        self, blocks: Blocks, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Make a batch of blocks.

        Args:
            blocks: Token ids, (n, length).
            generator: Source of randomness; its state alone decides what is drawn.

        Returns:
            Input ids and labels, both (n, length); labels are -100 where nothing is predicted.
        """

    def with_rate(self, rate: float) -> Self:
        """Predict another share of the tokens, where the task has one."""
        del rate
        return self


def apply_fixed(
    blocks: Blocks, task: Task, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Make held-out text into one batch: every shape must be measured on the same masks.

    Args:
        blocks: Token ids, (n, length).
        task: What is to be predicted.
        seed: Seed of the masks.

    Returns:
        Input ids and labels, both (n, length). A block's masks do not depend on how many follow.

    Raises:
        InvalidInputError: There is no text, or nothing in it that can be predicted.
    """
    parts = [
        task.apply(blocks[i : i + 1], random_generator(seed, FIXED_MASK_STREAM, i))
        for i in range(len(blocks))
    ]
    if not parts:
        raise InvalidInputError("expected at least one block of held-out text, got none")
    ids, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    if not (labels != IGNORED_LABEL).any():
        raise InvalidInputError(
            "expected text that the tokenizer knows, got no token to predict in any of "
            f"{len(blocks):,} blocks: are its words all unknown to it?"
        )
    return ids, labels


class Batches:
    """Training batches by step: reshuffled every epoch, and any step on its own.

    Args:
        blocks: Token ids, (n, length).
        task: What is to be predicted.
        batch_size: Blocks a step.
        seed: Seed of order and of what the task draws.
    """

    def __init__(self, blocks: Blocks, task: Task, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise InvalidInputError(f"batch_size must be at least 1, got {batch_size}")
        if not len(blocks):
            raise InvalidInputError("expected at least one block of training text, got none")
        self._blocks, self._task = blocks, task
        self._batch_size, self._seed = batch_size, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)
        # Where nothing can be predicted, a training would end well and have learnt nothing.
        some = np.unique(np.linspace(0, len(blocks) - 1, _TRIED).astype(np.int64))
        apply_fixed(blocks[some], task)

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
        return self._task.apply(blocks, random_generator(self._seed, MASK_STREAM, step))

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch != self._epoch:
            generator = random_generator(self._seed, ORDER_STREAM, epoch)
            self._epoch, self._order = epoch, generator.permutation(len(self._blocks))
        return self._order
