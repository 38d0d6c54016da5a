"""Documents of text files and data sets, and the tokenizers that read them."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TextIO

from nastool.errors import InvalidInputError, MissingDependencyError, NastoolError
from nastool.files.reading import (
    GZIP,
    first_line,
    is_file,
    is_folder,
    json_lines,
    json_records,
    open_text,
    reading,
    unpacked_digest,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_log = logging.getLogger(__name__)

SUFFIXES = (".txt", ".jsonl", ".json")
"""Files of text, in small or capital letters; each also packed by gzip."""

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_LONGEST_PARAGRAPH = 1 << 26
"""Characters after which a paragraph of plain text ends at the next line, or within this one."""

_PIECE = 1 << 18
"""Characters of a text that are tokenised at once."""

_LONG_WORD = re.compile(r"\w{100}(?=\w)")
"""Where words are cut to learn a vocabulary from, which takes time by the square of their length;
WordPiece reads none that is longer."""

_NAMED = 3
"""Files that are named of those that were left out; the others are counted."""


@dataclass(frozen=True)
class TextFile:
    """Documents of one file: JSON records with a text field, or paragraphs of plain text.

    Args:
        path: A file that ends with .txt, .jsonl or .json, and perhaps .gz.
        text_field: Name of the field that holds the text in JSON records.
    """

    path: Path
    text_field: str = "text"
    streaming: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Name of the source in cards and messages."""
        return self.path.name

    def fingerprint(self) -> str:
        """Return a hash of the file's content."""
        digest = hashlib.blake2b(digest_size=16)
        with reading(self.path), self.path.open("rb") as file:
            while chunk := file.read(1 << 22):
                digest.update(chunk)
        return digest.hexdigest()

    def documents(self, share: int = 0, shares: int = 1) -> Iterator[str]:
        """Yield the documents in the order of the file.

        Half a character (a surrogate without its other half, which no encoding has) becomes U+FFFD;
        how often is logged.

        Args:
            share: Which share of them, from 0.
            shares: Number of disjoint shares that make up the whole.

        Raises:
            InvalidInputError: It cannot be read, or a record has no text; names file and place.
        """
        halved = 0
        try:
            for text in islice(self._documents(), share, None, shares):
                whole = well_formed(text)
                halved += whole is not text
                yield whole
        finally:
            if halved:
                texts = "1 text" if halved == 1 else f"{halved:,} texts"
                _log_once(f"{self.path}: half a character in {texts} is read as U+FFFD")

    def _documents(self) -> Iterator[str]:
        kind = _kind(self.path)
        if kind == ".txt":
            with open_text(self.path) as file:
                yield from _paragraphs(file)
            return
        records = json_records if kind == ".json" else json_lines
        for place, record in records(self.path):
            text = record.get(self.text_field) if isinstance(record, dict) else record
            if not isinstance(text, str):
                raise InvalidInputError(
                    f"{self.path}, {place}: expected a record with a string field "
                    f"{self.text_field!r}, got {str(record)[:60]!r}"
                )
            yield text


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

    def documents(self, share: int = 0, shares: int = 1) -> Iterator[str]:
        """Yield the documents in the order of the data set.

        Args:
            share: Which share of them, from 0; of a streamed data set the files are shared, where
                their number allows it.
            shares: Number of disjoint shares that make up the whole.
        """
        try:
            import datasets
            from datasets.distributed import split_dataset_by_node
        except ImportError as error:
            raise MissingDependencyError(
                "data sets need datasets: pip install 'nastool[train]'"
            ) from error
        with self._loading():
            rows = datasets.load_dataset(
                self.path, self.config, split=self.split, streaming=self.streaming
            )
        columns = rows.column_names
        if columns is not None and self.text_field not in columns:
            raise InvalidInputError(
                f"data set {self.name!r}: expected a column {self.text_field!r}, "
                f"got {', '.join(columns)}"
            )
        if self.max_documents is not None:
            rows = rows.take(self.max_documents)
        if shares > 1:
            rows = split_dataset_by_node(rows, share, shares)
        with self._loading():
            for number, row in enumerate(rows, 1):
                text = row[self.text_field]
                if not isinstance(text, str):
                    raise InvalidInputError(
                        f"data set {self.name!r}, row {number}: expected text in column "
                        f"{self.text_field!r}, got {str(text)[:60]!r}"
                    )
                yield text

    @contextmanager
    def _loading(self) -> Iterator[None]:
        """Turn what `datasets` raises into one line: dozens of unrelated types."""
        try:
            yield
        except NastoolError:
            raise
        except Exception as error:
            raise InvalidInputError(
                f"cannot load data set {self.name!r}: {first_line(error)}"
            ) from error


Source = TextFile | HubDataset


