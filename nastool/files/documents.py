"""Files of settings: TOML or JSON as people write it, with the line of every key."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from nastool.errors import InvalidInputError
from nastool.files.reading import parse_json, read_text

_MOST = 1 << 20
"""Characters that a file of settings may have."""

_EXACT = 2.0**53
"""Up to there every whole number is a float."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

_NAMES: Mapping[type, str] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
    type(None): "nothing",
    datetime: "a date",
    date: "a date",
    time: "a time",
}


@dataclass(frozen=True)
class Document:
    """Keys and values, and where each one stands.

    Args:
        name: What it is called in messages, such as its path.
        content: The values by key; tables are dictionaries.
        text: What was read; empty where it was made by a program.
        is_toml: Whether the text is TOML, else JSON.
    """

    name: str
    content: Mapping[str, Any]
    text: str = ""
    is_toml: bool = True

    def at(self, *keys: str) -> str:
        """What begins a message about a key: ``study.toml, line 3: budget``."""
        line = (_toml_line if self.is_toml else _json_line)(self.text, keys)
        place = "" if line is None else f", line {line}"
        return f"{self.name}{place}: {'.'.join(keys)}"


def read_document(path: Path) -> Document:
    """Read a file of settings: JSON where its name ends in .json, else TOML.

    Raises:
        InvalidInputError: As `read_text`, or it is no TOML or no JSON object; names the line.
    """
    text = read_text(path, _MOST)
    return parse_document(text, str(path), is_toml=path.suffix.lower() != ".json")


def parse_document(text: str, name: str, *, is_toml: bool = True) -> Document:
    """Read TOML or JSON.

    Args:
        text: What is read.
        name: What it is called in messages.
        is_toml: Whether it is TOML.

    Raises:
        InvalidInputError: It is something else; names the line.
    """
    import tomllib  # here, as every search reads recipes, and hardly one a file

    text = text.replace("\r\n", "\n")
    if not is_toml:
        content = parse_json(text, name, once=True)
        if not isinstance(content, dict):
            raise InvalidInputError(f"{name}: expected an object, got {kind_of(content)}")
        return Document(name, content, text, is_toml=False)
    try:
        return Document(name, tomllib.loads(text), text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"{name}: no TOML: {error}") from error
    except RecursionError as error:
        raise InvalidInputError(f"{name}: nested too deeply to be read") from error
    except ValueError as error:
        # A number of more digits than Python converts.
        raise InvalidInputError(f"{name}: no TOML: {error}") from error


def kind_of(value: object) -> str:
    """What a value is, for people: a text, a list."""
    return _NAMES.get(type(value), type(value).__name__)


def json_document(schema: str, content: Mapping[str, Any]) -> str:
    """A JSON text that says what it is: the name of its schema, and which version wrote it.

    Numbers that are whole are written so, and those that are not finite as null.

    Args:
        schema: Its name in ``docs/schemas``, without ``nastool/``.
        content: The rest.
    """
    # By name: the package imports what lies above this module.
    head = {"schema": f"nastool/{schema}", "version": sys.modules["nastool"].__version__}
    return json.dumps({**head, **_plain(content)}, indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() and abs(value) < _EXACT else value
    return value


def toml_text(content: Mapping[str, Any]) -> str:
    """Write TOML, tables last; `parse_document` reads the same values back.

    Args:
        content: Texts, booleans, numbers, lists of them, and tables of those.

    Raises:
        InvalidInputError: A value of another kind, or a text that is no UTF-8.
    """
    plain = {key: value for key, value in content.items() if not isinstance(value, Mapping)}
    blocks = ["".join(f"{_key(key)} = {_value(value, key)}\n" for key, value in plain.items())]
    for name, table in content.items():
        if isinstance(table, Mapping):
            rows = (
                f"{_key(key)} = {_value(value, f'{name}.{key}')}\n" for key, value in table.items()
            )
            blocks.append(f"[{_key(name)}]\n" + "".join(rows))
    return "\n".join(filter(None, blocks))


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _value(key, key)


def _value(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(f"{where}: TOML takes UTF-8 only, got {value!r}") from error
        # A text of JSON is one of TOML, but for the one control character that JSON leaves alone.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Sequence):
        return "[" + ", ".join(_value(item, where) for item in value) + "]"
    raise InvalidInputError(f"{where}: expected a text, a number or a list, got {kind_of(value)}")


def _toml_line(text: str, keys: Sequence[str]) -> int | None:
    """The line where the statement begins that first gives a key."""
    import tomllib

    lines = text.split("\n")
    begin = 0
    for end in range(1, len(lines) + 1):
        try:
            content = tomllib.loads("\n".join(lines[:end]))
        except ValueError:  # within a statement of several lines
            continue
        if _holds(content, keys):
            said = (n for n in range(begin, end) if lines[n].strip()[:1] not in ("", "#"))
            return next(said, begin) + 1
        begin = end
    return None


def _json_line(text: str, keys: Sequence[str]) -> int | None:
    """The line of a key that stands in the text only once."""
    found = [*re.finditer(re.escape(json.dumps(keys[-1])) + r"\s*:", text)]
    return text.count("\n", 0, found[0].start()) + 1 if len(found) == 1 else None


def _holds(content: Any, keys: Sequence[str]) -> bool:
    for key in keys:
        if not isinstance(content, dict) or key not in content:
            return False
        content = content[key]
    return True
