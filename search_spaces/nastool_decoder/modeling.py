"""The weights of a supernet: a causal language model of transformers, and what slices keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor
from transformers import AutoModelForCausalLM

from nastool_decoder.decoder_config import DecoderConfig
from nastool_decoder.space import KVS, DecoderSpace
from nastool_supernets.slicing.modeling import Sliced, Slices, blocks_of
from nastool_supernets.slicing.space import Part


class Decoder(Sliced):
    """A decoder as it was, and how its layers are sliced."""

    config_class = DecoderConfig
    space_class = DecoderSpace
    auto = AutoModelForCausalLM
    space: DecoderSpace

    @property
    def layers(self) -> Sequence[Any]:
        return cast("Any", self.lm).model.layers

    def ends(self, layer: Any) -> tuple[Any, Any]:
        return layer.self_attn.o_proj, layer.mlp.down_proj

    def slices_of(self, part: Part, kept: Tensor) -> Slices:
        if part != KVS:
            return Slices({"gate_proj": kept, "up_proj": kept}, {"down_proj": kept})
        space = self.space
        queries = blocks_of(kept, space.heads // space.groups * space.head_dim)
        keys = blocks_of(kept, space.head_dim)
        rows = {"q_proj": queries, "k_proj": keys, "v_proj": keys}
        return Slices(rows, {"o_proj": queries})
