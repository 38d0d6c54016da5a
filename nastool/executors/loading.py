"""Executors by name."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from nastool.discovery import EXECUTORS
from nastool.errors import InvalidInputError, in_one_line
from nastool.executors.base import Executor
from nastool.plugins import make_plugin, parse_spec


def load_executor(text: str, timeout: float | None = None) -> Executor:
    """Make an executor, e.g. from ``processes:4`` or ``dask[tcp://127.0.0.1:8786]``.

    Args:
        text: Name, with an argument where the executor takes one.
        timeout: Seconds that one shape may take; None for as long as it needs.

    Raises:
        InvalidInputError: Unknown, ambiguous or broken, or an argument it rejects.
        MissingDependencyError: Its engine is not installed.
    """
    spec = parse_spec(text)
    made: Executor = make_plugin(EXECUTORS, spec.name, Executor, (spec.argument,), {})
    made.timeout = timeout
    return made


def read_settings(
    what: str, argument: str | None, known: Mapping[str, Callable[[str], Any]], first: str = ""
) -> dict[str, Any]:
    """Read ``KEY=VALUE,KEY=VALUE``, an executor's argument.

    Args:
        what: Names the executor in messages.
        argument: The text; None where there is none.
        known: What reads the value of each key; of ``""`` those of any other.
        first: Key of a first part without one.

    Raises:
        InvalidInputError: A part of another form, an unknown key, or a value that cannot be read.
    """
    found: dict[str, Any] = {}
    for place, part in enumerate((argument or "").split(",") if argument else ()):
        key, equals, value = part.strip().partition("=")
        if first and place == 0 and (not equals or key not in known):
            key, value = first, part.strip()
        elif not equals:
            raise InvalidInputError(f"{what} takes KEY=VALUE, got {part!r}")
        read = known.get(key, known.get(""))
        if read is None:
            raise InvalidInputError(
                f"{what} has no setting {key!r}; its settings: {', '.join(filter(None, known))}"
            )
        try:
            found[key] = read(value)
        except ValueError as error:
            raise InvalidInputError(f"{what}: {key}={value} cannot be read: {error}") from error
    return found


def check_reached(what: str, address: str, patience: float) -> None:
    """Check that somebody listens at an address, before an engine says in many lines that not.

    Args:
        what: Names the executor in messages.
        address: ``HOST:PORT``, which may begin with ``tcp://`` and the like; of other protocols
            nothing is known here.
        patience: Seconds in which somebody must listen.

    Raises:
        InvalidInputError: It has another form, or nobody listens.
    """
    scheme, _, rest = address.rpartition("://")
    if scheme not in ("", "tcp", "tls", "ray"):
        return
    host, _, port = rest.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise InvalidInputError(f"executor {what}: expected an address HOST:PORT, got {address!r}")
    end = time.monotonic() + patience
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), patience).close()
        except OSError as error:
            # A scheduler that has just been started may take a moment.
            if time.monotonic() >= end:
                raise InvalidInputError(
                    f"executor {what}: cannot reach {address}: {in_one_line(error)}"
                ) from error
            time.sleep(0.2)
        else:
            return


def positive(text: str) -> int:
    """Read a number of at least 1.

    Raises:
        ValueError: It is none.
    """
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)
