"""The standard streams: missing, full, closed while written to, or of few characters."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

BROKEN_PIPE = 141
"""Exit code where who read the output has gone, as in ``nastool list | head``; shells' own."""

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
    if hasattr(stdout, "reconfigure"):
        with contextlib.suppress(OSError, ValueError):
            stdout.reconfigure(errors=_ERRORS)
    try:
        yield
    finally:
        if hasattr(stdout, "reconfigure"):
            with contextlib.suppress(OSError, ValueError):
                stdout.reconfigure(errors=before)


def output_failure() -> OSError | None:
    """Why the standard output cannot be written to; None where it can."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        return error
    except ValueError:
        return OSError(errno.EBADF, os.strerror(errno.EBADF))
    return None


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
