"""What a study is made from, as one value: to be kept, sent, and read from a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nastool.choices import plain
from nastool.constraint import Constraint, Sense, parse_bound, parse_constraint, parse_whole
from nastool.discovery import STRATEGIES, find, load_file
from nastool.errors import InvalidInputError, StoreError, nearest
from nastool.files.documents import (
    Document,
    json_document,
    kind_of,
    parse_document,
    read_document,
    toml_text,
)
from nastool.numbers import is_number, is_whole
from nastool.plugins import load_strategy, parse_spec
from nastool.problem import Problem
from nastool.recipes.fidelity import at_step, parse_fidelity
from nastool.recipes.problems import default_objectives, make_problem
from nastool.recipes.settings import typed_settings
from nastool.strategies.base import Strategy
from nastool.strategies.halving import Halving

if TYPE_CHECKING:
    from nastool.store import StudySummary

FIELDS = {
    "objective": "objectives",
    "constraint": "constraints",
    "option": "options",
    "predictor": "predictors",
    "plugin": "plugins",
    "from": "known",
}
"""Names of options, which files may use, too, and the fields that they are."""

_BOUNDS: Mapping[str, Sense] = {"max": "<=", "min": ">="}
"""Further keys of files: bounds by metric, e.g. ``max = {params = "66M"}``."""


SCHEMA = "recipe"
"""What a recipe in JSON says that it is, see ``docs/schemas``."""


@dataclass(frozen=True)
class StudyRecipe:
    """What a study is made from.

    Args:
        space: Text of the search space, e.g. ``supershaper``.
        objectives: Texts of what is optimised; those of the space where none is given.
        constraints: Bounds, as constraints or as their texts.
        strategy: Text of the strategy, e.g. ``evolution:paper``.
        options: Settings of the strategy, as values or as texts.
        budget: Architectures to evaluate.
        seed: Fixes everything that is drawn.
        batch_size: Candidates asked for at a time; None for the strategy's choice.
        predictors: Folders of predictors that take the place of a metric's own, by metric.
        study: The study's name; made from the rest where empty.
        plugins: Python files that register what is named here.
        known: Table or study whose evaluations the study begins with; nothing where empty.
        fidelity: Steps of an objective's setting, such as ``blocks=16,64,256``: what is searched on
            the first, and may be on the front, is evaluated on the next, as in
            `nastool.searching.halving`.

    Raises:
        InvalidInputError: A value of the wrong type, or a malformed bound.
    """

    space: str
    objectives: tuple[str, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    strategy: str = "evolution"
    options: Mapping[str, Any] = field(default_factory=dict)
    budget: int = 30_000
    seed: int = 0
    batch_size: int | None = None
    predictors: Mapping[str, str] = field(default_factory=dict)
    study: str = ""
    plugins: tuple[str, ...] = ()
    known: str = ""
    fidelity: str = ""

    def __post_init__(self) -> None:
        checked = _checked(
            Document("recipe", {f.name: getattr(self, f.name) for f in fields(self)})
        )
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def problem(self) -> Problem:
        """What is searched; made once.

        Raises:
            InvalidInputError: Something is unknown, or the parts do not fit together.
        """
        return self._problem

    @cached_property
    def _problem(self) -> Problem:
        wanted = self._at_last[1] if self.fidelity else self.wanted
        return make_problem(self.space, wanted, self.constraints, self.predictors)

    @cached_property
    def _at_last(self) -> tuple[int, tuple[str, ...]]:
        steps = parse_fidelity(self.fidelity)
        return at_step(self.wanted, steps.key, steps.numbers[-1])

    @property
    def halved(self) -> int:
        """Which objective is evaluated in steps, by its place."""
        return self._at_last[0]

    @cached_property
    def cheaper(self) -> StudyRecipe:
        """The search whose shapes go on to the last step of the fidelity: all but that step."""
        steps = parse_fidelity(self.fidelity)
        last = steps.numbers[-2]
        own = self.study.removesuffix(f"-{steps.key}-{steps.numbers[-1]}")
        study = f"{own}-{steps.key}-{last}" if own else ""
        if steps.cheaper is not None:
            return replace(self, fidelity=str(steps.cheaper), study=study)
        texts = at_step(self.wanted, steps.key, last)[1]
        return replace(self, objectives=texts, fidelity="", study=study)

    @cached_property
    def wanted(self) -> tuple[str, ...]:
        """The objectives, or those of the space where none is given."""
        for file in self.plugins:
            load_file(file)
        return self.objectives or default_objectives(self.space)

    def make_strategy(self, problem: Problem | None = None) -> Strategy:
        """A fresh strategy.

        Args:
            problem: What it is for; `problem` by default.
        """
        if self.fidelity:
            return Halving(problem or self.problem())
        return load_strategy(self.strategy, problem or self.problem(), self.seed, self.settings)

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The options as values of the types that the strategy takes."""
        if not self.options:
            return {}
        for file in self.plugins:
            load_file(file)
        return typed_settings(find(STRATEGIES, parse_spec(self.strategy).name), self.options)

    @property
    def name(self) -> str:
        """The study's name; one that two recipes share exactly when they would find the same."""
        return self.study or self.name_for(self.make_strategy())

    def name_for(self, strategy: Strategy) -> str:
        """The name that follows from what is searched and how, whatever it was given.

        Args:
            strategy: What `make_strategy` returns.
        """
        problem = strategy.problem
        content = [problem.fingerprint, self.strategy, self.seed, self.batch_size]
        text = json.dumps([*content, sorted(self.settings.items())])
        if self.known:
            text += f" from {self.known}"
        if self.fidelity:
            text += f" at {self.fidelity}"
        if strategy.revision > 1:
            text += f" revision {strategy.revision}"
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        space = problem.space.name.partition("[")[0]
        kind = self.strategy.partition("[")[0].partition(":")[0]
        return f"{space}-{kind}-{digest}"

    @property
    def description(self) -> dict[str, Any]:
        """What a store keeps of it, as JSON values; `stored_recipe` reads it."""
        content: dict[str, Any] = {
            "space": self.space,
            "objectives": list(self.wanted),
            "constraints": [str(constraint) for constraint in self.constraints],
            "strategy": self.strategy,
            "settings": dict(self.settings),
            "budget": self.budget,
            "batch_size": self.batch_size,
        }
        if self.predictors:
            content["refined"] = dict(self.predictors)
        if self.known:
            content["from"] = self.known
        if self.fidelity:
            content["fidelity"] = self.fidelity
        return content

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON values, without those that are as they are by default."""
        content: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            default = f.default if f.default_factory is MISSING else f.default_factory()
            if value == default and f.name not in _ALWAYS:
                continue
            if f.name == "constraints":
                value = [str(constraint) for constraint in value]
            content[f.name] = list(value) if isinstance(value, tuple) else value
        return content

    def to_json(self) -> str:
        """Itself as JSON, for `from_json`."""
        return json_document(SCHEMA, self.as_dict())

    def to_toml(self) -> str:
        """Itself as TOML, for `from_toml` and ``nastool run``."""
        content = self.as_dict()
        # TOML has no word for nothing; texts are read by what the strategy takes.
        options = {key: "none" if v is None else v for key, v in self.options.items()}
        return toml_text(content | ({"options": options} if options else {}))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], name: str = "recipe") -> Self:
        """Make a recipe from its fields.

        Args:
            content: By field; ``max`` and ``min`` may bound metrics, too.
            name: What it is called in messages.

        Raises:
            InvalidInputError: An unknown key, or a value of the wrong type.
        """
        return cls(**_checked(Document(name, content)))

    @classmethod
    def from_json(cls, text: str, name: str = "recipe") -> Self:
        """Read what `to_json` wrote.

        Raises:
            InvalidInputError: It is no JSON object, or as `from_dict`; names key and line.
        """
        return cls(**_checked(parse_document(text, name, is_toml=False)))

    @classmethod
    def from_toml(cls, text: str, name: str = "recipe") -> Self:
        """Read TOML; see `from_json`."""
        return cls(**_checked(parse_document(text, name)))

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a file: JSON where its name ends in .json, else TOML; see `from_json`."""
        return cls(**_checked(read_document(Path(path))))


