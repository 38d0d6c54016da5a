"""Spaces, objectives, strategies and devices by name: entry points and files.

A distribution offers a plugin by an entry point in one of the groups below; a file offers one by a
decorator of this module and is loaded with ``--plugin FILE.py``. Listing plugins imports none.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from nastool import __version__
from nastool.devices import Device
from nastool.errors import InvalidInputError, NastoolError
from nastool.objective import Objective
from nastool.predictors.base import create_predictor, known_predictors
from nastool.problem import Problem
from nastool.space import SearchSpace
from nastool.strategies.base import Strategy

SEARCH_SPACES = "nastool.search_spaces"
OBJECTIVES = "nastool.objectives"
STRATEGIES = "nastool.strategies"
PREDICTORS = "nastool.predictors"
DEVICES = "nastool.devices"
COMMANDS = "nastool.commands"

GROUPS: Mapping[str, str] = {
    SEARCH_SPACES: "search space",
    OBJECTIVES: "objective",
    STRATEGIES: "strategy",
    PREDICTORS: "predictor",
    DEVICES: "device",
    COMMANDS: "command",
}
"""Entry-point groups, and what one member of each is called."""

_SPEC = re.compile(r"\s*([A-Za-z_][\w.-]*)(?:\[(.+)\]|:(.+))?\s*")
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
        return self.name if self.argument is None else f"{self.name}[{self.argument}]"


@dataclass(frozen=True)
class Plugin:
    """Something that can be chosen by name.

    Args:
        group: Entry-point group, one of `GROUPS`.
        name: What users type.
        origin: Distribution and version, or the file.
        load: Imports it and returns the callable (the click command in `COMMANDS`).
        source: ``module:attribute``, for the summary; empty where it is not importable.
    """

    group: str
    name: str
    origin: str
    load: Callable[[], object] = field(compare=False, repr=False)
    source: str = ""

    @cached_property
    def summary(self) -> str:
        """First sentence of its docstring, read from the source without running it."""
        if self.source:
            return _summary_from_source(self.source)
        return _first_sentence(inspect.getdoc(self.load()))


def parse_spec(text: str) -> Spec:
    """Read ``name``, ``name[argument]`` or ``name:argument``.

    Raises:
        InvalidInputError: The text has another form.
    """
    match = _SPEC.fullmatch(text)
    if match is None:
        raise InvalidInputError(f"expected NAME, NAME[ARGUMENT] or NAME:ARGUMENT, got {text!r}")
    return Spec(match[1], match[2] if match[2] is not None else match[3])


def available(group: str) -> tuple[Plugin, ...]:
    """Every plugin of a group by name, from distributions and from loaded files.

    Raises:
        InvalidInputError: Unknown group.
    """
    if group not in GROUPS:
        raise InvalidInputError(f"plugin group must be one of {', '.join(GROUPS)}, got {group!r}")
    registered = [plugin for (its, _, _), plugin in _registered.items() if its == group]
    return tuple(sorted([*_installed(group), *registered], key=lambda p: (p.name, p.origin)))


def load_space(text: str) -> SearchSpace:
    """Make a search space, e.g. from ``supershaper`` or ``supershaper[runs/mine]``.

    Raises:
        InvalidInputError: Unknown, ambiguous or broken, or an argument it rejects.
    """
    spec = parse_spec(text)
    made: SearchSpace = _make(SEARCH_SPACES, spec.name, SearchSpace, (spec.argument,), {})
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
    made: Objective = _make(OBJECTIVES, spec.name, Objective, arguments, dict(settings or {}))
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
    made: Device = _make(DEVICES, spec.name, Device, (spec.argument,), dict(settings or {}))
    return made


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
    made: Strategy = _make(STRATEGIES, spec.name, Strategy, (problem, seed), keywords)
    return made


def find(group: str, name: str) -> Plugin:
    """The one plugin of that name.

    Raises:
        InvalidInputError: There is none, or more than one.
    """
    plugins = available(group)
    found = [plugin for plugin in plugins if plugin.name == name]
    if not found:
        known = ", ".join(dict.fromkeys(plugin.name for plugin in plugins)) or "none"
        raise InvalidInputError(f"unknown {GROUPS[group]} {name!r}; known: {known}")
    if len(found) > 1:
        origins = " and ".join(plugin.origin for plugin in found)
        raise InvalidInputError(
            f"{GROUPS[group]} {name!r} must come from one place, got it from {origins}"
        )
    return found[0]


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


def load_file(path: str | Path) -> tuple[Plugin, ...]:
    """Run a Python file that registers plugins; once, however often it is named.

    Returns:
        What the file registered.

    Raises:
        InvalidInputError: No such file, it fails, or it registers nothing.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise InvalidInputError(f"--plugin: expected a Python file, got {str(path)!r}")
    module_name = "nastool_plugin_" + re.sub(r"\W", "_", str(file))
    if module_name not in sys.modules:
        _run_file(file, module_name)
    found = tuple(p for (_, _, module), p in _registered.items() if module == module_name)
    if not found:
        raise InvalidInputError(
            f"--plugin {path}: expected at least one register_space, register_objective, "
            "register_strategy or register_device, got none"
        )
    return found


