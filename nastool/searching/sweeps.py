"""One search for each limit on a metric, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from nastool.constraint import Constraint, Quantity, format_quantity, parse_quantity
from nastool.errors import InfeasibleError, InvalidInputError, NastoolError
from nastool.exact.certificate import Certificate
from nastool.objective import Objective
from nastool.predictors.trust import Trust, is_predicted, trust
from nastool.problem import Problem
from nastool.recipes.problems import make_problem
from nastool.recipes.study_recipe import StudyRecipe
from nastool.results import Result
from nastool.space import Genotypes

Search = Callable[[StudyRecipe, str], tuple[Result, Certificate | None]]
"""Searches as a recipe says, under a limit in words: what was found, and what is proven of it."""

_MOST = 1000
"""Limits of a sweep."""


def read_limits(
    start: str | None, stop: str | None, step: str | None, listed: Sequence[str]
) -> tuple[Quantity, ...]:
    """Read ``--from``, ``--to`` and ``--step``, or ``--at``; ascending, each once.

    Raises:
        InvalidInputError: Neither or both, a value that is no quantity, or too many limits.
    """
    ends = {"--from": start, "--to": stop, "--step": step}
    given = [option for option, text in ends.items() if text is not None]
    if bool(listed) == bool(given) or 0 < len(given) < len(ends):
        got = ", ".join([*given, *(["--at"] if listed else [])]) or "none of them"
        raise InvalidInputError(f"a sweep takes --from, --to and --step, or --at; got {got}")
    if listed:
        found = [_quantity("--at", part) for text in listed for part in text.split(",")]
    else:
        first, last, gap = (_quantity(option, text or "") for option, text in ends.items())
        unit = next((q.unit for q in (first, last, gap) if q.unit), "")
        if any(q.unit not in ("", unit) for q in (first, last, gap)):
            raise InvalidInputError(
                f"--from, --to and --step must be in one unit, got {start}, {stop} and {step}"
            )
        if gap.value <= 0 or last.value < first.value:
            raise InvalidInputError(
                "--step must be above 0 and --to at least --from, got "
                f"--from {start} --to {stop} --step {step}"
            )
        # The last one counts in spite of rounding.
        count = math.floor((last.value - first.value) / gap.value * (1 + 1e-12) + 1e-9) + 1
        if count > _MOST:
            raise InvalidInputError(f"a sweep has at most {_MOST:,} limits, got {count:,}")
        values = [float(f"{first.value + k * gap.value:.12g}") for k in range(count)]
        found = [Quantity(value, unit) for value in values]
    return tuple(sorted(dict.fromkeys(found), key=lambda q: q.value))


def _quantity(option: str, text: str) -> Quantity:
    try:
        return parse_quantity(text)
    except InvalidInputError as error:
        raise InvalidInputError(f"{option}: {error}") from error


@dataclass(frozen=True, eq=False)
class Found:
    """What the search under one limit found.

    Args:
        limit: The limit.
        study: Name of the study; empty without a store.
        evaluations: How many it made.
        genotype: The best, shape (1, d); None where nothing is allowed.
        values: Its metrics, by name.
        note: Why there is none; empty where there is one.
        certificate: What is proven of it, after an exact search.
    """

    limit: Constraint
    study: str
    evaluations: int
    genotype: Genotypes | None
    values: Mapping[str, float]
    note: str = ""
    certificate: Certificate | None = None

    @property
    def regret(self) -> float | None:
        """How much better what is allowed can be at most, after an exact search.

        Above 0 only where the search had to leave a constraint out.
        """
        if self.certificate is None or self.genotype is None:
            return None
        return abs(next(iter(self.values.values())) - self.certificate.bound)

    @property
    def proof(self) -> str:
        """What an exact search says, in a word or two; empty after another search."""
        if self.regret is None:
            return ""
        return "within " + format_quantity(self.regret) if self.regret else "proven"


@dataclass(frozen=True)
class Sweep:
    """One search for each limit.

    Args:
        recipe: Of each search but for its limit; the best by the first objective is what counts.
        metric_text: What is limited.
        limits: Its limits.

    Raises:
        InvalidInputError: Something is unknown, or does not belong together.
    """

    recipe: StudyRecipe
    metric_text: str
    limits: tuple[Quantity, ...]

    def __post_init__(self) -> None:
        if self.metric.name == self.problem.objectives[0].name:
            raise InvalidInputError(
                f"--metric must be another than what is optimised, got {self.metric.name} twice"
            )
        # That one does not fit must show before the first search.
        for limit in self.bounds:
            if limit.unit and limit.unit != self.metric.unit:
                raise InvalidInputError(
                    f"{limit}: {self.metric.name} is measured in "
                    f"{self.metric.unit or 'plain numbers'}, got a limit in {limit.unit}"
                )

    @cached_property
    def problem(self) -> Problem:
        """The first objective against what is limited, without a limit."""
        recipe = self.recipe
        texts = (recipe.wanted[0], self.metric_text)
        return make_problem(recipe.space, texts, recipe.constraints, recipe.predictors)

    @property
    def metric(self) -> Objective:
        """What is limited."""
        return self.problem.objectives[-1]

    @cached_property
    def bounds(self) -> tuple[Constraint, ...]:
        """The limits as constraints."""
        at_most = self.metric.direction.sign > 0
        return tuple(
            Constraint(self.metric.name, "<=" if at_most else ">=", q.value, q.unit)
            for q in self.limits
        )

    def run(self, search: Search) -> list[Found]:
        """Search under each limit.

        Args:
            search: Does it, or takes what is known of it.

        Raises:
            NastoolError: Nothing was found under any limit.
        """
        found = [self.run_one(bound, search) for bound in self.bounds]
        check_found(found)
        return found

    def run_one(self, bound: Constraint, search: Search) -> Found:
        """Search under one of the `bounds`; that nothing keeps it is no error."""
        constraints = (*self.recipe.constraints, bound)
        try:
            result, certificate = search(replace(self.recipe, constraints=constraints), str(bound))
        except InfeasibleError as error:
            return Found(bound, "", 0, None, {}, str(error))
        try:
            best = result.best().genotypes
        except NastoolError as error:
            return Found(bound, result.name, len(result), None, {}, str(error), certificate)
        values = {name: float(column[0]) for name, column in result.values(best).items()}
        return Found(bound, result.name, len(result), best, values, "", certificate)

    def best(self, found: Sequence[Found]) -> Result:
        """The best under each limit as a result of `problem`."""
        rows = {tuple(f.genotype[0].tolist()): f for f in found if f.genotype is not None}
        genotypes = np.array(list(rows), dtype=np.int64)
        metrics = np.array(
            [[f.values[m.name] for m in self.problem.reported] for f in rows.values()]
        )
        evaluations = self.problem.evaluations(genotypes, metrics)
        return Result(self.problem, evaluations, metrics, np.zeros(len(rows)), 0.0, "budget")


def check_found(found: Sequence[Found]) -> None:
    """Raise NastoolError where nothing was found under any limit."""
    if all(row.genotype is None for row in found):
        raise NastoolError(f"no architecture was found under any limit: {found[-1].note}")


def columns(sweep: Sweep, found: Sequence[Found]) -> dict[str, list[Any]]:
    """A row a limit: its best architecture and what is known of it; None where there is none."""
    space, objective = sweep.problem.space, sweep.problem.objectives[0]
    table: dict[str, list[Any]] = {
        "limit": [row.limit.bound for row in found],
        "shape": [None if r.genotype is None else space.format(r.genotype[0]) for r in found],
    }
    for metric in sweep.problem.reported:
        table[metric.name] = [row.values.get(metric.name) for row in found]
    worth = worth_of(objective, found)
    if worth is not None and worth.halves is not None:
        halves = iter(np.where(worth.outside, np.nan, worth.halves).tolist())
        table["interval"] = [None if row.genotype is None else next(halves) for row in found]
    if any(row.certificate for row in found):
        table["regret"] = [row.regret for row in found]
        table["proven"] = [row.regret == 0 for row in found]
    table["evaluations"] = [row.evaluations for row in found]
    table["study"] = [row.study or None for row in found]
    return table


def worth_of(objective: Objective, found: Sequence[Found]) -> Trust | None:
    """How far the best are to be trusted, row by row of those there are; None if not predicted."""
    rows = [row for row in found if row.genotype is not None]
    if not rows or not is_predicted(objective):
        return None
    genotypes = np.concatenate([row.genotype for row in rows if row.genotype is not None])
    values = np.array([row.values[objective.name] for row in rows])
    return trust(objective, genotypes, values)