def _kind(path: Path) -> str | None:
    """The suffix in small letters, without that of packing; None where it is none of text."""
    name = path.name.lower()
    for packed in GZIP:
        name = name.removesuffix(packed)
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def _paragraphs(file: TextIO) -> Iterator[str]:
    paragraph: list[str] = []
    length = 0
    while line := file.readline(_LONGEST_PARAGRAPH):
        is_blank = not line.strip()
        if not is_blank:
            paragraph.append(line)
            length += len(line)
        if paragraph and (is_blank or length >= _LONGEST_PARAGRAPH):
            yield _unix_lines("".join(paragraph))
            paragraph, length = [], 0
    if paragraph:
        yield _unix_lines("".join(paragraph))


def _unix_lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def well_formed(text: str) -> str:
    """The text itself, or with U+FFFD for surrogates without their other half."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def pieces(text: str) -> Iterator[str]:
    """Cut a long text before blanks, so that tokenising takes memory by the piece."""
    start = 0
    while len(text) - start > _PIECE:
        end = start + _PIECE
        blank = max(text.rfind(blank, start + 1, end) for blank in " \n")
        end = blank if blank > start else end
        yield text[start:end]
        start = end
    yield text[start:]


# --------------------------------------------------------------------------------------------------
# Which files


def text_files(patterns: Iterable[str | Path], text_field: str = "text") -> list[TextFile]:
    """Resolve files, folders and glob patterns to text files, sorted within each pattern.

    In folders (searched with those within, links followed) hidden files and folders are left out.
    Of copies, links and packed copies of a file the first one is taken. What is left out is logged
    in one line.

    Args:
        patterns: Paths of files or folders, or glob patterns.
        text_field: Name of the text field in JSON records.

    Raises:
        InvalidInputError: If a pattern matches no file of a known suffix, or a folder may not be
            entered.
    """
    found: dict[Path, None] = {}
    left_out: dict[str, list[str]] = {}
    for pattern in patterns:
        path = Path(pattern)
        if is_folder(path) or is_file(path):
            matches = [path]
        else:
            matches = [Path(match) for match in glob.glob(str(pattern), recursive=True)]
        files = [
            file
            for match in matches
            for file in (_files_within(match, left_out) if is_folder(match) else [match])
        ]
        texts = sorted(file for file in files if _kind(file) and is_file(file))
        if not texts:
            raise InvalidInputError(
                f"expected text files ({', '.join(SUFFIXES)}, each also .gz) at {str(pattern)!r}, "
                "found none"
            )
        found.update(dict.fromkeys(texts))
        for file in sorted({*files} - {*texts}):
            left_out.setdefault("of another kind", []).append(file.name)
    once = _each_once(found, left_out)
    if left_out:
        count = "1 file" if len(once) == 1 else f"{len(once):,} files"
        kinds = (f"{len(names):,} {kind} ({_named(names)})" for kind, names in left_out.items())
        _log_once(f"text is read from {count}; left out: {'; '.join(kinds)}")
    return [TextFile(path, text_field) for path in once]


def _files_within(folder: Path, left_out: dict[str, list[str]]) -> list[Path]:
    """Files of a folder and of those within that are not hidden; links are followed once."""
    files: list[Path] = []
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        raise error

    with reading(folder):
        for place, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
            hidden = [name for name in (*folders, *names) if name.startswith(".")]
            if hidden:
                left_out.setdefault("hidden", []).extend(sorted(hidden))
            real = os.path.realpath(place)
            # A link to a folder above would be followed for ever.
            folders[:] = [] if real in seen else sorted({*folders} - {*hidden})
            if real not in seen:
                files += [Path(place, name) for name in names if not name.startswith(".")]
            seen.add(real)
    return files


def _each_once(paths: Iterable[Path], left_out: dict[str, list[str]]) -> list[Path]:
    """The first path of every file and of every content."""
    real: dict[str, Path] = {}
    by_size: dict[int, list[Path]] = {}
    again: list[tuple[Path, Path]] = []
    for path in paths:
        first = real.setdefault(os.path.realpath(path), path)
        if first is path:
            by_size.setdefault(_size(path), []).append(path)
        else:
            again.append((path, first))
    for size, alike in by_size.items():
        if size == 0 or len(alike) == 1:
            continue
        contents: dict[str, Path] = {}
        for path in alike:
            first = contents.setdefault(unpacked_digest(path), path)
            if first is not path:
                again.append((path, first))
    if again:
        left_out["repeated"] = [f"{path.name} is {first.name}" for path, first in again]
    repeats = {path for path, _ in again}
    return [path for path in real.values() if path not in repeats]


def _size(path: Path) -> int:
    """Bytes of the content by 2^32, as a packed file's last ones say it."""
    with reading(path), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if path.suffix.lower() not in GZIP or size < 4:
            return size % (1 << 32)
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(4), "little")


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


