"""The space of a decoder: key-value groups and feed-forward size of every layer, none included.

A layer whose groups and feed-forward size are both 0 is left out. Every gene decides about its own
part of the net, so that no two genotypes are one architecture and all costs are sums over genes.
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

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
"""Model types of the checkpoints that supernets are made of."""

CONTEXT = 4096
"""Tokens in the cache of `kv_cache` and `memory` where nobody says; at most all positions."""

KVS = Part("kv", "kvs", "groups", "Key-value groups")

_BYTES = 2
"""Of a number in the cache and of a weight, as they are served."""


@dataclass(frozen=True)
class DecoderSpace(SlicedSpace):
    """Every choice of key-value groups and of a feed-forward size for each layer of a decoder.

    Args:
        heads: Query heads of a whole layer.
        groups: Key-value heads of a whole layer; each goes with its share of the query heads.
        head_dim: Size of a head.
        ffn: Feed-forward size of a whole layer.
        vocabulary: Number of tokens.
        positions: Longest text.
        kvs: Key-value groups that a layer can have, ascending up to `groups`; 0 for no attention.
        ffns: Feed-forward sizes that a layer can have, ascending up to `ffn`; 0 for none.
        tied: 1 where the head has the embeddings' weights.
        qkv_bias: 1 where queries, keys and values have biases.
        out_bias: 1 where attention's output has a bias.
        ffn_bias: 1 where the feed-forward block has biases.
        qk_norm: 1 where queries and keys are normalised, head by head.
        context: Tokens in the cache that `kv_cache` and `memory` count; 0 for 4,096, or as many
            as there are positions.
        batch: Texts in that cache.
        name: Identifier; by default the text that `create` reads the space back from.

    Raises:
        InvalidInputError: Sizes that no decoder has.
    """

    family: ClassVar[str] = "decoder"
    parts: ClassVar[tuple[Part, Part]] = (KVS, FFN)
    flags: ClassVar[tuple[str, ...]] = ("tied", "qkv_bias", "out_bias", "ffn_bias", "qk_norm")
    running: ClassVar[tuple[str, ...]] = ("context", "batch")

    heads: int
    groups: int
    head_dim: int
    ffn: int
    vocabulary: int
    positions: int
    kvs: tuple[int, ...]
    ffns: tuple[int, ...]
    tied: int = 0
    qkv_bias: int = 0
    out_bias: int = 0
    ffn_bias: int = 0
    qk_norm: int = 0
    context: int = 0
    batch: int = 1
    name: str = ""

    def _check(self) -> None:
        if self.heads % self.groups:
            raise InvalidInputError(
                f"heads must be a multiple of the {self.groups} groups, got {self.heads}"
            )
        if self.context > self.positions:
            raise InvalidInputError(
                f"context must be at most the {self.positions:,} positions, got {self.context:,}"
            )

    @property
    def cached_tokens(self) -> int:
        """Tokens of a text in the cache that is counted."""
        return self.context or min(CONTEXT, self.positions)

    @cached_property
    def costs(self) -> Mapping[str, ChainCost]:
        """Exact costs of what ships, by metric name.

        - ``params``: all weights; those that head and embeddings share count once.
        - ``macs``: multiplications of all matrix products of one pass over 128 tokens, the head's
          at every position included; attention as it is computed, over all pairs of tokens.
        - ``flops``: two per multiplication.
        - ``kv_cache``: bytes of keys and values in 16 bits, of `batch` texts of `context` tokens.
        - ``memory``: bytes of the weights in 16 bits and of that cache.
        """
        outside, attention, feed = self._weights()
        cached = 2 * self.head_dim * _BYTES * self.batch * self.cached_tokens * self._numbers(KVS)
        head, heads, channels = self._macs(SEQUENCE_LENGTH, SEQUENCE_LENGTH)
        return {
            "params": self._sum("params", outside, attention, feed),
            "macs": self._sum("macs", head, heads, channels),
            "flops": self._sum("flops", 2 * head, 2 * heads, 2 * channels),
            "kv_cache": self._sum("kv_cache", 0, cached, 0 * self._numbers(FFN), unit="B"),
            "memory": self._sum(
                "memory", _BYTES * outside, _BYTES * attention + cached, _BYTES * feed, unit="B"
            ),
        }

    def _deployed(self, shape: Architecture, workload: Workload) -> Deployment:
        from nastool_decoder.deployable import deploy

        return deploy(self, shape, workload)

    def _weights(self) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
        """Weights outside of layers, of attention and of the feed-forward block, by choice."""
        size, kvs, ffns = self.hidden, self._numbers(KVS), self._numbers(FFN)
        queries = self.heads // self.groups * self.head_dim
        group = 2 * queries * size + 2 * self.head_dim * size
        group += self.qkv_bias * (queries + 2 * self.head_dim)
        # A norm before each, and what is there once however many groups there are.
        around = size + self.out_bias * size + self.qk_norm * 2 * self.head_dim
        attention = kvs * group + (kvs > 0) * around
        feed = ffns * (3 * size + 2 * self.ffn_bias)
        feed += (ffns > 0) * (size + self.ffn_bias * size)
        return (2 - self.tied) * self.vocabulary * size + size, attention, feed

    def _macs(
        self, length: int, predicted: int
    ) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
        """Multiplications outside of layers, of attention and of the feed-forward, by choice."""
        size = self.hidden
        queries = self.heads // self.groups * self.head_dim
        # Scores and weighted values: length * length * queries each.
        group = length * (2 * queries * size + 2 * self.head_dim * size) + 2 * length**2 * queries
        own = self._numbers(KVS) * group
        return predicted * self.vocabulary * size, own, self._numbers(FFN) * 3 * size * length


def create(argument: str | None = None) -> DecoderSpace:
    """A decoder of the Llama type whose layers differ in heads and feed-forward size.

    Args:
        argument: The folder of a supernet, or sizes such as those that the name of a space lists;
            ``context=4096`` and ``batch=8`` may follow a folder, with commas between.

    Raises:
        InvalidInputError: None of these.
    """
    return DecoderSpace.create(argument)
