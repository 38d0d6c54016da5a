"""``nastool search``: run a study and show its front."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nastool.cli.constraints import constraint_options, read_constraints
from nastool.cli.options import (
    DEFAULT_OBJECTIVES,
    budget_options,
    corrected_option,
    output_options,
    plugin_option,
    problem_options,
    storage_option,
    strategy_option,
)
from nastool.cli.refine import Refining, refining_options
from nastool.errors import InvalidInputError

if TYPE_CHECKING:
    from nastool.cli.plan import Plan
    from nastool.objective import Objective
    from nastool.problem import Problem
    from nastool.results import Result


@click.command()
@problem_options
@strategy_option
@constraint_options
@budget_options
@refining_options
@storage_option
@click.option(
    "--study",
    "study_name",
    metavar="NAME",
    help="Name to keep the evaluations under. By default it follows from what is searched and "
    "how, so that the same search again goes on where it stopped.",
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
    refining: Refining | None,
    storage: str,
    study_name: str | None,
    retry_failed: bool,
    everything: bool,
    cloud: Path | None,
    output_format: str | None,
    limit: int | None,
    output: Path | None,
    plot: Path | None,
    corrected: bool,
) -> None:
    """Search a space for the best architectures.

    Example: nastool search --space supershaper --strategy evolution --max params=66M
    """
    # Here and not above: the help page must not wait for numpy.
    from nastool.cli.output import Destination
    from nastool.cli.plan import Plan
    from nastool.cli.problems import make_problem
    from nastool.cli.proofs import cut_short, is_proven, prove_first
    from nastool.store.urls import showable
    from nastool.study import Study

    destination = Destination(output_format, limit, output, plot, everything, corrected=corrected)
    constraints = read_constraints(constraint_texts, upper_texts, lower_texts)
    objectives = objective_texts or DEFAULT_OBJECTIVES
    problem = make_problem(space_text, objectives, constraints)
    clouds = destination.clouds(cloud, problem)
    if retry_failed and storage == "none":
        raise InvalidInputError("--retry-failed: expected a study in a store, got --storage none")
    plan = Plan(problem, strategy_text, settings_texts, seed, batch_size, retry_failed)
    description: Mapping[str, Any] = {
        "space": space_text,
        "objectives": list(objectives),
        "constraints": [str(constraint) for constraint in constraints],
    }
    measured: dict[str, Objective] = {}
    verification: Mapping[str, Any] | None
    if refining is not None:
        measured = refining.measuring.objectives(problem)
        plan, description = _refined(
            plan, refining, measured, budget, storage, study_name, description
        )
    study = plan.study(storage, study_name, description)
    proof = prove_first(study.strategy)
    proven = is_proven(study.strategy)
    if not proven:
        # To be shown, not kept: the same command would go on from what is not the answer.
        study = Study(study.problem, study.strategy, None, study.name, seed)
    result = plan.run(study, budget, storage)
    if refining is not None and proven and result.stop_reason != "interrupted":
        verification = refining.verify(result, measured, storage)
    else:
        verification = _verification(storage, study.name)
    facts: dict[str, str | int] = {
        "strategy": ", ".join([strategy_text, *settings_texts]),
        "seed": seed,
        "storage": "memory" if storage == "none" else showable(storage),
        **proof,
        **cut_short(study.strategy, result),
        **({} if refining is None else {"refined": str(refining)}),
    }
    finished = proven and result.stop_reason != "interrupted"
    if finished or everything or len(result.listed().genotypes):
        destination.write(result, facts, verification, clouds)
    _check_finished(result, budget, storage, study.name)
    if not proven:
        raise KeyboardInterrupt("the proof is not finished, and nothing is kept of it")


def _check_finished(result: Result, budget: int, storage: str, name: str) -> None:
    if result.stop_reason == "interrupted":
        kept = "nothing is kept" if storage == "none" else f"kept in study {name}"
        raise KeyboardInterrupt(
            f"{len(result):,} of {budget:,} evaluations are done, {kept}"
            + ("" if storage == "none" else "; the same command goes on")
        )


def _refined(
    plan: Plan,
    refining: Refining,
    measured: dict[str, Objective],
    budget: int,
    storage: str,
    study_name: str | None,
    description: Mapping[str, Any],
) -> tuple[Plan, Mapping[str, Any]]:
    """The plan and description of the search on predictors that the active loop has refitted."""
    from nastool.cli.proofs import prove_fully

    numbers = itertools.count(1)

    def described(folders: Mapping[str, Path]) -> Mapping[str, Any]:
        return {**description, "refined": {name: str(path) for name, path in folders.items()}}

    def search_round(problem: Problem, folders: Mapping[str, Path]) -> Result:
        number = next(numbers)
        name = f"{study_name}-round-{number}" if study_name else None
        turn = replace(plan, problem=problem)
        study = turn.study(storage, name, described(folders) if folders else description)
        prove_fully(study.strategy)
        result = turn.run(study, budget, storage)
        _check_finished(result, budget, storage, study.name)
        return result

    searched = f"{plan.name}, {budget}"
    found = refining.run(plan.problem, measured, search_round, searched, storage)
    return replace(plan, problem=found.problem), described(found.folders)


def _verification(storage: str, name: str) -> Mapping[str, Any] | None:
    """What an earlier ``nastool verify`` found, if the study was there before."""
    if storage == "none":
        return None
    from nastool.store import open_store

    with open_store(storage) as store:
        found: Mapping[str, Any] | None = store.annotation(name, "verification")
    return found
