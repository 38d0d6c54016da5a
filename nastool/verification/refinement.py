"""The active loop: search on predictors, measure what looks best, refit, search again."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from nastool import pareto
from nastool.arrays import Floats
from nastool.errors import InvalidInputError
from nastool.executors import Executor
from nastool.objective import Objective, outside_of
from nastool.problem import Problem
from nastool.results import Result
from nastool.space import Genotypes
from nastool.verification.verification import (
    Agreement,
    Progress,
    agreement,
    check_measured,
    measure,
)

if TYPE_CHECKING:
    from nastool.store import Store

Search = Callable[[Problem, Mapping[str, Path]], Result]
"""Searches a problem; also told the folders of its refitted predictors, by metric."""

_LEAST = 3
"""Measured shapes from which a predictor can be refitted."""

_EXPLORED = 4
"""One in so many measured shapes is a uniform draw: the best ones alone teach where to look, and
let a predictor forget what lies elsewhere."""


@runtime_checkable
class Refittable(Protocol):
    """An objective whose predictor can learn from new measurements."""

    def refitted(self, genotypes: Genotypes, values: Floats, folder: Path) -> Objective:
        """The same metric, predicted by what has also seen new measurements.

        Args:
            genotypes: Measured shapes, shape (n, d).
            values: What was measured, shape (n,), finite.
            folder: Keeps the new predictor.
        """


@dataclass(frozen=True, eq=False)
class Round:
    """One turn of the loop.

    Args:
        number: From 1.
        result: What the search on the predictors found.
        genotypes: Shapes that were measured, shape (k, d).
        measured: Values by metric, shape (k,); NaN where measuring failed.
        agreements: Predictions of this round against the measurements, metric by metric.
    """

    number: int
    result: Result
    genotypes: Genotypes
    measured: Mapping[str, Floats]
    agreements: tuple[Agreement, ...]


@dataclass(frozen=True, eq=False)
class Refinement:
    """What the loop leaves.

    Args:
        problem: With the refitted predictors.
        rounds: All turns.
        folders: Where the refitted predictors are, by metric.
    """

    problem: Problem
    rounds: tuple[Round, ...]
    folders: Mapping[str, Path]


def refine(
    problem: Problem,
    measured: Mapping[str, Objective],
    search: Search,
    *,
    rounds: int,
    folder: str | Path,
    shapes: int = 16,
    store: Store | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    report: Callable[[Round], None] | None = None,
) -> Refinement:
    """Search on predictors, measure the front, refit them; so many times.

    The same loop again takes measurements from the store, and goes on where they end.

    Args:
        problem: With predicted metrics.
        measured: For names of these, what measures them.
        search: How a problem is searched, the same in every round.
        rounds: How often.
        folder: Keeps the refitted predictors, a folder for each round and metric.
        shapes: Measured in a round.
        store: Keeps every measurement, and spares those it has.
        executor: Where shapes are measured; in this process by default.
        progress: Called as measurements of a round come in.
        report: Called after every round.

    Raises:
        InvalidInputError: Numbers too small, a metric that is not predicted, or one whose
            predictor cannot be refitted.
        NastoolError: Nothing could be measured.
    """
    if rounds < 1 or shapes < _LEAST:
        raise InvalidInputError(
            f"refining needs at least 1 round of {_LEAST} shapes, got {rounds} of {shapes}"
        )
    check_measured(problem, measured)
    originals: dict[str, Refittable] = {}
    for name in measured:
        metric = problem.metric(name)
        if not isinstance(metric, Refittable):
            raise InvalidInputError(f"{name} must have a predictor that can be refitted")
        originals[name] = metric
    space = problem.space
    seen = np.empty((0, len(space.genes)), dtype=np.int64)
    known = dict.fromkeys(measured, np.empty(0))
    done: list[Round] = []
    folders: dict[str, Path] = {}
    for number in range(1, rounds + 1):
        result = search(problem, dict(folders))
        chosen = promising(result, shapes - shapes // _EXPLORED, seen)
        if not len(chosen):
            break
        others = problem.sample(shapes // _EXPLORED, np.random.default_rng(number), least=0)
        chosen = np.concatenate([chosen, _new(problem, others, np.concatenate([seen, chosen]))])
        values = {
            name: measure(space, objective, chosen, store, executor, progress)
            for name, objective in measured.items()
        }
        agreements = tuple(
            agreement(
                metric,
                objective,
                metric.evaluate(chosen),
                values[metric.name],
                outside_of(metric, chosen),
            )
            for metric, objective in ((problem.metric(n), o) for n, o in measured.items())
        )
        done.append(Round(number, result, chosen, values, agreements))
        if report is not None:
            report(done[-1])
        seen = np.concatenate([seen, chosen])
        refitted: dict[str, Objective] = {}
        for name, original in originals.items():
            known[name] = np.concatenate([known[name], values[name]])
            good = np.isfinite(known[name])
            folders[name] = Path(folder) / f"round-{number}" / _slug(name, measured)
            # From the original each time: what a round learned is in the measurements.
            refitted[name] = original.refitted(seen[good], known[name][good], folders[name])
        problem = _replaced(problem, refitted)
    return Refinement(problem, tuple(done), folders)


def promising(result: Result, n: int, exclude: Genotypes) -> Genotypes:
    """Feasible shapes worth measuring: the front, then what is best without it, and so on.

    Args:
        result: Of a search.
        n: Shapes at most.
        exclude: Shapes that are known, shape (k, d).

    Returns:
        Shape (m, d), m <= n; of the last front that is needed, shapes spread evenly over it.
    """
    space, evaluations = result.problem.space, result.evaluations
    taken = set(space.keys(exclude))
    new = np.array([key not in taken for key in space.keys(evaluations.genotypes)], dtype=bool)
    rows = np.flatnonzero(evaluations.feasible & new)
    points = evaluations.objectives[rows]
    ranks = pareto.fast_non_dominated_rank(points)
    order = np.lexsort((*points.T[::-1], ranks))
    found: list[Any] = []
    for rank in range(int(ranks.max(initial=-1)) + 1):
        front = rows[order[ranks[order] == rank]]
        missing = n - len(found)
        if len(front) >= missing:
            found.extend(front[pareto.spread(len(front), missing)])
            break
        found.extend(front)
    return evaluations.genotypes[np.array(found, dtype=np.int64)]


def _new(problem: Problem, genotypes: Genotypes, exclude: Genotypes) -> Genotypes:
    """Those that are not excluded, each once, in their order."""
    taken = set(problem.space.keys(exclude))
    rows = []
    for row, key in enumerate(problem.space.keys(genotypes)):
        if key not in taken:
            taken.add(key)
            rows.append(row)
    return genotypes[rows]


def _replaced(problem: Problem, refitted: Mapping[str, Objective]) -> Problem:
    return replace(
        problem,
        objectives=tuple(refitted.get(o.name, o) for o in problem.objectives),
        metrics=tuple(refitted.get(o.name, o) for o in problem.metrics),
    )


def _slug(name: str, names: Mapping[str, object]) -> str:
    """A metric's name as that of a folder."""
    slugs = [re.sub(r"[^\w.]+", "-", other).strip("-.") for other in names]
    place = list(names).index(name)
    return slugs[place] if slugs.count(slugs[place]) == 1 else f"{slugs[place]}-{place}"
