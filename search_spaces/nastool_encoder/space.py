"""The space of an encoder: heads and feed-forward size of every layer, none included.

Norms come after what a layer adds. A part that does not run leaves its norm, which is the
checkpoint with that term left out; a layer without both is left out whole, norms included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nastool.devices import Deployment, Workload
from nastool.errors import InvalidInputError
from nastool.space import Architecture, ChainCost
from nastool_supernets.slicing.space import FFN, SEQUENCE_LENGTH, Part, SlicedSpace

HEADS = Part("head", "heads", "all_heads", "Heads")


@dataclass(frozen=True)
class EncoderSpace(SlicedSpace):
    """Every choice of heads and of a feed-forward size for each layer of an encoder.

    Args:
        head_dim: Size of a head, of which the hidden size is a multiple.
        ffn: Feed-forward size of a whole layer.
        vocabulary: Number of tokens.
        positions: Longest text.
        segments: Kinds of segments that are told apart; 1 for none.
        heads: Heads that a layer can have, ascending up to all of them; 0 for no attention.
        ffns: Feed-forward sizes that a layer can have, ascending up to `ffn`; 0 for none.
        tied: 1 where the head has the embeddings' weights.
        distil: 1 for a DistilBERT, which has no embeddings of segments and one bias in its head.
        offset: Rows of the table of positions before that of a text's first token.
        name: Identifier; by default the text that `create` reads the space back from.

    Raises:
        InvalidInputError: Sizes that no encoder has.
    """

    family: ClassVar[str] = "encoder"
    parts: ClassVar[tuple[Part, Part]] = (HEADS, FFN)
    flags: ClassVar[tuple[str, ...]] = ("tied", "distil")

    head_dim: int
    ffn: int
    vocabulary: int
    positions: int
    segments: int
    heads: tuple[int, ...]
    ffns: tuple[int, ...]
    tied: int = 0
    distil: int = 0
    offset: int = 0
    name: str = ""

    def _check(self) -> None:
        if self.hidden % self.head_dim:
            raise InvalidInputError(
                f"hidden must be a multiple of the {self.head_dim} of a head, got {self.hidden}"
            )
        # The last row before them is that of the token for padding.
        if self.offset > self.vocabulary:
            raise InvalidInputError(
                f"offset must be at most the vocabulary, {self.vocabulary}, got {self.offset}"
            )

    @property
    def all_heads(self) -> int:
        """Heads of a whole layer."""
        return self.hidden // self.head_dim

    @cached_property
    def costs(self) -> Mapping[str, ChainCost]:
        """Exact costs of what ships, by metric name.

        - ``params``: all weights; those that head and embeddings share count once.
        - ``macs``: multiplications of all matrix products of one pass over 128 tokens, the head's
          at every position included.
        - ``flops``: two per multiplication.
        """
        size, heads, ffns = self.hidden, self._numbers(HEADS), self._numbers(FFN)
        words = self.vocabulary * size
        segments = (1 - self.distil) * self.segments
        outside = words + (self.offset + self.positions + segments) * size + 2 * size
        outside += size * size + size + 2 * size + self.vocabulary
        # A head of its own has a bias of its own, and the other one is still there.
        outside += (1 - self.tied) * (words + (1 - self.distil) * self.vocabulary)
        attention = heads * self.head_dim * (4 * size + 3) + (heads > 0) * size
        feed = ffns * (2 * size + 1) + (ffns > 0) * size
        # Both norms, unless the layer is left out.
        norms = 4 * size * ((heads > 0)[:, None] | (ffns > 0)).astype(np.int64)
        head, own, channels = self._macs(SEQUENCE_LENGTH, SEQUENCE_LENGTH)
        return {
            "params": self._sum("params", outside, attention, feed, layer=norms),
            "macs": self._sum("macs", head, own, channels),
            "flops": self._sum("flops", 2 * head, 2 * own, 2 * channels),
        }

    def _deployed(self, shape: Architecture, workload: Workload) -> Deployment:
        from nastool_encoder.deployable import deploy

        return deploy(self, shape, workload)

    def _macs(
        self, length: int, predicted: int
    ) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
        size = self.hidden
        # Scores and weighted values: length * length * size of a head each.
        head = self.head_dim * (4 * size * length + 2 * length**2)
        outside = predicted * size * (size + self.vocabulary)
        return outside, self._numbers(HEADS) * head, self._numbers(FFN) * 2 * size * length


def create(argument: str | None = None) -> EncoderSpace:
    """An encoder of the BERT type whose layers differ in heads and feed-forward size.

    Args:
        argument: The folder of a supernet, or sizes such as those that the name of a space lists.

    Raises:
        InvalidInputError: None of these.
    """
    return EncoderSpace.create(argument)
