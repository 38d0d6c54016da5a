"""Options that say where objectives are evaluated that are not cheap."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nastool.cli.options import parse_time

if TYPE_CHECKING:
    from nastool.executors import Executor

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Executing:
    """What the options of executors ask for.

    Args:
        text: The executor; None for this process.
        timeout_s: Seconds that one shape may take; None for as long as it needs.
    """

    text: str | None = None
    timeout_s: float | None = None

    @contextmanager
    def opened(self) -> Iterator[Executor | None]:
        """The executor, for the time of the block; None where none is named.

        Raises:
            InvalidInputError: It is unknown, or rejects its argument.
        """
        if self.text is None:
            yield None
            return
        from nastool.executors import load_executor

        with load_executor(self.text, self.timeout_s) as executor:
            # Reaches the engine: who asks for one is told at once that it is not there.
            _ = executor.workers
            yield executor


def how_it_went(description: Mapping[str, Any]) -> dict[str, str]:
    """What to say of how a study went, from its description: where it began, and by which order."""
    from nastool.study.reopening import ASYNCHRONOUS, HALVED, KNOWN

    said = {}
    if KNOWN in description:
        begun = description[KNOWN]
        said[KNOWN] = (
            f"{begun['evaluations']:,} evaluations from {begun.get('source') or 'elsewhere'}, told "
            "to the strategy and not paid for"
        )
    if ASYNCHRONOUS in description:
        said[ASYNCHRONOUS] = (
            f"{description[ASYNCHRONOUS]}, told as they came: the order depends on the machines, "
            "and another run may find something else"
        )
    if HALVED in description:
        said["fidelity"] = str(description[HALVED])
    return said


def executor_options(command: _F) -> _F:
    """Add ``--executor`` and ``--timeout-per-shape``, handed over as ``executing``."""

    @click.option(
        "--executor",
        "executor_text",
        metavar="NAME",
        help="Where what is measured is measured: serial, processes:4, dask[ADDRESS], "
        "ray[ADDRESS], slurm[KEY=VALUE,...], futures[MODULE:FACTORY]. Default: serial.",
    )
    @click.option(
        "--timeout-per-shape",
        "timeout_text",
        metavar="TIME",
        help="Give a shape up after so long, e.g. 90s or 7m; it counts as failed.",
    )
    @functools.wraps(command)
    def packed(
        *arguments: Any, executor_text: str | None, timeout_text: str | None, **options: Any
    ) -> Any:
        from nastool.errors import InvalidInputError

        timeout = None if timeout_text is None else parse_time("--timeout-per-shape", timeout_text)
        if timeout is not None and executor_text in (None, "serial"):
            raise InvalidInputError(
                "--timeout-per-shape needs an --executor with workers, which can be left behind, "
                "such as processes:2"
            )
        return command(*arguments, executing=Executing(executor_text, timeout), **options)

    return packed  # type: ignore[return-value]  # what click calls takes the options instead
