"""From text to a corpus: packed token blocks for training, and held-out ones.

A corpus is a folder: ``train.npy`` and ``held_out.npy`` (one block of ``sequence_length`` token ids
a row, no padding), ``tokenizer/`` and ``corpus.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError, NastoolError
from nastool_supershaper.masking import (
    Blocks,
    MaskedBatches,
    Masking,
    mask_fixed,
    random_generator,
)
from nastool_supershaper.parallel import ALONE, Workers
from nastool_supershaper.text import (
    HubDataset,
    Source,
    TextFile,
    load_tokenizer,
    save_tokenizer,
    text_files,
    train_tokenizer,
    vocabulary_gaps,
    vocabulary_size,
)
from nastool_supershaper.tokenising import (
    HeldOut,
    join_parts,
    remove_parts,
    tokenise_share,
    write_text_atomically,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = [
    "Blocks",
    "Corpus",
    "HubDataset",
    "MaskedBatches",
    "Masking",
    "Source",
    "TextFile",
    "fixed_masks",
    "load_corpus",
    "load_tokenizer",
    "mask_fixed",
    "prepare_corpus",
    "random_generator",
    "save_tokenizer",
    "text_files",
    "train_tokenizer",
    "write_text_atomically",
]

_CARD = "corpus.json"


@dataclass(frozen=True)
class Corpus:
    """Packed blocks of training and held-out text with the tokenizer's special tokens.

    Args:
        folder: Where the corpus lies.
        train: Blocks, (n, sequence_length).
        held_out: Blocks of documents that are not in train, (m, sequence_length).
        card: Sources, counts, vocabulary size, ids of special tokens.
    """

    folder: Path
    train: Blocks
    held_out: Blocks
    card: dict[str, Any]

    @property
    def tokenizer_path(self) -> Path:
        """Folder of the tokenizer's files."""
        return self.folder / "tokenizer"

    def masking(self, rate: float = 0.15) -> Masking:
        """Return the masking rule for this corpus's vocabulary."""
        return Masking(
            mask_id=self.card["mask_id"],
            special_ids=tuple(self.card["special_ids"]),
            vocab_size=self.card["vocab_size"],
            gaps=tuple((start, end) for start, end in self.card.get("vocabulary_gaps", ())),
            rate=rate,
        )

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerFast, name: str) -> None:
        """Check that the text was tokenised with a vocabulary.

        Args:
            tokenizer: Has the vocabulary.
            name: Whose it is, for the message.

        Raises:
            InvalidInputError: If it was another one: the ids would mean other words.
        """
        if load_tokenizer(self.tokenizer_path).get_vocab() != tokenizer.get_vocab():
            raise InvalidInputError(
                f"{self.folder} was tokenised with another vocabulary than that of {name}: "
                "prepare a corpus with that one"
            )


def load_corpus(folder: str | Path) -> Corpus:
    """Open a prepared corpus; the blocks are memory maps.

    Args:
        folder: What `prepare_corpus` wrote.

    Raises:
        InvalidInputError: If the folder holds no complete corpus.
    """
    folder = Path(folder)
    try:
        card = json.loads((folder / _CARD).read_text())
        train = np.load(folder / "train.npy", mmap_mode="r", allow_pickle=False)
        held_out = np.load(folder / "held_out.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidInputError(
            f"no prepared corpus in {folder} ({reason}); --text FILE brings text of your own"
        ) from error
    return Corpus(folder, train, held_out, card)


