"""Subnets with random weights, as they are deployed: for timing, where weights do not matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nastool.devices import Deployment, Workload
from nastool.space import Architecture
from nastool_decoder.shapes import make, shape_config
from nastool_supernets.deployment.caches import Continuing, cache_argument, cache_of, continuing
from nastool_supernets.deployment.random_weights import fill, random_tensors, random_texts
from nastool_supernets.slicing.config import stock_config

if TYPE_CHECKING:
    from nastool_decoder.space import DecoderSpace


def deploy(space: DecoderSpace, shape: Architecture, workload: Workload) -> Deployment:
    """Build a shape as it is served: it reads texts and predicts what comes next.

    What follows the pass is one more token of every text, with the keys and values that were kept.

    All subnets take their weights from one block of random numbers, so that thousands of them can
    take turns on a device without being built or copied.

    Args:
        space: Says the sizes that all shapes share.
        shape: Key-value groups and feed-forward size of every layer.
        workload: What it is given in one pass.

    Raises:
        InvalidInputError: The sequence is longer than the space has positions.
    """
    inputs = random_texts(space.name, space.vocabulary, space.positions, workload)
    config, is_uniform = shape_config(_checkpoint(space), space, shape)
    with torch.device("meta"):
        model: Any = make(config, is_uniform=is_uniform)
    fill(model)
    # Cosines are no weights: they are computed where the model runs.
    plain = stock_config(_checkpoint(space))  # of layers that differ, nothing is read there
    model.model.rotary_emb = type(model.model.rotary_emb)(plain)
    model = model.eval()
    ends = [getattr(layer.self_attn, "k_proj", None) for layer in model.model.layers]
    size = space.head_dim
    sizes = [(end.out_features // size, size) for end in ends if end is not None]
    length = workload.sequence_length

    module = Continuing(model)

    def exported(read: int, new: int) -> Deployment | None:
        return continuing(module, sizes, workload, read, new) if sizes else None

    token = {"input_ids": inputs["input_ids"][:, :1]}
    after = Deployment(
        Decoding(model, workload, sizes), token, workload, exported=exported(length, 1)
    )
    return Deployment(
        Reading(model).eval(), inputs, workload, following=after, exported=exported(0, length)
    )


class Reading(nn.Module):
    """The pass over a text (prefill): logits of what follows it, (B, V)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Read texts, (B, T), and keep their keys and values until the pass is over."""
        found = self.model(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=True, logits_to_keep=1
        )
        logits: Tensor = found.logits[:, -1]
        return logits


class Decoding(nn.Module):
    """The pass over one more token: logits of what follows it, (B, V).

    Args:
        model: A shape.
        workload: How many texts of how many tokens were read before.
        sizes: Groups and size of a head of each layer that keeps something.
    """

    def __init__(self, model: Any, workload: Workload, sizes: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.model = model
        self._cached = len(sizes)
        self._argument = cache_argument(model)
        texts, tokens = workload.batch_size, workload.sequence_length
        tensors = random_tensors(
            [(texts, groups, tokens, size) for groups, size in sizes for _ in range(2)]
        )
        for place, tensor in enumerate(tensors):
            # As buffers they go where the weights go, in their precision.
            self.register_buffer(f"kept_{place}", tensor, persistent=False)
        self.eval()

    def forward(self, input_ids: Tensor) -> Tensor:
        """Read a token of every text, (B, 1); what was kept before stays as it was."""
        kept = [self.get_buffer(f"kept_{place}") for place in range(2 * self._cached)]
        given = {"input_ids": input_ids, self._argument: cache_of(kept)}
        found = self.model(**given, use_cache=bool(self._cached))
        logits: Tensor = found.logits[:, -1]
        return logits


def _checkpoint(space: DecoderSpace) -> Mapping[str, Any]:
    """A configuration of these sizes: the least special architecture that has such layers."""
    sizes: dict[str, Any] = {
        "vocab_size": space.vocabulary,
        "hidden_size": space.hidden,
        "intermediate_size": space.ffn,
        "num_hidden_layers": space.layers,
        "num_attention_heads": space.heads,
        "num_key_value_heads": space.groups,
        "head_dim": space.head_dim,
        "max_position_embeddings": space.positions,
        "tie_word_embeddings": bool(space.tied),
    }
    if space.qk_norm:
        return sizes | {"model_type": "qwen3", "attention_bias": bool(space.qkv_bias)}
    if space.qkv_bias and not space.out_bias:
        return sizes | {"model_type": "qwen2"}
    biases = {"attention_bias": bool(space.qkv_bias), "mlp_bias": bool(space.ffn_bias)}
    return sizes | {"model_type": "llama", **biases}
