"""Objectives at less and less of their cost: settings within their names, and steps of one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nastool.constraint import parse_whole
from nastool.discovery import OBJECTIVES, find
from nastool.errors import InvalidInputError
from nastool.objective import Objective
from nastool.plugins import load_objective, parse_spec
from nastool.recipes.settings import keyword_settings, typed_settings
from nastool.space import SearchSpace


@dataclass(frozen=True)
class Fidelity:
    """How much an objective is evaluated on, in steps.

    Args:
        key: The setting that says it, such as ``blocks``.
        numbers: Its values, ascending, at least two.
    """

    key: str
    numbers: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.key}={','.join(map(str, self.numbers))}"

    @property
    def cheaper(self) -> Fidelity | None:
        """Without the last step; None where one would be left."""
        return Fidelity(self.key, self.numbers[:-1]) if len(self.numbers) > 2 else None

    def said(self, counts: Sequence[int]) -> str:
        """How many were evaluated on how much, and what that saved, given the counts."""
        parts = ", ".join(f"{n:,} on {k:,}" for n, k in zip(counts, self.numbers, strict=True))
        read = sum(n * k for n, k in zip(counts, self.numbers, strict=True))
        saved = 1 - read / max(counts[0] * self.numbers[-1], 1)
        what = "tokens" if self.key == "blocks" else self.key
        if saved < 0:
            return f"Shapes by {self.key}: {parts}; {-saved:.0%} more {what} than all at once"
        return f"Shapes by {self.key}: {parts}; {saved:.0%} of the {what} saved"


def parse_fidelity(text: str) -> Fidelity:
    """Read ``blocks=16,64,256``: values of a setting, ascending.

    Raises:
        InvalidInputError: It is something else.
    """
    name, _, numbers = text.partition("=")
    key = name.strip().replace("-", "_")
    found = [parse_whole(number.strip(), 1) for number in numbers.split(",")]
    read = [number for number in found if number is not None]
    rising = all(a < b for a, b in itertools.pairwise(read))
    if not key.isidentifier() or len(read) < max(2, len(found)) or not rising:
        raise InvalidInputError(
            "--fidelity: expected two or more numbers, ascending, such as blocks=16,64,256, got "
            f"{text!r}"
        )
    return Fidelity(key, tuple(read))


def at_step(objectives: Sequence[str], key: str, number: int) -> tuple[int, tuple[str, ...]]:
    """Which objective has a setting, and the texts of all with that setting at a value.

    Raises:
        InvalidInputError: None has it, or several have.
    """
    having = [
        place for place, text in enumerate(objectives) if key in _settings_of(parse_spec(text).name)
    ]
    if len(having) != 1:
        names = ", ".join(objectives[place] for place in having) or "none"
        raise InvalidInputError(
            f"--fidelity: expected one objective with a setting {key!r}, such as "
            f"measured_perplexity[SUPERNET] with blocks, got {names} of {', '.join(objectives)}"
        )
    (place,) = having
    bare, settings = split_settings(objectives[place])
    if key in settings:
        raise InvalidInputError(
            f"--fidelity: expected no {key} of its own in {objectives[place]}, got {settings[key]}"
        )
    texts = list(objectives)
    texts[place] = _with_settings(bare, {**settings, key: str(number)})
    return place, tuple(texts)


def _settings_of(name: str) -> tuple[str, ...]:
    """Settings of an objective's plugin; none of a cost of a space, or of what is unknown."""
    try:
        return keyword_settings(find(OBJECTIVES, name))
    except InvalidInputError:
        return ()


def split_settings(text: str) -> tuple[str, dict[str, str]]:
    """What an objective is called, and the settings at the end of its brackets.

    ``measured_perplexity[runs/net,blocks=16]`` is ``measured_perplexity[runs/net]`` with the
    setting ``blocks``, as far as its plugin has one of that name.
    """
    spec = parse_spec(text)
    if spec.argument is None or "=" not in spec.argument:
        return text, {}
    known = _settings_of(spec.name)
    parts, found = spec.argument.split(","), {}
    begin = end = len(parts)
    while begin > 0:
        begin -= 1
        key, equals, _ = parts[begin].partition("=")
        name = key.strip().replace("-", "_")
        if not equals or name not in known:
            continue  # may be what follows a comma in a value, such as the name of a file
        if name in found:
            break
        found[name] = ",".join(parts[begin:end]).partition("=")[2].strip()
        end = begin
    if not found:
        return text, {}
    bare = replace(spec, argument=",".join(parts[:end]) or None)
    return str(bare), dict(reversed(found.items()))


def _with_settings(bare: str, settings: dict[str, str]) -> str:
    spec = parse_spec(bare)
    own = [spec.argument] if spec.argument else []
    parts = [*own, *(f"{key}={value}" for key, value in settings.items())]
    return str(replace(spec, argument=",".join(parts)))


def make_objective(
    text: str, space: SearchSpace, settings: dict[str, Any] | None = None
) -> Objective:
    """Make an objective from its name, which may have settings at the end of its brackets.

    Args:
        text: E.g. ``measured_perplexity[runs/net,blocks=16]``.
        space: What it is for.
        settings: Further ones; those of the name go before.

    Raises:
        InvalidInputError: Unknown, or what the plugin rejects.
    """
    bare, given = split_settings(text)
    if given:
        plugin = find(OBJECTIVES, parse_spec(bare).name)
        settings = {**(settings or {}), **typed_settings(plugin, given, text)}
    return load_objective(bare, space, settings)