_ALWAYS = ("space", "strategy", "budget", "seed")
"""Fields that are written even where they are as they are by default."""


def described_recipe(
    description: Mapping[str, Any], evaluations: int, name: str = ""
) -> StudyRecipe:
    """The recipe that the description of a study says, as `StudyRecipe.description` wrote it.

    Args:
        description: Of the study; older ones say neither budget nor batch size.
        evaluations: How many it has made, which may be more than it began with in mind.
        name: Of the study.

    Raises:
        InvalidInputError: Something in it is not what it should be.
    """
    renamed = {"settings": "options", "refined": "predictors", "from": "known"}
    keys = ("space", "objectives", "constraints", "strategy", "seed", "batch_size", "fidelity")
    content = {key: description[key] for key in keys if key in description}
    content |= {new: description[old] for old, new in renamed.items() if old in description}
    budget = description.get("budget", 1)
    known = description.get("known")
    if isinstance(known, dict) and isinstance(known.get("evaluations"), int):
        evaluations -= known["evaluations"]
    if isinstance(budget, int):
        budget = max(1, evaluations, budget)
    return StudyRecipe.from_dict(content | {"budget": budget, "study": name}, f"study {name!r}")


def stored_recipe(summary: StudySummary) -> StudyRecipe:
    """The recipe of a stored study.

    Raises:
        StoreError: Its description is damaged.
    """
    for key in ("space", "strategy"):
        summary.text(key)
    for key in ("objectives", "constraints"):
        summary.texts(key)
    summary.number("seed")
    refined = summary.description.get("refined", {})
    if not isinstance(refined, dict) or not all(isinstance(p, str) for p in refined.values()):
        raise summary.damaged("refined", "name a folder for each metric", refined)
    try:
        return described_recipe(summary.description, summary.evaluations, summary.name)
    except InvalidInputError as error:
        raise StoreError(f"study {summary.name!r} is damaged: {error}") from error


