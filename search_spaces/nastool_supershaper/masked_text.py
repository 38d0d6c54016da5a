"""Text that supernets are measured on: held out from training, and masked once for all shapes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool_supershaper.data import Corpus, fixed_masks, load_corpus, prepare_corpus
from nastool_supershaper.text import load_tokenizer, text_files

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_LENGTH = 128


class MaskedText(NamedTuple):
    """Masked tokens, the originals (-100 elsewhere), both (n, length), and names of the sources."""

    input_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    sources: list[str]


def masked_text(
    supernet: Path,
    config: PretrainedConfig,
    text: Sequence[str] = (),
    *,
    text_field: str = "text",
    corpus: Path | None = None,
    blocks: int | None = None,
    mask_seed: int = 0,
) -> MaskedText:
    """Take held-out text for a supernet, and mask it.

    Args:
        supernet: Its folder: of the tokenizer, and of the corpus that is taken by default.
        config: Its sizes.
        text: Files, folders or patterns; the supernet's tokenizer reads them.
        text_field: Name of the text column.
        corpus: Prepared corpus; what it holds out, or else all of it.
        blocks: Blocks to measure on, evenly spaced; None for all.
        mask_seed: Seed of the masks.

    Raises:
        InvalidInputError: If there is no such text, or the supernet cannot read it.
    """
    if text:
        files = text_files(text, text_field)
        length = min(_LENGTH, config.max_position_embeddings)
        with tempfile.TemporaryDirectory() as folder:
            opened = prepare_corpus(
                files, load_tokenizer(supernet), Path(folder), sequence_length=length, held_out=0.0
            )
            _check(opened, supernet, config)
            return MaskedText(
                *fixed_masks(opened, "train", blocks, mask_seed), [file.name for file in files]
            )
    opened = load_corpus(corpus or supernet / "corpus")
    _check(opened, supernet, config)
    part = "held_out" if len(opened.held_out) else "train"
    if part == "train" and corpus is None:
        raise InvalidInputError(f"{supernet} was trained without held-out text: name some")
    names = [source["name"] for source in opened.card["sources"]]
    return MaskedText(*fixed_masks(opened, part, blocks, mask_seed), names)


def _check(corpus: Corpus, supernet: Path, config: PretrainedConfig) -> None:
    """Ids of another vocabulary would give numbers, wrong ones."""
    if corpus.card["vocab_size"] > config.vocab_size:
        raise InvalidInputError(
            f"{supernet} has a vocabulary of {config.vocab_size} tokens, got text of "
            f"{corpus.card['vocab_size']}"
        )
    if corpus.train.shape[1] > config.max_position_embeddings:
        raise InvalidInputError(
            f"{supernet} takes blocks of at most {config.max_position_embeddings} tokens, got "
            f"{corpus.train.shape[1]}"
        )
    if (supernet / "tokenizer.json").is_file():
        corpus.check_tokenizer(load_tokenizer(supernet), str(supernet))
