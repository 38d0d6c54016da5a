"""A sweep over the limits of a metric: its searches, and what they found in each format."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nastool.cli.output import Destination, Formats
from nastool.cli.plan import Plan
from nastool.cli.proofs import certificate_of, prove_fully
from nastool.cli.tables import bars, formatted, sources
from nastool.constraint import Constraint, Quantity, format_quantity, parse_quantity
from nastool.errors import InfeasibleError, InvalidInputError, NastoolError
from nastool.exact.certificate import Certificate
from nastool.objective import Objective
from nastool.plots.front import Cloud
from nastool.problem import Problem
from nastool.recipes.problems import make_problem
from nastool.recipes.settings import read_pairs
from nastool.recipes.study_recipe import StudyRecipe
from nastool.results import Result, csv_of, describe_metrics, json_record
from nastool.space import Genotypes
from nastool.store.urls import showable
from nastool.trust import Trust, is_predicted, trust

if TYPE_CHECKING:
    from rich.console import RenderableType

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
        space_text: E.g. ``supershaper``.
        objective_texts: What is optimised; the best by the first is what counts.
        metric_text: What is limited.
        limits: Its limits.
        constraints: What every search must keep besides.
        strategy_text: E.g. ``evolution``.
        settings_texts: Of the strategy, each ``key=value``.
        budget: Evaluations of each search.
        seed: Of each search.
        batch_size: As for `StudyRecipe`.

    Raises:
        InvalidInputError: Something is unknown, or does not belong together.
    """

    space_text: str
    objective_texts: tuple[str, ...]
    metric_text: str
    limits: tuple[Quantity, ...]
    constraints: tuple[Constraint, ...]
    strategy_text: str
    settings_texts: tuple[str, ...]
    budget: int
    seed: int
    batch_size: int | None

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
        texts = (self.objective_texts[0], self.metric_text)
        return make_problem(self.space_text, texts, self.constraints)

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

    def run(self, storage: str) -> list[Found]:
        """Search under each limit, or take what the store holds of it.

        Raises:
            KeyboardInterrupt: Ctrl-C; what was evaluated is kept.
            NastoolError: Nothing was found under any limit.
        """
        found: list[Found] = []
        for bound in self.bounds:
            try:
                found.append(self._search(bound, storage))
            except KeyboardInterrupt:
                kept = "nothing is kept" if storage == "none" else "the same command goes on"
                raise KeyboardInterrupt(
                    f"{len(found)} of {len(self.bounds)} limits are done; {kept}"
                ) from None
        if all(row.genotype is None for row in found):
            raise NastoolError(f"no architecture was found under any limit: {found[-1].note}")
        return found

    def _search(self, bound: Constraint, storage: str) -> Found:
        constraints = (*self.constraints, bound)
        try:
            recipe = StudyRecipe(
                self.space_text,
                self.objective_texts,
                constraints,
                self.strategy_text,
                read_pairs(self.settings_texts, "--option"),
                self.budget,
                self.seed,
                self.batch_size,
            )
            plan = Plan(recipe, storage)
            study = plan.study()
            # A part of a proof is no row: the study would go on from what is not the answer.
            prove_fully(study.strategy)
            result = plan.run(study, label=str(bound))
        except InfeasibleError as error:
            return Found(bound, "", 0, None, {}, str(error))
        if result.stop_reason == "interrupted":
            raise KeyboardInterrupt
        certificate = certificate_of(study.strategy)
        try:
            best = result.best().genotypes
        except NastoolError as error:
            return Found(bound, study.name, len(result), None, {}, str(error), certificate)
        values = {name: float(column[0]) for name, column in result.values(best).items()}
        return Found(bound, study.name, len(result), best, values, "", certificate)

    def best(self, found: Sequence[Found]) -> Result:
        """The best under each limit as a result of `problem`."""
        rows = {tuple(f.genotype[0].tolist()): f for f in found if f.genotype is not None}
        genotypes = np.array(list(rows), dtype=np.int64)
        metrics = np.array(
            [[f.values[m.name] for m in self.problem.reported] for f in rows.values()]
        )
        evaluations = self.problem.evaluations(genotypes, metrics)
        return Result(self.problem, evaluations, metrics, np.zeros(len(rows)), 0.0, "budget")


def show(
    destination: Destination,
    sweep: Sweep,
    found: Sequence[Found],
    storage: str,
    clouds: Sequence[Cloud],
) -> None:
    """Show a sweep.

    Args:
        destination: What the output options ask for.
        sweep: What was asked for.
        found: What each search found.
        storage: Where the searches are kept.
        clouds: Measured points for the figure.
    """
    facts: dict[str, str | int] = {
        "strategy": ", ".join([sweep.strategy_text, *sweep.settings_texts]),
        "seed": sweep.seed,
        "storage": "memory" if storage == "none" else showable(storage),
    }

    def page() -> str:
        from nastool.plots.clouds import named_shapes
        from nastool.plots.sweep import sweep_page

        metric, name = sweep.metric.name, sweep.problem.objectives[0].name
        drawn = (*clouds, *named_shapes(sweep.problem, metric, name))
        return sweep_page(sweep.best(found), metric, facts, drawn)

    formats: Formats = {
        "table": lambda width: as_table(sweep, found, facts, width),
        "json": lambda: as_json(sweep, found, facts),
        "csv": lambda: csv_of(columns(sweep, found)).removesuffix("\n"),
    }
    destination.send(formats, page, sweep.problem)


