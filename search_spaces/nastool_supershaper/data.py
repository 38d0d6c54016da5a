"""Text to packed token blocks, and the masks of masked language modelling.

A corpus is a folder: ``train.npy`` and ``held_out.npy`` (one block of ``sequence_length`` token ids
a row, no padding), ``tokenizer/`` and ``corpus.json``. Everything random is drawn from
counter-based generators keyed by (seed, stream, step), so that any step can be replayed alone.
"""

from __future__ import annotations

import glob
import gzip
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

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Blocks = NDArray[np.unsignedinteger[Any]]
"""Token ids, (n_blocks, sequence_length), often a read-only memory map."""

IGNORED_LABEL = -100
SUFFIXES = (".txt", ".jsonl", ".jsonl.gz", ".json")
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_DOCUMENTS_AT_ONCE = 256
_CARD = "corpus.json"


def random_generator(seed: int, stream: int, step: int) -> np.random.Generator:
    """Return the generator of one step of one stream of random numbers.

    Args:
        seed: The user's seed.
        stream: What the numbers are for; streams with different numbers are independent.
        step: Position in the stream; no earlier step needs to have been drawn.
    """
    # Philox advances its first counter word while drawing; the step sits in the last one, so that
    # the numbers of two steps cannot overlap.
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=[0, 0, 0, step]))


# --------------------------------------------------------------------------------------------------
# Sources of documents


@dataclass(frozen=True)
class TextFile:
    """Documents of one file: JSON records with a text field, or paragraphs of plain text.

    Args:
        path: A file that ends with .txt, .jsonl, .jsonl.gz or .json.
        text_field: Name of the field that holds the text in JSON records.
    """

    path: Path
    text_field: str = "text"

    @property
    def name(self) -> str:
        """Name of the source in cards and messages."""
        return self.path.name

    def fingerprint(self) -> str:
        """Return a hash of the file's content."""
        digest = hashlib.blake2b(digest_size=16)
        with open(self.path, "rb") as file:
            while chunk := file.read(1 << 22):
                digest.update(chunk)
        return digest.hexdigest()

    def documents(self) -> Iterator[str]:
        """Yield the documents in the order of the file."""
        try:
            if self.path.name.endswith(".gz"):
                with gzip.open(self.path, "rt", encoding="utf-8") as file:
                    yield from self._parse(file)
            else:
                with open(self.path, encoding="utf-8") as file:
                    yield from self._parse(file)
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"cannot read text from {self.path}: {error}") from error

    def _parse(self, lines: Iterable[str]) -> Iterator[str]:
        if self.path.name.endswith(".txt"):
            yield from _paragraphs(lines)
        elif self.path.name.endswith(".json"):
            yield from self._json_documents("".join(lines))
        else:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield self._text(self._load(line, f"line {number}"), f"line {number}")

    def _json_documents(self, content: str) -> Iterator[str]:
        try:
            records = json.loads(content)
        except json.JSONDecodeError:
            # Many tools write one record a line under this suffix.
            records = [self._load(line, "record") for line in content.splitlines() if line.strip()]
        if isinstance(records, dict):
            records = records.get("data", [records])
        for position, record in enumerate(records):
            yield self._text(record, f"record {position}")

    def _load(self, line: str, where: str) -> Any:
        try:
            return json.loads(line)
        except json.JSONDecodeError as error:
            raise InvalidInputError(
                f"{self.path}, {where}: expected a JSON record, got {line[:40]!r}"
            ) from error

    def _text(self, record: object, where: str) -> str:
        text = record.get(self.text_field) if isinstance(record, dict) else record
        if not isinstance(text, str):
            raise InvalidInputError(
                f"{self.path}, {where}: expected a record with a string field "
                f"{self.text_field!r}, got {str(record)[:60]!r}"
            )
        return text


