"""Decoders whose layers differ in heads and feed-forward size, for plain transformers.

`AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)` loads them by this file. The
configuration is that of the architecture itself; what is different in a layer stands in its
``per_layer_config``, by the names that transformers 5 has for it: ``num_attention_heads``,
``num_key_value_heads``, ``intermediate_size`` and ``skip`` (``attention``, ``mlp``). Embeddings,
layers, cache and `generate` are those of transformers.
"""

from __future__ import annotations

import copy
import sys
from typing import Any

import torch
import transformers
from torch import nn

ARCHITECTURES = ("Llama", "Mistral", "Qwen2", "Qwen3", "SmolLM3")
"""Whose layers are these: attention and a gated feed-forward block, each behind a norm."""


class _NoAttention(nn.Module):
    """What a layer without attention adds."""

    def forward(self, hidden_states: torch.Tensor, **_: Any) -> tuple[torch.Tensor, None]:
        return torch.zeros_like(hidden_states), None


class _NoFeedForward(nn.Module):
    """What a layer without a feed-forward block adds."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(hidden_states)


def _differences(config: Any) -> dict[int, dict[str, Any]]:
    """What differs from the configuration, by layer."""
    return {int(i): own for i, own in config.to_dict().get("per_layer_config", {}).items()}


def _uniform(config: Any, **own: Any) -> Any:
    """The configuration without what differs by layer, but with some values of its own."""
    plain = copy.copy(config)
    for name in ("_heterogeneity_spec", "per_layer_config"):
        plain.__dict__.pop(name, None)
    for name, value in own.items():
        setattr(plain, name, value)
    return plain


def _shaped(name: str, base: Any) -> Any:
    """The class of an architecture whose layers differ."""
    layer_class: Any = getattr(sys.modules[base.__module__], f"{name}DecoderLayer")

    class Shaped(base):
        def __init__(self, config: Any) -> None:
            plain = _uniform(config, num_hidden_layers=0)
            super().__init__(plain)
            # What was chosen for this machine holds for every layer.
            config._attn_implementation = plain._attn_implementation  # noqa: SLF001 - no other name
            self.config = self.model.config = config
            differences = _differences(config)
            cached = 0
            for index in range(config.num_hidden_layers):
                own = dict(differences.get(index, {}))
                skip = own.pop("skip", ())
                layer = layer_class(_uniform(config, **own), index)
                if "attention" in skip:
                    layer.self_attn, layer.input_layernorm = _NoAttention(), nn.Identity()
                else:
                    # The cache counts tokens in its first layer: none may be empty before it.
                    layer.self_attn.layer_idx = cached
                    cached += 1
                if "mlp" in skip:
                    layer.mlp, layer.post_attention_layernorm = _NoFeedForward(), nn.Identity()
                self.model.layers.append(layer)
            if not cached:
                config.use_cache = False
            self.post_init()

    Shaped.__name__ = Shaped.__qualname__ = f"Shaped{name}ForCausalLM"
    Shaped.register_for_auto_class("AutoModelForCausalLM")
    return Shaped


MODELS = {
    f"Shaped{name}ForCausalLM": _shaped(name, getattr(transformers, f"{name}ForCausalLM"))
    for name in ARCHITECTURES
    if hasattr(transformers, f"{name}ForCausalLM")
}
"""The classes by name; older releases of transformers lack some."""

globals().update(MODELS)
