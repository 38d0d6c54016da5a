"""Weights of any BERT checkpoint under the supernet's names.

A start is a BERT's function or none: what a checkpoint lacks, has too much of, or computes
otherwise is refused here. Only the masked language modelling head may be missing, as a whole.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, PretrainedConfig, PreTrainedModel

from nastool.errors import InvalidInputError, one_line
from nastool.files.hub import said_by_hub
from nastool.files.reading import is_file, is_folder, read_json_object, reading
from nastool.numbers import is_whole

_log = logging.getLogger(__name__)

_NAMES = {
    "embeddings.word_embeddings": "embeddings.words",
    "embeddings.position_embeddings": "embeddings.positions",
    "embeddings.token_type_embeddings": "embeddings.segments",
    "embeddings.LayerNorm": "embeddings.norm",
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "attention_output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "intermediate",
    "output.dense": "output",
    "output.LayerNorm": "output_norm",
    "cls.predictions.transform.dense": "head.transform",
    "cls.predictions.transform.LayerNorm": "head.norm",
    "cls.predictions": "head",
}

_DECODER = "cls.predictions.decoder"

_WITHOUT_EFFECT = (
    "pooler.",
    "cls.seq_relationship.",
    "embeddings.position_ids",
    "embeddings.token_type_ids",
)
"""Beginnings of names of what masked language modelling has no use for."""

_BODY = frozenset(("embeddings", "encoder", "layer", "cls", "predictions", "decoder", "lm_head"))
"""Parts of names that are no head of a task; whose are may be left."""

_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_NAMED = 3


def load_bert(bert: str | PreTrainedModel) -> tuple[PretrainedConfig, dict[str, Tensor]]:
    """Read a BERT's configuration, and its weights by the names of the supernet.

    Args:
        bert: A local folder, a hub id, or a BERT model of transformers. Weights may be in
            safetensors or in PyTorch's format, in one file or several.

    Returns:
        The configuration, and the weights in single precision: embeddings, layers, and the masked
        language modelling head if there is one.

    Raises:
        InvalidInputError: If it cannot be read, or does not have exactly the weights of a BERT
            encoder with exact GELU, learnt positions, and its word embeddings as the decoder.
    """
    if isinstance(bert, str):
        folder = _find(bert)
        settings = read_json_object(folder / "config.json")
        config, found, name = _config(settings, folder), _read(folder), bert
    else:
        config, found, name = bert.config, bert.state_dict(), type(bert).__name__
        settings = config.to_dict()
    try:
        _check_settings(settings, config)
        return config, _translated(_checked(_canonical(found), config))
    except InvalidInputError as error:
        raise InvalidInputError(f"{name}: {error}") from error


# --------------------------------------------------------------------------------------------------
# Files


def _find(name: str) -> Path:
    """The folder itself, or where the hub's files lie once they are fetched."""
    if is_folder(Path(name)):
        return Path(name)
    try:
        if is_file(Path(name)):
            raise InvalidInputError("it is a file")
        from huggingface_hub import snapshot_download

        # What there is of both, but the second one only where there is nothing of the first.
        for suffix in ("safetensors", "bin"):
            patterns = ["config.json", f"*model*.{suffix}", f"*model*.{suffix}.index.json"]
            folder = Path(snapshot_download(name, allow_patterns=patterns))
            if any(folder.glob(f"*.{suffix}")):
                break
    # The hub's client raises those of whatever it downloads with, too.
    except Exception as error:
        raise InvalidInputError(
            f"expected a folder or a hub id with a BERT checkpoint, got {name!r}: "
            f"{said_by_hub(error)}"
        ) from error
    return folder


def _config(settings: Mapping[str, Any], folder: Path) -> PretrainedConfig:
    kind = settings.get("model_type")
    if kind != BertConfig.model_type:
        raise InvalidInputError(
            f"{folder / 'config.json'}: expected a BERT checkpoint (model_type bert), got {kind!r}"
        )
    try:
        return BertConfig.from_dict(dict(settings))
    # transformers checks types by classes of its own.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InvalidInputError(f"{folder / 'config.json'}: {reason[:200]}") from error


