"""Text that models are measured on: held out from training, and masked once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.leftovers import temporary_folder
from nastool_supershaper.data import Corpus, fixed_masks, load_corpus, prepare_corpus
from nastool_supershaper.text import load_tokenizer, text_files

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

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
        tokenizer = load_tokenizer(supernet)
        return mask_files(text, tokenizer, config, str(supernet), text_field, blocks, mask_seed)
    opened = load_corpus(corpus or supernet / "corpus")
    if corpus is None and not len(opened.held_out):
        raise InvalidInputError(f"{supernet} was trained without held-out text: name some")
    beside = load_tokenizer(supernet) if (supernet / "tokenizer.json").is_file() else None
    return mask_corpus(opened, beside, config, str(supernet), blocks, mask_seed)


def mask_files(
    text: Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    config: PretrainedConfig,
    name: str,
    text_field: str = "text",
    blocks: int | None = None,
    mask_seed: int = 0,
) -> MaskedText:
    """Tokenise text for a model, and mask it.

    Args:
        text: Files, folders or patterns.
        tokenizer: The model's.
        config: Its sizes.
        name: What it is called in messages.
        text_field: Name of the text column.
        blocks: Blocks to measure on, evenly spaced; None for all.
        mask_seed: Seed of the masks.

    Raises:
        InvalidInputError: If there is no such text, or the model cannot read it.
    """
    files = text_files(text, text_field)
    length = min(_LENGTH, config.max_position_embeddings)
    with temporary_folder() as folder:
        opened = prepare_corpus(files, tokenizer, folder, sequence_length=length, held_out=0.0)
        check_corpus(opened, None, config, name)
        masked = fixed_masks(opened, "train", blocks, mask_seed)
    return MaskedText(*masked, [file.name for file in files])


def mask_corpus(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerFast | None,
    config: PretrainedConfig,
    name: str,
    blocks: int | None = None,
    mask_seed: int = 0,
) -> MaskedText:
    """Mask a prepared corpus for a model: what it holds out, or else all of it.

    Args:
        corpus: The corpus.
        tokenizer: The model's; without one, vocabularies are compared by size.
        config: The model's sizes.
        name: What it is called in messages.
        blocks: Blocks to measure on, evenly spaced; None for all.
        mask_seed: Seed of the masks.

    Raises:
        InvalidInputError: If the model cannot read it.
    """
    check_corpus(corpus, tokenizer, config, name)
    part = "held_out" if len(corpus.held_out) else "train"
    names = [source["name"] for source in corpus.card["sources"]]
    return MaskedText(*fixed_masks(corpus, part, blocks, mask_seed), names)


def check_corpus(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerFast | None,
    config: PretrainedConfig,
    name: str,
) -> None:
    """Check that a model can read a corpus: ids of another vocabulary would give wrong numbers.

    Args:
        corpus: The corpus.
        tokenizer: The model's; without one, vocabularies are compared by size.
        config: The model's sizes.
        name: What it is called in messages.

    Raises:
        InvalidInputError: If it cannot.
    """
    if corpus.card["vocab_size"] > config.vocab_size:
        raise InvalidInputError(
            f"{name} has a vocabulary of {config.vocab_size} tokens, got text of "
            f"{corpus.card['vocab_size']}"
        )
    if corpus.train.shape[1] > config.max_position_embeddings:
        raise InvalidInputError(
            f"{name} takes blocks of at most {config.max_position_embeddings} tokens, got "
            f"{corpus.train.shape[1]}"
        )
    if tokenizer is not None:
        corpus.check_tokenizer(tokenizer, name)
