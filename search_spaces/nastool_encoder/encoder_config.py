"""Sizes of a supernet, and which parts of its layers smaller subnets keep."""

from __future__ import annotations

from typing import Any

from nastool_encoder.space import EncoderSpace
from nastool_supernets.slicing.config import SlicedConfig


class EncoderConfig(SlicedConfig):
    """An encoder's configuration, and how its layers are sliced."""

    model_type = "encoder"
    parts = EncoderSpace.parts

    def __init__(self, **kwargs: Any) -> None:
        # Where a class has no constructor of its own, transformers writes one.
        super().__init__(**kwargs)