@lru_cache(maxsize=1024)
def _log_once(message: str) -> None:
    """Log what every reading of the same text would say again."""
    _log.warning("%s", message)


# --------------------------------------------------------------------------------------------------
# Tokenizers


def load_tokenizer(name_or_path: str | Path) -> PreTrainedTokenizerFast:
    """Load a fast tokenizer from a folder or the hub: one like BERT's, or of a causal model.

    Args:
        name_or_path: Folder with tokenizer files, or name of a model on the hub.

    Raises:
        InvalidInputError: If there is no tokenizer, or one that neither has [CLS], [SEP] and
            [MASK] nor says where a text ends.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    # AutoTokenizer would look into config.json, and does not know a supernet's.
    complete = is_file(Path(name_or_path) / "tokenizer.json")
    loader = PreTrainedTokenizerFast if complete else AutoTokenizer
    try:
        tokenizer = loader.from_pretrained(str(name_or_path))
    # tokenizers raises bare exceptions for damaged files, transformers of any type.
    except Exception as error:
        raise InvalidInputError(
            f"no tokenizer at {str(name_or_path)!r}: {first_line(error)}"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise InvalidInputError(
            f"tokenizer {str(name_or_path)!r}: expected a fast one (tokenizer.json), got "
            f"{type(tokenizer).__name__}"
        )
    # Where there is a model's config.json alone, transformers makes a tokenizer without any word.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise InvalidInputError(f"no tokenizer at {str(name_or_path)!r}: it has no vocabulary")
    missing = [n for n in ("cls", "sep", "mask") if getattr(tokenizer, f"{n}_token_id") is None]
    if missing and tokenizer.eos_token_id is None:
        raise InvalidInputError(
            f"tokenizer {str(name_or_path)!r}: expected cls, sep and mask tokens, "
            f"got none for {', '.join(missing)}; or eos, for a causal model"
        )
    if tokenizer.pad_token_id is None:
        # No attention is paid to padding: any token serves.
        named = "[PAD]" in tokenizer.get_vocab()
        tokenizer.pad_token = "[PAD]" if named else tokenizer.sep_token or tokenizer.eos_token
    return tokenizer


class Marks(NamedTuple):
    """What stands around and between texts in a block: ids of tokens, one at most each.

    Args:
        begin: At the beginning of every block.
        between: Between two texts.
        end: At the end of every block.
    """

    begin: tuple[int, ...]
    between: int
    end: tuple[int, ...]


def marks_of(tokenizer: PreTrainedTokenizerFast) -> Marks:
    """What a tokenizer's models expect around texts.

    Those that learn from masked text read [CLS] text [SEP]. Causal models read a text on and on,
    after the token for its beginning where their tokenizer puts one there.

    Args:
        tokenizer: From `load_tokenizer`.
    """
    if tokenizer.mask_token_id is not None and tokenizer.cls_token_id is not None:
        sep = int(tokenizer.sep_token_id)
        return Marks((int(tokenizer.cls_token_id),), sep, (sep,))
    first = tokenizer("a")["input_ids"][:1]
    begin = () if tokenizer.bos_token_id is None else (int(tokenizer.bos_token_id),)
    return Marks(begin if tuple(first) == begin else (), int(tokenizer.eos_token_id), ())


def vocabulary_size(tokenizer: PreTrainedTokenizerFast) -> int:
    """Rows that a table of embeddings needs: ids may have gaps, or lie beyond their number."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def vocabulary_gaps(tokenizer: PreTrainedTokenizerFast) -> list[tuple[int, int]]:
    """Ids below the vocabulary's size that mean nothing: the first of each gap, and the next."""
    ids = sorted({-1, *tokenizer.get_vocab().values()})
    return [(i + 1, j) for i, j in pairwise(ids) if j > i + 1]


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a tokenizer's files, tokenizer.json last: where that is, the others are.

    Args:
        tokenizer: The tokenizer.
        folder: Where to; made if it is missing.

    Raises:
        NastoolError: If they cannot be written, e.g. on a full disk.
    """
    partial = folder / ".tokenizer.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        tokenizer.save_pretrained(str(partial))
        for path in sorted(partial.iterdir(), key=lambda path: path.name == "tokenizer.json"):
            os.replace(path, folder / path.name)
        partial.rmdir()
    # tokenizers reports a full disk by a bare Exception.
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise NastoolError(f"cannot write the tokenizer to {folder}: {error}") from error


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
    texts = (piece for document in documents for piece in pieces(document))
    tokenizer.train_from_iterator((_LONG_WORD.sub(r"\g<0> ", text) for text in texts), trainer)
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
