"""A strategy's settings from ``key=value`` text, typed by the strategy's signature."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Sequence
from typing import Any

from nastool.constraint import parse_quantity
from nastool.errors import InvalidInputError
from nastool.plugins import Plugin

_GIVEN = ("self", "problem", "seed", "argument")
"""Parameters that are no settings."""


def strategy_settings(plugin: Plugin, texts: Sequence[str]) -> dict[str, Any]:
    """Read settings.

    Args:
        plugin: The strategy; the keyword parameters of what it loads are the settings.
        texts: Each ``key=value``.

    Raises:
        InvalidInputError: Another form, an unknown key, or a value of the wrong type.
    """
    try:
        create: Any = plugin.load()
        signature = inspect.signature(create)
    except (ImportError, TypeError) as error:
        raise InvalidInputError(
            f"strategy {plugin.name!r} of {plugin.origin} cannot be loaded: {error}"
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
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise InvalidInputError(f"--option: expected KEY=VALUE, got {text!r}")
        if key not in known:
            names = ", ".join(known) or "none"
            raise InvalidInputError(
                f"--option: strategy {plugin.name} has no setting {key!r}; known: {names}"
            )
        default = known[key].default
        hint = hints.get(key, str if default in (None, inspect.Parameter.empty) else type(default))
        settings[key] = _convert(value.strip(), hint, f"--option {key}")
    return settings


def _convert(text: str, hint: Any, where: str) -> Any:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    alternatives = typing.get_args(hint) if union else (hint,)
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
    kinds = [getattr(kind, "__name__", str(kind)) for kind in alternatives]
    expected = " or ".join("none" if kind == "NoneType" else kind for kind in kinds)
    raise InvalidInputError(f"{where}: expected {expected}, got {text!r}")
