"""Plugins of every kind: who offers a name, and how what is offered is loaded.

Installed distributions offer plugins by entry points, files by a decorator, and nastool itself a
few without either. One look-up serves all of them: a name must come from one place, listing
imports nothing, and whatever a package does when it is loaded is one line that names it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import Any, TypeVar

from nastool.errors import InvalidInputError, naming, nearest
from nastool.files.reading import is_file, reading
from nastool.runtime.quiet import quiet

SEARCH_SPACES = "nastool.search_spaces"
OBJECTIVES = "nastool.objectives"
STRATEGIES = "nastool.strategies"
PREDICTORS = "nastool.predictors"
DEVICES = "nastool.devices"
EXECUTORS = "nastool.executors"
COMMANDS = "nastool.commands"
PUBLICATIONS = "nastool.publications"
PRESETS = "nastool.presets"
SUPERNETS = "nastool.supernets"
MEASURING = "nastool.measuring"
WATCHED = "nastool.watched"

GROUPS: Mapping[str, str] = {
    SEARCH_SPACES: "search space",
    OBJECTIVES: "objective",
    STRATEGIES: "strategy",
    PREDICTORS: "predictor",
    DEVICES: "device",
    EXECUTORS: "executor",
    COMMANDS: "command",
    PUBLICATIONS: "published folder",
    PRESETS: "preset",
    SUPERNETS: "supernet family",
    MEASURING: "measuring options",
    WATCHED: "watched folder",
}
"""Entry-point groups, and what one member of each is called."""

_TAKES: Mapping[str, str] = {
    SEARCH_SPACES: "argument",
    OBJECTIVES: "space, argument",
    STRATEGIES: "problem, seed",
    PREDICTORS: "",
    DEVICES: "argument",
    EXECUTORS: "argument",
}
"""What the callables of a group are called with, beside settings."""

_BUILT_IN: Mapping[str, Mapping[str, str]] = {
    # The core's own need no entry point, so that they are there wherever the core is.
    PREDICTORS: {
        "additive": "nastool.predictors.additive:AdditiveScores",
        "ensemble": "nastool.predictors.ensemble:Ensemble",
        "gaussian-process": "nastool.predictors.gaussian_process:GaussianProcess",
        "linear": "nastool.predictors.linear:linear",
        "pairwise": "nastool.predictors.linear:pairwise_additive",
        "transfer": "nastool.predictors.transfer:Recalibrated",
        "xgboost": "nastool.predictors.boosted_trees:BoostedTrees",
    },
    EXECUTORS: {
        "dask": "nastool.executors.dask:create",
        "futures": "nastool.executors.futures:create",
        "processes": "nastool.executors.processes:create",
        "ray": "nastool.executors.ray:create",
        "serial": "nastool.executors.serial:create",
        "slurm": "nastool.executors.slurm:create",
    },
    COMMANDS: {
        "compare": "nastool.cli.compare:compare",
        "fit": "nastool.cli.fit:fit",
        "list": "nastool.cli.list:list_plugins",
        "regret": "nastool.cli.regret:regret",
        "run": "nastool.cli.run:run",
        "search": "nastool.cli.search:search",
        "push": "nastool.cli.push:push",
        "show": "nastool.cli.show:show",
        "space": "nastool.cli.space:space",
        "studies": "nastool.cli.studies:studies",
        "sweep": "nastool.cli.sweep:sweep",
        "to-optuna": "nastool.cli.to_optuna:to_optuna",
        "verify": "nastool.cli.verify:verify",
        "watch": "nastool.cli.watch:watch",
    },
}

_Factory = TypeVar("_Factory", bound=Callable[..., object])


@dataclass(frozen=True)
class Plugin:
    """Something that can be chosen by name.

    Args:
        group: Entry-point group, one of `GROUPS`.
        name: What users type.
        origin: Distribution and version, or the file.
        factory: Imports it and returns the callable (the click command in `COMMANDS`).
        source: ``module:attribute``, for the summary; empty where it is not importable.
    """

    group: str
    name: str
    origin: str
    factory: Callable[[], object] = field(compare=False, repr=False)
    source: str = ""

    def __str__(self) -> str:
        return f"{GROUPS[self.group]} {self.name!r} of {self.origin}"

    def load(self) -> object:
        """Import it and return the callable.

        Raises:
            InvalidInputError: Importing it raised something, or ended in ``sys.exit()``.
        """
        with naming(str(self), "cannot be loaded", InvalidInputError):
            return self.factory()

    def make(self, kind: type, *arguments: object, **settings: object) -> Any:
        """Call what is loaded, and check that it returns one of a kind.

        Args:
            kind: What it must make.
            arguments: What every member of its group is given.
            settings: What this one has besides.

        Raises:
            InvalidInputError: It cannot be loaded or called like that, it raised something, or made
                something else.
        """
        factory = self.load()
        if not callable(factory):
            raise InvalidInputError(f"{self} must be callable, got {type(factory).__name__}")
        self._check_call(factory, arguments, settings)
        with naming(str(self), kind=InvalidInputError):
            made = factory(*arguments, **settings)
        if not isinstance(made, kind):
            raise InvalidInputError(
                f"{self} must make a {kind.__name__}, got {type(made).__name__}"
            )
        return made

    def _check_call(
        self,
        factory: Callable[..., object],
        given: Sequence[object],
        settings: Mapping[str, object],
    ) -> None:
        try:
            signature = inspect.signature(factory)
        except (TypeError, ValueError):  # what is written in C may not say what it takes
            return
        try:
            signature.bind(*given, **settings)
        except TypeError as error:
            raise InvalidInputError(
                f"{self} must take ({_TAKES[self.group]}), got one that takes {signature}"
            ) from error

    @cached_property
    def summary(self) -> str:
        """First sentence of its docstring, read from the source without running it."""
        if self.source:
            return _summary_from_source(self.source)
        # Its own: what a class inherits says what kind of thing it is, not which.
        docstring = self.load().__doc__
        return _first_sentence(inspect.cleandoc(docstring) if docstring else None)


def available(group: str) -> tuple[Plugin, ...]:
    """Every plugin of a group by name, from distributions and from loaded files.

    Raises:
        InvalidInputError: Unknown group.
    """
    if group not in GROUPS:
        raise InvalidInputError(f"plugin group must be one of {', '.join(GROUPS)}, got {group!r}")
    registered = [plugin for (its, _, _), plugin in _registered.items() if its == group]
    return tuple(sorted([*_installed(group), *registered], key=lambda p: (p.name, p.origin)))


def find(group: str, name: str) -> Plugin:
    """The one plugin of that name.

    Raises:
        InvalidInputError: There is none, or more than one.
    """
    plugins = available(group)
    found = [plugin for plugin in plugins if plugin.name == name]
    if not found:
        known = nearest(name, (plugin.name for plugin in plugins))
        raise InvalidInputError(f"unknown {GROUPS[group]} {name!r}; {known}")
    if len(found) > 1:
        origins = " and ".join(plugin.origin for plugin in found)
        raise InvalidInputError(
            f"{GROUPS[group]} {name!r} must come from one place, got it from {origins}"
        )
    return found[0]


@cache
def _installed(group: str) -> tuple[Plugin, ...]:
    # An editable install may be seen twice, once through its folder.
    points = {(p.name, p.value, _origin(p)): p for p in _entry_points(group)}
    offered = [
        Plugin(group, name, origin, point.load, source)
        for (name, source, origin), point in points.items()
    ]
    # Our own distribution may declare what is built in: that is one place.
    declared = {(plugin.name, plugin.source) for plugin in offered}
    own = [
        Plugin(group, name, _nastool(), EntryPoint(name, source, group).load, source)
        for name, source in _BUILT_IN.get(group, {}).items()
        if (name, source) not in declared
    ]
    return (*offered, *own)


def _nastool() -> str:
    # By name: the package imports what lies above this module.
    return f"nastool {sys.modules['nastool'].__version__}"


_declared = cache(importlib.metadata.entry_points)
"""Entry points of all groups: to find them, every distribution is looked at."""


def _entry_points(group: str) -> Iterator[EntryPoint]:
    try:
        yield from _declared().select(group=group)
        return
    except Exception:  # noqa: BLE001  # a package's own files are damaged: those of the others count
        distributions = list(importlib.metadata.distributions())
    for distribution in distributions:
        try:
            points = [point for point in distribution.entry_points if point.group == group]
        except Exception:  # noqa: BLE001, S112  # it offers nothing that could be read
            continue
        yield from points


def _origin(point: EntryPoint) -> str:
    try:
        return _named(point.dist) if point.dist else point.value
    except Exception:  # noqa: BLE001  # a distribution without metadata
        return point.value


@cache
def _named(distribution: Distribution) -> str:
    # Its metadata holds its whole description, and is parsed whenever it is asked for.
    metadata = distribution.metadata
    return f"{metadata['Name']} {metadata['Version']}"


_FILE = "nastool_plugin_"
"""How modules of files begin."""

_registered: dict[tuple[str, str, str], Plugin] = {}
"""What files have registered, by group, name and module."""


def register(group: str, name: str) -> Callable[[_Factory], _Factory]:
    """Return a decorator that offers what it decorates under a name."""

    def decorate(factory: _Factory) -> _Factory:
        module = factory.__module__
        origin = getattr(sys.modules.get(module), "__file__", None) or module
        before = _registered.get((group, name, module))
        # A notebook's cell may be run again; a file is run once.
        if before is not None and module.startswith(_FILE) and before.load() is not factory:
            raise InvalidInputError(f"{before} must be one, got two of that name")
        _registered[group, name, module] = Plugin(group, name, origin, lambda: factory)
        return factory

    return decorate


def load_file(path: str | Path) -> tuple[Plugin, ...]:
    """Run a Python file that registers plugins; once, however often it is named.

    Returns:
        What the file registered.

    Raises:
        InvalidInputError: No such file, it fails, or it registers nothing.
    """
    with reading(f"--plugin {path}"):
        file = Path(path).resolve()
    if not is_file(file):
        raise InvalidInputError(f"--plugin: expected a Python file, got {str(path)!r}")
    # Two files must never be one module, whatever their names.
    digest = hashlib.sha256(str(file).encode(errors="surrogateescape")).hexdigest()
    module_name = f"{_FILE}{digest[:32]}"
    if module_name not in sys.modules:
        _run_file(file, module_name)
        _files[module_name] = file
    found = tuple(p for (_, _, module), p in _registered.items() if module == module_name)
    if not found:
        raise InvalidInputError(
            f"--plugin {path}: expected at least one register_space, register_objective, "
            "register_strategy, register_predictor, register_device, register_executor or "
            "register_family, got none"
        )
    return found


_files: dict[str, Path] = {}
"""Files that `load_file` has run, by the names of their modules."""


def loaded_files() -> tuple[Path, ...]:
    """The files that were loaded, in that order."""
    return tuple(file for module, file in _files.items() if module in sys.modules)


def raised_by(error: BaseException) -> str:
    """Whose plugin an exception comes from, a file or a distribution; empty where it is ours.

    It is a plugin's if nastool was not called again before it was raised.
    """
    strangers = {
        point.value.partition(":")[0].partition(".")[0].strip(): _origin(point)
        for group in GROUPS
        for point in _entry_points(group)
    }
    trace, modules = error.__traceback__, []
    while trace is not None:
        modules.append(str(trace.tb_frame.f_globals.get("__name__", "")))
        trace = trace.tb_next
    for module in reversed(modules):
        if module in _files:
            return str(_files[module])
        first = module.partition(".")[0]
        origin = strangers.get(first, "")
        if first == "nastool" or origin == _nastool():
            return ""
        if origin:
            return origin
    return ""


def _run_file(file: Path, module_name: str) -> None:
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise InvalidInputError(f"--plugin {file}: expected a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and annotations look their module up there while it runs.
    sys.modules[module_name] = module
    try:
        with naming(f"--plugin {file}", "cannot be run", InvalidInputError):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        for key in [key for key in _registered if key[2] == module_name]:
            del _registered[key]
        raise


def _summary_from_source(source: str) -> str:
    """First sentence of the docstring of ``module:attribute``; empty where it cannot be read."""
    module, _, attribute = source.partition(":")
    attribute = attribute.partition("[")[0].strip()
    try:
        path = _module_file(module.strip())
        text = path.read_text(encoding="utf-8") if path else ""
        with quiet(warning=Warning):
            body = ast.parse(text).body
    except Exception:  # noqa: BLE001  # whatever is wrong with it is said when it is used
        return ""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == attribute:
            return _first_sentence(ast.get_docstring(node))
    return ""


def _module_file(module: str) -> Path | None:
    """Where a module's source lies. Finding only its first package, so that nothing is run."""
    first, *rest = module.split(".")
    spec = importlib.util.find_spec(first)
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin else None
    for folder in spec.submodule_search_locations or ():
        base = Path(folder, *rest)
        for candidate in (base.with_suffix(".py"), base / "__init__.py"):
            if is_file(candidate):
                return candidate
    return None


def _first_sentence(docstring: str | None) -> str:
    paragraph = " ".join((docstring or "").partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].removesuffix(".").replace("``", "")
