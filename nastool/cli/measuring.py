"""Options that say what measures the metrics that are predicted."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nastool.cli.options import count
from nastool.errors import InvalidInputError, NastoolError

if TYPE_CHECKING:
    from nastool.objective import Objective
    from nastool.problem import Problem

MEASURED = "measured_"
"""What the name of an objective begins with that measures what another one predicts."""

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
        from nastool.plugins import load_objective, parse_spec
        from nastool.verification import predicted_metrics

        names = [metric.name for metric in predicted_metrics(problem)]
        if not names:
            raise InvalidInputError("the problem predicts nothing: there is nothing to measure")
        given: dict[str, str] = {}
        for text in self.texts:
            metric, equals, objective = text.rpartition("=")
            if not equals or metric not in names:
                raise InvalidInputError(
                    f"--measure: expected METRIC=OBJECTIVE with METRIC one of {', '.join(names)}, "
                    f"got {text!r}"
                )
            given[metric] = objective
        measured: dict[str, Objective] = {}
        skipped: dict[str, str] = {}
        ignored = set(self.settings)
        for name in names:
            spec = given.get(name, f"{MEASURED}{parse_spec(name)}")
            try:
                settings = _taken(spec, self.settings)
                ignored -= settings.keys()
                measured[name] = load_objective(spec, problem.space, settings)
            except NastoolError as error:
                if name in given:
                    raise
                skipped[name] = str(error)
        if not measured:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
            raise InvalidInputError(
                f"no predicted metric can be measured, and --measure METRIC=OBJECTIVE names no "
                f"other way: {reasons}"
            )
        if ignored:
            # Settings are named as their options.
            options = " and ".join(f"--{name}" for name in self.settings if name in ignored)
            by = ", ".join(objective.name for objective in measured.values())
            raise InvalidInputError(
                f"{options}: what measures must have such a setting, got {by}, which has not"
            )
        for name, reason in skipped.items():
            click.echo(f"{name} is not measured: {reason}", err=True)
        return measured


def measuring_options(command: _F) -> _F:
    """Add what is measured and with what, handed over as ``measuring``."""

    @click.option(
        "--supernet",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Supernet that quality is measured on.",
    )
    @click.option(
        "--text",
        metavar="FILE",
        multiple=True,
        help="Held-out text to measure it with; repeatable. Default: what training held out.",
    )
    @click.option(
        "--blocks",
        type=count,
        metavar="N",
        help="Blocks of that text to measure with, evenly spaced. Default: all.",
    )
    @click.option(
        "--measure",
        "measure_texts",
        metavar="METRIC=OBJECTIVE",
        multiple=True,
        help="What measures a metric, where its name does not say it; repeatable.",
    )
    @functools.wraps(command)
    def packed(
        *arguments: Any,
        supernet: Path | None,
        text: tuple[str, ...],
        blocks: int | None,
        measure_texts: tuple[str, ...],
        **options: Any,
    ) -> Any:
        settings: dict[str, Any] = {}
        if supernet is not None:
            settings["supernet"] = str(supernet)
        if text:
            settings["text"] = text
        if blocks is not None:
            settings["blocks"] = blocks
        return command(*arguments, measuring=Measuring(settings, measure_texts), **options)

    return packed  # type: ignore[return-value]  # what click calls takes the options instead


def _taken(spec: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that an objective has."""
    from nastool.plugins import OBJECTIVES, find, parse_spec

    factory: Any = find(OBJECTIVES, parse_spec(spec).name).load()
    known = inspect.signature(factory).parameters
    return {name: value for name, value in settings.items() if name in known}