def _read(folder: Path) -> dict[str, Tensor]:
    for name in _WEIGHTS:
        if is_file(folder / name):
            return _read_weights(folder / name)
        if is_file(index := folder / f"{name}.index.json"):
            shards = read_json_object(index).get("weight_map")
            files = {*shards.values()} if isinstance(shards, dict) else set()
            if not files or not all(isinstance(f, str) and Path(f).name == f for f in files):
                raise InvalidInputError(f"{index}: expected weight_map with names of files")
            parts = [_read_weights(folder / file) for file in sorted(files)]
            return {name: weight for part in parts for name, weight in part.items()}
    raise InvalidInputError(f"{folder}: expected weights ({' or '.join(_WEIGHTS)}), found none")


def _read_weights(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    with reading(path), path.open("rb") as file:
        if file.read(40).startswith(b"version https://git-lfs"):
            raise InvalidInputError(
                f"{path} is a pointer of git-lfs: fetch the file (git lfs pull)"
            )
    # Both raise types of their own, and whatever the bytes of a damaged file lead to.
    with one_line(f"cannot read weights from {path}", InvalidInputError):
        if path.suffix == ".safetensors":
            return load_file(path)
        # What older checkpoints have; weights_only unpickles tensors and nothing else.
        weights = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(weight, Tensor) for name, weight in weights.items()
    ):
        raise InvalidInputError(f"{path}: expected weights by name, got something else")
    return weights


# --------------------------------------------------------------------------------------------------
# What it must be


def _check_settings(settings: Mapping[str, Any], config: PretrainedConfig) -> None:
    rules = {
        "model_type": ("bert", config.model_type == BertConfig.model_type),
        "hidden_act": ("gelu (exact GELU)", settings.get("hidden_act", "gelu") == "gelu"),
        "position_embedding_type": (
            "absolute",
            settings.get("position_embedding_type") in (None, "absolute"),
        ),
        "is_decoder": ("false", not settings.get("is_decoder")),
        "add_cross_attention": ("false", not settings.get("add_cross_attention")),
        "quantization_config": ("none", not settings.get("quantization_config")),
    }
    for name, (expected, holds) in rules.items():
        if not holds:
            raise InvalidInputError(
                f"expected a BERT encoder with {name} {expected}, got {settings.get(name)!r:.60}"
            )
    for name in _SIZES:
        size = getattr(config, name)
        if not is_whole(size, 1):
            raise InvalidInputError(f"{name} must be a positive whole number, got {size!r}")
    if not 0 < config.layer_norm_eps < math.inf:
        raise InvalidInputError(f"layer_norm_eps must be positive, got {config.layer_norm_eps}")
    padding = config.pad_token_id
    if padding is not None and not 0 <= padding < config.vocab_size:
        raise InvalidInputError(f"pad_token_id must be one of the vocabulary, got {padding}")


