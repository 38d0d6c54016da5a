"""Checkpoints of transformers that supernets start from: which there are, and what they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

from nastool.errors import InvalidInputError, one_line
from nastool.files.reading import is_file, is_folder
from nastool_decoder.decoder_config import DecoderConfig
from nastool_decoder.modeling import MOST_CHOICES, Decoder, levels
from nastool_decoder.space import ARCHITECTURES, DecoderSpace, spread

_FULL = "full_attention"

_FORGOTTEN = ("_name_or_path", "dtype", "torch_dtype", "transformers_version", "auto_map")
"""What a configuration says of the files that it was read from."""


def from_checkpoint(
    path: str, ffns: str | None = None, kvs: str | None = None, *, skips: bool = True
) -> Decoder:
    """Make a supernet whose largest subnet is a checkpoint, bit for bit.

    Args:
        path: A folder, or a model on the hub.
        ffns: How many feed-forward sizes a layer can have, or these with commas between; None for
            eight.
        kvs: The same for key-value groups.
        skips: Whether layers can do without attention, without feed-forward block, or without both.

    Raises:
        InvalidInputError: There is no such model, or one that cannot be sliced.
    """
    config = _config(path)
    logging.disable_progress_bar()
    auto: Any = AutoModelForCausalLM
    with one_line(f"--from: no causal language model can be read from {path}", InvalidInputError):
        lm, loading = auto.from_pretrained(
            path, dtype=torch.float32, attn_implementation="sdpa", output_loading_info=True
        )
    for what in ("missing_keys", "mismatched_keys"):
        if loading.get(what):
            first = min(map(str, loading[what]))
            raise InvalidInputError(
                f"--from: expected the weights of a causal language model in {path}, got none "
                f"for {first}"
            )
    sizes = _sizes(config, lm) | {"tied": int(lm.lm_head.weight is lm.model.embed_tokens.weight)}
    sizes |= _chosen(sizes, ffns, kvs, skips=skips)
    kept = {k: v for k, v in lm.config.to_dict().items() if k not in _FORGOTTEN}
    own = {
        name: [levels(range(sizes[parts]), [size for size in sizes[sorts] if size])]
        * sizes["layers"]
        for name, parts, sorts in (("kv_levels", "groups", "kvs"), ("ffn_levels", "ffn", "ffns"))
    }
    # What the checkpoint was trained on reaches as far as its positions.
    trained = sizes["positions"]
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = Decoder(
            DecoderConfig(checkpoint=kept, sizes=sizes, trained_positions=trained, **own)
        )
    model.lm = lm
    return model.eval()


def space_of(
    path: str, ffns: str | None = None, kvs: str | None = None, *, skips: bool = True
) -> DecoderSpace:
    """The space of the supernet that a checkpoint becomes, from its configuration alone.

    Args and errors are those of `from_checkpoint`.
    """
    config = _config(path)
    auto: Any = AutoModelForCausalLM
    with (
        one_line(f"--from: no causal language model can be read from {path}", InvalidInputError),
        torch.random.fork_rng(devices=[]),
        torch.device("meta"),
    ):
        sizes = _sizes(config, auto.from_config(config))
    return DecoderSpace(**sizes, **_chosen(sizes, ffns, kvs, skips=skips))


def _chosen(
    sizes: Mapping[str, Any], ffns: str | None, kvs: str | None, *, skips: bool
) -> dict[str, Any]:
    return {
        "ffns": choices("--ffn-choices", ffns, sizes["ffn"], skips=skips),
        "kvs": choices("--kv-choices", kvs, sizes["groups"], skips=skips),
    }


def choices(option: str, text: str | None, most: int, *, skips: bool) -> tuple[int, ...]:
    """Read how many sizes there are, or which.

    Args:
        option: What asks for them.
        text: A number, or sizes with commas between; None for eight.
        most: The size of the checkpoint, which is always one of them.
        skips: Whether 0 is one of them, too.

    Raises:
        InvalidInputError: It is neither, or names a size that there is not.
    """
    words = (text or "8").split(",")
    if not all(word.strip().isdecimal() and len(word) < 10 for word in words):
        raise InvalidInputError(
            f"{option}: expected a number, or sizes with commas between, got {text!r:.100}"
        )
    numbers = [int(word) for word in words]
    if len(numbers) == 1:
        if not 1 <= numbers[0] <= MOST_CHOICES:
            raise InvalidInputError(
                f"{option}: expected 1 to {MOST_CHOICES} sizes, got {numbers[0]}"
            )
        sizes = set(spread(most, numbers[0]))
    else:
        sizes = {*numbers, most} - {0}
        if max(sizes) > most or len(sizes) > MOST_CHOICES:
            raise InvalidInputError(
                f"{option}: expected at most {MOST_CHOICES} sizes of at most {most}, got {text}"
            )
    return tuple(sorted({0, *sizes} if skips else sizes))


def _config(path: str) -> Any:
    """The configuration of a checkpoint that can be sliced.

    Raises:
        InvalidInputError: There is none.
    """
    folder = Path(path)
    if is_folder(folder) and not is_file(folder / "config.json"):
        raise InvalidInputError(
            f"--from: expected a checkpoint of transformers, but {folder / 'config.json'} does "
            "not exist"
        )
    with one_line(f"--from: no checkpoint of transformers at {path}", InvalidInputError):
        config: Any = AutoConfig.from_pretrained(path)
    if config.model_type not in ARCHITECTURES:
        raise InvalidInputError(
            f"--from: expected a model of type {', '.join(ARCHITECTURES)}, got {path}, which is of "
            f"type {config.model_type}"
        )
    if getattr(config, "quantization_config", None) is not None:
        raise InvalidInputError(
            f"--from: the weights must be plain numbers, got {path}, which is quantised: give the "
            "checkpoint that it was made from"
        )
    if getattr(config, "is_heterogeneous", False) or "per_layer_config" in config.__dict__:
        raise InvalidInputError(
            f"--from: the layers must be alike, got {path}, whose layers differ (per_layer_config)"
        )
    kinds_of_layers: Sequence[str] = getattr(config, "layer_types", None) or ()
    if getattr(config, "sliding_window", None) is not None and (
        not kinds_of_layers or {*kinds_of_layers} != {_FULL}
    ):
        raise InvalidInputError(
            f"--from: every layer must see the whole text, got {path}, which has a sliding window "
            f"of {config.sliding_window} tokens"
        )
    if other := {*kinds_of_layers} - {_FULL}:
        raise InvalidInputError(
            f"--from: every layer must see the whole text, got {path} with layers of type "
            f"{min(other)}"
        )
    return config


def _sizes(config: Any, lm: Any) -> dict[str, Any]:
    """Sizes of a space but for its choices, as the modules have them."""
    layer = lm.model.layers[0]
    attention, feed = layer.self_attn, layer.mlp
    size = int(attention.head_dim)
    return {
        "layers": len(lm.model.layers),
        "hidden": int(config.hidden_size),
        "heads": attention.q_proj.out_features // size,
        "groups": attention.k_proj.out_features // size,
        "head_dim": size,
        "ffn": int(feed.gate_proj.out_features),
        "vocabulary": int(config.vocab_size),
        "positions": int(config.max_position_embeddings),
        "tied": int(bool(config.tie_word_embeddings)),
        "qkv_bias": int(attention.q_proj.bias is not None),
        "out_bias": int(attention.o_proj.bias is not None),
        "ffn_bias": int(feed.gate_proj.bias is not None),
        "qk_norm": int(hasattr(attention, "q_norm")),
    }
