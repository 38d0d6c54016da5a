"""The weights of a supernet: a masked language model of transformers, and what slices keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor
from transformers import AutoModelForMaskedLM

from nastool_encoder.architectures import kind_of
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
        return cast("Any", self.lm.base_model.get_submodule(kind_of(self.lm.config).layers))

    def ends(self, layer: Any) -> tuple[Any, Any]:
        kind = kind_of(self.lm.config)
        attention, feed = kind.attention.columns, kind.feed.columns
        return layer.get_submodule(attention), layer.get_submodule(feed)

    def slices_of(self, part: Part, kept: Tensor) -> Slices:
        kind = kind_of(self.lm.config)
        block = kind.feed
        if part == HEADS:
            block, kept = kind.attention, blocks_of(kept, self.space.head_dim)
        return Slices(dict.fromkeys(block.rows, kept), {block.columns: kept})
