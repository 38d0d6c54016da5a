"""Spaces, objectives, strategies and devices by name: entry points and files.

A distribution offers a plugin by an entry point in one of the groups of `nastool.discovery`; a
file offers one by a decorator of this module and is loaded with ``--plugin FILE.py``.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from nastool import discovery
from nastool.choices import check_text
from nastool.constraint import metric_name
from nastool.devices import Device, check_device
from nastool.discovery import (
    DEVICES,
    EXECUTORS,
    GROUPS,
    OBJECTIVES,
    PREDICTORS,
    SEARCH_SPACES,
    STRATEGIES,
    find,
)
from nastool.errors import InvalidInputError, nearest
from nastool.objective import Objective, check_objective
from nastool.problem import Problem
from nastool.space import SearchSpace, check_space
from nastool.strategies.base import Strategy, check_strategy

_SPEC = re.compile(r"([A-Za-z_][\w.-]*)(?:\[(.+)\](?:\.(\w+))?|:(.+))?")
_Factory = TypeVar("_Factory", bound=Callable[..., object])


@dataclass(frozen=True)
class Spec:
    """What a user types to choose a plugin.

    Args:
        name: The plugin.
        argument: What stands in brackets or after the colon; None where nothing does.
    """

    name: str
    argument: str | None = None

    def __str__(self) -> str:
        return metric_name(self.name, self.argument)


def parse_spec(text: str) -> Spec:
    """Read ``name``, ``name[argument]`` or ``name:argument``.

    ``name[argument].part`` is the plugin ``name.part``: a part of what ``name`` is.

    Raises:
        InvalidInputError: The text has another form.
    """
    match = _SPEC.fullmatch(check_text("a name", text).strip())
    if match is None:
        raise InvalidInputError(
            f"expected NAME, NAME[ARGUMENT] or NAME:ARGUMENT, got {text!r:.200}"
        )
    name = match[1] if match[3] is None else f"{match[1]}.{match[3]}"
    return Spec(name, match[2] if match[2] is not None else match[4])


@dataclass(frozen=True)
class MadeFrom:
    """What a plugin was made from.

    Args:
        text: Name and argument.
        arguments: What else it was given.
        settings: Its keyword settings.
    """

    text: str
    arguments: tuple[Any, ...]
    settings: Mapping[str, Any]


_made_from: dict[int, MadeFrom] = {}


def made_from(plugin: object) -> MadeFrom | None:
    """What a space or an objective was made from by name; None where it was made otherwise."""
    return _made_from.get(id(plugin))


def _note(made: object, source: MadeFrom) -> None:
    # What cannot be watched could leave its number to another.
    with contextlib.suppress(TypeError):
        weakref.finalize(made, _made_from.pop, id(made), None).atexit = False
        _made_from[id(made)] = source


def load_space(text: str) -> SearchSpace:
    """Make a search space, e.g. from ``supershaper`` or ``supershaper[runs/mine]``.

    Raises:
        InvalidInputError: Unknown, ambiguous or broken, or an argument it rejects.
    """
    spec = parse_spec(text)
    made: SearchSpace = make_plugin(SEARCH_SPACES, spec.name, SearchSpace, (spec.argument,), {})
    check_space(made)
    _note(made, MadeFrom(text, (), {}))
    return made


def load_objective(
    text: str, space: SearchSpace, settings: Mapping[str, object] | None = None
) -> Objective:
    """Make an objective of a space, e.g. from ``params`` or ``perplexity[runs/predictor]``.

    Args:
        text: Name, with an argument where the objective takes one.
        space: What the objective is for.
        settings: Keyword settings, by name.

    Raises:
        InvalidInputError: Unknown, ambiguous or broken, or an argument or space it rejects.
    """
    spec = parse_spec(text)
    arguments = (space, spec.argument)
    made: Objective = make_plugin(OBJECTIVES, spec.name, Objective, arguments, dict(settings or {}))
    check_objective(made)
    _note(made, MadeFrom(text, (space,), dict(settings or {})))
    return made


def load_device(text: str, settings: Mapping[str, object] | None = None) -> Device:
    """Make a device, e.g. from ``cpu`` or ``command[./on_phone.sh]``.

    Args:
        text: Name, with an argument where the device takes one.
        settings: Keyword settings, by name.

    Raises:
        InvalidInputError: Unknown, ambiguous or broken, or an argument or setting it rejects.
    """
    spec = parse_spec(text)
    made: Device = make_plugin(DEVICES, spec.name, Device, (spec.argument,), dict(settings or {}))
    return check_device(made)


def load_strategy(
    text: str, problem: Problem, seed: int = 0, settings: Mapping[str, object] | None = None
) -> Strategy:
    """Make a strategy, e.g. from ``evolution`` or ``optuna:GPSampler``.

    Args:
        text: Name, with an argument where the strategy takes one.
        problem: What to optimise.
        seed: Fixes everything the strategy draws.
        settings: Keyword settings, by name.

    Raises:
        InvalidInputError: Unknown, ambiguous or broken, or a setting it does not have.
    """
    spec = parse_spec(text)
    keywords = dict(settings or {})
    if spec.argument is not None:
        keywords["argument"] = spec.argument
    made: Strategy = make_plugin(STRATEGIES, spec.name, Strategy, (problem, seed), keywords)
    return check_strategy(made)


def register_space(name: str) -> Callable[[_Factory], _Factory]:
    """Decorate ``(argument: str | None) -> SearchSpace`` to offer it by name."""
    return _register(SEARCH_SPACES, name)


def register_objective(name: str) -> Callable[[_Factory], _Factory]:
    """Decorate ``(space, argument: str | None) -> Objective`` to offer it by name."""
    return _register(OBJECTIVES, name)


def register_strategy(name: str) -> Callable[[_Factory], _Factory]:
    """Decorate ``(problem, seed, **settings) -> Strategy``, or the class, to offer it by name."""
    return _register(STRATEGIES, name)


def register_device(name: str) -> Callable[[_Factory], _Factory]:
    """Decorate ``(argument: str | None, **settings) -> Device`` to offer it by name."""
    return _register(DEVICES, name)


def register_predictor(name: str) -> Callable[[_Factory], _Factory]:
    """Decorate ``() -> Predictor``, or the class, to offer it by name."""
    return _register(PREDICTORS, name)


def register_executor(name: str) -> Callable[[_Factory], _Factory]:
    """Decorate ``(argument: str | None) -> Executor`` to offer it by name."""
    return _register(EXECUTORS, name)


def _register(group: str, name: str) -> Callable[[_Factory], _Factory]:
    if callable(name):
        # Decorated without a call: what is decorated stands in the name's place.
        raise InvalidInputError(
            f"{getattr(name, '__name__', name)}: the decorator must be called with the name of the "
            f"{GROUPS[group]}, got none"
        )
    if parse_spec(name) != Spec(name):
        raise InvalidInputError(f"the name of a plugin must be a plain NAME, got {name!r}")

    return discovery.register(group, name)


def make_plugin(
    group: str,
    name: str,
    kind: type,
    arguments: tuple[object, ...],
    keywords: dict[str, Any],
) -> Any:
    """Load a plugin, call it, and check that it returns one of a kind.

    Args:
        group: One of `GROUPS`.
        name: The plugin.
        kind: What it must make.
        arguments: What it is given.
        keywords: Settings, which it must have.

    Raises:
        InvalidInputError: Unknown, ambiguous or broken, or something that it rejects.
    """
    plugin = find(group, name)
    if keywords:
        _check_keywords(f"{GROUPS[group]} {name!r}", plugin.load(), len(arguments), keywords)
    return plugin.make(kind, *arguments, **keywords)


def _check_keywords(
    what: str, factory: object, positional: int, keywords: Mapping[str, object]
) -> None:
    if not callable(factory):
        return
    parameters = list(inspect.signature(factory).parameters.values())
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [
        p.name
        for i, p in enumerate(parameters)
        if p.kind is p.KEYWORD_ONLY or (p.kind is p.POSITIONAL_OR_KEYWORD and i >= positional)
    ]
    for name, value in keywords.items():
        if name in known:
            continue
        if name == "argument":
            raise InvalidInputError(f"{what} takes no argument, got {value!r}")
        settings = [k for k in known if k != "argument"]
        listed = nearest(name, settings).replace("known:", "its settings:")
        raise InvalidInputError(f"{what} has no setting {name!r}; {listed}")