def _canonical(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names that a bare BERT has today."""
    weights: dict[str, Tensor] = {}
    for name, weight in found.items():
        new = name.removeprefix("bert.")
        # As the first checkpoints have them, converted from TensorFlow.
        for old, now in ((".gamma", ".weight"), (".beta", ".bias")):
            if new.endswith(f"LayerNorm{old}"):
                new = new.removesuffix(old) + now
        if new in weights:
            raise InvalidInputError(f"the weights have {new} twice, as {name} and otherwise")
        weights[new] = weight
    return weights


def _checked(found: dict[str, Tensor], config: PretrainedConfig) -> dict[str, Tensor]:
    """The weights that the supernet takes over.

    Raises:
        InvalidInputError: Some are missing, left over, of another size, or not finite, or the
            decoder is not the word embeddings.
    """
    layers = {name.split(".")[2] for name in found if name.startswith("encoder.layer.")}
    # Before anything as long as the number of layers is made.
    if layers and len(layers) != config.num_hidden_layers:
        raise InvalidInputError(
            f"the weights have {len(layers)} layers, expected {config.num_hidden_layers} as the "
            "configuration says"
        )
    body = _body_shapes(config) if layers else _embedding_shapes(config)
    head = _head_shapes(config)
    decoder = {kind: found.pop(f"{_DECODER}.{kind}", None) for kind in ("weight", "bias")}
    # Tied, it is the other one's copy; untied, it is the one that counts.
    if decoder["bias"] is not None and (
        "cls.predictions.bias" not in found or not config.tie_word_embeddings
    ):
        found["cls.predictions.bias"] = decoder["bias"]
    expected = body | (head if head.keys() & found.keys() else {})
    missing = [name for name in expected if name not in found]
    left = [
        name
        for name in found
        if name not in expected
        and not name.startswith(_WITHOUT_EFFECT)
        and _BODY & {*name.split(".")}
    ]
    if missing or left or not layers:
        lacks = f"lack {_some(missing or ['encoder.layer'])}" if missing or not layers else ""
        has = f"have {_some(left)}, which no such BERT has" if left else ""
        raise InvalidInputError(f"the weights {' and '.join(filter(None, (lacks, has)))}")
    for name, shape in expected.items():
        _check_weight(name, found[name], shape)
    if expected.keys() & head.keys():
        _check_decoder(decoder, found, config)
    elif decoder["weight"] is not None:
        raise InvalidInputError(f"the weights have {_DECODER}.weight, but no more of the head")
    else:
        _log.warning("the BERT has no masked language modelling head: that starts anew")
    return {name: found[name] for name in expected}


def _check_weight(name: str, weight: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(weight.shape) != shape:
        raise InvalidInputError(
            f"the configuration says {shape} for {name}, the weights have {tuple(weight.shape)}"
        )
    if not weight.is_floating_point():
        raise InvalidInputError(f"{name} must hold floating-point numbers, got {weight.dtype}")
    if not bool(weight.float().isfinite().all()):
        raise InvalidInputError(f"{name} must be finite, it holds NaN or infinity")


def _check_decoder(
    decoder: Mapping[str, Tensor | None], found: Mapping[str, Tensor], config: PretrainedConfig
) -> None:
    """The decoder must be the word embeddings: the supernet has no other."""
    same = {"weight": "embeddings.word_embeddings.weight", "bias": "cls.predictions.bias"}
    for kind, name in same.items():
        own = decoder[kind]
        if own is not None and not torch.equal(own, found[name]):
            raise InvalidInputError(
                f"expected a decoder tied to the word embeddings, but {_DECODER}.{kind} is not "
                f"{name}"
            )
    if decoder["weight"] is None and not config.tie_word_embeddings:
        raise InvalidInputError(
            f"the weights lack {_DECODER}.weight, and the configuration ties it to nothing"
        )


def _some(names: Collection[str]) -> str:
    listed = ", ".join([*names][:_NAMED])
    return f"{listed} and {len(names) - _NAMED} more" if len(names) > _NAMED else listed


# --------------------------------------------------------------------------------------------------
# Names and shapes

_Shapes = dict[str, tuple[int, ...]]


def _linear(name: str, out: int, into: int) -> _Shapes:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _norm(name: str, size: int) -> _Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _embedding_shapes(config: PretrainedConfig) -> _Shapes:
    size = config.hidden_size
    return {
        "embeddings.word_embeddings.weight": (config.vocab_size, size),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, size),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, size),
        **_norm("embeddings.LayerNorm", size),
    }


def _body_shapes(config: PretrainedConfig) -> _Shapes:
    size, inner = config.hidden_size, config.intermediate_size
    shapes = _embedding_shapes(config)
    for index in range(config.num_hidden_layers):
        layer = f"encoder.layer.{index}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= _linear(f"{layer}.attention.{name}", size, size)
        shapes |= _norm(f"{layer}.attention.output.LayerNorm", size)
        shapes |= _linear(f"{layer}.intermediate.dense", inner, size)
        shapes |= _linear(f"{layer}.output.dense", size, inner)
        shapes |= _norm(f"{layer}.output.LayerNorm", size)
    return shapes


def _head_shapes(config: PretrainedConfig) -> _Shapes:
    size, transform = config.hidden_size, "cls.predictions.transform"
    return {
        **_linear(f"{transform}.dense", size, size),
        **_norm(f"{transform}.LayerNorm", size),
        "cls.predictions.bias": (config.vocab_size,),
    }


def _translated(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {_translate(name): weight.float() for name, weight in weights.items()}


def _translate(name: str) -> str:
    """Translate a name of transformers' BERT."""
    module, _, kind = name.rpartition(".")
    if module.startswith("encoder.layer."):
        index, _, rest = module.removeprefix("encoder.layer.").partition(".")
        return f"supershaper.layers.{index}.{_NAMES[rest]}.{kind}"
    new = f"{_NAMES[module]}.{kind}"
    return new if new.startswith("head.") else f"supershaper.{new}"
