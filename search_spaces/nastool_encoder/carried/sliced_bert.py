"""Encoders of the BERT type whose layers differ in heads and feed-forward size, for transformers.

`AutoModelForMaskedLM.from_pretrained(FOLDER, trust_remote_code=True)` loads them by this file. The
configuration is BERT's own; what is different in a layer stands in its ``sliced_layers``: how many
``heads`` and what feed-forward size (``ffn``) it has, 0 for none. Heads keep their size. A part
that does not run leaves its norm. All else is what transformers makes of it.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers
from torch import nn


class _NoAttention(nn.Module):
    """What a layer without attention computes before its norm."""

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> tuple[Any, None]:
        return hidden_states, None


class _NormAlone(nn.Module):
    """How a part that does not run ends: what it was given, normalised."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.LayerNorm = norm

    def forward(self, _: torch.Tensor, input_tensor: torch.Tensor) -> torch.Tensor:
        normalised: torch.Tensor = self.LayerNorm(input_tensor)
        return normalised


def _cut(layer: Any, heads: int, ffn: int) -> None:
    """Give a layer of transformers other sizes, with new weights."""
    attention = layer.attention
    own, size = attention.self, attention.output.dense.out_features
    if heads:
        width = heads * own.attention_head_size
        own.num_attention_heads, own.all_head_size = heads, width
        own.query, own.key, own.value = (nn.Linear(size, width) for _ in range(3))
        attention.output.dense = nn.Linear(width, size)
    else:
        attention.self = _NoAttention()
        attention.output = _NormAlone(attention.output.LayerNorm)
    if ffn:
        layer.intermediate.dense = nn.Linear(size, ffn)
        layer.output.dense = nn.Linear(ffn, size)
    else:
        layer.intermediate = nn.Identity()
        layer.output = _NormAlone(layer.output.LayerNorm)


def _sliced(name: str, base: Any) -> Any:
    """The class of a model of transformers whose layers differ."""

    class Sliced(base):
        def __init__(self, config: Any) -> None:
            plain = copy.copy(config)
            plain.num_hidden_layers = len(config.sliced_layers)
            super().__init__(plain)
            # What was chosen for this machine holds for every layer.
            config._attn_implementation = plain._attn_implementation  # noqa: SLF001 - no other name
            self.config = self.base_model.config = config
            for layer, own in zip(self.base_model.encoder.layer, config.sliced_layers, strict=True):
                _cut(layer, own["heads"], own["ffn"])
            self.post_init()

    Sliced.__name__ = Sliced.__qualname__ = f"Sliced{name}"
    Sliced.register_for_auto_class(
        "AutoModel" if name == "BertModel" else f"AutoModel{name.removeprefix('Bert')}"
    )
    return Sliced


MODELS = {
    f"Sliced{name}": _sliced(name, getattr(transformers, name))
    for name in (
        "BertModel",
        "BertForMaskedLM",
        "BertForSequenceClassification",
        "BertForQuestionAnswering",
    )
}
"""The classes by name."""

globals().update(MODELS)
