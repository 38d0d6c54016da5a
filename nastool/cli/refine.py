"""``--refine N`` of ``nastool search``: measure what looks best, refit, search again."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nastool.cli.measuring import Measuring, measuring_names, measuring_options
from nastool.cli.options import count, opened_storage
from nastool.errors import InvalidInputError
from nastool.files.reading import is_file, read_text
from nastool.files.writing import write_whole, writing

if TYPE_CHECKING:
    from nastool.executors import Executor
    from nastool.objective import Objective
    from nastool.problem import Problem
    from nastool.results import Result
    from nastool.verification.refinement import Refinement, Round, Search

_F = TypeVar("_F", bound=Callable[..., Any])

_SHAPES = 16

_MARK = "search.txt"
"""In the folder of refitted predictors: whose they are."""


@dataclass(frozen=True)
class Refining:
    """What the refining options ask for.

    Args:
        rounds: Turns of the loop.
        shapes: Measured in a turn.
        folder: For the refitted predictors; named after what is searched by default.
        measuring: What measures.
    """

    rounds: int
    shapes: int
    folder: Path | None
    measuring: Measuring

    def __str__(self) -> str:
        times = "once" if self.rounds == 1 else f"{self.rounds} times"
        return f"{times}, with {self.shapes} measured shapes each"

    def run(
        self,
        problem: Problem,
        objectives: dict[str, Objective],
        search: Search,
        searched: str,
        storage: str,
        executor: Executor | None = None,
    ) -> Refinement:
        """Run the loop and say after every round how predictions and measurements agree.

        Args:
            problem: With predicted metrics.
            objectives: What measures them.
            search: Searches a problem in a round.
            searched: Names what is searched and how: loops that share it find the same.
            storage: Keeps measurements, unless ``none``.
            executor: Where shapes are measured; in this process by default.

        Raises:
            InvalidInputError: The folder keeps the predictors of another search.
        """
        from nastool.cli.progress import ProgressBar
        from nastool.verification import refine

        measured = {name: objective.fingerprint for name, objective in objectives.items()}
        content = json.dumps([searched, measured, self.shapes, storage], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:8]
        folder = self.folder or Path(f"refined-{digest}")
        mark = folder / _MARK
        if is_file(mark) and read_text(mark).strip() != digest:
            raise InvalidInputError(
                f"--refined: expected a new folder or that of this search, got {folder}, which "
                "keeps the predictors of another one"
            )

        def report(done: Round) -> None:
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            write_whole(mark, f"{digest}\n")
            for agreement in done.agreements:
                click.echo(f"round {done.number}: {agreement}", err=True)

        with (
            opened_storage(storage) as store,
            ProgressBar("measuring") as progress,
        ):
            return refine(
                problem,
                objectives,
                search,
                rounds=self.rounds,
                folder=folder,
                shapes=self.shapes,
                store=store,
                executor=executor,
                progress=progress,
                report=report,
            )

    def verify(
        self,
        result: Result,
        objectives: dict[str, Objective],
        storage: str,
        executor: Executor | None = None,
    ) -> Mapping[str, Any]:
        """Measure the front of the last search, too; what is found is also kept in the store."""
        from nastool.cli.progress import ProgressBar
        from nastool.verification import verify

        with (
            opened_storage(storage) as store,
            ProgressBar("measuring") as progress,
        ):
            found = verify(result, objectives, self.shapes, store, executor, progress)
            content = found.as_dict()
            if store is not None:
                store.annotate(result.name, "verification", content)
        return content


def refining_options(command: _F) -> _F:
    """Add ``--refine`` and what belongs to it, handed over as ``refining``: None without it."""

    @click.option(
        "--refine",
        "rounds",
        type=count,
        metavar="N",
        help="Search, measure what looks best, refit what predicts, search again: N times.",
    )
    @click.option(
        "--refine-shapes",
        "shapes",
        type=count,
        metavar="N",
        help=f"Shapes measured each time. Default: {_SHAPES}.",
    )
    @click.option(
        "--refined",
        "folder",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder for the refitted predictors. Default: refined-..., after what is searched.",
    )
    @measuring_options
    @functools.wraps(command)
    def packed(
        *arguments: Any,
        rounds: int | None,
        shapes: int | None,
        folder: Path | None,
        measuring: Measuring,
        **options: Any,
    ) -> Any:
        refining = None
        if rounds is not None:
            refining = Refining(rounds, shapes or _SHAPES, folder, measuring)
        elif shapes or folder or measuring:
            *others, last = ["--refine-shapes", "--refined", *measuring_names().split()]
            raise InvalidInputError(f"{', '.join(others)} and {last} need --refine N")
        return command(*arguments, refining=refining, **options)

    return packed  # type: ignore[return-value]  # what click calls takes the options instead