def shared_recipe(summary: StudySummary) -> StudyRecipe:
    """The recipe of a stored study for others: without a name that follows from the rest.

    Raises:
        InvalidInputError: A part of it is unknown.
        StoreError: Its description is damaged.
    """
    recipe = stored_recipe(summary)
    # Older studies do not say what the name was made with.
    sizes = dict.fromkeys([recipe.batch_size, summary.identity.get("batch_size")])
    strategy = recipe.make_strategy()
    for size in sizes:
        candidate = replace(recipe, study="", batch_size=size)
        if candidate.name_for(strategy) == summary.name:
            return candidate
    return recipe


def stored_problem(summary: StudySummary) -> Problem:
    """The problem of a stored study, made again from its description.

    Raises:
        InvalidInputError: A part is unknown; it may come from a plugin file that is not loaded.
        StoreError: The description is damaged.
    """
    recipe = stored_recipe(summary)
    try:
        return recipe.problem()
    except InvalidInputError as error:
        raise InvalidInputError(
            f"study {summary.name!r} cannot be opened: {error} "
            "(what a plugin file defines needs --plugin FILE.py again)"
        ) from error


def _checked(document: Document) -> dict[str, Any]:
    """The fields that a document gives, as the recipe keeps them."""
    known = [f.name for f in fields(StudyRecipe)]
    found: dict[str, Any] = {}
    bounds: list[Constraint] = []
    for key, value in document.content.items():
        if key == "version" and "schema" in document.content:
            continue
        if key == "schema":
            check_schema(document)
            continue
        name = key.replace("-", "_")
        name = FIELDS.get(name, name)
        if name in _BOUNDS:
            bounds += _bounds(document, key, value, _BOUNDS[name])
            continue
        if name not in known:
            raise InvalidInputError(
                f"{document.at(key)}: unknown key; {nearest(name, [*known, *_BOUNDS])}"
            )
        if name in found:
            raise InvalidInputError(f"{document.at(key)}: expected once, got it by two names")
        found[name] = _field(document, key, name, value)
    if bounds:
        found["constraints"] = tuple(dict.fromkeys([*found.get("constraints", ()), *bounds]))
    if "space" not in found:
        raise InvalidInputError(f"{document.name}: expected a space, got none")
    return found


