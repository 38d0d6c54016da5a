"""What texts, tokenizers and runs are known by: digests of the whole, and what differs in words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nastool.files.reading import GZIP
from nastool.files.writing import digest
from nastool_supernets.corpus.tasks import Blocks
from nastool_supernets.corpus.text import HubDataset, Source

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

_ROWS = 1 << 14
_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "layer_norm_eps",
    "pad_token_id",
    "widths",
    "shape",
)


def describe_source(source: Source) -> dict[str, Any]:
    """Return what a source of text is known by, as JSON.

    Args:
        source: A file, by content and the field that is read of it; or a data set, one on this
            machine with its files.
    """
    described: dict[str, Any] = {"name": source.name, "fingerprint": source.fingerprint()}
    if isinstance(source, HubDataset):
        folder = Path(source.path)
        if folder.is_dir():
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            described["files"] = _digest([[str(f.relative_to(folder)), digest(f)] for f in files])
    elif not _is_plain(source.path):
        described["text_field"] = source.text_field
    return described


def _is_plain(path: Path) -> bool:
    """Whether a file holds paragraphs of plain text, which have no fields."""
    name = path.name.lower()
    for packed in GZIP:
        name = name.removesuffix(packed)
    return name.endswith(".txt")


def describe_tokenizer(tokenizer: PreTrainedTokenizerFast) -> dict[str, str]:
    """Return digests of all that decides how a tokenizer reads text, by name of the part.

    Args:
        tokenizer: A fast tokenizer.
    """
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    model = dict(rules["model"])
    if isinstance(model.get("vocab"), dict):
        del model["vocab"]  # stands under its own name
    names = ("cls", "sep", "mask", "pad", "unk")
    special = {name: getattr(tokenizer, f"{name}_token_id") for name in names}
    parts = {
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        "model": model,
        "normalizer": rules.get("normalizer"),
        "pre-tokenizer": rules.get("pre_tokenizer"),
        "special tokens": [special, sorted(int(i) for i in tokenizer.all_special_ids)],
    }
    return {name: _digest(part) for name, part in parts.items()}


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """Return a hash of all that decides how a tokenizer reads text."""
    return _digest(describe_tokenizer(tokenizer))


def old_tokenizer_fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """Return the hash that corpora of older versions hold: vocabulary and first rules only."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    rules = {k: rules.get(k) for k in ("normalizer", "pre_tokenizer")}
    return hashlib.blake2b(
        (vocabulary + json.dumps(rules, sort_keys=True)).encode(), digest_size=16
    ).hexdigest()


def describe_blocks(blocks: Blocks) -> dict[str, Any]:
    """Return what token blocks are known by: their number, their length, a hash of all of them.

    Args:
        blocks: Token ids, (n, length).
    """
    found = hashlib.blake2b(digest_size=16)
    for start in range(0, len(blocks), _ROWS):
        found.update(np.ascontiguousarray(blocks[start : start + _ROWS], "<u4").tobytes())
    return {"blocks": list(blocks.shape), "digest": found.hexdigest()}


def is_same_text(then: Mapping[str, Any], blocks: Blocks) -> bool:
    """Whether blocks are those that a run noted.

    Args:
        then: What `describe_blocks` returned, or an older version, which took a sample.
        blocks: Token ids, (n, length).
    """
    if list(then["blocks"]) != list(blocks.shape):
        return False
    if "digest" in then:
        return bool(describe_blocks(blocks)["digest"] == then["digest"])
    sample = np.ascontiguousarray(blocks[:: max(1, len(blocks) // 1024)])
    found = hashlib.blake2b(sample.astype("<u4").tobytes(), digest_size=16).hexdigest()
    return bool(found == then["sample"])


def describe_net(config: PretrainedConfig) -> dict[str, Any]:
    """Return the sizes that a net's weights mean something with.

    Args:
        config: A supernet's configuration, or that of one shape.
    """
    return {name: getattr(config, name) for name in _SIZES if hasattr(config, name)}


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say what differs between two descriptions, name by name; empty where nothing does.

    Args:
        then: The earlier one.
        now: The later one; what it lacks is not compared.
    """
    return [
        f"{name}={_short(then.get(name))}, got {_short(value)}"
        for name, value in now.items()
        if then.get(name) != value
    ]


def source_differences(
    then: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Say in which sources two texts differ; empty where in none.

    Args:
        then: What `describe_source` returned of each.
        now: The same of the later ones.
    """
    names = [[str(source["name"]) for source in sources] for sources in (then, now)]
    if names[0] != names[1]:
        return [f"text of {', '.join(names[0])}, not {', '.join(names[1])}"]
    found = []
    for old, new in zip(then, now, strict=True):
        if old.get("text_field") != new.get("text_field"):
            fields = (old.get("text_field"), new.get("text_field"))
            found.append(f"{old['name']}: text_field={fields[0]}, not {fields[1]}")
        elif old != new:
            found.append(f"another content of {old['name']}")
    return found


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
