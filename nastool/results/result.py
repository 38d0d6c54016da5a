"""What a study found: fronts, tables and exports."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nastool import notebook, pareto
from nastool.constraint import format_quantity
from nastool.errors import InvalidInputError, MissingDependencyError, NastoolError
from nastool.evaluations import Evaluations
from nastool.files.documents import json_document
from nastool.files.tables import csv_of, json_record, rows_of
from nastool.objective import NO_NUMBER, Objective, evaluate
from nastool.predictors.trust import Trust, is_predicted, trust
from nastool.problem import Problem
from nastool.results.archive import Archive
from nastool.space import Genotypes

if TYPE_CHECKING:
    import pandas as pd

StopReason = Literal[
    "budget", "exhausted", "stalled", "time", "patience", "proven", "asked", "interrupted", ""
]
"""Why a run ended: the budget is spent; nothing is left to propose; the strategy proposed nothing
new for long; the time is over; nothing was gained for long; all that is proven to be best was
found; the caller asked for it; Ctrl-C. Empty for a study that is running or was killed."""

STOP_MESSAGES: dict[StopReason, str] = {
    "budget": "the budget is spent",
    "exhausted": "the strategy has no more to propose",
    "stalled": "the strategy proposed nothing new for long",
    "time": "the time is over; run it again to go on",
    "patience": "nothing was gained for long",
    "proven": "what is proven to be best is found",
    "asked": "ended by the caller",
    "interrupted": "interrupted; run it again to go on",
    "": "not finished; run it again to go on",
}


@dataclass(frozen=True)
class Failure:
    """An evaluation that raised; see `Result.failed` for all that have failed.

    Args:
        architecture: As text.
        metric: Name of the objective.
        message: Type and text of the exception.
    """

    architecture: str
    metric: str
    message: str


@dataclass(frozen=True, eq=False)
class Result:
    """Everything a study has evaluated.

    Args:
        problem: What was optimised.
        evaluations: All of them, in order; minimised, as strategies see them.
        metrics: Every reported metric in its natural sign and base unit, shape (n, r), in the
            order of ``problem.reported``.
        elapsed: Seconds of the study after which each evaluation was known, shape (n,).
        seconds: Time the study has run, over all its runs.
        stop_reason: Why the last run ended.
        failures: Evaluations that raised.
        name: Name of the study; empty without a store.
        strategy: What chose the architectures, as users name it.
        named: For a strategy that proposes a fixed list, each member's name and genotype.
    """

    problem: Problem
    evaluations: Evaluations
    metrics: NDArray[np.float64]
    elapsed: NDArray[np.float64]
    seconds: float
    stop_reason: StopReason
    failures: tuple[Failure, ...] = ()
    name: str = ""
    strategy: str = ""
    named: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @staticmethod
    def from_archive(
        problem: Problem,
        archive: Archive,
        seconds: float,
        stop_reason: StopReason,
        failures: Sequence[Failure] = (),
        name: str = "",
        description: Mapping[str, Any] | None = None,
    ) -> Result:
        """A snapshot of an archive.

        Args:
            problem: Of the study.
            archive: What it has evaluated.
            seconds: See `Result`.
            stop_reason: See `Result`.
            failures: See `Result`.
            name: See `Result`.
            description: The study's; says which strategy chose, and what a fixed list is called.
        """
        described = description or {}
        genotypes, metrics = archive.genotypes.copy(), archive.values.copy()
        return Result(
            problem,
            problem.evaluations(genotypes, metrics),
            metrics,
            archive.elapsed.copy(),
            seconds,
            stop_reason,
            tuple(failures),
            name,
            str(described.get("strategy", "")),
            tuple((label, tuple(genotype)) for label, genotype in described.get("named", ())),
        )

    def __len__(self) -> int:
        return len(self.evaluations)

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return (
            f"<Result{name}: {len(self):,} evaluations of {self.problem.summary}, "
            f"{self.seconds:,.2f} s; {STOP_MESSAGES[self.stop_reason]}>"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: facts, the front as a picture, a few of its members."""
        facts = {
            "space": self.problem.space.name,
            "strategy": self.strategy,
            "evaluations": f"{len(self):,} in {self.seconds:,.1f} s",
            "failed": failed_note(self),
            "state": STOP_MESSAGES[self.stop_reason],
        }
        listed = self.listed()
        parts = [_drawn(self)] if len(self.problem.objectives) > 1 and len(listed) else []
        if len(listed):
            rows = pareto.spread(len(listed), notebook.ROWS)
            if len(self.problem.objectives) == 1:
                rows = np.arange(min(len(listed), notebook.ROWS))
            values = self.values(listed.genotypes[rows])
            cells = [
                [shape, *(_formatted(m, values[m.name][i]) for m in self.problem.reported)]
                for i, shape in enumerate(self.problem.space.texts(listed.genotypes[rows]))
            ]
            what = "on the front" if len(self.problem.objectives) > 1 else "allowed"
            counted = f"{len(rows):,} of {len(listed):,} {what}"
            names = ("shape", *(m.name for m in self.problem.reported))
            parts.append(notebook.table(names, cells, counted))
        parts += [notebook.note(f"{m.name}: {m.provenance}") for m in self.problem.reported]
        title = f"Result {self.name}".rstrip() + f": {self.problem.summary}"
        return notebook.shown(title, facts, *parts)

    def first(self, n: int) -> Result:
        """What was known after n evaluations; the result itself where there are no more.

        Raises:
            InvalidInputError: n is below 1.
        """
        if n < 1:
            raise InvalidInputError(f"a result must keep at least 1 evaluation, got {n}")
        if len(self) <= n:
            return self
        return replace(
            self,
            evaluations=self.evaluations.take(slice(n)),
            metrics=self.metrics[:n],
            elapsed=self.elapsed[:n],
            failures=self._failures_of(slice(n)),
            seconds=float(self.elapsed[n - 1]),
            stop_reason="budget",
        )

    def _failures_of(self, rows: slice) -> tuple[Failure, ...]:
        if not self.failures:
            return ()
        shapes = set(self.problem.space.texts(self.evaluations.genotypes[rows]))
        return tuple(failure for failure in self.failures if failure.architecture in shapes)

    @cached_property
    def failed(self) -> NDArray[np.bool_]:
        """Which evaluations have failed, whether they raised or not: a metric is NaN, shape (n,).

        The one meaning that tables, files, pages and exports give the word.
        """
        failed: NDArray[np.bool_] = np.any(np.isnan(self.metrics), axis=1)
        return failed

    @property
    def first_failure(self) -> Failure | None:
        """The earliest evaluation that has failed; None where none has."""
        if not self.failed.any():
            return None
        row = int(self.failed.argmax())
        metric = self.problem.reported[int(np.isnan(self.metrics[row]).argmax())].name
        shape = self.problem.space.texts(self.evaluations.genotypes[[row]])[0]
        known = (f for f in self.failures if (f.architecture, f.metric) == (shape, metric))
        return next(known, Failure(shape, metric, NO_NUMBER))

    def front(self) -> Evaluations:
        """Feasible evaluations that no other feasible one dominates, by the first objective."""
        feasible = np.flatnonzero(self.evaluations.feasible)
        objectives = self.evaluations.objectives[feasible]
        rows = feasible[pareto.non_dominated(objectives)]
        order = np.lexsort(self.evaluations.objectives[rows].T[::-1])
        return self.evaluations.take(rows[order])

    def listed(self) -> Evaluations:
        """The evaluations that are shown: the front, or all feasible ones by a single objective."""
        if len(self.problem.objectives) > 1:
            return self.front()
        rows = np.flatnonzero(self.evaluations.feasible)
        order = np.argsort(self.evaluations.objectives[rows, 0], kind="stable")
        return self.evaluations.take(rows[order])

    def best(self, objective: str | None = None) -> Evaluations:
        """The feasible evaluation that is best in one objective; one row.

        Args:
            objective: Its name; the first one by default.

        Raises:
            InvalidInputError: There is no objective of that name.
            NastoolError: No evaluation is feasible.
        """
        names = [o.name for o in self.problem.objectives]
        if objective is not None and objective not in names:
            raise InvalidInputError(
                f"objective must be one of {', '.join(names)}, got {objective!r}"
            )
        feasible = np.flatnonzero(self.evaluations.feasible)
        if len(feasible) == 0:
            raise NastoolError(f"none of {len(self):,} evaluated architectures is feasible")
        column = names.index(objective) if objective is not None else 0
        row = feasible[self.evaluations.objectives[feasible, column].argmin()]
        return self.evaluations.take(np.array([row]))

    @cached_property
    def _row_of(self) -> dict[Any, int]:
        keys = self.problem.space.keys(self.evaluations.genotypes)
        return dict(zip(keys, range(len(keys)), strict=True))

    def _rows(self, genotypes: Genotypes | None) -> NDArray[np.int64]:
        if genotypes is None:
            return np.arange(len(self))
        space = self.problem.space
        valid = space.canonicalize(space.validate(genotypes))
        rows = np.array([self._row_of.get(key, -1) for key in space.keys(valid)], dtype=np.int64)
        if np.any(rows < 0):
            unknown = space.format(valid[int(rows.argmin())])
            raise InvalidInputError(
                f"an architecture must be evaluated in the study, got {unknown}"
            )
        return rows

    def values(self, genotypes: Genotypes | None = None) -> dict[str, NDArray[np.float64]]:
        """Every reported metric of evaluated genotypes, in its natural sign and base unit.

        Args:
            genotypes: Shape (n, d); all that were evaluated by default.

        Returns:
            Name to values of shape (n,).

        Raises:
            InvalidInputError: One of them was not evaluated.
        """
        metrics = self.metrics[self._rows(genotypes)]
        return {m.name: metrics[:, i] for i, m in enumerate(self.problem.reported)}

    def trust(self, genotypes: Genotypes | None = None) -> dict[str, Trust]:
        """How far predicted values of evaluated genotypes are to be trusted, by metric.

        Args:
            genotypes: Shape (n, d); all that were evaluated by default.
        """
        shapes = self.evaluations.genotypes if genotypes is None else genotypes
        values = self.values(genotypes)
        return {
            metric.name: trust(metric, shapes, values[metric.name])
            for metric in self.problem.reported
            if is_predicted(metric)
        }

    @cached_property
    def ruled_out(self) -> tuple[Genotypes, NDArray[np.float64]]:
        """Named architectures that a hard constraint kept from being evaluated, (k, d).

        Beside them their metrics (k, r), NaN where these are too dear to evaluate for a list.
        """
        problem, genes = self.problem, len(self.problem.space.genes)
        listed = np.array([genotype for _, genotype in self.named], dtype=np.int64)
        listed = listed.reshape(-1, genes)
        listed = listed[~problem.admissible(listed)] if len(listed) else listed
        known = self._row_of
        keys = problem.space.keys(listed)
        listed = listed[np.array([key not in known for key in keys], dtype=bool)]
        values = np.full((len(listed), len(problem.reported)), np.nan)
        for column, metric in enumerate(problem.reported):
            if metric.is_cheap and len(listed):
                values[:, column] = evaluate(metric, listed).values
        return listed, values

    @property
    def listed_members(self) -> Genotypes:
        """The evaluated, feasible members of a fixed list in its order, (k, d)."""
        genes = len(self.problem.space.genes)
        members = np.array([genotype for _, genotype in self.named], dtype=np.int64)
        members = members.reshape(-1, genes)
        keys = self.problem.space.keys(members)
        rows = [self._row_of[key] for key in keys if key in self._row_of]
        rows = [row for row in dict.fromkeys(rows) if self.evaluations.feasible[row]]
        return self.evaluations.genotypes[np.array(rows, dtype=np.int64)]

    def _names(self, genotypes: Genotypes) -> list[str]:
        keys = self.problem.space.keys
        members = np.array([genotype for _, genotype in self.named], dtype=np.int64)
        found: dict[Any, str] = {}
        for key, (name, _) in zip(keys(members), self.named, strict=True):
            found[key] = f"{found[key]}, {name}" if key in found else name
        return [found.get(key, "") for key in keys(genotypes)]

    def columns(
        self, genotypes: Genotypes | None = None, *, everything: bool = False
    ) -> dict[str, list[Any]]:
        """A table by column: ``shape``, every reported metric, ``feasible``.

        A fixed list, such as a family of shapes by rule, also has its members' ``name``.

        Args:
            genotypes: Shape (n, d), evaluated; all that were evaluated by default.
            everything: Also say of each architecture whether it ``failed``, which ``strategy``
                chose it, and in which ``order``, from 1; and with all that were evaluated list what
                a hard constraint ruled out of a fixed list, which has no place in that order.
        """
        rows = self._rows(genotypes)
        shown, metrics = self.evaluations.genotypes[rows], self.metrics[rows]
        feasible = [bool(flag) for flag in self.evaluations.feasible[rows]]
        order: list[int | None] = (rows + 1).tolist()
        failed: list[bool] = np.any(np.isnan(metrics), axis=1).tolist()
        if everything and genotypes is None:
            more, values = self.ruled_out
            shown, metrics = np.concatenate([shown, more]), np.concatenate([metrics, values])
            feasible += [False] * len(more)
            failed += [False] * len(more)
            order += [None] * len(more)
        names = [metric.name for metric in self.problem.reported]
        table: dict[str, list[Any]] = {"name": self._names(shown)} if self.named else {}
        table["shape"] = self.problem.space.texts(shown)
        table.update(zip(names, metrics.T.tolist(), strict=True))
        table["feasible"] = feasible
        if everything:
            table["failed"] = failed
            table["strategy"] = [self.strategy] * len(shown)
            table["order"] = order
        return table

    def records(
        self, genotypes: Genotypes | None = None, *, everything: bool = False
    ) -> list[dict[str, Any]]:
        """The table of `columns` by row."""
        return rows_of(self.columns(genotypes, everything=everything))

    def to_frame(
        self, genotypes: Genotypes | None = None, *, everything: bool = False
    ) -> pd.DataFrame:
        """The table of `columns` for pandas.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingDependencyError("a DataFrame needs pandas: pip install pandas") from error
        return pd.DataFrame(self.columns(genotypes, everything=everything))

    def to_csv(self, genotypes: Genotypes | None = None, *, everything: bool = False) -> str:
        """The table of `columns` as CSV with a header; failed values are empty."""
        return csv_of(self.columns(genotypes, everything=everything))

    def to_json(self, genotypes: Genotypes | None = None, *, everything: bool = False) -> str:
        """The table and what its numbers are, as JSON; failed values are null.

        Of every predicted value it says under ``predicted`` which interval holds 90% of new
        measurements, whether the shape lies outside of what the predictor has seen, and the value
        that allows for how the best of many predictions flatters.
        """
        first = self.first_failure
        records = self.records(genotypes, everything=everything)
        worth = self.trust(genotypes)
        rows = len(self) if genotypes is None else len(genotypes)

        def predicted(row: int) -> dict[str, Any]:
            # What a constraint ruled out is listed behind what was evaluated.
            if not worth or row >= rows:
                return {}
            return {"predicted": {name: judged.as_dict(row) for name, judged in worth.items()}}

        content = {
            "study": self.name or None,
            "space": self.problem.space.name,
            "constraints": [str(constraint) for constraint in self.problem.constraints],
            "metrics": [
                {**described, "optimism": metric.optimism}
                for described, metric in zip(
                    describe_metrics(self.problem), self.problem.reported, strict=True
                )
            ],
            "evaluations": len(self),
            "failed": int(self.failed.sum()),
            "first_failure": None if first is None else asdict(first),
            "seconds": round(self.seconds, 3),
            "stop_reason": self.stop_reason,
            "architectures": [
                json_record(record) | predicted(row) for row, record in enumerate(records)
            ],
        }
        return json_document("front", content)


def _formatted(metric: Objective, value: float) -> str:
    return format_quantity(float(value), metric.unit)


def _drawn(result: Result) -> str:
    """The front in its first two objectives, over a part of what else is allowed."""
    y, x = result.problem.objectives[:2]
    front = result.front()
    values = result.values(front.genotypes)
    texts = result.problem.space.texts(front.genotypes)
    points = [
        (float(a), float(b), f"{shape}: {y.name} {_formatted(y, b)}, {x.name} {_formatted(x, a)}")
        for a, b, shape in zip(values[x.name], values[y.name], texts, strict=True)
        if math.isfinite(a) and math.isfinite(b)
    ]
    if not points:
        return ""
    every = result.values()
    known = np.isfinite(every[x.name]) & np.isfinite(every[y.name])
    allowed = np.flatnonzero(result.evaluations.feasible & known)
    if len(allowed) > notebook.CLOUD:
        allowed = np.random.default_rng(0).choice(allowed, notebook.CLOUD, replace=False)
    cloud = list(zip(every[x.name][allowed].tolist(), every[y.name][allowed].tolist(), strict=True))
    axes = [[*(p[i] for p in points), *(p[i] for p in cloud)] for i in (0, 1)]
    ends = tuple(
        (_formatted(metric, min(axis)), _formatted(metric, max(axis)))
        for metric, axis in zip((x, y), axes, strict=True)
    )
    m = len(result.problem.objectives)
    about = notebook.note(f"a projection of {m} objectives onto two") if m > 2 else ""
    return notebook.scatter(points, cloud, (x.name, y.name), (ends[0], ends[1])) + about


def failed_note(result: Result) -> str:
    """How many evaluations have failed, and which one first and why; empty where none has."""
    first = result.first_failure
    if first is None:
        return ""
    count = int(result.failed.sum())
    message = " ".join(first.message.split())
    return f"{count:,} failed, the first {first.architecture} ({first.metric}: {message})"


def describe_metrics(problem: Problem) -> list[dict[str, Any]]:
    """Name, unit, direction and provenance of every reported metric, as JSON values."""
    objectives = {objective.name for objective in problem.objectives}
    return [
        {
            "name": metric.name,
            "unit": metric.unit,
            "direction": metric.direction.value,
            "is_objective": metric.name in objectives,
            "kind": metric.provenance.kind.value,
            "provenance": str(metric.provenance),
            "agreements": [asdict(agreement) for agreement in metric.provenance.agreements],
        }
        for metric in problem.reported
    ]