_registered: dict[tuple[str, str, str], Plugin] = {}
"""By group, name and module."""


def _run_file(file: Path, module_name: str) -> None:
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise InvalidInputError(f"--plugin {file}: expected a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and annotations look their module up there while it runs.
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        for key in [key for key in _registered if key[2] == module_name]:
            del _registered[key]
        raise InvalidInputError(f"--plugin {file}: {_describe(error)}") from error


def _register(group: str, name: str) -> Callable[[_Factory], _Factory]:
    if parse_spec(name) != Spec(name):
        raise InvalidInputError(f"the name of a plugin must be a plain NAME, got {name!r}")

    def decorate(factory: _Factory) -> _Factory:
        module = factory.__module__
        origin = getattr(sys.modules.get(module), "__file__", None) or module
        _registered[group, name, module] = Plugin(group, name, origin, lambda: factory)
        return factory

    return decorate


@cache
def _installed(group: str) -> tuple[Plugin, ...]:
    plugins = _entry_points(group)
    if group != PREDICTORS:
        return plugins
    # The core's own kinds need no entry point, so that a card can be read wherever the core is.
    built_in = [kind for kind in known_predictors() if kind not in {p.name for p in plugins}]
    return (*plugins, *(_built_in_predictor(kind) for kind in built_in))


def _built_in_predictor(kind: str) -> Plugin:
    return Plugin(PREDICTORS, kind, f"nastool {__version__}", lambda: type(create_predictor(kind)))


def _entry_points(group: str) -> tuple[Plugin, ...]:
    # An editable install may be seen twice, once through its folder.
    points = {(p.name, p.value, _origin(p)): p for p in entry_points(group=group)}
    return tuple(
        Plugin(group, name, origin, point.load, source)
        for (name, source, origin), point in points.items()
    )


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def _make(
    group: str,
    name: str,
    kind: type,
    arguments: tuple[object, ...],
    keywords: dict[str, Any],
) -> Any:
    """Load a plugin, call it, and check that it returns one of a kind."""
    plugin = find(group, name)
    what = f"{GROUPS[group]} {name!r}"
    try:
        factory = plugin.load()
    except NastoolError:
        raise
    except Exception as error:
        raise InvalidInputError(
            f"{what} of {plugin.origin} cannot be loaded: {_describe(error)}"
        ) from error
    if not callable(factory):
        raise InvalidInputError(
            f"{what} of {plugin.origin} must be callable, got {type(factory).__name__}"
        )
    _check_keywords(what, factory, len(arguments), keywords)
    try:
        made = factory(*arguments, **keywords)
    except NastoolError:
        raise
    except Exception as error:
        raise InvalidInputError(f"{what} of {plugin.origin} failed: {_describe(error)}") from error
    if not isinstance(made, kind):
        raise InvalidInputError(
            f"{what} of {plugin.origin} must make a {kind.__name__}, got {type(made).__name__}"
        )
    return made


def _check_keywords(
    what: str, factory: Callable[..., object], positional: int, keywords: Mapping[str, object]
) -> None:
    if not keywords:
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
        settings = ", ".join(k for k in known if k != "argument") or "none"
        raise InvalidInputError(f"{what} has no setting {name!r}; its settings: {settings}")


def _describe(error: Exception) -> str:
    """An unexpected error as one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _summary_from_source(source: str) -> str:
    """First sentence of the docstring of ``module:attribute``; empty where it cannot be read."""
    module, _, attribute = source.partition(":")
    path = _module_file(module)
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body if path else []
    except (OSError, SyntaxError, ValueError):
        return ""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == attribute:
            return _first_sentence(ast.get_docstring(node))
    return ""


def _module_file(module: str) -> Path | None:
    """Where a module's source lies. Finding only its first package, so that nothing is run."""
    first, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin else None
    for folder in spec.submodule_search_locations or ():
        base = Path(folder, *rest)
        for candidate in (base.with_suffix(".py"), base / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def _first_sentence(docstring: str | None) -> str:
    paragraph = " ".join((docstring or "").partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].removesuffix(".").replace("``", "")
