"""What other libraries raise, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nastool.errors import NastoolError


@contextmanager
def one_line(what: str, kind: type[NastoolError] = NastoolError) -> Iterator[None]:
    """Turn what other libraries raise into one line.

    Args:
        what: Begins the message.
        kind: Of the error that is raised instead.
    """
    try:
        yield
    except NastoolError:
        raise
    # Exporters and runtimes raise types of their own.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise kind(f"{what}: {reason}") from error
