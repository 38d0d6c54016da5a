"""Searches on little, whose best goes on to more: successive halving of what was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nastool.executors import Executor
from nastool.recipes.fidelity import parse_fidelity
from nastool.recipes.study_recipe import StudyRecipe
from nastool.results import Result
from nastool.strategies.halving import Halving
from nastool.study import Study
from nastool.study.reopening import HALVED

if TYPE_CHECKING:
    from nastool.store import Store

Searched = Callable[[StudyRecipe], tuple[Study, Result]]
"""Runs a search that has no fidelity."""

Promoted = Callable[[Study, int], Result]
"""Runs a study of what was found before, of so many evaluations at most."""


@dataclass(frozen=True, eq=False)
class Steps:
    """What successive halving came to.

    Args:
        study: Of the last step that was begun.
        result: What it found.
        counts: Shapes evaluated in each step.
    """

    study: Study
    result: Result
    counts: tuple[int, ...]


def halve(
    recipe: StudyRecipe,
    store: Store | str,
    search: Searched,
    promote: Promoted,
    executor: Executor | str | None = None,
) -> Steps:
    """Search at the first step of a recipe's fidelity, and take what may be on the front on.

    Each step is a study of its own, whose values are all of that step. What it saves is said of
    the last one, too. The same again goes on wherever it was ended, also with a larger budget.

    Args:
        recipe: With a fidelity.
        store: Keeps the studies.
        search: Runs the first.
        promote: Runs the others.
        executor: Where the others evaluate; in this process by default.

    Returns:
        Where it was interrupted, what the step came to that was.

    Raises:
        InvalidInputError: No objective, or several, can be evaluated in these steps.
    """
    problem, cheaper = recipe.problem(), recipe.cheaper
    if cheaper.fidelity:
        below = halve(cheaper, store, search, promote, executor)
    else:
        study, found = search(cheaper)
        below = Steps(study, found, (len(found),))
    if below.result.stop_reason == "interrupted":
        return below
    strategy = Halving(problem, found=below.result.evaluations, column=recipe.halved)
    name = recipe.study or recipe.name_for(strategy)
    described = recipe.description
    study = Study(
        problem, strategy, store, name, recipe.seed, description=described, executor=executor
    )
    result = promote(study, max(len(below.result), 1))
    steps = Steps(study, result, (*below.counts, len(result)))
    if result.stop_reason != "interrupted":
        study.note(HALVED, parse_fidelity(recipe.fidelity).said(steps.counts))
    return steps
