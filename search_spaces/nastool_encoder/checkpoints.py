"""Encoders that supernets start from: which there are, and what they need."""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForMaskedLM

from nastool.errors import InvalidInputError
from nastool_encoder.modeling import Encoder
from nastool_encoder.space import ARCHITECTURES, EncoderSpace
from nastool_supernets.family import Options
from nastool_supernets.slicing.checkpoints import (
    chosen,
    read_config,
    read_model,
    skeleton,
    supernet_of,
)

_WHAT = "masked language model"


def from_checkpoint(path: str, choices: Options, *, skips: bool = True) -> Encoder:
    """Make a supernet whose largest subnet is a checkpoint, bit for bit.

    Args:
        path: A folder, or a model on the hub.
        choices: See `SlicedFamily.read`.
        skips: Whether layers can do without attention, without feed-forward block, or without both.

    Raises:
        InvalidInputError: There is no such model, or one that cannot be sliced.
    """
    config = _config(path)
    lm: Any = read_model(path, AutoModelForMaskedLM, _WHAT)
    words = lm.base_model.embeddings.word_embeddings.weight
    sizes = _sizes(config) | {"tied": int(lm.cls.predictions.decoder.weight is words)}
    return supernet_of(Encoder, lm, sizes | _chosen(sizes, choices, skips=skips))


def space_of(path: str, choices: Options, *, skips: bool = True) -> EncoderSpace:
    """The space of the supernet that a checkpoint becomes, from its configuration alone.

    Args and errors are those of `from_checkpoint`.
    """
    config = _config(path)
    skeleton(path, config, AutoModelForMaskedLM, _WHAT)  # it must describe a model
    sizes = _sizes(config)
    return EncoderSpace(**sizes, **_chosen(sizes, choices, skips=skips))


def _chosen(sizes: dict[str, Any], choices: Options, *, skips: bool) -> dict[str, Any]:
    most = sizes | {"all_heads": sizes["hidden"] // sizes["head_dim"]}
    return chosen(EncoderSpace, most, choices, skips)


def _config(path: str) -> Any:
    """The configuration of a checkpoint that can be sliced.

    Raises:
        InvalidInputError: There is none.
    """
    config = read_config(path, ARCHITECTURES)
    kind = getattr(config, "position_embedding_type", None)
    if kind not in (None, "absolute"):
        raise InvalidInputError(
            f"--from: positions must be embedded, got {path}, whose are {kind!r:.60}"
        )
    for name in ("is_decoder", "add_cross_attention"):
        if getattr(config, name, False):
            raise InvalidInputError(f"--from: expected an encoder, got {path}, which has {name}")
    return config


def _sizes(config: Any) -> dict[str, Any]:
    """Sizes of a space but for its choices."""
    return {
        "layers": int(config.num_hidden_layers),
        "hidden": int(config.hidden_size),
        "head_dim": int(config.hidden_size) // int(config.num_attention_heads),
        "ffn": int(config.intermediate_size),
        "vocabulary": int(config.vocab_size),
        "positions": int(config.max_position_embeddings),
        "segments": int(config.type_vocab_size),
        "tied": int(bool(config.tie_word_embeddings)),
    }
