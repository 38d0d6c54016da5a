"""From text to a corpus: packed token blocks for training, and held-out ones.

A corpus is a folder: ``train.npy`` and ``held_out.npy`` (one block of ``sequence_length`` token ids
a row, no padding), ``tokenizer/`` and ``corpus.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

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
from nastool_supershaper.text import (
    HubDataset,
    Source,
    TextFile,
    load_tokenizer,
    text_files,
    train_tokenizer,
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
    "text_files",
    "train_tokenizer",
    "write_text_atomically",
]

_DOCUMENTS_AT_ONCE = 256
_CARD = "corpus.json"


class _BlockWriter:
    """Pack documents into blocks and append them to an .npy file whose length is not yet known."""

    def __init__(
        self, file: BinaryIO, length: int, cls: int, sep: int, dtype: np.dtype[Any]
    ) -> None:
        self._file, self._length, self._cls, self._sep = file, length, cls, sep
        self._dtype = dtype
        self._pending: list[int] = []
        self.n_blocks = 0
        self._write_header()

    def add(self, tokens: Iterable[int]) -> None:
        if self._pending:
            self._pending.append(self._sep)
        self._pending.extend(tokens)
        body = self._length - 2
        n = len(self._pending) // body
        if n:
            blocks = np.empty((n, self._length), self._dtype)
            blocks[:, 0], blocks[:, -1] = self._cls, self._sep
            blocks[:, 1:-1] = np.array(self._pending[: n * body], self._dtype).reshape(n, body)
            self._file.write(blocks.tobytes())
            self._pending = self._pending[n * body :]
            self.n_blocks += n

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        # numpy pads the header so that the first axis can grow in place.
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (self.n_blocks, self._length),
            },
        )


def _document_hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _held_out_hashes(source: Source, fraction: float) -> set[int]:
    """Choose held-out documents: the first by hash that make up the fraction of the characters."""
    lengths: dict[int, int] = {}
    for text in source.documents():
        key = _document_hash(text)
        lengths[key] = lengths.get(key, 0) + len(text)
    wanted, taken = fraction * sum(lengths.values()), 0
    chosen: set[int] = set()
    for key in sorted(lengths):
        if taken >= wanted or len(chosen) + 1 >= len(lengths):
            break
        chosen.add(key)
        taken += lengths[key]
    return chosen


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
            rate=rate,
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
        raise InvalidInputError(f"no prepared corpus in {folder}: {error}") from error
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
) -> Corpus:
    """Tokenise sources into a corpus folder, or open it if it already holds exactly this.

    The held-out documents are chosen by the hash of their text, source by source; a document
    whose text is held out in one source is left out of training in every other one.

    Args:
        sources: Where the text comes from.
        tokenizer: A fast tokenizer with [CLS] and [SEP].
        folder: Where the corpus goes.
        sequence_length: Tokens a block, [CLS] and [SEP] included.
        held_out: Fraction of the characters of every source to hold out, in [0, 1).
        max_tokens: Stop when the training blocks hold so many tokens; None takes everything.
        progress: Called with the source's name and the tokens so far.

    Raises:
        InvalidInputError: If an argument is out of range, or the text fills not one block.
    """
    if sequence_length < 8:
        raise InvalidInputError(f"sequence_length must be at least 8, got {sequence_length}")
    if not 0 <= held_out < 1:
        raise InvalidInputError(f"held_out must be in [0, 1), got {held_out}")
    if not sources:
        raise InvalidInputError("expected at least one source of text, got none")
    folder = Path(folder)
    vocab_size = len(tokenizer)
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
            return corpus
    folder.mkdir(parents=True, exist_ok=True)
    # The card is written last: a folder without it is not a corpus.
    (folder / _CARD).unlink(missing_ok=True)

    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    dtype = np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)
    if dtype.byteorder == ">":
        dtype = dtype.newbyteorder("<")
    cls, sep = int(tokenizer.cls_token_id), int(tokenizer.sep_token_id)

    # A streamed source is read once; its documents are held out by a threshold on the hash.
    streamed = [isinstance(s, HubDataset) and s.streaming for s in sources]
    chosen: set[int] = set()
    if held_out:
        for source, is_streamed in zip(sources, streamed, strict=True):
            if not is_streamed:
                chosen |= _held_out_hashes(source, held_out)
    threshold = int(held_out * 2**64)

    counts: list[dict[str, Any]] = []
    limit = float("inf") if max_tokens is None else max_tokens
    with open(folder / "train.npy", "wb") as train, open(folder / "held_out.npy", "wb") as held:
        writers = [_BlockWriter(f, sequence_length, cls, sep, dtype) for f in (train, held)]
        for source, is_streamed in zip(sources, streamed, strict=True):
            n_documents, n_tokens = [0, 0], 0
            for texts in _groups(source.documents(), _DOCUMENTS_AT_ONCE):
                for text, encoding in zip(
                    texts, backend.encode_batch_fast(texts, add_special_tokens=False), strict=True
                ):
                    key = _document_hash(text)
                    is_held = key in chosen or (is_streamed and key < threshold)
                    writers[is_held].add(encoding.ids)
                    n_documents[is_held] += 1
                    n_tokens += len(encoding.ids)
                if progress is not None:
                    progress(source.name, n_tokens)
                if writers[0].n_blocks * sequence_length >= limit:
                    break
            counts.append(
                {
                    "name": source.name,
                    "train_documents": n_documents[0],
                    "held_out_documents": n_documents[1],
                    "tokens": n_tokens,
                }
            )
        for writer in writers:
            writer.close()
    if not writers[0].n_blocks:
        raise InvalidInputError(
            f"the training text fills no block of {sequence_length} tokens: give more text, "
            "a smaller held-out fraction or a shorter sequence"
        )
    tokenizer.save_pretrained(str(folder / "tokenizer"))
    card = {
        "request": request,
        "sources": counts,
        "train_blocks": writers[0].n_blocks,
        "held_out_blocks": writers[1].n_blocks,
        "vocab_size": vocab_size,
        "mask_id": int(tokenizer.mask_token_id),
        "special_ids": sorted(int(i) for i in tokenizer.all_special_ids),
    }
    write_text_atomically(folder / _CARD, json.dumps(card, indent=2) + "\n")
    return load_corpus(folder)


def _tokenizer_fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    rules = {k: rules.get(k) for k in ("normalizer", "pre_tokenizer")}
    return hashlib.blake2b(
        (vocabulary + json.dumps(rules, sort_keys=True)).encode(), digest_size=16
    ).hexdigest()


def _groups(items: Iterable[str], size: int) -> Iterator[list[str]]:
    group: list[str] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def write_text_atomically(path: Path, text: str) -> None:
    """Replace a text file so that a reader sees the old or the new content, never a part.

    Args:
        path: File to write.
        text: Its new content.

    Raises:
        NastoolError: If the file cannot be written, e.g. on a full disk.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise NastoolError(f"cannot write {path}: {error}") from error
