"""Measuring what was predicted: is a front what it seems?"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nastool import pareto
from nastool.arrays import Floats
from nastool.errors import InvalidInputError, NastoolError
from nastool.executors import Executor, Serial, evaluated
from nastool.numbers import score_text
from nastool.objective import Direction, Kind, Objective, half_widths_of, outside_of
from nastool.predictors.evaluation import spearman
from nastool.predictors.trust import trust
from nastool.problem import Problem
from nastool.results import Result
from nastool.space import Genotypes, SearchSpace
from nastool.store.ledger import keep_values, known_values

if TYPE_CHECKING:
    from nastool.store import Store

Progress = Callable[[int, int], None]
"""Called with the number of shapes measured so far and of all."""


_FEW = 3
"""Shapes below which a rank correlation means nothing."""


@runtime_checkable
class Learned(Protocol):
    """A predicted metric that knows which shapes its predictor was fitted on."""

    def learned(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        """Whether each shape of (n, d) was one of them, shape (n,)."""


@dataclass(frozen=True)
class Agreement:
    """How predictions of a metric agree with measurements.

    Args:
        metric: The metric.
        by: What measured it.
        n: Shapes with both numbers that the predictor was not fitted on.
        spearman: Rank correlation; None where it is not defined.
        error: Median relative difference; None without shapes.
        bias: Median signed relative difference: above 0 where the measurement is larger.
        interval: Half-width that was promised to hold 90% of new measurements, in the median of
            the shapes, or None.
        hits: Shapes whose measurement lies within their own, or None.
        outside: Shapes among them outside of what the predictor has seen: nothing was promised.
    """

    metric: str
    by: str
    n: int
    spearman: float | None
    error: float | None
    bias: float | None
    interval: float | None
    hits: int | None
    outside: int = 0

    def __str__(self) -> str:
        if not self.n:
            return f"{self.metric}: no shape that it was not fitted on"
        parts = [f"{self.n} shapes"]
        if self.spearman is not None:
            parts.append(f"Spearman {score_text(self.spearman, 3)}")
        if self.error is not None:
            parts.append(f"median difference {self.error:.1%}")
        if self.hits is not None:
            inside = self.n - self.outside
            parts.append(f"{self.hits}/{inside} within the 90% interval")
        if self.outside:
            parts.append(f"{self.outside} outside of what the predictor has seen")
        return f"{self.metric}: {', '.join(parts)}"


@dataclass(frozen=True, eq=False)
class Verification:
    """Predicted and measured values of shapes of a front.

    Args:
        result: Whose front it is.
        genotypes: The shapes, in the order of the front, shape (k, d).
        measured: Values by the name of the predicted metric, shape (k,); NaN where it failed.
        agreements: One for each of these metrics.
        front: How many shapes the front has.
        satisfying: Shapes whose measured values keep the constraints; None where none is on a
            measured metric.
        kept: Of those (or of all), shapes that nothing dominates among the measured values.
    """

    result: Result
    genotypes: Genotypes
    measured: Mapping[str, Floats]
    agreements: tuple[Agreement, ...]
    front: int
    satisfying: int | None
    kept: int

    def as_dict(self) -> dict[str, Any]:
        """What a store keeps, as JSON values."""
        return {
            "digest": front_digest(self.result),
            "shapes": len(self.genotypes),
            "front": self.front,
            "satisfying": self.satisfying,
            "kept": self.kept,
            "metrics": [asdict(agreement) for agreement in self.agreements],
        }

    def records(self) -> list[dict[str, Any]]:
        """A row a shape: predicted and measured values of every metric."""
        rows = self.result.records(self.genotypes)
        predicted = self.result.values(self.genotypes)
        for name, values in self.measured.items():
            worth = trust(self.result.problem.metric(name), self.genotypes, predicted[name])
            for i, (row, value) in enumerate(zip(rows, values.tolist(), strict=True)):
                row[f"measured {name}"] = None if math.isnan(value) else value
                row.setdefault("predicted", {})[name] = worth.as_dict(i)
        return rows


def predicted_metrics(problem: Problem) -> tuple[Objective, ...]:
    """Metrics of a problem whose values are predictions."""
    return tuple(m for m in problem.reported if m.provenance.kind is Kind.PREDICTED)


def check_measured(problem: Problem, measured: Mapping[str, Objective]) -> None:
    """Check that there is something to measure, that it is predicted, and in the same unit.

    Raises:
        InvalidInputError: It is not, or the smaller is better in one, the larger in the other.
    """
    predicted = [metric.name for metric in predicted_metrics(problem)]
    unknown = [name for name in measured if name not in predicted]
    if unknown or not measured:
        raise InvalidInputError(
            "what is measured must be predicted metrics of the problem "
            f"({', '.join(predicted) or 'none'}), got {', '.join(unknown) or 'none'}"
        )
    for name, objective in measured.items():
        expected, got = _terms(problem.metric(name)), _terms(objective)
        if expected != got:
            raise InvalidInputError(
                f"what measures {name} must be {expected}, as {name} is, "
                f"got {objective.name}, which is {got}"
            )


def _terms(metric: Objective) -> str:
    better = "smaller" if metric.direction is Direction.MINIMIZE else "larger"
    return f"in {metric.unit or 'plain numbers'} and better when {better}"


def verify(
    result: Result,
    measured: Mapping[str, Objective],
    limit: int | None = None,
    store: Store | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Measure the shapes of a front.

    Args:
        result: Of a study.
        measured: For names of predicted metrics, what measures them.
        limit: Shapes at most, spread evenly over the front.
        store: Keeps every measurement, and spares those it has.
        executor: Where shapes are measured; in this process by default.
        progress: Called as measurements come in.

    Raises:
        InvalidInputError: No metric to measure, or one that is not predicted.
        NastoolError: The front is empty.
    """
    problem = result.problem
    check_measured(problem, measured)
    front = result.front().genotypes
    if not len(front):
        raise NastoolError("there must be a front to verify: no evaluation is feasible")
    chosen = front if limit is None else front[pareto.spread(len(front), limit)]
    values: dict[str, Floats] = {}
    for number, (name, objective) in enumerate(measured.items()):
        done = number * len(chosen)

        def report(count: int, total: int, done: int = done) -> None:
            if progress is not None:
                progress(done + count, len(measured) * total)

        values[name] = measure(problem.space, objective, chosen, store, executor, report)
    predictions = result.values(chosen)
    agreements = tuple(
        agreement(
            problem.metric(name),
            objective,
            predictions[name],
            _unlearned(problem.metric(name), chosen, values[name]),
            outside_of(problem.metric(name), chosen),
        )
        for name, objective in measured.items()
    )
    known = {**predictions, **values}
    found = problem.evaluations(
        chosen, np.stack([known[metric.name] for metric in problem.reported], axis=1)
    )
    satisfying = found.satisfied
    bounded = any(constraint.metric in measured for constraint in problem.constraints)
    return Verification(
        result,
        chosen,
        values,
        agreements,
        front=len(front),
        satisfying=int(satisfying.sum()) if bounded else None,
        kept=int(pareto.non_dominated(found.objectives[satisfying]).sum()),
    )


