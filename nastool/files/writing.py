"""Files and folders that are replaced whole, and folders that have an owner.

Writing goes beside the target and is renamed, so that a full disk or a kill leaves what was there.
A folder that one process at a time may write to has an owner.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from nastool.errors import InvalidInputError, NastoolError, WriteError, first_line
from nastool.files.reading import is_file, is_folder, read_json_object, reading

_LONGEST_STEM = 200
"""Bytes of a file's name that names beside it repeat; common file systems take 255 in all."""

_LONGEST_PART = 100
"""Bytes of what people call something that stay in the name of its file."""

_PARTIAL, _LOCK = ".partial-", ".lock"
"""What follows in names beside a target."""


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
        # By the name given: what a pipe's link in /dev/fd says is no path.
        mode = _mode(path)
        if mode is not None and not stat.S_ISREG(mode):
            with path.open("wb") as file:
                yield file
            return
        target = Path(os.path.realpath(path))
        _remove_orphans(target.parent)
        aside = _beside(target)
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
        _sync_folder(target.parent)


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
        mode = _mode(target)
        parent = target if mode is not None and _is_fixed(target) else target.parent
        parent.mkdir(parents=True, exist_ok=True)
        lock = parent / f"{_hidden(target)}{_LOCK}"
        with _held(lock, f"folder {target}", lasting=False):
            # Another process may have filled it just now, or died on the way.
            check_free(target)
            for left in _left_aside(target, parent):
                shutil.rmtree(left, ignore_errors=True)
            aside = _beside(target, parent)
            try:
                aside.mkdir()
                yield aside
                _sync_files(aside)
                if parent == target:
                    check_free(target)
                    for item in sorted(aside.iterdir()):
                        item.replace(target / item.name)
                    aside.rmdir()
                else:
                    if mode is not None:
                        aside.chmod(stat.S_IMODE(mode))
                        target.rmdir()
                    aside.replace(target)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
            _sync_folder(parent)


