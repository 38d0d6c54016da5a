"""Text that models are measured on: held out from training, and masked once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.files.reading import is_file, read_json_object
from nastool.runtime.leftovers import temporary_folder
from nastool_supernets.corpus.corpus import Corpus, fixed_masks, load_corpus, prepare_corpus
from nastool_supernets.corpus.tasks import TaskName
from nastool_supernets.corpus.text import text_files
from nastool_supernets.corpus.tokenizer import load_tokenizer
from nastool_supernets.positions import positions_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

_LENGTHS: tuple[tuple[str, tuple[str | int, ...]], ...] = (
    ("run.json", ("data", "blocks", 1)),
    ("corpus/corpus.json", ("request", "sequence_length")),
)
"""Files in the folder of a supernet that tell the length of its blocks, and where they do."""

_LENGTH = 128
"""Tokens of a block where nobody said what a net was trained on."""


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
    task: TaskName = "masked-lm",
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
        task: What the supernet predicts.

    Raises:
        InvalidInputError: If there is no such text, or the supernet cannot read it.
    """
    if text:
        tokenizer = load_tokenizer(supernet)
        length = trained_length(supernet, config)
        return mask_files(
            text, tokenizer, config, str(supernet), text_field, blocks, mask_seed, length, task
        )
    opened = load_corpus(corpus or supernet / "corpus")
    if corpus is None and not len(opened.held_out):
        raise InvalidInputError(f"{supernet} was trained without held-out text: name some")
    beside = load_tokenizer(supernet) if (supernet / "tokenizer.json").is_file() else None
    return mask_corpus(opened, beside, config, str(supernet), blocks, mask_seed, task)


def trained_length(supernet: Path, config: PretrainedConfig) -> int:
    """Return the length of the blocks that a supernet was last trained on, as far as is known.

    Args:
        supernet: Its folder, of whose run the card or the corpus may tell.
        config: Its sizes.
    """
    for name, path in _LENGTHS:
        if not is_file(supernet / name):
            continue
        said: Any = read_json_object(supernet / name)
        try:
            for key in path:
                said = said[key]
            return min(int(said), known_positions(config))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InvalidInputError(
                f"{supernet / name} does not say the length of the blocks: {error}"
            ) from error
    return min(_LENGTH, known_positions(config))


def check_length(config: PretrainedConfig, length: int, name: str) -> None:
    """Check that a net was trained on all positions of blocks: later ones are random.

    Args:
        config: Its sizes.
        length: Tokens a block.
        name: What it is called in messages.

    Raises:
        InvalidInputError: If it was not.
    """
    known = known_positions(config)
    if length > known:
        raise InvalidInputError(
            f"{name} was trained on positions 1 to {known}, got blocks of {length} tokens, whose "
            f"later positions are random: measure on blocks of at most {known}"
        )


def known_positions(config: PretrainedConfig) -> int:
    """Return the positions that training has seen, or all of a net where nobody said which.

    Args:
        config: Sizes of a supernet or of a subnet.
    """
    longest = positions_of(config)
    return min(int(getattr(config, "trained_positions", 0) or longest), longest)


def mask_files(
    text: Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    config: PretrainedConfig,
    name: str,
    text_field: str = "text",
    blocks: int | None = None,
    mask_seed: int = 0,
    length: int | None = None,
    task: TaskName = "masked-lm",
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
        length: Tokens a block; None takes 128, or what positions the model was trained on.
        task: What the model predicts.

    Raises:
        InvalidInputError: If there is no such text, or the model cannot read it.
    """
    files = text_files(text, text_field)
    length = length or min(_LENGTH, known_positions(config))
    with temporary_folder() as folder:
        opened = prepare_corpus(files, tokenizer, folder, sequence_length=length, held_out=0.0)
        check_corpus(opened, None, config, name)
        masked = fixed_masks(opened, "train", blocks, mask_seed, task)
    return MaskedText(*masked, [file.name for file in files])


def mask_corpus(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerFast | None,
    config: PretrainedConfig,
    name: str,
    blocks: int | None = None,
    mask_seed: int = 0,
    task: TaskName = "masked-lm",
) -> MaskedText:
    """Mask a prepared corpus for a model: what it holds out, or else all of it.

    Args:
        corpus: The corpus.
        tokenizer: The model's; without one, vocabularies are compared by size.
        config: The model's sizes.
        name: What it is called in messages.
        blocks: Blocks to measure on, evenly spaced; None for all.
        mask_seed: Seed of the masks.
        task: What the model predicts.

    Raises:
        InvalidInputError: If the model cannot read it, or was trained on shorter blocks only.
    """
    check_corpus(corpus, tokenizer, config, name)
    check_length(config, corpus.train.shape[1], name)
    part = "held_out" if len(corpus.held_out) else "train"
    names = [source["name"] for source in corpus.card["sources"]]
    return MaskedText(*fixed_masks(corpus, part, blocks, mask_seed, task), names)


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
    if corpus.train.shape[1] > (longest := positions_of(config)):
        raise InvalidInputError(
            f"{name} takes blocks of at most {longest} tokens, got {corpus.train.shape[1]}"
        )
    if tokenizer is not None:
        corpus.check_tokenizer(tokenizer, name)
