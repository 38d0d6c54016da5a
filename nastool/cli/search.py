"""``nastool search``: run a study and show its front."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nastool.cli import completion
from nastool.cli.constraints import constraint_options, read_constraints
from nastool.cli.executing import Executing, executor_options, how_it_went
from nastool.cli.measuring import measuring_names
from nastool.cli.options import (
    Name,
    budget_options,
    corrected_option,
    count,
    ending_options,
    output_options,
    parse_time,
    plugin_option,
    problem_options,
    storage_option,
    strategy_option,
)
from nastool.cli.pages import help_page
from nastool.cli.refine import Refining, refining_options
from nastool.cli.tracking import Tracking, tracker_option
from nastool.errors import InvalidInputError

if TYPE_CHECKING:
    from nastool.cli.plan import Plan
    from nastool.objective import Objective
    from nastool.problem import Problem
    from nastool.recipes.study_recipe import StudyRecipe
    from nastool.results import Result
    from nastool.study import Study


@help_page(
    "nastool search --space supershaper --max params=66M",
    "nastool search --space supershaper --strategy pareto --budget 100k --plot front.html",
    "nastool search --space supershaper --objective perplexity --strategy exact --max params=66M",
    groups={
        "Refining by measuring": (f"--refine --refine-shapes --refined {measuring_names()}"),
    },
)
@click.command()
@problem_options
@strategy_option
@constraint_options
@budget_options
@ending_options
@click.option(
    "--until",
    "until_text",
    type=click.Choice(["proven"]),
    help="'proven': end when what exact search proves to be best is found; it proves that first.",
)
@click.option(
    "--fidelity",
    metavar="KEY=N,N,...",
    default="",
    help="Search on little of what an objective measures on, and go on to more only with what may "
    "be on the front then: blocks=16,64,256 for a measured perplexity.",
)
@refining_options
@executor_options
@tracker_option
@click.option(
    "--asynchronous",
    type=count,
    metavar="N",
    help="Keep N architectures under way and tell the strategy each as it comes, in an order that "
    "depends on the machines. Default: whole batches, the same whatever measures them.",
)
@click.option(
    "--join",
    is_flag=True,
    help="Work on the study together with other processes that join it, on this machine or on "
    "others that reach the same --storage; whoever dies, the others do its work.",
)
@storage_option
@click.option(
    "--study",
    "study_name",
    type=Name(),
    shell_complete=completion.studies,
    metavar="NAME",
    help="Name to keep the evaluations under. By default it follows from what is searched and "
    "how, so that the same search again goes on where it stopped.",
)
@click.option(
    "--predictor",
    "predictor_texts",
    metavar="METRIC=DIR",
    multiple=True,
    help="Folder of a predictor that takes the place of a metric's own; repeatable.",
)
@click.option(
    "--from",
    "known",
    metavar="TABLE|STUDY",
    default="",
    help="Begin with what a table (.csv, .parquet: a column for each gene, or 'shape', and one for "
    "each metric) or a study of the --storage knows: told to the strategy, and not paid for.",
)
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Begin by evaluating again what failed in the stored study, once.",
)
@output_options
@corrected_option
@plugin_option
def search(
    space_text: str,
    strategy_text: str,
    objective_texts: tuple[str, ...],
    constraint_texts: tuple[str, ...],
    upper_texts: tuple[str, ...],
    lower_texts: tuple[str, ...],
    budget: int,
    seed: int,
    batch_size: int | None,
    settings_texts: tuple[str, ...],
    time_text: str | None,
    patience: int | None,
    until_text: str | None,
    fidelity: str,
    refining: Refining | None,
    executing: Executing,
    tracking: Tracking,
    asynchronous: int | None,
    join: bool,
    storage: str,
    study_name: str | None,
    predictor_texts: tuple[str, ...],
    known: str,
    retry_failed: bool,
    everything: bool,
    cloud: Path | None,
    output_format: str | None,
    limit: int | None,
    output: Path | None,
    plot: Path | None,
    corrected: bool,
) -> None:
    """Search a space for the best architectures."""
    # Here and not above: the help page must not wait for numpy.
    from nastool.cli.output import Destination
    from nastool.cli.plan import Plan
    from nastool.cli.proofs import cut_short, is_proven, prove_first, proven_best
    from nastool.recipes.settings import read_pairs
    from nastool.recipes.study_recipe import StudyRecipe
    from nastool.store.urls import showable
    from nastool.study import Ending, Study

    destination = Destination(output_format, limit, output, plot, everything, corrected=corrected)
    recipe = StudyRecipe(
        space_text,
        objective_texts,
        read_constraints(constraint_texts, upper_texts, lower_texts),
        strategy_text,
        read_pairs(settings_texts, "--option"),
        budget,
        seed,
        batch_size,
        read_pairs(predictor_texts, "--predictor"),
        study_name or "",
        known=known,
        fidelity=fidelity,
    )
    if fidelity:
        _check_halvable(storage, time_text, until_text, known, refining)
    problem = recipe.problem()
    clouds = destination.clouds(cloud, problem)
    if retry_failed and storage == "none":
        raise InvalidInputError("--retry-failed: expected a study in a store, got --storage none")
    if join:
        _check_joinable(storage, retry_failed, refining)
    limit_s = None if time_text is None else parse_time("--time", time_text)
    if refining is not None and known:
        raise InvalidInputError("--refine: expected no --from beside it")
    if refining is not None and (until_text or Ending(limit_s, patience)):
        raise InvalidInputError("--refine: expected none of --time, --patience, --until beside it")
    oracle = None if until_text is None else proven_best(problem)
    ending = Ending(limit_s, patience, oracle)
    with executing.opened() as executor:
        plan = Plan(recipe, storage, retry_failed, ending, executor, asynchronous, join, tracking)
        measured: dict[str, Objective] = {}
        verification: Mapping[str, Any] | None
        if refining is not None:
            measured = refining.measuring.objectives(problem)
            plan, problem = _refined(plan, refining, measured)
        if fidelity:
            study, result = _halved(plan)
        else:
            study = plan.study(problem)
        proof = prove_first(study.strategy)
        proven = is_proven(study.strategy)
        if not proven:
            # To be shown, not kept: the same command would go on from what is not the answer.
            study = Study(study.problem, study.strategy, None, study.name, seed)
        if not fidelity:
            result = plan.run(study)
        if refining is not None and proven and result.stop_reason != "interrupted":
            verification = refining.verify(result, measured, storage, executor)
        else:
            verification = _verification(storage, study.name)
    facts: dict[str, str | int] = {
        "strategy": ", ".join([strategy_text, *settings_texts]),
        "seed": seed,
        "storage": "memory" if storage == "none" else showable(storage),
        **({} if oracle is None else {"certificate": str(oracle.certificate)}),
        **proof,
        **cut_short(study.strategy, result),
        **how_it_went(study.description),
        **({} if refining is None else {"refined": str(refining)}),
    }
    finished = proven and result.stop_reason != "interrupted"
    if finished or everything or len(result.listed().genotypes):
        destination.write(result, facts, verification, clouds)
    _check_finished(result, budget, storage, study.name, study.known)
    if not proven:
        raise KeyboardInterrupt("the proof is not finished, and nothing is kept of it")


def _check_joinable(storage: str, retry_failed: bool, refining: Refining | None) -> None:
    """Refuse what is one process's: a store of its own, and turns of measuring and fitting."""
    if storage == "none":
        raise InvalidInputError("--join: expected a --storage that others see, got none")
    if retry_failed:
        raise InvalidInputError("--join: expected no --retry-failed beside it")
    if refining is not None:
        raise InvalidInputError("--join: expected no --refine beside it")


