"""The weights of a supernet: a masked language model of transformers, and what slices keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor
from transformers import AutoModelForMaskedLM

from nastool_encoder.encoder_config import EncoderConfig
from nastool_encoder.space import HEADS, EncoderSpace
from nastool_supernets.slicing.modeling import Sliced, Slices, blocks_of
from nastool_supernets.slicing.space import Part


class Encoder(Sliced):
    """An encoder as it was, and how its layers are sliced."""

    config_class = EncoderConfig
    space_class = EncoderSpace
    auto = AutoModelForMaskedLM
    space: EncoderSpace

    @property
    def layers(self) -> Sequence[Any]:
        return cast("Any", self.lm).base_model.encoder.layer

    def ends(self, layer: Any) -> tuple[Any, Any]:
        return layer.attention.output.dense, layer.output.dense

    def slices_of(self, part: Part, kept: Tensor) -> Slices:
        if part != HEADS:
            return Slices({"intermediate.dense": kept}, {"output.dense": kept})
        rows = blocks_of(kept, self.space.head_dim)
        return Slices(dict.fromkeys(("query", "key", "value"), rows), {"output.dense": rows})
