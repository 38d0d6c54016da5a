"""Sizes of a supernet, and which parts of its layers smaller subnets keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import AutoConfig, PretrainedConfig


class DecoderConfig(PretrainedConfig):
    """A checkpoint's configuration, and how its layers are sliced.

    Args:
        checkpoint: The configuration of the checkpoint, its ``model_type`` included.
        sizes: Those of `DecoderSpace`.
        kv_levels: A text a layer with a character for each key-value group: which of the choices
            other than none is the smallest that keeps it, from 0, in base 36.
        ffn_levels: The same for the channels of the feed-forward block.
        trained_positions: Positions that training has seen, from the first; 0 where nobody said.
    """

    model_type = "decoder"

    def __init__(
        self,
        checkpoint: Mapping[str, Any] | None = None,
        sizes: Mapping[str, Any] | None = None,
        kv_levels: Sequence[str] = (),
        ffn_levels: Sequence[str] = (),
        trained_positions: int = 0,
        **kwargs: Any,
    ) -> None:
        self.checkpoint = dict(checkpoint or {})
        self.sizes = {k: list(v) if isinstance(v, tuple) else v for k, v in (sizes or {}).items()}
        self.kv_levels, self.ffn_levels = list(kv_levels), list(ffn_levels)
        self.trained_positions = trained_positions
        for name, size in {
            "vocab_size": "vocabulary",
            "hidden_size": "hidden",
            "num_hidden_layers": "layers",
            "max_position_embeddings": "positions",
        }.items():
            # One place says them; others know them by these names.
            kwargs.pop(name, None)
            setattr(self, name, self.sizes.get(size, 0))
        # The base class takes any keyword.
        super().__init__(**kwargs)


def stock_config(checkpoint: Mapping[str, Any], **own: Any) -> Any:
    """The configuration of a checkpoint, with some values of its own."""
    return AutoConfig.for_model(**{**checkpoint, **own})