def _check_halvable(
    storage: str,
    time_text: str | None,
    until_text: str | None,
    known: str,
    refining: Refining | None,
) -> None:
    """Refuse what means nothing, or several things, where values are of several steps."""
    if storage == "none":
        raise InvalidInputError("--fidelity: expected a --storage, for each step is kept, got none")
    others = {"--time": time_text, "--until": until_text, "--from": known, "--refine": refining}
    for option, given in others.items():
        if given:
            raise InvalidInputError(f"--fidelity: expected no {option} beside it")


def _halved(plan: Plan) -> tuple[Study, Result]:
    """Search at the first step of the fidelity, take what may be on the front on to the last."""
    from nastool.cli.progress import ProgressBar
    from nastool.searching.halving import halve

    def search(recipe: StudyRecipe) -> tuple[Study, Result]:
        first = replace(plan, recipe=recipe)
        study = first.study()
        return study, first.run(study)

    def promote(study: Study, most: int) -> Result:
        with ProgressBar("measuring on more") as progress:
            return study.run(
                most,
                progress=progress,
                retry_failed=plan.retry_failed,
                pending=plan.pending,
                join=plan.join,
            )

    done = halve(plan.recipe, plan.storage, search, promote, plan.executor)
    return done.study, done.result


def _check_finished(result: Result, budget: int, storage: str, name: str, known: int = 0) -> None:
    if result.stop_reason == "interrupted":
        kept = "nothing is kept" if storage == "none" else f"kept in study {name}"
        raise KeyboardInterrupt(
            f"{len(result) - known:,} of {budget:,} evaluations are done, {kept}"
            + ("" if storage == "none" else "; the same command goes on")
        )


def _refined(
    plan: Plan, refining: Refining, measured: dict[str, Objective]
) -> tuple[Plan, Problem]:
    """The plan and problem of the search on predictors that the active loop has refitted."""
    from nastool.cli.proofs import prove_fully

    recipe, storage = plan.recipe, plan.storage
    numbers = itertools.count(1)

    def refitted(folders: Mapping[str, Path], name: str) -> Plan:
        predictors = {**recipe.predictors, **{key: str(path) for key, path in folders.items()}}
        return replace(plan, recipe=replace(recipe, predictors=predictors, study=name))

    def search_round(problem: Problem, folders: Mapping[str, Path]) -> Result:
        number = next(numbers)
        turn = refitted(folders, f"{recipe.study}-round-{number}" if recipe.study else "")
        study = turn.study(problem)
        prove_fully(study.strategy)
        result = turn.run(study)
        _check_finished(result, recipe.budget, storage, study.name)
        return result

    searched = f"{recipe.name_for(recipe.make_strategy())}, {recipe.budget}"
    found = refining.run(recipe.problem(), measured, search_round, searched, storage, plan.executor)
    return refitted(found.folders, recipe.study), found.problem


def _verification(storage: str, name: str) -> Mapping[str, Any] | None:
    """What an earlier ``nastool verify`` found, if the study was there before."""
    if storage == "none":
        return None
    from nastool.store import open_store

    with open_store(storage) as store:
        found: Mapping[str, Any] | None = store.annotation(name, "verification")
    return found
