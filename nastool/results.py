"""What a study found: fronts, tables and exports."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nastool import pareto
from nastool.archive import Archive, as_evaluations
from nastool.errors import InvalidInputError, MissingDependencyError, NastoolError
from nastool.evaluations import Evaluations
from nastool.problem import Problem
from nastool.space import Genotypes, SearchSpace

if TYPE_CHECKING:
    import pandas as pd

StopReason = Literal["budget", "exhausted", "stalled", "interrupted", ""]
"""Why a run ended: the budget is spent; nothing is left to propose; the strategy proposed nothing
new for long; Ctrl-C. Empty for a study that is running or was killed."""

STOP_MESSAGES: dict[StopReason, str] = {
    "budget": "the budget is spent",
    "exhausted": "no architecture is left to propose",
    "stalled": "the strategy proposed nothing new for long",
    "interrupted": "interrupted; run it again to go on",
    "": "not finished; run it again to go on",
}


@dataclass(frozen=True)
class Failure:
    """An evaluation that raised.

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
    """

    problem: Problem
    evaluations: Evaluations
    metrics: NDArray[np.float64]
    elapsed: NDArray[np.float64]
    seconds: float
    stop_reason: StopReason
    failures: tuple[Failure, ...] = ()
    name: str = ""

    @staticmethod
    def from_archive(
        problem: Problem,
        archive: Archive,
        seconds: float,
        stop_reason: StopReason,
        failures: Sequence[Failure] = (),
        name: str = "",
    ) -> Result:
        """A snapshot of an archive."""
        genotypes, metrics = archive.genotypes.copy(), archive.values.copy()
        return Result(
            problem,
            as_evaluations(problem, genotypes, metrics),
            metrics,
            archive.elapsed.copy(),
            seconds,
            stop_reason,
            tuple(failures),
            name,
        )

    def __len__(self) -> int:
        return len(self.evaluations)

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return (
            f"<Result{name}: {len(self):,} evaluations of {self.problem.summary}, "
            f"{self.seconds:,.2f} s; {STOP_MESSAGES[self.stop_reason]}>"
        )

    def first(self, n: int) -> Result:
        """What was known after n evaluations; the result itself where there are no more."""
        if n < 1:
            raise InvalidInputError(f"a result must keep at least 1 evaluation, got {n}")
        if len(self) <= n:
            return self
        return replace(
            self,
            evaluations=self.evaluations.take(slice(n)),
            metrics=self.metrics[:n],
            elapsed=self.elapsed[:n],
            seconds=float(self.elapsed[n - 1]),
            stop_reason="budget",
        )

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

    def columns(self, genotypes: Genotypes | None = None) -> dict[str, list[Any]]:
        """A table by column: ``shape``, every reported metric, ``feasible``.

        Args:
            genotypes: Shape (n, d), evaluated; all that were evaluated by default.
        """
        rows = self._rows(genotypes)
        names = [metric.name for metric in self.problem.reported]
        table: dict[str, list[Any]] = {
            "shape": _formatted(self.problem.space, self.evaluations.genotypes[rows])
        }
        table.update(zip(names, self.metrics[rows].T.tolist(), strict=True))
        table["feasible"] = self.evaluations.feasible[rows].tolist()
        return table

    def records(self, genotypes: Genotypes | None = None) -> list[dict[str, Any]]:
        """The table of `columns` by row."""
        columns = self.columns(genotypes)
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def to_frame(self, genotypes: Genotypes | None = None) -> pd.DataFrame:
        """The table of `columns` for pandas.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingDependencyError("a DataFrame needs pandas: pip install pandas") from error
        return pd.DataFrame(self.columns(genotypes))

    def to_csv(self, genotypes: Genotypes | None = None) -> str:
        """The table of `columns` as CSV with a header; failed values are empty."""
        columns = self.columns(genotypes)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(c) for c in row] for row in zip(*columns.values(), strict=True))
        return text.getvalue()

    def to_json(self, genotypes: Genotypes | None = None) -> str:
        """The table and what its numbers are, as JSON; failed values are null."""
        content = {
            "study": self.name or None,
            "space": self.problem.space.name,
            "constraints": [str(constraint) for constraint in self.problem.constraints],
            "metrics": describe_metrics(self.problem),
            "evaluations": len(self),
            "seconds": round(self.seconds, 3),
            "stop_reason": self.stop_reason,
            "architectures": [
                {key: _json_value(value) for key, value in record.items()}
                for record in self.records(genotypes)
            ],
        }
        return json.dumps(content, indent=2, allow_nan=False)


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
        }
        for metric in problem.reported
    ]


def _formatted(space: SearchSpace, genotypes: Genotypes) -> list[str]:
    if type(space).format is SearchSpace.format:
        return ["-".join(map(str, choices)) for choices in space.decode(genotypes)]
    return [space.format(genotype) for genotype in genotypes]


def _cell(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else value


def _json_value(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
