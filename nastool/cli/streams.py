"""The standard streams: missing, full, closed while written to, or of few characters."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

BROKEN_PIPE = 141
"""Exit code where who read the output has gone, as in ``nastool list | head``; shells' own."""

OUTPUT = "the standard output"
"""File name of errors in writing to it."""

_ERRORS = "nastool-printable"


def _printable(error: UnicodeError) -> tuple[bytes, int]:
    """Names that are no UTF-8 as their bytes, bars as blanks, what else has no character ``?``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = b""
    for character in map(ord, error.object[error.start : error.end]):
        if 0xDC80 <= character <= 0xDCFF:
            found += bytes([character - 0xDC00])
        else:
            found += b" " if 0x2580 <= character <= 0x259F else b"?"
    return found, error.end


codecs.register_error(_ERRORS, _printable)


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Within this block all three exist, and the standard output takes every character.

    Where one was closed before the program began, writing to it fails: files that are opened later
    must not come to stand in its place.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                # The lowest free number: this one.
                os.open(os.devnull, os.O_RDONLY if number < 2 else os.O_WRONLY)
                mode = "r" if number == 0 else "w"
                setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    stdout: Any = sys.stdout
    before = getattr(stdout, "errors", None)
    _reconfigure(stdout, _ERRORS)
    # What is written by others through the old one is theirs.
    sys.stdout = cast("TextIO", _Output(stdout))
    try:
        yield
    finally:
        sys.stdout = stdout
        _reconfigure(stdout, before)


def _reconfigure(stream: Any, errors: str | None) -> None:
    if hasattr(stream, "reconfigure"):
        with contextlib.suppress(OSError, ValueError):
            stream.reconfigure(errors=errors)


class _Output:
    """A stream whose errors say that they are its own.

    Args:
        stream: Written to.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text."""
        with _naming_output():
            return int(self._stream.write(text))

    def flush(self) -> None:
        """Pass on what is still held back."""
        with _naming_output():
            self._stream.flush()


@contextlib.contextmanager
def _naming_output() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = OUTPUT
        raise


def give_up_output() -> None:
    """Let what is still to be written vanish: the interpreter would try, and complain, at exit."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
            continue
        with contextlib.suppress(OSError, ValueError, AttributeError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
