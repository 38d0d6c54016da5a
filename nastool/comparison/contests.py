"""A comparison as plain values: its strategies by their texts, and the runs they are for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from nastool.comparison.comparison import (
    Comparison,
    ComparisonProgress,
    check_bounds,
    check_name,
    compare,
    run_of,
    runs_of,
    study_of,
)
from nastool.constraint import Constraint, parse_bound, parse_constraint, parse_whole
from nastool.discovery import STRATEGIES, find, load_file
from nastool.errors import InvalidInputError
from nastool.executors import Executor
from nastool.pareto.indicators import load_statistics
from nastool.plugins import load_strategy, parse_spec
from nastool.problem import Problem
from nastool.recipes.problems import make_problem
from nastool.recipes.settings import read_pairs, typed_settings
from nastool.store import Store
from nastool.strategies.base import Strategy
from nastool.study import NO_END, Ending, Progress

_SETTING = re.compile(r",(?=[A-Za-z][\w-]*=)")


@dataclass(frozen=True)
class Entrant:
    """A strategy that takes part.

    Args:
        name: What it is called in the comparison: its text without the budget.
        spec: E.g. ``evolution`` or ``optuna:GPSampler``.
        settings: Keyword settings.
        budget: Its own evaluations; None for those of the others.
    """

    name: str
    spec: str
    settings: Mapping[str, Any]
    budget: int | None = None

    def __call__(self, problem: Problem, seed: int) -> Strategy:
        """Make the strategy."""
        return load_strategy(self.spec, problem, seed, self.settings)


def parse_entrant(text: str) -> Entrant:
    """Read ``NAME[,KEY=VALUE...][@BUDGET]``, e.g. ``evolution,selection=elitist`` or ``tpe@1000``.

    Raises:
        InvalidInputError: Another form, or an unknown strategy or setting.
    """
    name, budget = text, None
    head, at, tail = text.rpartition("@")
    if at and "]" not in tail:
        name, budget = head, parse_whole(tail, 1)
        if budget is None:
            raise InvalidInputError(
                f"--strategy {text}: expected a whole number of at least 1, such as 30000 or 30k, "
                f"got {tail!r}"
            )
    spec, *settings = _SETTING.split(name)
    try:
        plugin = find(STRATEGIES, parse_spec(spec).name)
        read = typed_settings(plugin, read_pairs(settings, "settings"), "settings")
    except InvalidInputError as error:
        raise InvalidInputError(f"--strategy {text}: {error}") from error
    return Entrant(name.strip(), spec.strip(), read, budget)


def parse_limit(text: str) -> Constraint:
    """Read ``METRIC=N`` (at most), ``METRIC<=N`` or ``METRIC>=N``.

    Raises:
        InvalidInputError: Another form.
    """
    try:
        if "<=" in text or ">=" in text:
            return parse_constraint(text)
        return parse_bound(text, "<=")
    except InvalidInputError as error:
        raise InvalidInputError(f"--bound: {error}") from error


@dataclass(frozen=True)
class Contest:
    """Everything a comparison is made from; plain values, so that worker processes can be told.

    Args:
        space: Text of the search space.
        objectives: Texts of the objectives.
        constraints: What every run must keep.
        strategies: Texts of the entrants.
        seeds: Number of seeds.
        budget: Evaluations of each run.
        bounds: Under which the best value is reported.
        plugin_files: To be loaded first.
        given_name: Name of the comparison; made from its problem where empty.
        ending: When each run ends before its budget.

    Raises:
        InvalidInputError: Repeated strategies.
    """

    space: str
    objectives: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    strategies: tuple[str, ...]
    seeds: int
    budget: int
    bounds: tuple[Constraint, ...] = ()
    plugin_files: tuple[Path, ...] = ()
    given_name: str = ""
    ending: Ending = NO_END

    def __post_init__(self) -> None:
        for file in self.plugin_files:
            load_file(file)
        names = [entrant.name for entrant in self.entrants]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise InvalidInputError(f"--strategy: each must be given once, got {repeated[0]} twice")

    def __reduce__(self) -> tuple[type[Contest], tuple[Any, ...]]:
        # Made again in the other process: what plugin files define cannot be sent.
        return Contest, tuple(getattr(self, field.name) for field in fields(self))

    @cached_property
    def problem(self) -> Problem:
        """What is optimised."""
        return make_problem(self.space, self.objectives, self.constraints)

    @cached_property
    def entrants(self) -> tuple[Entrant, ...]:
        """The strategies."""
        return tuple(parse_entrant(text) for text in self.strategies)

    @cached_property
    def name(self) -> str:
        """Shared by the comparisons of one problem, so that they grow together."""
        if self.given_name:
            return self.given_name
        digest = hashlib.sha256(self.problem.fingerprint.encode()).hexdigest()[:8]
        return f"{self.problem.space.name.partition('[')[0]}-comparison-{digest}"

    @property
    def runs(self) -> tuple[tuple[Entrant, int], ...]:
        """Entrant and seed of every run, in the order they are made."""
        return tuple((e, seed) for seed in range(self.seeds) for e in self.entrants)

    def evaluations(self, entrant: Entrant) -> int:
        """Evaluations of each of its runs."""
        return entrant.budget or self.budget

    def check(self) -> None:
        """Make every strategy once, so that what is wrong shows before anything has run.

        Raises:
            InvalidInputError: A strategy or a bound does not fit the problem.
            MissingDependencyError: A strategy or the tests between them need more.
        """
        if len(self.entrants) > 1:
            load_statistics()
        for entrant in self.entrants:
            entrant(self.problem, 0)
        check_bounds(self.problem, self.bounds)

    def check_name(self, store: Store) -> None:
        """Raise InvalidInputError if the store keeps something else under its name."""
        check_name(store, self.name, self.problem)

    def run(
        self,
        store: Store | None,
        progress: ComparisonProgress | None = None,
        executor: Executor | None = None,
    ) -> Comparison:
        """Run what the store does not hold yet.

        Args:
            store: Where to keep the runs.
            progress: Told after every batch.
            executor: Where what is not cheap is evaluated; in this process by default.

        Raises:
            KeyboardInterrupt: Ctrl-C; what was evaluated is kept.
        """
        comparison = compare(
            self.problem,
            {entrant.name: entrant for entrant in self.entrants},
            range(self.seeds),
            self.budget,
            store=store,
            name=self.name,
            budgets={e.name: e.budget for e in self.entrants if e.budget},
            bounds=self.bounds,
            descriptions={entrant.name: self._describe(entrant) for entrant in self.entrants},
            executor=executor,
            progress=progress,
            ending=self.ending.until,
        )
        if store is not None:
            self._keep_bounds(store)
        return comparison

    def _keep_bounds(self, store: Store) -> None:
        """Note what was asked for last, for ``nastool show``."""
        latest, bounds = runs_of(store, self.name)[-1], [str(bound) for bound in self.bounds]
        if latest.description.get("bounds") != bounds:
            store.annotate(latest.name, "bounds", bounds)

    def run_one(self, store: Store, index: int, progress: Progress) -> None:
        """Make one of the runs; `run` finds it in the store.

        Args:
            store: Where to keep it.
            index: Its place in `runs`.
            progress: Told after every batch.
        """
        entrant, seed = self.runs[index]
        study = study_of(
            self.problem,
            entrant,
            seed,
            store,
            name=self.name,
            strategy=entrant.name,
            description=self._describe(entrant),
        )
        study.run(self.evaluations(entrant), progress=progress, until=self.ending.until())

    def _describe(self, entrant: Entrant) -> dict[str, Any]:
        return {
            "space": self.space,
            "objectives": list(self.objectives),
            "constraints": [str(constraint) for constraint in self.constraints],
            "strategy": entrant.spec,
            "settings": dict(entrant.settings),
            "bounds": [str(bound) for bound in self.bounds],
        }

    def stored(self, store: Store) -> dict[tuple[str, int], int]:
        """Evaluations the store holds of each run, by strategy and seed; at most its budget."""
        budgets = {entrant.name: self.evaluations(entrant) for entrant in self.entrants}
        found = {}
        for run in runs_of(store, self.name):
            strategy, seed = run_of(run)
            if strategy in budgets and seed in range(self.seeds):
                done = run.evaluations
                if run.stop_reason in ("exhausted", "stalled"):
                    done = budgets[strategy]
                found[strategy, seed] = min(done, budgets[strategy])
        return found
