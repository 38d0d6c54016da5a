"""Documents of text files and data sets, and the tokenizers that read them."""

from __future__ import annotations

import glob
import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from nastool.errors import InvalidInputError, NastoolError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SUFFIXES = (".txt", ".jsonl", ".jsonl.gz", ".json")
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class TextFile:
    """Documents of one file: JSON records with a text field, or paragraphs of plain text.

    Args:
        path: A file that ends with .txt, .jsonl, .jsonl.gz or .json.
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
        try:
            with open(self.path, "rb") as file:
                while chunk := file.read(1 << 22):
                    digest.update(chunk)
        except OSError as error:
            raise InvalidInputError(f"cannot read text from {self.path}: {error}") from error
        return digest.hexdigest()

    def documents(self, share: int = 0, shares: int = 1) -> Iterator[str]:
        """Yield the documents in the order of the file.

        Args:
            share: Which share of them, from 0.
            shares: Number of disjoint shares that make up the whole.
        """
        yield from islice(self._documents(), share, None, shares)

    def _documents(self) -> Iterator[str]:
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
        if not isinstance(records, list):
            raise InvalidInputError(
                f"{self.path}: expected a list of JSON records, got {str(records)[:40]!r}"
            )
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

    def documents(self, share: int = 0, shares: int = 1) -> Iterator[str]:
        """Yield the documents in the order of the data set.

        Args:
            share: Which share of them, from 0; of a streamed data set the files are shared, where
                their number allows it.
            shares: Number of disjoint shares that make up the whole.
        """
        import datasets
        from datasets.distributed import split_dataset_by_node

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
        if self.max_documents is not None:
            rows = rows.take(self.max_documents)
        if shares > 1:
            rows = split_dataset_by_node(rows, share, shares)
        for row in rows:
            text = row[self.text_field]
            if not isinstance(text, str):
                raise InvalidInputError(
                    f"data set {self.name!r}: expected text in column {self.text_field!r}, "
                    f"got {str(text)[:60]!r}"
                )
            yield text


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
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    # AutoTokenizer would look into config.json, and does not know a supernet's.
    complete = (Path(name_or_path) / "tokenizer.json").is_file()
    loader = PreTrainedTokenizerFast if complete else AutoTokenizer
    try:
        tokenizer = loader.from_pretrained(str(name_or_path))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"no tokenizer at {str(name_or_path)!r}: {reason}") from error
    # Where there is a model's config.json alone, transformers makes a tokenizer without any word.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise InvalidInputError(f"no tokenizer at {str(name_or_path)!r}: it has no vocabulary")
    missing = [n for n in ("cls", "sep", "mask") if getattr(tokenizer, f"{n}_token_id") is None]
    if missing:
        raise InvalidInputError(
            f"tokenizer {str(name_or_path)!r}: expected cls, sep and mask tokens, "
            f"got none for {', '.join(missing)}"
        )
    return cast("PreTrainedTokenizerFast", tokenizer)


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