def check_schema(document: Document) -> None:
    """Raise InvalidInputError where a document says that it is something else than a recipe."""
    if (said := document.content["schema"]) != f"nastool/{SCHEMA}":
        raise InvalidInputError(f"{document.at('schema')}: expected nastool/{SCHEMA}, got {said!r}")


def _field(document: Document, key: str, name: str, value: Any) -> Any:
    """A value as the recipe keeps it."""
    if name in ("space", "strategy", "study", "known", "fidelity"):
        if not isinstance(value, str) or not (value or name in ("study", "known", "fidelity")):
            raise _wrong(document, key, "a text", value)
        if value and not value.strip():
            raise _wrong(document, key, "a text that is not blank", value)
        return str(parse_fidelity(value)) if value and name == "fidelity" else value
    if name in ("budget", "seed", "batch_size"):
        if name == "batch_size" and value is None:
            return None
        least = 0 if name == "seed" else 1
        number = parse_whole(value, least) if isinstance(value, str) else plain(value)
        if not is_whole(number, least):
            raise _wrong(document, key, f"a whole number of at least {least}", value)
        return number
    if name in ("options", "predictors"):
        if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
            raise _wrong(document, key, "a table", value)
        if name == "predictors" and not all(isinstance(path, str) for path in value.values()):
            raise _wrong(document, key, "a folder for each metric", value)
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (str, Mapping)) or not isinstance(value, Sequence):
        raise _wrong(document, key, "a list of texts", value)
    if name == "constraints":
        return tuple(dict.fromkeys(_constraint(document, key, item) for item in value))
    for item in value:
        if not isinstance(item, str):
            raise _wrong(document, key, "a list of texts", item)
    return tuple(value)


def _constraint(document: Document, key: str, value: Any) -> Constraint:
    if isinstance(value, Constraint):
        return value
    if not isinstance(value, str):
        raise _wrong(document, key, "a list of texts", value)
    try:
        return parse_constraint(value)
    except InvalidInputError as error:
        raise InvalidInputError(f"{document.at(key)}: {error}") from error


def _bounds(document: Document, key: str, value: Any, sense: Sense) -> list[Constraint]:
    """The constraints of ``max`` or ``min``: a table, or a list of ``METRIC=NUMBER``."""
    if isinstance(value, Mapping):
        return [_bound(document, (key, metric), bound, sense) for metric, bound in value.items()]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_bound(document, (key,), item, sense) for item in value]
    raise _wrong(document, key, "a table of bounds by metric", value)


def _bound(document: Document, keys: tuple[str, ...], value: Any, sense: Sense) -> Constraint:
    """A bound from its value under a metric, or from a whole ``METRIC=NUMBER``."""
    value = plain(value)
    if not isinstance(value, str) and not is_number(value):
        raise _wrong(document, keys, "a number, such as 66M", value)
    try:
        return parse_bound("=".join([*keys[1:], str(value)]), sense)
    except InvalidInputError as error:
        raise InvalidInputError(f"{document.at(*keys)}: {error}") from error


def _wrong(
    document: Document, keys: str | tuple[str, ...], expected: str, value: Any
) -> InvalidInputError:
    place = document.at(*([keys] if isinstance(keys, str) else keys))
    return InvalidInputError(f"{place}: expected {expected}, got {kind_of(value)} ({value!r:.80})")
