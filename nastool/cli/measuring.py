"""Options that say what measures the metrics that are predicted."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nastool.cli.options import count

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
        from nastool.measurers import measurers

        given: dict[str, str] = {}
        for text in self.texts:
            metric, equals, objective = text.rpartition("=")
            given[metric if equals else text] = objective if equals else ""
        measured, skipped = measurers(problem, self.settings, given)
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
