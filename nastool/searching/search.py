"""A search in one call: names or objects in, a result out."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nastool.choices import listed
from nastool.constraint import Constraint
from nastool.errors import InvalidInputError
from nastool.objective import Objective, check_objective
from nastool.recipes.problems import default_objectives, make_problem
from nastool.recipes.study_recipe import StudyRecipe
from nastool.results import Result
from nastool.searching.halving import halve
from nastool.space import SearchSpace, check_space
from nastool.study import Progress, StrategyFactory, Study, Until

if TYPE_CHECKING:
    from nastool.executors import Executor
    from nastool.store import Store
    from nastool.study.known import Known


def search(
    space: SearchSpace | str,
    objectives: Sequence[Objective | str] = (),
    *,
    max: Mapping[str, str | float] | None = None,  # noqa: A002 - called as the option is
    min: Mapping[str, str | float] | None = None,  # noqa: A002 - called as the option is
    constraints: Sequence[Constraint | str] = (),
    strategy: StrategyFactory | str = "evolution",
    options: Mapping[str, Any] | None = None,
    budget: int | str = 30_000,
    seed: int = 0,
    batch_size: int | None = None,
    store: Store | str | None = None,
    study: str = "",
    progress: Progress | None = None,
    until: Until | None = None,
    executor: Executor | str | None = None,
    known: Known | str | None = None,
    fidelity: str = "",
) -> Result:
    """Search a space for the best architectures, as ``nastool search`` does.

    Args:
        space: A space or its name, e.g. ``supershaper``.
        objectives: What is optimised, by name or as objects; what the space declares by default.
        max: Upper bounds by metric, e.g. ``{"params": "66M"}``.
        min: Lower bounds by metric.
        constraints: Further bounds, or their texts.
        strategy: Its name, e.g. ``pareto``, or what makes one from a problem, a seed and options.
        options: Settings of the strategy.
        budget: Architectures to evaluate.
        seed: Fixes everything that is drawn.
        batch_size: Candidates asked for at a time; the strategy's choice by default.
        store: Where to keep the study, as a store or its URL; only in memory by default.
        study: Name to keep it under; by default it follows from what is searched and how.
        progress: Told after every batch.
        until: Asked between batches whether to end before the budget, e.g.
            `nastool.study.Patience`.
        executor: Where objectives run that are not cheap, or its name, such as ``processes:4``; in
            this process by default.
        known: What it begins with and need not pay for: a table, a study of the store, or values.
        fidelity: Steps of a setting of one objective, such as ``blocks=16,64,256``: the search is
            on the first, and what may be on the front goes on to the next
            (`nastool.searching.halving`); needs names and a store.

    Raises:
        InvalidInputError: Something is unknown, or the parts do not fit together.
        NastoolError: Every architecture so far failed, or the strategy raised.
    """
    wanted = listed("objectives", objectives) or default_objectives(space)
    recipe = StudyRecipe.from_dict(
        {
            "space": space if isinstance(space, str) else check_space(space).name,
            "objectives": [o if isinstance(o, str) else check_objective(o).name for o in wanted],
            "constraints": listed("constraints", constraints),
            "max": max or {},
            "min": min or {},
            "strategy": strategy if isinstance(strategy, str) else "its own",
            "options": options or {},
            "budget": budget,
            "seed": seed,
            "batch_size": batch_size,
            "study": study,
            "known": known if isinstance(known, str) else "",
            "fidelity": fidelity,
        },
        "search",
    )
    if fidelity:
        are_named = all(isinstance(one, str) for one in (space, strategy, *wanted))
        if store is None or known is not None or not are_named:
            raise InvalidInputError(
                "fidelity needs a store and the names of space, objectives and strategy, and takes "
                "nothing that is known"
            )
        return _halved(recipe, store, batch_size, progress, until, executor)
    problem = make_problem(space, wanted, recipe.constraints)
    if isinstance(strategy, str):
        given = None if isinstance(known, str) else known
        made = Study.of(recipe, store, problem=problem, executor=executor, known=given)
    else:
        options = recipe.options
        factory = functools.partial(strategy, **options) if options else strategy
        made = Study(problem, factory, store, study or None, seed, executor=executor, known=known)
    return made.run(recipe.budget, batch_size, progress, until=until)


def _halved(
    recipe: StudyRecipe,
    store: Store | str,
    batch_size: int | None,
    progress: Progress | None,
    until: Until | None,
    executor: Executor | str | None,
) -> Result:
    """Search at the first step of the fidelity, take what may be on the front on to the last."""

    def first(cheaper: StudyRecipe) -> tuple[Study, Result]:
        made = Study.of(cheaper, store, executor=executor)
        return made, made.run(cheaper.budget, batch_size, progress, until=until)

    def promote(study: Study, most: int) -> Result:
        return study.run(most, progress=progress)

    return halve(recipe, store, first, promote, executor).result
