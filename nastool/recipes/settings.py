"""Settings of a plugin from texts or plain values, typed by its signature."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from nastool.choices import plain
from nastool.constraint import parse_quantity
from nastool.discovery import GROUPS, Plugin
from nastool.errors import InvalidInputError, nearest
from nastool.numbers import is_number

_SEQUENCES = (Sequence, tuple, list)
"""What holds several texts, of which one can be given as such."""

_GIVEN = ("self", "problem", "seed", "argument")
"""Parameters that are no settings."""


def read_pairs(texts: Sequence[str], where: str) -> dict[str, str]:
    """Read ``key=value`` texts; of a repeated key the last one counts.

    Args:
        texts: Each a key and a value.
        where: Names them; begins the message.

    Raises:
        InvalidInputError: Another form.
    """
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InvalidInputError(f"{where}: expected KEY=VALUE, got {text!r}")
        pairs[key.strip()] = value.strip()
    return pairs


def keyword_settings(plugin: Plugin) -> tuple[str, ...]:
    """Names of the settings of a plugin that only a name can give.

    Raises:
        InvalidInputError: It cannot be loaded.
    """
    try:
        create: Any = plugin.load()
        parameters = inspect.signature(create).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


def typed_settings(
    plugin: Plugin, given: Mapping[str, Any], where: str = "options"
) -> dict[str, Any]:
    """Settings of a plugin as values of the types that it takes.

    Args:
        plugin: A strategy or device; the keyword parameters of what it loads are the settings.
        given: Texts or values, by name.
        where: What gives them, for messages.

    Raises:
        InvalidInputError: An unknown name, or a value of the wrong type.
    """
    if not given:
        return {}
    try:
        create: Any = plugin.load()
        signature = inspect.signature(create)
    except (ImportError, TypeError) as error:
        raise InvalidInputError(
            f"{GROUPS[plugin.group]} {plugin.name!r} of {plugin.origin} cannot be loaded: {error}"
        ) from error
    known = {
        key: parameter
        for key, parameter in signature.parameters.items()
        if key not in _GIVEN and parameter.kind != inspect.Parameter.VAR_KEYWORD
    }
    function = create.__init__ if inspect.isclass(create) else create
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):
        hints = {}
    settings: dict[str, Any] = {}
    for name, value in given.items():
        key = name.replace("-", "_")
        if key not in known:
            raise InvalidInputError(
                f"{where}: {GROUPS[plugin.group]} {plugin.name} has no setting {key!r}; "
                f"{nearest(key, known)}"
            )
        default = known[key].default
        hint = hints.get(key, str if default in (None, inspect.Parameter.empty) else type(default))
        named = f"{where} {key}"
        settings[key] = (
            _from_text(value, hint, named)
            if isinstance(value, str)
            else _from_value(plain(value), hint if key in hints else Any, named)
        )
    return settings


def _alternatives(hint: Any) -> tuple[Any, ...]:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _from_text(text: str, hint: Any, where: str) -> Any:
    alternatives = _alternatives(hint)
    if type(None) in alternatives and text.lower() == "none":
        return None
    literals = [kind for kind in alternatives if typing.get_origin(kind) is typing.Literal]
    if literals:
        choices = [choice for kind in literals for choice in typing.get_args(kind)]
        if text not in choices:
            listed = ", ".join(map(str, choices))
            raise InvalidInputError(f"{where}: must be one of {listed}, got {text!r}")
        return text
    if bool in alternatives and text.lower() in ("true", "false", "yes", "no"):
        return text.lower() in ("true", "yes")
    if int in alternatives or float in alternatives:
        try:
            quantity = parse_quantity(text)
        except InvalidInputError:
            quantity = None
        # No setting has a unit: 20ms is not 0.02.
        number = quantity.value if quantity and not quantity.unit else None
        if number is not None and int in alternatives and number.is_integer():
            return int(number)
        if number is not None and float in alternatives:
            return number
    if str in alternatives:
        return text
    sequences = [kind for kind in alternatives if typing.get_origin(kind) in _SEQUENCES]
    if any(typing.get_args(kind)[:1] == (str,) for kind in sequences):
        return (text,)
    raise _wrong(text, alternatives, where)


def _from_value(value: Any, hint: Any, where: str) -> Any:
    """A value that is no text; what the signature says in ways not known here is let pass."""
    alternatives = _alternatives(hint)
    simple = {bool, int, float, str, type(None)}
    if not simple.issuperset(alternatives) or type(value) in alternatives:
        return value
    if is_number(value):
        if int in alternatives and float(value).is_integer():
            return int(value)
        if float in alternatives:
            return float(value)
    raise _wrong(value, alternatives, where)


def _wrong(value: Any, alternatives: Sequence[Any], where: str) -> InvalidInputError:
    kinds = [getattr(kind, "__name__", str(kind)) for kind in alternatives]
    expected = " or ".join("none" if kind == "NoneType" else kind for kind in kinds)
    return InvalidInputError(f"{where}: expected {expected}, got {value!r}")
