"""Rows of a store: a digest for each, and one way to read them that trusts none.

Whatever a disk, another program or a hand has made of a row, reading it gives values of the types
that its table promises, or one line that names the row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nastool.errors import InvalidInputError, StoreError
from nastool.files.reading import parse_json

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Table

_UNDIGESTED = frozenset(["id", "digest"])
"""Columns that the digest of a row leaves out: a study's number is not known before its row is."""

_ADDED = {
    "digest": (2, "NULL"),
    "commits": (2, "0"),
    "noise": (3, "NULL"),
    "repeats": (3, "1"),
}
"""Columns that older schemas have not: since which one there are, and what takes their place."""

_SINCE_DIGESTS: Mapping[str, Any] = {"noise": None, "repeats": 1}
"""Columns that are younger than digests, which leave them out where they say nothing new."""

_EXPECTED = {int: "a whole number", float: "a number", str: "a text", bytes: "bytes"}


def columns(table: Table, version: int) -> list[ColumnElement[Any]]:
    """The columns of a table as the driver gives them: SQLAlchemy's conversions trust their type.

    Args:
        table: One of the store's.
        version: Schema of the database.
    """
    from sqlalchemy import literal_column, type_coerce
    from sqlalchemy.types import NullType

    return [
        literal_column(_ADDED[column.name][1]).label(column.name)
        if version < _ADDED.get(column.name, (0, ""))[0]
        else type_coerce(column, NullType()).label(column.name)
        for column in table.columns
    ]


def digest(table: Table, row: Mapping[str, Any]) -> str:
    """Hex digest of a row's content.

    Args:
        table: One of the store's.
        row: Value of each of its columns, of any type; those that came later may be missing.
    """
    content = hashlib.sha256(table.name.encode())
    for column in table.columns:
        name = column.name
        if name in _UNDIGESTED:
            continue
        if name in _SINCE_DIGESTS and row.get(name, default := _SINCE_DIGESTS[name]) == default:
            continue
        content.update(_as_bytes(row[name], column.type.python_type))
    return content.hexdigest()[:16]


def _as_bytes(value: Any, kind: type) -> bytes:
    """A value with its type and length, so that no two rows give the same bytes."""
    if kind is float and isinstance(value, (int, float)):
        # SQLite keeps no sign of zero.
        value = float(value) + 0.0
    if isinstance(value, (bytes, memoryview)):
        data = bytes(value)
    elif isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
    else:
        data = repr(value).encode()
    return f"{type(value).__name__[0]}{len(data)}:".encode() + data


def signed(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its digest, to be written."""
    return {**row, "digest": digest(table, row)}


def read(table: Table, row: Mapping[str, Any], what: str) -> dict[str, Any]:
    """A row as its table promises it.

    Args:
        table: One of the store's.
        row: What the driver read of `columns`.
        what: Names the row, e.g. ``study 'mine'``.

    Raises:
        StoreError: A value is of another type, or the content is not that of the digest.
    """
    values = {}
    for column in table.columns:
        value, kind = row[column.name], column.type.python_type
        if isinstance(value, memoryview):
            value = bytes(value)
        if kind is float and isinstance(value, int):
            value = float(value)
        if not (value is None and column.nullable) and not isinstance(value, kind):
            raise damaged(
                table, what, f"{column.name} must be {_EXPECTED[kind]}, got {shortened(value)}"
            )
        if isinstance(value, str) and not storable(value):
            raise damaged(table, what, f"{column.name} is no UTF-8")
        values[column.name] = value
    if values["digest"] not in (None, digest(table, values)):
        raise damaged(table, what, "its content is not that of its digest")
    return values


def damaged(table: Table, what: str, why: str) -> StoreError:
    """The error about a row that cannot be trusted."""
    return StoreError(f"holds a damaged row of table {table.name} ({what}): {why}")


def shortened(value: object) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def storable(text: str) -> bool:
    """Whether every database keeps a text: UTF-8 without null characters."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def parsed(table: Table, row: Mapping[str, Any], column: str, kind: type, what: str) -> Any:
    """A column that holds JSON.

    Args:
        table: One of the store's.
        row: What `read` returned.
        column: Its name.
        kind: ``dict`` or ``list``.
        what: Names the row.

    Raises:
        StoreError: It is no JSON, or of another kind.
    """
    try:
        value = parse_json(row[column], column)
    except InvalidInputError as error:
        raise damaged(table, what, str(error)) from error
    if not isinstance(value, kind):
        expected = "an object" if kind is dict else "a list"
        raise damaged(table, what, f"{column} must be {expected}, got {shortened(value)}")
    return value


def key_text(text: str, length: int) -> str:
    """A text as a key that its column takes: itself, or a digest where it is too long."""
    if len(text) <= length and storable(text):
        return text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def key_bytes(data: bytes, length: int) -> bytes:
    """The same for bytes."""
    return data if len(data) <= length else hashlib.sha256(data).digest()