@dataclass(frozen=True)
class HubDataset:
    """Documents of a ``datasets`` source: a name on the hub or a local folder.

    Args:
        path: Name or folder, as `datasets.load_dataset` takes it.
        config: Name of the configuration, e.g. ``realnewslike``.
        split: Split to read.
        text_field: Column that holds the text.
        streaming: Read while downloading, without a local copy of the data set.
        max_documents: Stop after so many documents; all of them if None.
    """

    path: str
    config: str | None = None
    split: str = "train"
    text_field: str = "text"
    streaming: bool = False
    max_documents: int | None = None

    @classmethod
    def parse(cls, text: str, **options: Any) -> HubDataset:
        """Parse ``NAME[:config]``."""
        path, _, config = text.partition(":")
        return cls(path, config or None, **options)

    @property
    def name(self) -> str:
        """Name of the source in cards and messages."""
        return self.path if self.config is None else f"{self.path}:{self.config}"

    def fingerprint(self) -> str:
        """Return a hash of what was asked for (the content is the hub's to version)."""
        return hashlib.blake2b(repr(self).encode(), digest_size=16).hexdigest()

    def documents(self) -> Iterator[str]:
        """Yield the documents in the order of the data set."""
        import datasets

        try:
            rows = datasets.load_dataset(
                self.path, self.config, split=self.split, streaming=self.streaming
            )
        except Exception as error:  # datasets raises dozens of unrelated types here
            raise InvalidInputError(f"cannot load data set {self.name!r}: {error}") from error
        columns = rows.column_names
        if columns is not None and self.text_field not in columns:
            raise InvalidInputError(
                f"data set {self.name!r}: expected a column {self.text_field!r}, "
                f"got {', '.join(columns)}"
            )
        for position, row in enumerate(rows):
            if position == self.max_documents:
                break
            yield row[self.text_field]


Source = TextFile | HubDataset


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    paragraph: list[str] = []
    for line in lines:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield "".join(paragraph)
            paragraph = []
    if paragraph:
        yield "".join(paragraph)


def text_files(patterns: Iterable[str | Path], text_field: str = "text") -> list[TextFile]:
    """Resolve files, folders and glob patterns to text files, sorted within each pattern.

    Args:
        patterns: Paths of files or folders (searched recursively), or glob patterns.
        text_field: Name of the text field in JSON records.

    Raises:
        InvalidInputError: If a pattern matches no file of a known suffix.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            matches = [p for p in path.rglob("*") if p.is_file()]
        elif path.is_file():
            matches = [path]
        else:
            matches = [Path(p) for p in glob.glob(str(pattern), recursive=True)]
        matches = sorted(p for p in matches if p.name.endswith(SUFFIXES))
        if not matches:
            raise InvalidInputError(
                f"expected text files ({', '.join(SUFFIXES)}) at {str(pattern)!r}, found none"
            )
        found.update(dict.fromkeys(matches))
    return [TextFile(path, text_field) for path in found]


# --------------------------------------------------------------------------------------------------
# Tokenizers


def load_tokenizer(name_or_path: str | Path) -> PreTrainedTokenizerFast:
    """Load a BERT-like tokenizer from a folder or the hub.

    Args:
        name_or_path: Folder with tokenizer files, or name of a model on the hub.

    Raises:
        InvalidInputError: If there is no tokenizer, or it lacks [CLS], [SEP] or [MASK].
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(name_or_path), use_fast=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"no tokenizer at {str(name_or_path)!r}: {reason}") from error
    missing = [n for n in ("cls", "sep", "mask") if getattr(tokenizer, f"{n}_token_id") is None]
    if missing:
        raise InvalidInputError(
            f"tokenizer {str(name_or_path)!r}: expected cls, sep and mask tokens, "
            f"got none for {', '.join(missing)}"
        )
    return tokenizer


