"""Files as people's tools write them, and files that are replaced whole.

Reading turns everything that a file can do to its reader into one line that names the file and the
place. Writing goes beside the target and is renamed, so that a full disk or a kill leaves what was
there. A folder that one process at a time may write to has an owner.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import json
import os
import secrets
import shutil
import socket
import stat
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from nastool.errors import InvalidInputError, NastoolError, WriteError

GZIP = (".gz", ".gzip")
"""Suffixes, in small letters, of files that are unpacked when read."""

MOST_UNPACKED = 8 << 30
"""Bytes that a compressed file may unpack to where it is read whole; more is taken for a bomb."""

_LONGEST_FIELD = 1 << 30
"""Characters that a cell of a table may have."""

_LONGEST_NAME = 255
"""Bytes of a file's name that common file systems take."""


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
            f"{what}: must be UTF-8, but byte {error.start + 1} is {error.object[error.start]:#04x}"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidInputError(f"{what}: damaged or no gzip file: {error}") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidInputError(f"cannot read {what}: {reason}") from error
    except MemoryError as error:
        raise InvalidInputError(f"{what}: too large for the memory of this machine") from error
    except ValueError as error:
        # E.g. a null byte in the path.
        raise InvalidInputError(f"cannot read {what}: {error}") from error


@contextlib.contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text in UTF-8 with or without a byte-order mark, compressed by gzip or not.

    Line ends are left as they are (``newline=""``), as `csv` wants it.

    Raises:
        InvalidInputError: As `reading`; also where it is found while reading within the block.
    """
    with reading(path):
        if path.suffix.lower() in GZIP:
            with (
                gzip.open(path, "rb") as packed,
                io.TextIOWrapper(packed, encoding="utf-8-sig", newline="") as file,
            ):
                yield file
        else:
            with path.open(encoding="utf-8-sig", newline="") as file:
                yield file


def read_text(path: Path, most: int = MOST_UNPACKED) -> str:
    """Read a text whole, as `open_text` opens it.

    Args:
        path: The file.
        most: Characters that it may have.

    Raises:
        InvalidInputError: As `reading`, or it is longer.
    """
    with open_text(path) as file:
        text = file.read(most + 1)
    if len(text) > most:
        raise InvalidInputError(f"{path}: must have at most {most:,} characters, it has more")
    return text


def parse_json(text: str | bytes, where: str | Path) -> Any:
    """Read JSON.

    Args:
        text: The JSON.
        where: Names it; begins the message.

    Raises:
        InvalidInputError: It is no JSON, or nested deeper than Python reads; names the line.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInputError(
            f"{where}: no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{where}: must be UTF-8, byte {error.start + 1} is not") from error
    except RecursionError as error:
        raise InvalidInputError(f"{where}: nested too deeply to be read") from error
    except ValueError as error:
        # A number of more digits than Python converts.
        raise InvalidInputError(f"{where}: no JSON: {error}") from error


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
        reader = csv.reader(file, delimiter=delimiter, quoting=quoting)
        header: list[str] | None = None
        before = 0
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                raise InvalidInputError(f"{path}, line {reader.line_num}: {error}") from error
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
            yield Row(line, dict(zip(header, map(str.strip, cells), strict=True)))
    if header is None:
        raise InvalidInputError(f"{path}: expected a header and rows, the file is empty")