def columns(sweep: Sweep, found: Sequence[Found]) -> dict[str, list[Any]]:
    """A row a limit: its best architecture and what is known of it; None where there is none."""
    space, objective = sweep.problem.space, sweep.problem.objectives[0]
    table: dict[str, list[Any]] = {
        "limit": [row.limit.bound for row in found],
        "shape": [None if r.genotype is None else space.format(r.genotype[0]) for r in found],
    }
    for metric in sweep.problem.reported:
        table[metric.name] = [row.values.get(metric.name) for row in found]
    worth = _worth(objective, found)
    if worth is not None and worth.halves is not None:
        halves = iter(np.where(worth.outside, np.nan, worth.halves).tolist())
        table["interval"] = [None if row.genotype is None else next(halves) for row in found]
    if any(row.certificate for row in found):
        table["regret"] = [row.regret for row in found]
        table["proven"] = [row.regret == 0 for row in found]
    table["evaluations"] = [row.evaluations for row in found]
    table["study"] = [row.study or None for row in found]
    return table


def _worth(objective: Objective, found: Sequence[Found]) -> Trust | None:
    """How far the best are to be trusted, row by row of those there are; None if not predicted."""
    rows = [row for row in found if row.genotype is not None]
    if not rows or not is_predicted(objective):
        return None
    genotypes = np.concatenate([row.genotype for row in rows if row.genotype is not None])
    values = np.array([row.values[objective.name] for row in rows])
    return trust(objective, genotypes, values)


def as_json(sweep: Sweep, found: Sequence[Found], facts: Mapping[str, str | int]) -> str:
    """The rows, what their numbers are, and what is proven."""
    table = columns(sweep, found)
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    content = {
        **facts,
        "space": sweep.problem.space.name,
        "metric": sweep.metric.name,
        "sense": sweep.bounds[0].sense,
        "budget": sweep.budget,
        "constraints": [str(constraint) for constraint in sweep.constraints],
        "metrics": describe_metrics(sweep.problem),
        "limits": [
            {
                **json_record(row),
                "note": f.note or None,
                "certificate": None if f.certificate is None else asdict(f.certificate),
            }
            for row, f in zip(rows, found, strict=True)
        ],
    }
    return json.dumps(content, indent=2, allow_nan=False)


def as_table(
    sweep: Sweep, found: Sequence[Found], facts: Mapping[str, str | int], width: int
) -> RenderableType:
    """The rows for people.

    Args:
        sweep: What was asked for.
        found: What each search found.
        facts: What else to say, by label.
        width: Characters of a line; where they are few, the bars are left out.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    problem, objective = sweep.problem, sweep.problem.objectives[0]
    rows = [row for row in found if row.genotype is not None]
    genotypes = np.concatenate([row.genotype for row in rows if row.genotype is not None])
    cells: dict[str, list[str]] = {
        "limit": [format_quantity(row.limit.bound, sweep.metric.unit) for row in rows]
    }
    for metric in problem.reported:
        values = np.array([row.values[metric.name] for row in rows])
        cells[metric.name] = formatted(values, metric.unit)
    worth = _worth(objective, found)
    if worth is not None:
        pairs = enumerate(cells[objective.name])
        cells[objective.name] = [f"{text} {worth.text(row)}".rstrip() for row, text in pairs]
    cells["shape"] = [problem.space.format(genotype) for genotype in genotypes]
    glyphs = bars(problem, genotypes)
    if any(glyphs):
        cells[""] = glyphs
    if any(row.proof for row in rows):
        cells["proof"] = [row.proof for row in rows]
    if sum(max(map(len, [name, *column])) + 2 for name, column in cells.items()) > width:
        cells.pop("", None)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in cells:
        left = name in ("shape", "", "proof")
        table.add_column(
            Text(name),
            justify="left" if left else "right",
            overflow="fold",
            no_wrap=name != "shape",
        )
    for line in zip(*cells.values(), strict=True):
        table.add_row(*map(Text, line))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for label, source in sources(problem):
        grid.add_row(label, source)
        for note in worth.notes if worth is not None and label.plain == objective.name else ():
            grid.add_row("", Text(note))
    for row in found:
        if row.genotype is None:
            grid.add_row(Text(str(row.limit)), Text(row.note))
    grid.add_row("search", Text(f"{sum(row.evaluations for row in found):,} evaluations"))
    for key, value in facts.items():
        grid.add_row(key, Text(str(value)))
    sense = "most" if sweep.bounds[0].sense == "<=" else "least"
    title = f"Best {objective.name} at {len(found)} limits: {sweep.metric.name} at {sense}"
    title = ", ".join([title, *map(str, sweep.constraints)])
    return Group(Text(title, style="bold"), Text(""), table, Text(""), grid)
