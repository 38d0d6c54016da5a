"""Encoders that supernets start from: which there are, and what they need."""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForMaskedLM

from nastool.errors import InvalidInputError
from nastool_encoder.architectures import KINDS, kind_of
from nastool_encoder.modeling import Encoder
from nastool_supernets.positions import positions_of
from nastool_supernets.slicing.checkpoints import Checkpoints, read_config


def _config(path: str) -> Any:
    """The configuration of a checkpoint that can be sliced.

    Raises:
        InvalidInputError: There is none.
    """
    config = read_config(path, tuple(KINDS))
    kind = getattr(config, "position_embedding_type", None)
    if kind not in (None, "absolute"):
        raise InvalidInputError(
            f"--from: positions must be embedded, got {path}, whose are {kind!r:.60}"
        )
    for name in ("is_decoder", "add_cross_attention"):
        if getattr(config, name, False):
            raise InvalidInputError(f"--from: expected an encoder, got {path}, which has {name}")
    try:
        positions_of(config)
    except InvalidInputError as error:
        raise InvalidInputError(f"--from: {path}: {error}") from error
    return config


def _sizes(config: Any, lm: Any) -> tuple[dict[str, int], tuple[int, int]]:
    """See `Checkpoints`."""
    del lm
    heads, longest = int(config.num_attention_heads), positions_of(config)
    sizes = {
        "layers": int(config.num_hidden_layers),
        "hidden": int(config.hidden_size),
        "head_dim": int(config.hidden_size) // heads,
        "ffn": int(getattr(config, kind_of(config).ffn)),
        "vocabulary": int(config.vocab_size),
        "positions": longest,
        "segments": int(getattr(config, "type_vocab_size", 1)),
        "distil": int(config.model_type == "distilbert"),
        "offset": int(config.max_position_embeddings) - longest,
    }
    return sizes, (heads, sizes["ffn"])


CHECKPOINTS = Checkpoints("masked language model", Encoder, AutoModelForMaskedLM, _config, _sizes)