def _header(names: list[str], path: Path) -> list[str]:
    if "" in names:
        raise InvalidInputError(f"{path}: column {names.index('') + 1} of the header has no name")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInputError(f"{path}: column {twice[0]!r} stands twice in the header")
    return names


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace a file as a whole: written beside it, synced, renamed.

    Args:
        path: The file; where it is a link, what that leads to. A device or a pipe is written to.
        content: Text, stored in UTF-8, or bytes.

    Raises:
        WriteError: It cannot be written; the earlier file is as it was.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with whole_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write to, which takes the place of the path at the end, or vanishes.

    Args:
        path: As for `write_whole`.

    Raises:
        WriteError: It cannot be written; the earlier file is as it was.
    """
    with writing(path):
        target = Path(os.path.realpath(path))
        mode = _mode(target)
        if mode is not None and not stat.S_ISREG(mode):
            with target.open("wb") as file:
                yield file
            return
        aside = beside(target)
        try:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            with os.fdopen(descriptor, "wb") as file:
                if mode is not None:
                    aside.chmod(stat.S_IMODE(mode))
                yield file
                file.flush()
                os.fsync(file.fileno())
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
        sync_folder(target.parent)


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a folder to write to, which becomes the target at the end, or vanishes on failure.

    A target that exists and is empty is filled in place where it cannot be replaced, e.g. because
    it is a mounted volume.

    Args:
        target: Folder that does not exist, or is empty; where it is a link, what that leads to.

    Raises:
        InvalidInputError: It holds something, or is a file.
        WriteError: It cannot be written.
    """
    with writing(target):
        target = Path(os.path.realpath(target))
        check_free(target)
        parent = target if is_folder(target) and _is_fixed(target) else target.parent
        parent.mkdir(parents=True, exist_ok=True)
        aside = beside(target, parent)
        try:
            aside.mkdir()
            yield aside
            _sync_files(aside)
            if parent == target:
                for item in sorted(aside.iterdir()):
                    item.replace(target / item.name)
                aside.rmdir()
            else:
                if target.exists():
                    target.rmdir()
                aside.replace(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        sync_folder(parent)


def check_free(target: Path) -> None:
    """Check that a folder can be written to.

    Raises:
        InvalidInputError: It holds something, or is a file.
    """
    with reading(target):
        if target.is_dir() and any(target.iterdir()):
            raise InvalidInputError(
                f"expected an empty folder or a new one, but {target} holds files"
            )
        if target.exists() and not target.is_dir():
            raise InvalidInputError(f"expected a folder, got the file {target}")


@contextlib.contextmanager
def writing(what: str | Path) -> Iterator[None]:
    """Within this block, what writing raises is one line that begins with what is written.

    Raises:
        WriteError: A full disk, missing rights, a name too long.
    """
    try:
        yield
    except NastoolError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise WriteError(f"cannot write {what}: {reason.splitlines()[0]}") from error


def beside(target: Path, folder: Path | None = None) -> Path:
    """Return a name of its own for what becomes the target, in its folder, not to be listed."""
    mark = f".partial-{os.getpid()}-{secrets.token_hex(4)}"
    name = target.name.encode()[: _LONGEST_NAME - len(mark) - 1].decode(errors="ignore")
    return (folder or target.parent) / f".{name}{mark}"


def sync_folder(folder: Path) -> None:
    """Make renames in a folder last, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def digest(path: Path) -> str:
    """Return a hash of a file's content.

    Raises:
        InvalidInputError: As `reading`.
    """
    found = hashlib.blake2b(digest_size=16)
    with reading(path), path.open("rb") as file:
        while chunk := file.read(1 << 22):
            found.update(chunk)
    return found.hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left beside their targets; only the folder's owner may.

    Args:
        folder: Where `write_whole` and `whole_folder` wrote to.
    """
    for path in folder.glob(".*.partial-*"):
        with contextlib.suppress(OSError):
            if is_folder(path):
                shutil.rmtree(path)
            else:
                path.unlink()


def _sync_files(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except OSError:
        return None


def _is_fixed(folder: Path) -> bool:
    """Whether a folder cannot be renamed over: a mount, the current one, or in a locked one."""
    return (
        os.path.ismount(folder)
        or folder == Path(os.path.realpath(Path.cwd()))
        or not os.access(folder.parent, os.W_OK | os.X_OK)
    )


@contextlib.contextmanager
def owned(
    target: Path,
    what: str,
    *,
    wait: float = 0.0,
    say: Callable[[str], None] | None = None,
    is_file: bool = False,
) -> Iterator[None]:
    """Within this block, this process alone may write to a folder, or to a file.

    The lock is the system's, so that it ends with its process; who holds it lies beside it. The
    same thread may own a target within a block that owns it.

    Args:
        target: A folder, made where it is missing and removed again where the block fails before it
            has written anything; ``.lock`` and ``.lock.owner`` are written there. Of a file,
            ``.NAME.lock`` and ``.NAME.lock.owner`` beside it.
        what: E.g. ``run``; for the message.
        wait: Seconds to wait for another owner to end.
        say: Told in one line that another owner is waited for, or died without a word.
        is_file: Whether the target is a file.

    Raises:
        InvalidInputError: Another process owns it; the message names host and process.
        WriteError: The lock cannot be written.
    """
    from filelock import FileLock, Timeout

    folder, name = (target.parent, f".{target.name}.lock") if is_file else (target, ".lock")
    with writing(folder):
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        note = folder / f"{name}.owner"
        lock = FileLock(folder / name, mode=0o666, is_singleton=True)
        is_inner = lock.is_locked
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if wait > 0 and say:
                say(f"Waiting for {_owner(note)}, which owns {what} {target}")
            try:
                lock.acquire(timeout=wait)
            except Timeout as error:
                raise InvalidInputError(
                    f"{what} {target} is in use by {_owner(note)}; one process at a time may "
                    "write to it"
                ) from error
    if is_inner:
        try:
            yield
        finally:
            lock.release()
        return
    failed = True
    try:
        if note.is_file():
            if say:
                say(f"Taking over {what} {target} from {_owner(note)}, which ended without a word")
            if not is_file:
                remove_leftovers(folder)
        facts = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        write_whole(note, json.dumps(facts) + "\n")
        yield
        failed = False
    finally:
        with contextlib.suppress(OSError):
            note.unlink(missing_ok=True)
            if failed and made and os.listdir(folder) == [name]:
                (folder / name).unlink()
                for path in made:
                    path.rmdir()
        lock.release()


def _owner(note: Path) -> str:
    try:
        facts = read_json_object(note)
        return f"process {facts['process']} on {facts['host']} (since {facts['since']})"
    except (InvalidInputError, KeyError):
        return "another process"
