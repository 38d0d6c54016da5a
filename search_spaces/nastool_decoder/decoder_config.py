"""Sizes of a supernet, and which parts of its layers smaller subnets keep."""

from __future__ import annotations

from typing import Any

from nastool_decoder.space import DecoderSpace
from nastool_supernets.slicing.config import SlicedConfig


class DecoderConfig(SlicedConfig):
    """A decoder's configuration, and how its layers are sliced."""

    model_type = "decoder"
    parts = DecoderSpace.parts

    def __init__(self, **kwargs: Any) -> None:
        # Where a class has no constructor of its own, transformers writes one.
        super().__init__(**kwargs)
