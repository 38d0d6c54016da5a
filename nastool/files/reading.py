"""Files as people's tools write them.

Reading turns everything that a file can do to its reader into one line that names the file and the
place.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import hashlib
import io
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from nastool.errors import InvalidInputError, NastoolError, first_line

GZIP = (".gz", ".gzip")
"""Suffixes, in small letters, of files that are unpacked when read."""

MOST_UNPACKED = 8 << 30
"""Bytes that a compressed file may unpack to where it is read whole; more is taken for a bomb."""

LONGEST_LINE = 1 << 28
"""Characters that a line may have where lines are read one by one."""

LONGEST_JSON = 1 << 30
"""Characters that JSON may have where it is read whole."""

SQLITE = b"SQLite format 3\0"
"""What a database of SQLite begins with."""

_LONGEST_FIELD = 1 << 30
"""Characters that a cell of a table may have."""


def is_file(path: Path) -> bool:
    """Whether there is a file that can be seen; a name that no system takes is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether there is a folder that can be seen; a name that no system takes is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_database(path: Path) -> bool:
    """Whether a file can be seen to be a database of SQLite, which only its programs may change."""
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def reading(what: str | Path) -> Iterator[None]:
    """Within this block, what reading a file raises is one line that begins with its name.

    Args:
        what: The file, or how to call it.

    Raises:
        InvalidInputError: It is missing, may not be read, is no UTF-8, or is damaged.
    """
    try:
        yield
    except NastoolError:
        raise
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"{what}: must be {error.encoding.upper()}, but byte {error.start + 1} is "
            f"{error.object[error.start]:#04x}"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidInputError(f"cannot read {what}: damaged or no gzip file: {error}") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidInputError(f"cannot read {what}: {reason}") from error
    except MemoryError as error:
        raise InvalidInputError(f"{what}: too large for the memory of this machine") from error
    except ValueError as error:
        # E.g. a null byte in the path.
        raise InvalidInputError(f"cannot read {what}: {first_line(error)}") from error


@contextlib.contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text in UTF-8 with or without a byte-order mark, compressed by gzip or not.

    What begins with the mark of UTF-16 or UTF-32, as some Windows programs write, is read as such.
    Line ends are left as they are (``newline=""``), as `csv` wants it.

    Raises:
        InvalidInputError: As `reading`; also where it is found while reading within the block. What
            is no UTF-8 is named by its line.
    """
    with reading(path):
        try:
            with (
                _open_bytes(path) as content,
                io.TextIOWrapper(content, encoding=_encoding(content), newline="") as file,
            ):
                yield file
        except UnicodeDecodeError as error:
            if line := _first_undecodable_line(path):
                raise InvalidInputError(
                    f"{path}, line {line}: must be UTF-8, but holds the byte "
                    f"{error.object[error.start]:#04x}"
                ) from error
            raise


def _open_bytes(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path, "rb") if path.suffix.lower() in GZIP else path.open("rb")


def _encoding(content: gzip.GzipFile | io.BufferedReader) -> str:
    head = bytes(content.peek(4)[:4])
    # That of UTF-32 begins with that of UTF-16.
    if head in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return "utf-32"
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    return "utf-8-sig"


def _first_undecodable_line(path: Path) -> int | None:
    """Line of the first byte that is no UTF-8; None in a text of another encoding."""
    with _open_bytes(path) as content:
        if _encoding(content) != "utf-8-sig":
            return None
        decoder, number, chunk = codecs.getincrementaldecoder("utf-8")(), 1, b"-"
        while chunk:
            chunk = content.read(1 << 20)
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                return number + error.object[: error.start].count(b"\n")
            number += chunk.count(b"\n")
    return None


def unpacked_digest(path: Path) -> str:
    """Hex digest of a file's content, which for a packed one is what it unpacks to.

    Raises:
        InvalidInputError: As `reading`.
    """
    digest = hashlib.blake2b(digest_size=16)
    with reading(path), _open_bytes(path) as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


def lines(file: TextIO, name: str | Path) -> Iterator[str]:
    """Yield the lines of an open text with their ends; U+2028 and its like end none.

    Raises:
        InvalidInputError: A line is longer than `LONGEST_LINE`.
    """
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise InvalidInputError(
                f"{name}, line {number}: must have at most {LONGEST_LINE:,} characters, it has more"
            )
        yield line


def read_text(path: Path, most: int = MOST_UNPACKED) -> str:
    """Read a text whole, as `open_text` opens it.

    Args:
        path: The file.
        most: Characters that it may have.

    Raises:
        InvalidInputError: As `reading`, or it is longer.
    """
    with open_text(path) as file:
        text = _read(file, most + 1)
    if len(text) > most:
        raise InvalidInputError(f"{path}: must have at most {most:,} characters, it has more")
    return text


def _read(file: TextIO, most: int) -> str:
    """Read what is left, or so many characters; piecewise, as memory for all is taken at once."""
    pieces: list[str] = []
    while most > 0 and (piece := file.read(min(most, 1 << 20))):
        pieces.append(piece)
        most -= len(piece)
    return "".join(pieces)


def parse_json(text: str | bytes, where: str | Path, *, once: bool = False) -> Any:
    """Read JSON.

    Args:
        text: The JSON.
        where: Names it; begins the message.
        once: Whether a key that an object has twice is refused, instead of the last one counting.

    Raises:
        InvalidInputError: It is no JSON, or nested deeper than Python reads; names the line.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_keys_once if once else None)
    except json.JSONDecodeError as error:
        raise InvalidInputError(
            f"{where}: no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{where}: must be UTF-8, byte {error.start + 1} is not") from error
    except RecursionError as error:
        raise InvalidInputError(f"{where}: nested too deeply to be read") from error
    except ValueError as error:
        # A number of more digits than Python converts, or a key that stands twice.
        raise InvalidInputError(f"{where}: no JSON: {error}") from error


