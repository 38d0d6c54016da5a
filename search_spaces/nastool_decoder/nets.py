"""A decoder as a supernet, and its shapes: how they run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nastool_decoder.shapes import cut_out
from nastool_supernets.genotypes import Genotype
from nastool_supernets.slicing.modeling import Slices, run_sliced
from nastool_supernets.slicing.nets import Running, SlicedShape, SlicedSupernet

Around = tuple[tuple[Tensor, Tensor], Tensor | None]
"""Cosines and sines of the positions, (1, T, head size); and where something is seen."""


class _Running(Running):
    def attend(self, layer: Any, x: Tensor, slices: Slices | None, around: Around) -> Tensor:
        if slices is None:
            return x
        rope, mask = around
        found = run_sliced(
            layer.self_attn,
            slices,
            "self_attn",
            hidden_states=layer.input_layernorm(x),
            position_embeddings=rope,
            attention_mask=mask,
        )
        return cast("Tensor", x + found[0])

    def feed(self, layer: Any, x: Tensor, slices: Slices | None) -> Tensor:
        if slices is None:
            return x
        return cast(
            "Tensor", x + run_sliced(layer.mlp, slices, "mlp", layer.post_attention_layernorm(x))
        )

    @property
    def layers(self) -> Sequence[Any]:
        return cast("Sequence[Any]", self.lm.model.layers)

    def embed(self, input_ids: Tensor, segments: Tensor | None = None) -> Tensor:
        del segments  # it tells none apart
        embedded: Tensor = self.lm.model.embed_tokens(input_ids)
        return embedded

    def around(self, x: Tensor, attended: Tensor | None = None) -> Around:
        positions = torch.arange(x.shape[1], device=x.device)[None]
        return self.lm.model.rotary_emb(x, position_ids=positions), _mask(attended)

    def head(self, x: Tensor) -> Tensor:
        logits: Tensor = self.lm.lm_head(self.lm.model.norm(x))
        return logits


class DecoderSupernet(SlicedSupernet):
    """A decoder: a genotype says which heads and channels every layer keeps."""

    task = "causal-lm"
    running_class = _Running

    def extract(self, genotype: Genotype) -> PreTrainedModel:
        return cut_out(self.model, self.architecture(genotype), self.kept(genotype))

    def group_of(self, parameter: str) -> str:
        return "head" if "lm_head" in parameter else "body"


class DecoderShape(SlicedShape):
    """One shape alone: a model of transformers, or one whose layers differ."""

    task = "causal-lm"
    running_class = _Running


def _mask(attended: Tensor | None) -> Tensor | None:
    """Where something is seen, (B, 1, T, T); None where there is no padding."""
    if attended is None or bool(attended.all()):
        return None
    length = attended.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=attended.device).tril()
    # Padding sees itself, or it would see nothing at all.
    own = torch.eye(length, dtype=torch.bool, device=attended.device)
    return causal & (attended.bool()[:, None, None, :] | own)