def train_tokenizer(
    sources: Sequence[Source], vocab_size: int, lowercase: bool = False
) -> PreTrainedTokenizerFast:
    """Train a WordPiece tokenizer like BERT's.

    Args:
        sources: Where the text comes from.
        vocab_size: Number of tokens, special ones included.
        lowercase: Whether to lowercase and strip accents ("uncased").
    """
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    documents = (text for source in sources for text in source.documents())
    tokenizer.train_from_iterator(documents, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


# --------------------------------------------------------------------------------------------------
# Packing


class _BlockWriter:
    """Pack documents into blocks and append them to an .npy file whose length is not yet known."""

    def __init__(self, file: BinaryIO, length: int, cls: int, sep: int, dtype: np.dtype[Any]):
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
    wanted, taken, chosen = fraction * sum(lengths.values()), 0, set()
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
            count = {"name": source.name, "documents": 0, "held_out": 0, "tokens": 0}
            for texts in _groups(source.documents(), _DOCUMENTS_AT_ONCE):
                for text, encoding in zip(
                    texts, backend.encode_batch_fast(texts, add_special_tokens=False), strict=True
                ):
                    key = _document_hash(text)
                    is_held = key in chosen or (is_streamed and key < threshold)
                    writers[is_held].add(encoding.ids)
                    count["held_out" if is_held else "documents"] += 1
                    count["tokens"] += len(encoding.ids)
                if progress is not None:
                    progress(source.name, count["tokens"])
                if writers[0].n_blocks * sequence_length >= limit:
                    break
            counts.append(count)
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


# --------------------------------------------------------------------------------------------------
# Masks and batches


@dataclass(frozen=True)
class Masking:
    """BERT's masking: of the chosen tokens 80% become [MASK], 10% a random token, 10% stay.

    The number of chosen tokens is the same in every block, round(rate * (length - 2)), so that
    batches have one size and every block has the same weight in the loss.

    Args:
        mask_id: Id of [MASK].
        special_ids: Ids that are never chosen ([CLS], [SEP], [PAD] ...).
        vocab_size: Number of tokens; random tokens are drawn from all of them.
        rate: Fraction of the tokens to predict, in (0, 1).
    """

    mask_id: int
    special_ids: tuple[int, ...]
    vocab_size: int
    rate: float = 0.15

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise InvalidInputError(f"masking rate must be in (0, 1), got {self.rate}")
        if not 0 <= self.mask_id < self.vocab_size:
            raise InvalidInputError(
                f"mask id must be in [0, {self.vocab_size}), got {self.mask_id}"
            )

    def apply(
        self, blocks: Blocks, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Mask blocks.

        Args:
            blocks: Token ids, (n, length).
            generator: Source of randomness; its state alone decides the masks.

        Returns:
            Input ids and labels, both (n, length); labels are -100 where nothing is predicted.
        """
        tokens = np.asarray(blocks).astype(np.int64)
        n, length = tokens.shape
        n_masked = max(1, round(self.rate * (length - 2)))
        keys = generator.random(tokens.shape, dtype=np.float32)
        is_special = np.zeros(self.vocab_size, np.bool_)
        is_special[list(self.special_ids)] = True
        keys[is_special[tokens]] = 2.0
        chosen = np.argpartition(keys, n_masked - 1, axis=1)[:, :n_masked]
        # argpartition leaves the order open; sorting makes the pairing with the draws canonical.
        chosen.sort(axis=1)
        rows = np.arange(n)[:, None]
        # A block of almost nothing but special tokens has fewer than n_masked to choose.
        valid = keys[rows, chosen] < 2.0
        original = tokens[rows, chosen]
        labels = np.full_like(tokens, IGNORED_LABEL)
        labels[rows, chosen] = np.where(valid, original, IGNORED_LABEL)
        fate = generator.random(chosen.shape, dtype=np.float32)
        random_ids = generator.integers(0, self.vocab_size, chosen.shape)
        replaced = np.where(fate < 0.8, self.mask_id, np.where(fate < 0.9, random_ids, original))
        tokens[rows, chosen] = np.where(valid, replaced, original)
        return tokens, labels


MASK_STREAM, ORDER_STREAM, SHAPE_STREAM, FIXED_MASK_STREAM = range(4)


def mask_fixed(
    blocks: Blocks, masking: Masking, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Mask held-out text once: every shape must be measured on the same masks.

    Args:
        blocks: Token ids, (n, length).
        masking: The rule.
        seed: Seed of the masks.

    Returns:
        Input ids and labels, both (n, length). A block's masks do not depend on how many follow.
    """
    parts = [
        masking.apply(blocks[i : i + 1], random_generator(seed, FIXED_MASK_STREAM, i))
        for i in range(len(blocks))
    ]
    if not parts:
        raise InvalidInputError("expected at least one block of held-out text, got none")
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


class MaskedBatches:
    """Masked training batches by step: reshuffled every epoch, and any step on its own.

    Args:
        blocks: Token ids, (n, length).
        masking: The masking rule.
        batch_size: Blocks a step.
        seed: Seed of order and masks.
    """

    def __init__(self, blocks: Blocks, masking: Masking, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise InvalidInputError(f"batch_size must be at least 1, got {batch_size}")
        if not len(blocks):
            raise InvalidInputError("expected at least one block of training text, got none")
        self._blocks, self._masking = blocks, masking
        self._batch_size, self._seed = batch_size, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def indices(self, step: int) -> NDArray[np.int64]:
        """Return the rows of the blocks that make up a step's batch, (batch_size,)."""
        n = len(self._blocks)
        positions = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        rows = np.empty(self._batch_size, np.int64)
        for epoch in np.unique(positions // n):
            here = positions // n == epoch
            rows[here] = self._permutation(int(epoch))[positions[here] % n]
        return rows

    def batch(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return input ids and labels of a step, both (batch_size, length)."""
        blocks = self._blocks[self.indices(step)]
        return self._masking.apply(blocks, random_generator(self._seed, MASK_STREAM, step))

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch != self._epoch:
            generator = random_generator(self._seed, ORDER_STREAM, epoch)
            self._epoch, self._order = epoch, generator.permutation(len(self._blocks))
        return self._order
