"""Decoders that go on from what they have read: keys and values in and out, by Optimum's names."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from nastool.devices import Deployment, Workload
from nastool_objectives.latency.export import KEPT, MASK, NEW_KEPT, PLACES
from nastool_supernets.deployment.random_weights import random_tensors
from nastool_supernets.deployment.runtimes import Arrays, Run

_IDS = "input_ids"
_PARTS = ("key", "value")


class Continuing(nn.Module):
    """A decoder that reads tokens after others, of which it is given the keys and values.

    Args:
        model: One of transformers that keeps keys and values.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._argument = cache_argument(model)
        self.eval()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, **kept: Tensor
    ) -> dict[str, Tensor]:
        """Read on, and keep what was read.

        Args:
            input_ids: New tokens, (B, T).
            attention_mask: 1 for tokens to be seen, of those before and the new ones, (B, P + T).
            position_ids: Places of the new tokens in their texts, (B, T).
            **kept: ``past_key_values.LAYER.key`` and ``.value`` of the tokens before, each
                (B, groups, P, size of a head).

        Returns:
            ``logits``, (B, T, V), and ``present.LAYER.key`` and ``.value`` of all P + T tokens.
        """
        cache = cache_of(list(kept.values()))
        found = self.model(
            input_ids=input_ids,
            attention_mask=_seen(attention_mask, input_ids.shape[1]),
            position_ids=position_ids,
            use_cache=True,
            **{self._argument: cache},
        )
        now = (name.replace(KEPT, NEW_KEPT) for name in kept)
        return {"logits": found.logits} | dict(zip(now, held_by(cache), strict=True))


def _seen(attention_mask: Tensor, new: int) -> Tensor:
    """Which tokens (B, P + T) each of the new ones attends to, (B, 1, T, P + T).

    Transformers makes the same of a mask of two axes; releases before 5 cannot be traced there.
    """
    places = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    seen = (places <= places[-new:, None]) & attention_mask[:, None, None, :].bool()
    # Padding at the beginning sees nothing, whose softmax would be no number: it sees all.
    return seen | ~seen.any(-1, keepdim=True)


def cache_argument(model: Any) -> str:
    """What a model calls its cache; newer transformers call it otherwise."""
    names = inspect.signature(type(model).forward).parameters
    return "cache" if "cache" in names else "past_key_values"


def cache_of(tensors: list[Tensor]) -> Any:
    """A cache of transformers that holds keys and values, two tensors a layer, as they are."""
    cache: Any = DynamicCache()
    for index in range(len(tensors) // 2):
        _put(cache, index, *tensors[2 * index : 2 * index + 2])
    return cache


def held_by(cache: Any) -> list[Tensor]:
    """What a cache of transformers holds, two tensors a layer."""
    if hasattr(cache, "layers"):
        return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    pairs = zip(cache.key_cache, cache.value_cache, strict=True)  # older transformers
    return [tensor for pair in pairs for tensor in pair]


def _put(cache: Any, index: int, keys: Tensor, values: Tensor) -> None:
    """Put a layer's keys and values into a cache, as they are."""
    if not hasattr(cache, "layers"):  # older transformers take over what is given first
        cache.update(keys, values, index)
        return
    from transformers.cache_utils import DynamicLayer

    layer: Any = DynamicLayer()
    layer.keys, layer.values, layer.is_initialized = keys, values, True
    layer.dtype, layer.device = keys.dtype, keys.device
    cache.layers.append(layer)


def kept_sizes(model: Any) -> list[tuple[int, int]]:
    """Groups and sizes of heads of what a model keeps of a token, a layer each.

    Args:
        model: One of transformers; all but decoders keep nothing.
    """
    if not type(model).__name__.endswith("ForCausalLM"):
        return []
    cache: Any = DynamicCache()
    with torch.no_grad():
        token = torch.zeros(1, 1, dtype=torch.long)
        model(input_ids=token, use_cache=True, **{cache_argument(model): cache})
    return [(keys.shape[1], keys.shape[3]) for keys in held_by(cache)[::2]]


def continuing(
    module: Continuing, sizes: Sequence[tuple[int, int]], workload: Workload, read: int, new: int
) -> Deployment:
    """A decoder that is given tokens after others, as exported files are.

    Args:
        module: Reads on.
        sizes: `kept_sizes` of its model.
        workload: How many texts there are.
        read: Tokens of each that were read before.
        new: Tokens of each that are read now.
    """
    texts = workload.batch_size
    kept = random_tensors([(texts, heads, read, size) for heads, size in sizes for _ in _PARTS])
    names = [f"{KEPT}{layer}.{part}" for layer in range(len(sizes)) for part in _PARTS]
    draw = torch.Generator().manual_seed(0)
    inputs = {
        _IDS: torch.randint(module.model.config.vocab_size, (texts, new), generator=draw),
        MASK: torch.ones(texts, read + new, dtype=torch.long),
        PLACES: torch.arange(read, read + new).repeat(texts, 1),
        **dict(zip(names, kept, strict=True)),
    }
    return Deployment(module, inputs, workload)


def in_two_parts(run: Run) -> Run:
    """A pass over texts in two parts, of which the second is given what the first has kept.

    Args:
        run: A file of `Continuing`, which reads texts of two tokens and more.
    """

    def parts(inputs: Arrays) -> dict[str, NDArray[Any]]:
        ids, mask = inputs[_IDS], inputs[MASK]
        half = ids.shape[1] // 2
        first = run({_IDS: ids[:, :half], MASK: mask[:, :half]})
        places = np.broadcast_to(np.arange(half, ids.shape[1]), ids[:, half:].shape)
        kept = {name.replace(NEW_KEPT, KEPT): v for name, v in first.items() if NEW_KEPT in name}
        second = run({_IDS: ids[:, half:], MASK: mask, PLACES: places.copy(), **kept})
        return {"logits": np.concatenate([first["logits"], second["logits"]], axis=1)}

    return parts
