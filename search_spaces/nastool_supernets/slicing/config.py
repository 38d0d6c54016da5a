"""Sizes of a sliced checkpoint, and which pieces of its layers smaller subnets keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import AutoConfig, PretrainedConfig

from nastool_supernets.positions import rotary_before_5
from nastool_supernets.slicing.space import Part


class SlicedConfig(PretrainedConfig):
    """A checkpoint's configuration, and how its layers are sliced.

    Args:
        checkpoint: The configuration of the checkpoint, its ``model_type`` included.
        sizes: Those of its space.
        trained_positions: Positions that training has seen, from the first; 0 where nobody said.
        kwargs: For each part its levels: a text a layer with a character for each of its pieces,
            which of the choices other than none is the smallest that keeps it, from 0, in base 36.
    """

    parts: ClassVar[tuple[Part, Part]]
    """Those of its space."""

    def __init__(
        self,
        checkpoint: Mapping[str, Any] | None = None,
        sizes: Mapping[str, Any] | None = None,
        trained_positions: int = 0,
        **kwargs: Any,
    ) -> None:
        self.checkpoint = dict(checkpoint or {})
        self.sizes = {k: list(v) if isinstance(v, tuple) else v for k, v in (sizes or {}).items()}
        for part in self.parts:
            setattr(self, part.levels, list(kwargs.pop(part.levels, ())))
        self.trained_positions = trained_positions
        for name, size in {
            "vocab_size": "vocabulary",
            "hidden_size": "hidden",
            "num_hidden_layers": "layers",
            "max_position_embeddings": "positions",
            "type_vocab_size": "segments",
        }.items():
            # One place says them; others know them by these names.
            kwargs.pop(name, None)
            setattr(self, name, self.sizes.get(size, 0))
        # The base class takes any keyword.
        super().__init__(**kwargs)


def stock_config(checkpoint: Mapping[str, Any], **own: Any) -> Any:
    """The configuration of a checkpoint, with some values of its own."""
    return AutoConfig.for_model(**{**rotary_before_5(checkpoint), **checkpoint, **own})
