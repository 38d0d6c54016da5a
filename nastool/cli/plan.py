"""A recipe as the command line runs it: what was there before, how far it is, what it found."""

from __future__ import annotations

from dataclasses import dataclass, field

import click

from nastool.cli.progress import ProgressBar
from nastool.cli.tracking import Tracking
from nastool.comparison.comparison import runs_of
from nastool.errors import InvalidInputError
from nastool.executors import Executor
from nastool.problem import Problem
from nastool.recipes.study_recipe import StudyRecipe
from nastool.results import Result
from nastool.store import open_store
from nastool.store.urls import showable
from nastool.study import NO_END, Ending, Study


@dataclass(frozen=True)
class Plan:
    """A recipe and how it is run.

    Args:
        recipe: What is searched and how.
        storage: Where it is kept, or ``none``.
        retry_failed: Whether to begin with what has failed in the stored study.
        ending: When it ends before its budget.
        executor: Where what is not cheap is evaluated; in this process by default.
        pending: How many are under way at a time, told one by one; None for whole batches.
        join: Whether other processes that join it work on the study, too.
        tracking: Where curves go.
    """

    recipe: StudyRecipe
    storage: str
    retry_failed: bool = False
    ending: Ending = NO_END
    executor: Executor | None = None
    pending: int | None = None
    join: bool = False
    tracking: Tracking = field(default_factory=Tracking)

    def study(self, problem: Problem | None = None) -> Study:
        """The study, with what the store already holds of it.

        Args:
            problem: The recipe's, where it is made already.
        """
        if self.storage == "none":
            return Study.of(self.recipe, problem=problem, executor=self.executor)
        if self.recipe.study:
            _check_name(self.storage, self.recipe.study)
        return Study.of(self.recipe, self.storage, problem=problem, executor=self.executor)

    def run(self, study: Study, label: str = "") -> Result:
        """Run the study up to the budget and, unless it is one of many, say what was there before.

        Args:
            study: From `study`.
            label: Which of many searches it is; empty for one by itself.
        """
        before, failed, budget = len(study) - study.known, study.failed, self.recipe.budget
        where = f"Study {study.name} in {showable(self.storage)}"
        name = study.name or self.recipe.name_for(study.strategy)
        tracked = self.tracking.opened(name, before, self.recipe.as_dict())
        with tracked, ProgressBar(f"searching, {label}" if label else "searching") as progress:
            result = study.run(
                budget,
                self.recipe.batch_size,
                self.tracking.following(study, progress),
                retry_failed=self.retry_failed,
                until=self.ending.until(),
                pending=self.pending,
                join=self.join,
            )
            self.tracking.ended(study)
        begun = study.known
        made = len(result) - begun
        if label:
            return result.first(budget + begun)
        if self.retry_failed:
            mended = failed - int(result.failed[: begun + before].sum())
            click.echo(
                f"{where}: of {failed:,} failed evaluations, {mended:,} have a value now.", err=True
            )
        elif 0 < before == made:
            held = min(before, budget)
            click.echo(
                f"{where} holds these {held:,} evaluations already; nothing was evaluated.",
                err=True,
            )
        if 0 < before < made:
            click.echo(f"{where} went on after {before:,} evaluations.", err=True)
        return result.first(budget + begun)


def _check_name(storage: str, name: str) -> None:
    """Refuse the name of a comparison, which ``nastool show`` would show instead."""
    with open_store(storage) as store:
        if runs_of(store, name):
            raise InvalidInputError(
                f"--study: expected a name of its own, got {name!r}, a comparison in {store.url}"
            )
