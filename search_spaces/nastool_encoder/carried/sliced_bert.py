"""Encoders of the BERT type whose layers differ in heads and feed-forward size, for transformers.

`AutoModelForMaskedLM.from_pretrained(FOLDER, trust_remote_code=True)` loads them by this file. The
configuration is that of the architecture itself; what is different in a layer stands in its
``sliced_layers``: how many ``heads`` and what feed-forward size (``ffn``) it has, 0 for none. Heads
keep their size. A part that does not run leaves its norm. All else is what transformers makes of
it: BERT, RoBERTa, XLM-RoBERTa, CamemBERT or DistilBERT.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers
from torch import nn


class _NoAttention(nn.Module):
    """What a layer without attention adds."""

    def forward(self, *given: torch.Tensor, **named: Any) -> tuple[torch.Tensor, None]:
        # Older releases of transformers give a DistilBERT's by name.
        return torch.zeros_like(given[0] if given else named["query"]), None


class _NoFeedForward(nn.Module):
    """What a layer without a feed-forward block adds."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(hidden_states)


def _cut(layer: Any, heads: int, ffn: int) -> None:
    """Give a layer of a BERT or of a RoBERTa other sizes, with new weights."""
    attention = layer.attention
    own, size = attention.self, attention.output.dense.out_features
    if heads:
        width = heads * own.attention_head_size
        own.num_attention_heads, own.all_head_size = heads, width
        own.query, own.key, own.value = (nn.Linear(size, width) for _ in range(3))
        attention.output.dense = nn.Linear(width, size)
    else:
        attention.self, attention.output.dense = _NoAttention(), nn.Identity()
    if ffn:
        layer.intermediate.dense = nn.Linear(size, ffn)
        layer.output.dense = nn.Linear(ffn, size)
    else:
        layer.intermediate, layer.output.dense = nn.Identity(), _NoFeedForward()


def _cut_distil(layer: Any, heads: int, ffn: int) -> None:
    """The same of a DistilBERT."""
    own, size = layer.attention, layer.attention.dim
    if heads:
        width = heads * own.attention_head_size
        own.n_heads, own.dim = heads, width
        own.q_lin, own.k_lin, own.v_lin = (nn.Linear(size, width) for _ in range(3))
        own.out_lin = nn.Linear(width, size)
    else:
        layer.attention = _NoAttention()
    if ffn:
        layer.ffn.lin1, layer.ffn.lin2 = nn.Linear(size, ffn), nn.Linear(ffn, size)
    else:
        layer.ffn = _NoFeedForward()


def _sliced(architecture: str, end: str) -> Any:
    """The class of a model of transformers whose layers differ."""
    base: Any = getattr(transformers, architecture + end)

    class Sliced(base):
        def __init__(self, config: Any) -> None:
            plain = copy.copy(config)
            plain.num_hidden_layers = len(config.sliced_layers)
            super().__init__(plain)
            # What was chosen for this machine holds for every layer.
            config._attn_implementation = plain._attn_implementation  # noqa: SLF001 - no other name
            encoder = self.base_model
            self.config = encoder.config = config
            layers, cut = (
                (encoder.transformer.layer, _cut_distil)
                if architecture == "DistilBert"
                else (encoder.encoder.layer, _cut)
            )
            for layer, own in zip(layers, config.sliced_layers, strict=True):
                cut(layer, own["heads"], own["ffn"])
            self.post_init()

    Sliced.__name__ = Sliced.__qualname__ = f"Sliced{architecture}{end}"
    Sliced.register_for_auto_class(f"Auto{'' if end == 'Model' else 'Model'}{end}")
    return Sliced


MODELS = {
    f"Sliced{architecture}{end}": _sliced(architecture, end)
    for architecture in ("Bert", "Roberta", "XLMRoberta", "Camembert", "DistilBert")
    for end in ("Model", "ForMaskedLM", "ForSequenceClassification", "ForQuestionAnswering")
}
"""The classes by name."""

globals().update(MODELS)