def _keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, each of whose keys stands once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise ValueError(f"key {twice!r:.80} stands twice in one object")
    return found


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Read a file with a JSON value a line.

    Returns:
        ``line 7`` and the value, for each line that is not empty.

    Raises:
        InvalidInputError: As `open_text`, or a line is no JSON.
    """
    with open_text(path) as file:
        yield from _numbered_values(lines(file, path), path)


def json_records(path: Path) -> Iterator[tuple[str, Any]]:
    """Read a JSON file: a list of records, or one record a line, as many tools have it.

    The list may also be the member ``data`` of one object; another object is one record.

    Returns:
        ``record 7`` or ``line 7``, and the value.

    Raises:
        InvalidInputError: As `open_text`, or it is no JSON, or something else.
    """
    with open_text(path) as file:
        rows = lines(file, path)
        head = _until_next(rows)
        # A value of its own, and more follow.
        if head and _is_json(head[-1]):
            head += (more := _until_next(rows))
            if more and more[-1].strip():
                yield from _numbered_values(itertools.chain(head, rows), path)
                return
        text = "".join(head) + _read(file, LONGEST_JSON)
    if len(text) > LONGEST_JSON:
        raise InvalidInputError(
            f"{path}: must have at most {LONGEST_JSON:,} characters, it has more; with one record "
            "a line (.jsonl) it may have any number"
        )
    content = parse_json(text, path)
    records = content.get("data", [content]) if isinstance(content, dict) else content
    if not isinstance(records, list):
        raise InvalidInputError(
            f"{path}: expected a list of JSON records, got {str(records)[:40]!r}"
        )
    for number, value in enumerate(records, 1):
        yield f"record {number}", value


def _until_next(rows: Iterator[str]) -> list[str]:
    """The lines up to the next one that is not empty, that one included."""
    found: list[str] = []
    for line in rows:
        found.append(line)
        if line.strip():
            break
    return found


def _numbered_values(rows: Iterable[str], path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(rows, 1):
        if line.strip():
            place = f"line {number}"
            try:
                value = parse_json(line.lstrip("\ufeff"), place)
            except InvalidInputError as error:
                raise InvalidInputError(
                    f"{path}, {place}: expected a JSON record, got {line[:40]!r}"
                ) from error
            yield place, value


def _is_json(text: str) -> bool:
    try:
        parse_json(text, "")
    except InvalidInputError:
        return False
    return True


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InvalidInputError: As `read_text` and `parse_json`.
    """
    return parse_json(read_text(path), path)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        InvalidInputError: As `read_json`, or it holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise InvalidInputError(f"{path}: expected an object, got {type(content).__name__}")
    return content


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Args:
        line: Where it begins in the file, from 1.
        cells: Text by column, without the blanks around it.
    """

    line: int
    cells: Mapping[str, str]


def read_table(path: Path, delimiter: str = ",", *, quotes: bool = True) -> Iterator[Row]:
    """Read the rows of a table with a header, as spreadsheets and libraries write them.

    A byte-order mark, blanks around names and cells, empty lines and fields of any length are read.
    A column without a name is left out where it is the first, as pandas and R name rows, or empty.

    Args:
        path: The file, compressed or not.
        delimiter: Between cells.
        quotes: Whether cells may stand in quotes.

    Raises:
        InvalidInputError: No header, a name missing or twice, or a row of another number of cells;
            names the line.
    """
    # The limit is the process's and 131,072 characters: raised here, lowered nowhere.
    csv.field_size_limit(_LONGEST_FIELD)
    quoting: Any = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    with open_text(path) as file:
        # Strict: a quotation mark that is never closed would take the rows below into its cell.
        reader = csv.reader(
            file, delimiter=delimiter, quoting=quoting, skipinitialspace=quotes, strict=True
        )
        header: list[str] | None = None
        before = 0
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                raise InvalidInputError(f"{path}, line {before + 1}: {error}") from error
            line, before = before + 1, reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = _header([cell.strip() for cell in cells], path)
                continue
            if len(cells) != len(header):
                raise InvalidInputError(
                    f"{path}, line {line}: expected {len(header)} cells, got {len(cells)}"
                )
            yield Row(line, _named_cells(header, [cell.strip() for cell in cells], path, line))
    if header is None:
        raise InvalidInputError(
            f"{path}: expected a header and at least one row, the file is empty"
        )


def _header(names: list[str], path: Path) -> list[str]:
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise InvalidInputError(f"{path}: column {twice[0]!r} stands twice in the header")
    return names


def _named_cells(header: list[str], cells: list[str], path: Path, line: int) -> dict[str, str]:
    for column, (name, cell) in enumerate(zip(header, cells, strict=True), 1):
        if cell and not name and column > 1:
            raise InvalidInputError(
                f"{path}: column {column} of the header has no name, but line {line} has {cell!r}"
            )
    return {name: cell for name, cell in zip(header, cells, strict=True) if name}
