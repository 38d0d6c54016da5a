"""Documents of text files and data sets."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, TextIO

from nastool.errors import (
    InvalidInputError,
    MissingDependencyError,
    one_line,
)
from nastool.files.reading import (
    GZIP,
    is_file,
    is_folder,
    json_lines,
    json_records,
    open_text,
    reading,
    unpacked_digest,
)

_log = logging.getLogger(__name__)

SUFFIXES = (".txt", ".jsonl", ".json")
"""Files of text, in small or capital letters; each also packed by gzip."""

_LONGEST_PARAGRAPH = 1 << 26
"""Characters after which a paragraph of plain text ends at the next line, or within this one."""

_PIECE = 1 << 18
"""Characters of a text that are tokenised at once."""

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

        Raises:
            InvalidInputError: It cannot be read, or has no such column.
            MissingDependencyError: datasets is not installed.
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

    def _loading(self) -> AbstractContextManager[None]:
        """Turn what `datasets` raises into one line: dozens of unrelated types."""
        return one_line(f"cannot load data set {self.name!r}", InvalidInputError)


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
