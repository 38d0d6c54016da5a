"""Everything nastool raises on purpose derives from one class."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType


class NastoolError(Exception):
    """Something a user can act on; the message is one line."""


class InvalidInputError(NastoolError, ValueError):
    """An input breaks a rule: the message says what must hold and what was got."""


class InfeasibleError(InvalidInputError):
    """No architecture of the space satisfies the constraints, and that is proven."""


class MissingDependencyError(NastoolError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""


class StoreError(NastoolError):
    """A store cannot be opened, read or written, or holds something else than expected."""


class WriteError(NastoolError):
    """A file cannot be written, e.g. on a full disk; what was there before is still there."""


def naming(
    what: str, verb: str = "failed", kind: type[NastoolError] = NastoolError
) -> AbstractContextManager[None]:
    """Within this block, what foreign code raises is one line that names it.

    ``sys.exit()`` counts as failing, too: a plugin does not decide when nastool ends. Ctrl-C does.

    Args:
        what: E.g. ``strategy mine``; begins the message.
        verb: What happened to it.
        kind: What is raised.

    Raises:
        NastoolError: The block raised something else; that is the cause, with its traceback.
    """
    return _Naming(what, verb, kind)


class _Naming(AbstractContextManager[None]):
    """What `naming` returns; a class, for it is entered several times in every batch."""

    def __init__(self, what: str, verb: str, kind: type[NastoolError]) -> None:
        self._what, self._verb, self._kind = what, verb, kind

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, (NastoolError, KeyboardInterrupt, GeneratorExit)):
            return
        raise self._kind(f"{self._what} {self._verb}: {in_one_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What a library's exception says, in one line; the name of its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def one_line(
    what: str,
    kind: type[NastoolError] = NastoolError,
    of: type[Exception] | tuple[type[Exception], ...] = Exception,
    rest: str = "",
    say: Callable[[Exception], str] = first_line,
) -> Iterator[None]:
    """Within this block, what a library raises is one line that says what could not be done.

    Args:
        what: E.g. ``cannot export to ONNX``; begins the message.
        kind: What is raised.
        of: What is taken for the library's; many raise types of their own.
        rest: Ends the message.
        say: What an exception says, in one line.

    Raises:
        NastoolError: The block raised something else; that is the cause, with its traceback.
    """
    try:
        yield
    except NastoolError:
        raise
    except of as error:
        raise kind(f"{what}: {say(error)}{rest}") from error


_NO_PLACES = (os.path.dirname(__file__) + os.sep, os.path.dirname(os.__file__) + os.sep, "<")
"""How files begin whose lines tell nobody anything: ours, Python's, and what is no file."""

_LIBRARIES = ("site-packages", "dist-packages", "ipykernel_")
"""Parts of paths to installed packages, and to cells of notebooks, whose files have no names."""


def in_one_line(error: BaseException) -> str:
    """Type and text of an exception that foreign code raised, without line breaks.

    With the innermost line of somebody's own file, e.g. ``KeyError: 'x' (mine.py:12)``: who writes
    a plugin sees no traceback.
    """
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # a text that cannot be made must not hide its type
        text = ""
    name = "sys.exit()" if isinstance(error, SystemExit) else type(error).__name__
    line = " ".join(f"{name}: {text}".split()).removesuffix(":")
    place = _place(error)
    return f"{line} ({place})" if place else line


def _place(error: BaseException) -> str:
    """File and line where an exception left code that is neither nastool's nor a library's."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(_NO_PLACES) and not any(part in file for part in _LIBRARIES):
            place = f"{os.path.basename(file)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def nearest(name: str, known: Iterable[str], most: int | None = None) -> str:
    """What to say about an unknown name: the known ones that it resembles, else all of them.

    Args:
        name: As it was given.
        known: Those there are.
        most: How many of them are listed, the last ones; all by default.
    """
    # Loads in a moment, but nothing that succeeds needs it.
    import difflib

    listed = list(dict.fromkeys(known))
    if near := difflib.get_close_matches(name, listed, n=3, cutoff=0.65):
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(listed[-most:] if most else listed) or 'none'}"