def fixed_masks(
    corpus: Corpus, part: str, n_blocks: int | None, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Mask evenly spaced blocks of a corpus once.

    Args:
        corpus: The corpus.
        part: ``train`` or ``held_out``.
        n_blocks: Number of blocks; None takes all.
        seed: Seed of the masks.

    Returns:
        Input ids and labels, (n, length).
    """
    blocks = corpus.train if part == "train" else corpus.held_out
    if n_blocks is not None and n_blocks < 1:
        raise InvalidInputError(f"the number of blocks must be at least 1, got {n_blocks}")
    if n_blocks is not None and n_blocks < len(blocks):
        blocks = blocks[np.linspace(0, len(blocks) - 1, n_blocks).astype(np.int64)]
    return mask_fixed(blocks, corpus.masking(), seed)


def prepare_corpus(
    sources: Sequence[Source],
    tokenizer: PreTrainedTokenizerFast,
    folder: str | Path,
    *,
    sequence_length: int = 128,
    held_out: float = 0.01,
    max_tokens: int | None = None,
    progress: Callable[[str, int], None] | None = None,
    workers: Workers = ALONE,
    replace: bool = True,
) -> Corpus:
    """Tokenise sources into a corpus folder, or open it if it already holds exactly this.

    Stopped at any moment and called again, it goes on. Several processes share the documents; the
    order of the blocks then depends on their number.

    The held-out documents are chosen by the hash of their text, source by source; a document
    whose text is held out in one source is left out of training in every other one.

    Args:
        sources: Where the text comes from.
        tokenizer: A fast tokenizer with [CLS] and [SEP].
        folder: Where the corpus goes.
        sequence_length: Tokens a block, [CLS] and [SEP] included.
        held_out: Fraction of the characters of every source to hold out, in [0, 1).
        max_tokens: Stop when the training blocks hold so many tokens; None takes everything.
        progress: Called with the source's name and this process's tokens of it so far.
        workers: The processes that tokenise together; each calls this with the same arguments.
        replace: Whether a corpus of something else in the folder may give way.

    Raises:
        InvalidInputError: If an argument is out of range, the text fills not one block, or there
            is a corpus of something else that may not give way.
        NastoolError: If the corpus cannot be written, e.g. on a full disk.
    """
    if sequence_length < 8:
        raise InvalidInputError(f"sequence_length must be at least 8, got {sequence_length}")
    if not 0 <= held_out < 1:
        raise InvalidInputError(f"held_out must be in [0, 1), got {held_out}")
    if max_tokens is not None and max_tokens < 1:
        raise InvalidInputError(f"max_tokens must be at least 1, got {max_tokens}")
    if not sources:
        raise InvalidInputError("expected at least one source of text, got none")
    folder = Path(folder)
    vocab_size = vocabulary_size(tokenizer)
    request = {
        "sources": [{"name": s.name, "fingerprint": s.fingerprint()} for s in sources],
        "tokenizer": _tokenizer_fingerprint(tokenizer),
        "sequence_length": sequence_length,
        "held_out": held_out,
        "max_tokens": max_tokens,
    }
    if (folder / _CARD).is_file():
        corpus = load_corpus(folder)
        if corpus.card["request"] == request:
            if workers.is_first:
                remove_parts(folder)  # of a process killed after the card was written
            return corpus
        if not replace:
            raise InvalidInputError(_difference(folder, corpus.card["request"], request))
    dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        workers.wait()  # until every process has seen whether a corpus is there
        # The card is written last: a folder without it is not a corpus.
        if workers.is_first:
            (folder / _CARD).unlink(missing_ok=True)
        chosen = HeldOut.choose(sources, held_out)
        tokenise_share(sources, tokenizer, folder, request, chosen, dtype, workers, progress)
        workers.wait()
        if workers.is_first:
            counts, blocks = join_parts(sources, folder, request, dtype)
            if not blocks[0]:
                remove_parts(folder)
                raise InvalidInputError(
                    f"the training text fills no block of {sequence_length} tokens: give more "
                    "text, a smaller held-out fraction or a shorter sequence"
                )
            save_tokenizer(tokenizer, folder / "tokenizer")
            card = {
                "request": request,
                "sources": counts,
                "train_blocks": blocks[0],
                "held_out_blocks": blocks[1],
                "vocab_size": vocab_size,
                "vocabulary_gaps": vocabulary_gaps(tokenizer),
                "mask_id": int(tokenizer.mask_token_id),
                "special_ids": sorted(int(i) for i in tokenizer.all_special_ids),
            }
            write_text_atomically(folder / _CARD, json.dumps(card, indent=2) + "\n")
            remove_parts(folder)
    except OSError as error:
        raise NastoolError(
            f"tokenising into {folder} stopped: {error}; the same command goes on"
        ) from error
    workers.wait()
    return load_corpus(folder)


def _tokenizer_fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    rules = {k: rules.get(k) for k in ("normalizer", "pre_tokenizer")}
    return hashlib.blake2b(
        (vocabulary + json.dumps(rules, sort_keys=True)).encode(), digest_size=16
    ).hexdigest()


def _difference(folder: Path, then: dict[str, Any], now: dict[str, Any]) -> str:
    found = []
    for name, value in now.items():
        if then.get(name) != value:
            is_number = name not in ("sources", "tokenizer")
            found.append(f"{name}={then.get(name)}, not {value}" if is_number else name)
    return (
        f"{folder} holds a corpus of something else ({'; '.join(found)}): ask for the same, or "
        "give another folder"
    )