@contextlib.contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Give a folder to write to, which takes another one's place at the end, or vanishes.

    A reader sees the old folder or the new, never a mixture.

    Args:
        target: Folder that exists, whatever it holds.

    Raises:
        WriteError: It cannot be written; the folder is as it was.
    """
    with writing(target):
        new, old = _beside(target), _beside(target)
        try:
            new.mkdir()
            yield new
            _sync_files(new)
            target.rename(old)
            try:
                new.rename(target)
            except BaseException:  # a signal, too
                if not target.exists():
                    old.rename(target)
                raise
        finally:
            for left in (new, old):
                shutil.rmtree(left, ignore_errors=True)
        _sync_folder(target.parent)


@contextlib.contextmanager
def filled(folder: Path, last: str) -> Iterator[Path]:
    """Give a folder to write to, all of which goes into another one at the end, or vanishes.

    What has the same names there gives way, and the rest stays.

    Args:
        folder: Made where it is missing.
        last: Name of a file that is removed first and goes there last: where it is, all is.
    """
    aside = _beside(folder / last)
    try:
        aside.mkdir(parents=True)
        yield aside
        (folder / last).unlink(missing_ok=True)
        for path in sorted(aside.iterdir(), key=lambda path: path.name == last):
            place = folder / path.name
            if is_folder(place):
                shutil.rmtree(place)
            path.replace(place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _left_aside(target: Path, parent: Path) -> list[Path]:
    start = f"{_hidden(target)}{_PARTIAL}"
    return [path for path in parent.iterdir() if path.name.startswith(start)]


def check_free(target: Path) -> None:
    """Check that a folder can be written to.

    Raises:
        InvalidInputError: It holds something, or is a file.
    """
    with reading(target):
        if target.is_dir() and any(not _is_nothing(path, target) for path in target.iterdir()):
            raise InvalidInputError(
                f"expected an empty folder or a new one, but {target} holds files"
            )
        if target.exists() and not target.is_dir():
            raise InvalidInputError(f"expected a folder, got the file {target}")


def _is_nothing(path: Path, target: Path) -> bool:
    """Whether it is what a file system or `whole_folder` puts into a folder that is empty."""
    start = _hidden(Path(os.path.realpath(target)))
    return path.name == "lost+found" or path.name.startswith(
        (f"{start}{_PARTIAL}", f"{start}{_LOCK}")
    )


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
        reason = getattr(error, "strerror", None) or first_line(error)
        raise WriteError(f"cannot write {what}: {reason}") from error


def file_part(name: str) -> str:
    """What people call something, as a part of a file's name: another one for every name.

    Letters, digits, blanks and ``-_.+=`` stay; what has others, is long, or begins with a dot is
    told apart by a digest.
    """
    plain = re.sub(r"[^\w .+=-]", "-", name)
    plain = plain.encode()[:_LONGEST_PART].decode(errors="ignore").lstrip(".").strip()
    if plain == name:
        return name
    return f"{plain}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


def _beside(target: Path, folder: Path | None = None) -> Path:
    """Return a name of its own for what becomes the target, in its folder, not to be listed."""
    mark = f"{_own_mark()}{os.getpid()}-{secrets.token_hex(4)}"
    return (folder or target.parent) / f"{_hidden(target)}{mark}"


@functools.cache
def _own_mark() -> str:
    """What marks the partial files of this machine; processes of others cannot be looked up."""
    return f"{_PARTIAL}{zlib.crc32(socket.gethostname().encode()):08x}-"


def _remove_orphans(folder: Path) -> None:
    """Remove the partial files of this machine's processes that have ended, e.g. by SIGKILL.

    Folders are left: one may be the only copy of what it was about to replace.
    """
    if os.name != "posix":
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            _, mark, rest = entry.name.partition(_own_mark())
            process = rest.partition("-")[0]
            if mark and process.isdecimal() and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    if not _is_running(int(process)):
                        Path(entry.path).unlink()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        return True
    return True


def _hidden(target: Path) -> str:
    """What names beside a target begin with, short enough for what follows."""
    return "." + target.name.encode()[:_LONGEST_STEM].decode(errors="ignore")


def _sync_folder(folder: Path) -> None:
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
    # The second form is that of earlier releases.
    for path in (*folder.glob(".*.partial-*"), *folder.glob(".partial-*")):
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
    lasting: bool = True,
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
        lasting: Whether ``.lock`` stays in the folder; the thread may own it again only then.

    Raises:
        InvalidInputError: Another process owns it; the message names host and process.
        WriteError: The lock cannot be written.
    """
    folder = target.parent if is_file else target
    lock = folder / (f"{_hidden(target)}{_LOCK}" if is_file else _LOCK)
    with writing(folder):
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with _held(lock, f"{what} {target}", wait=wait, say=say, lasting=lasting) as is_taken_over:
            if is_taken_over and not is_file:
                remove_leftovers(folder)
            yield
    except BaseException:
        with contextlib.suppress(OSError):
            if made and set(os.listdir(folder)) <= {lock.name}:
                lock.unlink(missing_ok=True)
                for path in made:
                    path.rmdir()
        raise


@contextlib.contextmanager
def _held(
    lock: Path,
    what: str,
    *,
    wait: float = 0.0,
    say: Callable[[str], None] | None = None,
    lasting: bool = True,
) -> Iterator[bool]:
    """Within this block, this process alone holds a lock; a lasting one its thread may hold again.

    Args:
        lock: File of the lock; who holds it lies beside it, with ``.owner`` behind its name.
        what: What it is the lock of.
        wait: As for `owned`.
        say: As for `owned`.
        lasting: Whether the file stays.

    Yields:
        Whether its holder before ended without a word.
    """
    from filelock import FileLock, Timeout

    note = lock.with_name(f"{lock.name}.owner")
    held = FileLock(lock, mode=0o666, is_singleton=lasting)
    is_inner = held.is_locked
    with writing(lock.parent):
        try:
            held.acquire(timeout=0)
        except Timeout:
            if wait > 0 and say:
                say(f"Waiting for {_owner(note)}, which owns {what}")
            try:
                held.acquire(timeout=wait)
            except Timeout as error:
                raise InvalidInputError(
                    f"{what} is in use by {_owner(note)}; one process at a time may write to it"
                ) from error
    if is_inner:
        try:
            yield False
        finally:
            held.release()
        return
    try:
        is_taken_over = is_file(note)
        if say and is_taken_over:
            say(f"Taking over {what} from {_owner(note)}, which ended without a word")
        facts = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        write_whole(note, json.dumps(facts) + "\n")
        yield is_taken_over
    finally:
        for path in (note,) if lasting else (note, lock):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        held.release()


def _owner(note: Path) -> str:
    try:
        facts = read_json_object(note)
        return f"process {facts['process']} on {facts['host']} (since {facts['since']})"
    except (InvalidInputError, KeyError):
        return "another process"