def measure(
    space: SearchSpace,
    objective: Objective,
    genotypes: Genotypes,
    store: Store | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Floats:
    """Measure shapes, except those that the store knows.

    Args:
        space: Of the shapes.
        objective: What measures.
        genotypes: Shape (n, d).
        store: Keeps every measurement, and spares those it has.
        executor: Where shapes are measured; in this process by default.
        progress: Called as measurements come in.

    Returns:
        Shape (n,); NaN where measuring failed.

    Raises:
        NastoolError: It failed for all of them.
    """
    values = known_values(store, space, objective, genotypes)
    missing = np.flatnonzero(np.isnan(values))
    messages: list[str] = []
    done = len(genotypes) - len(missing)
    if progress is not None:
        progress(done, len(genotypes))
    with contextlib.closing(
        evaluated(executor or Serial(1), objective, genotypes[missing])
    ) as chunks:
        for chunk in chunks:
            rows = missing[chunk.rows]
            values[rows] = chunk.values
            messages += chunk.messages.values()
            keep_values(store, space, objective, genotypes[rows], values[rows])
            done += len(rows)
            if progress is not None:
                progress(done, len(genotypes))
    if np.isnan(values).all():
        reason = f": {messages[-1]}" if messages else ""
        raise NastoolError(f"{objective.name} could measure none of the shapes{reason}")
    return values


def agreement(
    predicted: Objective,
    measured: Objective,
    predictions: Floats,
    values: Floats,
    outside: NDArray[np.bool_] | None = None,
) -> Agreement:
    """Compare predictions of a metric with what measured it.

    Args:
        predicted: The metric.
        measured: What measured it.
        predictions: Shape (n,).
        values: Measured, shape (n,); NaN where it failed.
        outside: Shapes of which the predictor promises nothing, shape (n,); none by default.
    """
    both = np.isfinite(predictions) & np.isfinite(values)
    outside = (np.zeros(len(values), dtype=bool) if outside is None else outside)[both]
    predictions, values = predictions[both], values[both]
    n = len(values)
    scale = np.abs(predictions)
    relative = (values - predictions) / np.where(scale > 0, scale, 1.0)
    rho = spearman(predictions, values) if n >= _FEW else math.nan
    halves = half_widths_of(predicted, predictions)
    within = None if halves is None else (np.abs(values - predictions) <= halves) & ~outside
    return Agreement(
        metric=predicted.name,
        by=str(measured.provenance),
        n=n,
        spearman=rho if math.isfinite(rho) else None,
        error=float(np.median(np.abs(relative))) if n else None,
        bias=float(np.median(relative)) if n else None,
        interval=None if halves is None or not n else float(np.median(halves)),
        hits=None if within is None else int(within.sum()),
        outside=int(outside.sum()),
    )


def _unlearned(predicted: Objective, genotypes: Genotypes, values: Floats) -> Floats:
    """Measured values, NaN for shapes that the predictor was fitted on: these it must know."""
    if not isinstance(predicted, Learned):
        return values
    return np.where(predicted.learned(genotypes), np.nan, values)


def front_digest(result: Result) -> str:
    """Hex digest of the shapes of a front: a verification holds for one front only."""
    keys = sorted(map(str, result.problem.space.keys(result.front().genotypes)))
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:16]


def holds(result: Result, stored: Mapping[str, Any] | None) -> bool:
    """Whether a stored verification is one of the front that a result has."""
    return stored is not None and stored["digest"] == front_digest(result)


def verification_status(result: Result, stored: Mapping[str, Any] | None) -> str:
    """What an output says about its front; empty where nothing on it is predicted.

    Args:
        result: Of a study.
        stored: What `Verification.as_dict` returned, or None.
    """
    names = [metric.name for metric in predicted_metrics(result.problem)]
    if not names:
        return ""
    if stored is None:
        return f"not verified: {' and '.join(names)} predicted, not measured"
    if not holds(result, stored):
        return "not verified: the front has changed since it was verified"
    agreements = [Agreement(**content) for content in stored["metrics"]]
    known = {agreement.metric for agreement in agreements}
    parts = [f"verified on {stored['shapes']} of {stored['front']} shapes", *map(str, agreements)]
    # Older verifications do not say.
    if (satisfying := stored.get("satisfying")) is not None:
        parts.insert(1, f"{satisfying} satisfy the constraints")
    missing = [name for name in names if name not in known]
    return "; ".join([*parts, *(f"{name}: not verified" for name in missing)])
