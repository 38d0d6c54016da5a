"""The space of a decoder: key-value groups and feed-forward size of every layer, none included.

A layer whose groups and feed-forward size are both 0 is left out. Every gene decides about its own
part of the net, so that no two genotypes are one architecture and all costs are sums over genes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.chain import ChainCost
from nastool.deployment import Deployment, Workload
from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.files.hub import fetched
from nastool.files.reading import is_file, is_folder, read_json_object
from nastool.space import Gene, SearchSpace
from nastool_supernets.sizes import read_sizes, shown

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
"""Model types of the checkpoints that supernets are made of."""

SEQUENCE_LENGTH = 128
"""Tokens of the pass that `macs` and `flops` count."""

CONTEXT = 4096
"""Tokens in the cache of `kv_cache` and `memory` where nobody says; at most all positions."""

_BYTES = 2
"""Of a number in the cache and of a weight, as they are served."""

_MOST = 10_000_000
_MOST_LAYERS = 1_000
_MOST_CHOICES = 256
"""Beyond every model there is: a slip of the keyboard, or a damaged file, is refused at once."""

_CHOICES = ("kvs", "ffns")
_FLAGS = ("tied", "qkv_bias", "out_bias", "ffn_bias", "qk_norm")
_RUNNING = ("context", "batch")
"""What a net is run with, which its folder does not say."""


@dataclass(frozen=True)
class DecoderSpace(SearchSpace):
    """Every choice of key-value groups and of a feed-forward size for each layer of a decoder.

    Args:
        layers: Number of layers, two genes each.
        hidden: Size of the embeddings and between layers.
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

    layers: int
    hidden: int
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

    def __post_init__(self) -> None:
        for size in fields(self):
            if size.name in (*_CHOICES, "name"):
                continue
            value = getattr(self, size.name)
            least = 0 if size.name in (*_FLAGS, "context") else 1
            most = 1 if size.name in _FLAGS else _MOST_LAYERS if size.name == "layers" else _MOST
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise InvalidInputError(
                    f"{size.name} must be a whole number from {least} to {most:,}, "
                    f"got {shown(value)}"
                )
        if self.heads % self.groups:
            raise InvalidInputError(
                f"heads must be a multiple of the {self.groups} groups, got {self.heads}"
            )
        for name, most in (("kvs", self.groups), ("ffns", self.ffn)):
            object.__setattr__(self, name, _checked(name, getattr(self, name), most))
        if self.context > self.positions:
            raise InvalidInputError(
                f"context must be at most the {self.positions:,} positions, got {self.context:,}"
            )
        if not self.name:
            object.__setattr__(self, "name", self._derived_name())

    @property
    def objectives(self) -> tuple[str, ...]:
        """Quality against size."""
        return ("perplexity", "params")

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """``kv_1``, ``ffn_1``, ``kv_2`` and so on: what runs first comes first."""
        return tuple(
            gene
            for i in range(1, self.layers + 1)
            for gene in (
                Gene(f"kv_{i}", self.kvs, ordered=True),
                Gene(f"ffn_{i}", self.ffns, ordered=True),
            )
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
        cached = 2 * self.head_dim * _BYTES * self.batch * self.cached_tokens * self._kvs
        head, heads, channels = self._macs(SEQUENCE_LENGTH, SEQUENCE_LENGTH)
        return {
            "params": self._sum("params", outside, attention, feed),
            "macs": self._sum("macs", head, heads, channels),
            "flops": self._sum("flops", 2 * head, 2 * heads, 2 * channels),
            "kv_cache": self._sum("kv_cache", 0, cached, 0 * self._ffns, unit="B"),
            "memory": self._sum(
                "memory", _BYTES * outside, _BYTES * attention + cached, _BYTES * feed, unit="B"
            ),
        }

    def macs(self, genotype: Sequence[int], length: int, predicted: int) -> int:
        """Multiplications of one pass over a text.

        Args:
            genotype: The subnet, (d,).
            length: Tokens of the text.
            predicted: Tokens of the text that the head is computed for.
        """
        outside, attention, feed = self._macs(length, predicted)
        return int(
            outside + attention[list(genotype[::2])].sum() + feed[list(genotype[1::2])].sum()
        )

    def deploy(self, genotype: NDArray[np.int64], workload: Workload) -> Deployment:
        """Build a subnet with random weights, as it ships."""
        try:
            from nastool_decoder.deployable import deploy
        except ImportError as error:
            raise MissingDependencyError(
                f"running a shape needs {error.name or 'torch'}: pip install 'nastool[train]'"
            ) from error
        return deploy(self, self.decode(self.validate(genotype[None]))[0], workload)

    @property
    def _kvs(self) -> NDArray[np.int64]:
        return np.array(self.kvs, dtype=np.int64)

    @property
    def _ffns(self) -> NDArray[np.int64]:
        return np.array(self.ffns, dtype=np.int64)

    def _weights(self) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
        """Weights outside of layers, of attention and of the feed-forward block, by choice."""
        size = self.hidden
        queries = self.heads // self.groups * self.head_dim
        group = 2 * queries * size + 2 * self.head_dim * size
        group += self.qkv_bias * (queries + 2 * self.head_dim)
        # A norm before each, and what is there once however many groups there are.
        around = size + self.out_bias * size + self.qk_norm * 2 * self.head_dim
        attention = self._kvs * group + (self._kvs > 0) * around
        feed = self._ffns * (3 * size + 2 * self.ffn_bias)
        feed += (self._ffns > 0) * (size + self.ffn_bias * size)
        return (2 - self.tied) * self.vocabulary * size + size, attention, feed

    def _macs(
        self, length: int, predicted: int
    ) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
        """Multiplications outside of layers, of attention and of the feed-forward, by choice."""
        size = self.hidden
        queries = self.heads // self.groups * self.head_dim
        # Scores and weighted values: length * length * queries each.
        group = length * (2 * queries * size + 2 * self.head_dim * size) + 2 * length**2 * queries
        return predicted * self.vocabulary * size, self._kvs * group, self._ffns * 3 * size * length

    def _sum(
        self,
        name: str,
        outside: int,
        attention: NDArray[np.int64],
        feed: NDArray[np.int64],
        unit: str = "",
    ) -> ChainCost:
        terms = [attention, feed] * self.layers
        steps = [
            np.broadcast_to(after, (len(before), len(after))) for before, after in pairwise(terms)
        ]
        return ChainCost(name, outside + terms[0], tuple(steps), unit)

    def _derived_name(self) -> str:
        texts = []
        for size in fields(self):
            value = getattr(self, size.name)
            if size.name != "name" and value != size.default:
                text = "/".join(map(str, value)) if size.name in _CHOICES else str(value)
                texts.append(f"{size.name}={text}")
        return f"decoder[{','.join(texts)}]"


def spread(most: int, number: int) -> tuple[int, ...]:
    """So many choices up to a size, as evenly spaced as sizes that run fast allow.

    Args:
        most: The largest one.
        number: How many, at most.
    """
    number = min(number, most)
    unit = next(unit for unit in (64, 32, 16, 8, 1) if most % unit == 0 and most // unit >= number)
    steps = most // unit
    return tuple(sorted({max(1, round(steps * i / number)) * unit for i in range(1, number + 1)}))


def create(argument: str | None = None) -> DecoderSpace:
    """A decoder of the Llama type whose layers differ in heads and feed-forward size.

    Args:
        argument: The folder of a supernet, or sizes such as those that the name of a space lists;
            ``context=4096`` and ``batch=8`` may follow a folder, with commas between.

    Raises:
        InvalidInputError: None of these.
    """
    if argument is None:
        raise InvalidInputError(
            "decoder: expected decoder[DIR], the folder of a supernet that 'nastool pretrain "
            "decoder --from CHECKPOINT' wrote"
        )
    folder, comma, running = argument, "", ""
    while not is_folder(Path(folder)) and "," in folder:
        folder, comma, last = folder.rpartition(",")
        running = f"{last}{',' if running else ''}{running}"
    path = fetched(folder)
    if is_folder(path):
        sizes = _of_folder(path)
        return DecoderSpace(
            **{**sizes, **read_sizes("decoder", running, _RUNNING, _CHOICES)} if comma else sizes
        )
    if "=" not in argument:
        raise InvalidInputError(
            f"decoder: expected the folder of a supernet, or sizes, got {argument!r:.200}"
        )
    named = tuple(size.name for size in fields(DecoderSpace) if size.name != "name")
    sizes = read_sizes("decoder", argument, named, _CHOICES)
    # Those that have no default.
    needed = named[: named.index(_FLAGS[0])]
    if missing := [name for name in needed if name not in sizes]:
        raise InvalidInputError(f"decoder: expected all sizes, got none for {', '.join(missing)}")
    return DecoderSpace(**sizes)


def from_config(config: Mapping[str, Any]) -> DecoderSpace:
    """Make the space of a supernet from its configuration.

    Args:
        config: What ``config.json`` of a supernet holds.

    Raises:
        InvalidInputError: Another kind of model, or sizes that no decoder has.
    """
    return DecoderSpace(**_sizes(config))


def _sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    if config.get("model_type") != "decoder":
        raise InvalidInputError(
            f"expected the configuration of a supernet (model_type 'decoder'), got model_type "
            f"{config.get('model_type')!r}: 'nastool pretrain decoder --from DIR' makes one of a "
            "checkpoint"
        )
    sizes = config.get("sizes")
    known = {size.name for size in fields(DecoderSpace)} - {*_RUNNING, "name"}
    if not isinstance(sizes, dict) or not known - {*_FLAGS} <= sizes.keys() <= known:
        raise InvalidInputError("the configuration of a supernet must hold its sizes")
    for name in _CHOICES:
        if not isinstance(sizes[name], list | tuple):
            raise InvalidInputError(f"{name} must be a list, got {sizes[name]!r:.60}")
    return {**sizes, **{name: tuple(sizes[name]) for name in _CHOICES}}


def _of_folder(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not is_file(path):
        raise InvalidInputError(f"expected the folder of a supernet, but {path} does not exist")
    try:
        return _sizes(read_json_object(path))
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error


def _checked(name: str, choices: Sequence[object], most: int) -> tuple[int, ...]:
    numbers = [n for n in choices if isinstance(n, int) and not isinstance(n, bool)]
    if (
        not 1 <= len(choices) <= _MOST_CHOICES
        or len(numbers) < len(choices)
        or numbers != sorted(set(numbers))
        or numbers[0] < 0
        or numbers[-1] != most
    ):
        raise InvalidInputError(
            f"{name} must be at most {_MOST_CHOICES} ascending whole numbers, the last of them "
            f"{shown(most)}, got {'/'.join(map(shown, choices[:20])) or 'none'}"
        )
    return tuple(numbers)
