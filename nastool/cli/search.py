"""``nastool search``: run a study and show its front."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nastool.cli.constraints import constraint_options, read_constraints
from nastool.cli.options import (
    DEFAULT_OBJECTIVES,
    count,
    output_options,
    plugin_option,
    problem_options,
    storage_option,
    whole,
)
from nastool.cli.refine import Refining, refining_options
from nastool.errors import InvalidInputError

if TYPE_CHECKING:
    from nastool.objective import Objective
    from nastool.problem import Problem
    from nastool.results import Result
    from nastool.study import Study


@click.command()
@problem_options
@click.option(
    "--strategy",
    "strategy_text",
    metavar="NAME",
    default="evolution",
    show_default=True,
    help="How candidates are chosen; 'nastool list' names all.",
)
@constraint_options
@click.option(
    "--budget",
    type=count,
    metavar="N",
    default="30000",
    show_default=True,
    help="Architectures to evaluate; k and M allowed.",
)
@click.option(
    "--seed",
    type=whole,
    metavar="N",
    default=0,
    show_default=True,
    help="Fixes everything that is drawn.",
)
@click.option(
    "--batch-size",
    type=count,
    metavar="N",
    help="Candidates asked for at a time. Default: the strategy's.",
)
@click.option(
    "--option",
    "settings_texts",
    metavar="KEY=VALUE",
    multiple=True,
    help="A setting of the strategy; repeatable.",
)
@refining_options
@storage_option
@click.option(
    "--study",
    "study_name",
    metavar="NAME",
    help="Name to keep the evaluations under. By default it follows from what is searched and "
    "how, so that the same search again goes on where it stopped.",
)
@output_options
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
    output_format: str | None,
    limit: int | None,
    output: Path | None,
    plot: Path | None,
) -> None:
    """Search a space for the best architectures.

    Example: nastool search --space supershaper --strategy evolution --max params=66M
    """
    # Here and not above: the help page must not wait for numpy.
    from nastool.cli.output import Destination
    from nastool.cli.problems import make_problem
    from nastool.cli.proofs import cut_short, is_proven, prove_first
    from nastool.study import Study

    destination = Destination(output_format, limit, output, plot)
    constraints = read_constraints(constraint_texts, upper_texts, lower_texts)
    objectives = objective_texts or DEFAULT_OBJECTIVES
    problem = make_problem(space_text, objectives, constraints)
    plan = _Plan(problem, strategy_text, settings_texts, seed, batch_size)
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
        study = Study(problem, study.strategy, None, study.name, seed)
    result = plan.run(study, budget, storage)
    if refining is not None and proven and result.stop_reason != "interrupted":
        verification = refining.verify(result, measured, storage)
    else:
        verification = _verification(storage, study.name)
    facts: dict[str, str | int] = {
        "strategy": ", ".join([strategy_text, *settings_texts]),
        "seed": seed,
        "storage": "memory" if storage == "none" else storage,
        **proof,
        **cut_short(study.strategy, result),
        **({} if refining is None else {"refined": str(refining)}),
    }
    finished = proven and result.stop_reason != "interrupted"
    if finished or len(result.listed().genotypes):
        destination.write(result, facts, verification)
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
    plan: _Plan,
    refining: Refining,
    measured: dict[str, Objective],
    budget: int,
    storage: str,
    study_name: str | None,
    description: Mapping[str, Any],
) -> tuple[_Plan, Mapping[str, Any]]:
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


def _check_name(storage: str, name: str) -> None:
    """Refuse the name of a comparison, which ``nastool show`` would show instead."""
    from nastool.comparison import runs_of
    from nastool.store import open_store

    with open_store(storage) as store:
        if runs_of(store, name):
            raise InvalidInputError(
                f"--study: expected a name of its own, got {name!r}, a comparison in {store.url}"
            )


@dataclass(frozen=True)
class _Plan:
    """How a problem is to be searched."""

    problem: Problem
    strategy_text: str
    settings_texts: tuple[str, ...]
    seed: int
    batch_size: int | None

    def study(self, storage: str, name: str | None, description: Mapping[str, Any]) -> Study:
        """The study, with what the store already holds of it."""
        from nastool.plugins import load_strategy
        from nastool.study import Study

        settings = self.settings
        strategy = load_strategy(self.strategy_text, self.problem, self.seed, settings)
        description = {**description, "strategy": self.strategy_text, "settings": settings}
        if storage == "none":
            return Study(self.problem, strategy, None, name, self.seed, description=description)
        if name:
            _check_name(storage, name)
        name = name or self.name
        return Study(self.problem, strategy, storage, name, self.seed, description=description)

    @property
    def settings(self) -> dict[str, Any]:
        """Of the strategy, as values."""
        from nastool.cli.settings import strategy_settings
        from nastool.plugins import STRATEGIES, find, parse_spec

        if not self.settings_texts:
            return {}
        plugin = find(STRATEGIES, parse_spec(self.strategy_text).name)
        return strategy_settings(plugin, self.settings_texts)

    @property
    def name(self) -> str:
        """A name that two searches share exactly when they would find the same."""
        import hashlib
        import json

        content = [self.problem.fingerprint, self.strategy_text, self.seed, self.batch_size]
        text = json.dumps([*content, sorted(self.settings.items())])
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        space = self.problem.space.name.partition("[")[0]
        strategy = self.strategy_text.partition("[")[0].partition(":")[0]
        return f"{space}-{strategy}-{digest}"

    def run(self, study: Study, budget: int, storage: str) -> Result:
        """Run the study up to the budget and say what was there before."""
        from nastool.cli.progress import ProgressBar

        before = len(study)
        with ProgressBar("searching") as progress:
            result = study.run(budget, self.batch_size, progress)
        if 0 < before == len(result):
            held = min(before, budget)
            click.echo(
                f"Study {study.name} in {storage} holds these {held:,} evaluations already; "
                "nothing was evaluated.",
                err=True,
            )
        elif before:
            click.echo(
                f"Study {study.name} in {storage} went on after {before:,} evaluations.", err=True
            )
        return result.first(budget)
