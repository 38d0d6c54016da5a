"""Options that say what measures the metrics that are predicted."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nastool.errors import InvalidInputError

if TYPE_CHECKING:
    from nastool.objective import Objective
    from nastool.problem import Problem

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Measuring:
    """What the measuring options ask for.

    Args:
        settings: Keyword settings of the objectives that measure, for those that have them.
        texts: METRIC=OBJECTIVE, where a metric's name does not say what measures it.
    """

    settings: Mapping[str, Any]
    texts: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.settings or self.texts)

    def objectives(self, problem: Problem) -> dict[str, Objective]:
        """What measures each predicted metric; says of the others why they are not measured.

        Raises:
            InvalidInputError: Nothing is predicted, nothing can be measured, a text is wrong, or
                nothing that measures has a setting.
        """
        from nastool.verification.measurers import measurers

        given: dict[str, str] = {}
        for text in self.texts:
            # Either may have brackets with settings in them.
            match = re.fullmatch(r"((?:\[.*?\]|[^=\[])*)=(.*)", text)
            given[match[1] if match else text] = match[2] if match else ""
        measured, skipped = measurers(problem, self.settings, given)
        for name, reason in skipped.items():
            click.echo(f"{name} is not measured: {reason}", err=True)
        return measured


@functools.cache
def declared_options() -> Mapping[str, Callable[[Any], Any]]:
    """Options that packages declare for what measures: settings by name, each with its decorator.

    The core knows none of them. A package that cannot be loaded costs its own only.
    """
    from nastool.discovery import MEASURING, available

    found: dict[str, Callable[[Any], Any]] = {}
    for plugin in available(MEASURING):
        try:
            declare: Any = plugin.load()
            found |= declare()
        except InvalidInputError as error:
            click.echo(f"Warning: {error}", err=True)
    return found


def measuring_names() -> str:
    """The measuring options as they are typed, apart by spaces."""
    names = [f"--{name.replace('_', '-')}" for name in declared_options()]
    return " ".join([*names, "--measure", "--measuring"])


def measuring_options(command: _F) -> _F:
    """Add what is measured and with what, handed over as ``measuring``."""
    declared = declared_options()

    @click.option(
        "--measure",
        "measure_texts",
        metavar="METRIC=OBJECTIVE",
        multiple=True,
        help="What measures a metric, where neither its space nor its name says it; repeatable.",
    )
    @click.option(
        "--measuring",
        "setting_texts",
        metavar="KEY=VALUE",
        multiple=True,
        help="A setting of what measures; repeatable.",
    )
    @functools.wraps(command)
    def packed(
        *arguments: Any,
        measure_texts: tuple[str, ...],
        setting_texts: tuple[str, ...],
        **options: Any,
    ) -> Any:
        from nastool.recipes.settings import read_pairs

        given = {name: options.pop(name) for name in declared}
        settings = {name: value for name, value in given.items() if value not in (None, ())}
        for key, text in read_pairs(setting_texts, "--measuring").items():
            settings[key.replace("-", "_")] = text
        return command(*arguments, measuring=Measuring(settings, measure_texts), **options)

    for option in reversed(list(declared.values())):
        packed = option(packed)
    return packed  # type: ignore[return-value]  # what click calls takes the options instead
