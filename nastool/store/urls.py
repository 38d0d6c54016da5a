"""Addresses of databases: what may be shown of them, and errors without their secrets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from sqlalchemy import URL

_HIDDEN = "***"

_SECRET = re.compile("pass|pwd|secret|token", re.IGNORECASE)
"""Settings in the query of an address whose values are hidden."""

_FEW = 4
"""Characters below which a secret is replaced as a whole word only."""


def parse(text: str) -> URL | None:
    """The address as SQLAlchemy reads it; None where it is none, or surely mistyped."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        return None
    # An @ that is left over belongs to a password: its @ must be written %40, its : may not be /.
    if backend != "sqlite" and "@" in f"{url.host}{url.database}":
        return None
    return url


def showable(text: str) -> str:
    """An address without passwords, for outputs, pages, messages and logs.

    Args:
        text: As it was given; where it is no address, what follows the first mark behind which a
            password might stand is left out.
    """
    url = parse(text)
    if url is None:
        head, mark, rest = text.partition("://")
        head, rest = (head + mark, rest) if mark else ("", head)
        before, at, rest = rest.rpartition("@")
        shown, *hidden = re.split("[:?=]", rest, maxsplit=1)
        return head + (_HIDDEN + at if before else "") + shown + (_HIDDEN if hidden else "")
    secret = {key for key in url.query if _SECRET.search(key)}
    if url.password is None and not secret:
        return text
    query = {key: _HIDDEN if key in secret else value for key, value in url.query.items()}
    shown = url.set(query=query).render_as_string(hide_password=True)
    return shown.replace(quote_plus(_HIDDEN), _HIDDEN)


def redacted(message: str, text: str) -> str:
    """A message of a driver without the secrets of the address that it is about.

    Args:
        message: May quote parts of the address, decoded or not.
        text: The address as it was given.
    """
    for secret in sorted(_secrets(text), key=len, reverse=True):
        pattern = re.escape(secret)
        if len(secret) < _FEW:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        message = re.sub(pattern, _HIDDEN, message)
    return message


def _secrets(text: str) -> set[str]:
    url = parse(text)
    if url is None:
        return set()
    found = {str(url.password or "")}
    for key, value in url.query.items():
        if _SECRET.search(key):
            found |= {value} if isinstance(value, str) else set(value)
    found |= {written(secret) for secret in found for written in (quote, quote_plus)}
    return found - {"", _HIDDEN}
