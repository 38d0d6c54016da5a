"""Comparisons: several strategies, several seeds, one problem and one budget."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nastool import pareto
from nastool.choices import listed, whole
from nastool.comparison.traces import best_trace, front_trace
from nastool.constraint import Constraint
from nastool.errors import InvalidInputError, NastoolError
from nastool.executors import Executor
from nastool.objective import Direction
from nastool.pareto.indicators import (
    AttainmentSurface,
    Axis,
    Curve,
    Indicator,
    PairTest,
    Summary,
    Values,
    attained,
    holm,
    p_value,
    summary,
)
from nastool.problem import Problem
from nastool.results import Result
from nastool.study import StrategyFactory, Study, Until, load_result
from nastool.study.reopening import check_problem

if TYPE_CHECKING:
    from nastool.store import Store, StudySummary

ComparisonProgress = Callable[[str, int, int, int], None]
"""Called after every batch with strategy, seed, evaluations so far and budget."""

_MARGIN = 0.1
"""How far the reference point lies beyond the front, in extents of the front (Ishibuchi 2018)."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs of several strategies and what they say about them.

    Objectives are scaled to [0, 1] over the reference front before indicators are computed, and
    hypervolume is a share of the reference front's own.

    Args:
        problem: What was optimised.
        results: By strategy, one result a seed.
        seeds: In the order of the results.
        budget: Evaluations a run was allowed, at most.
        true_front: Minimised objectives of the best possible front, shape (r, m), where it is
            known; the front of all runs together takes its place otherwise.
        bounds: Constraints under each of which the best value is reported besides.

    Raises:
        InvalidInputError: No strategies, seeds or runs that belong together, or a bound on an
            unknown metric.
        NastoolError: No run found anything feasible.
    """

    problem: Problem
    results: Mapping[str, tuple[Result, ...]]
    seeds: tuple[int, ...]
    budget: int
    true_front: Values | None = None
    bounds: tuple[Constraint, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.results or not self.seeds:
            raise InvalidInputError("a comparison must have at least one strategy and one seed")
        for strategy, runs in self.results.items():
            if len(runs) != len(self.seeds):
                raise InvalidInputError(
                    f"{strategy} must have {len(self.seeds)} runs, one a seed, got {len(runs)}"
                )
        check_bounds(self.problem, self.bounds)
        _ = self.reference_front

    def __repr__(self) -> str:
        strategies = ", ".join(self.results)
        return (
            f"<Comparison of {strategies}: {len(self.seeds)} seeds, {self.budget:,} evaluations "
            f"each of {self.problem.summary}>"
        )

    @cached_property
    def _feasible(self) -> Mapping[str, tuple[NDArray[np.bool_], ...]]:
        return {s: tuple(r.evaluations.feasible for r in runs) for s, runs in self.results.items()}

    @cached_property
    def reference_front(self) -> Values:
        """The true front, or the front of all runs together; minimised, shape (r, m).

        Raises:
            InvalidInputError: The true front has another shape.
            NastoolError: No run found anything feasible.
        """
        m = len(self.problem.objectives)
        if self.true_front is not None:
            front = np.asarray(self.true_front, dtype=np.float64)
            if front.ndim != 2 or front.shape[1] != m or not len(front):
                raise InvalidInputError(
                    f"a true front must have shape (r, {m}) with r >= 1, got {front.shape}"
                )
        else:
            runs = [r for results in self.results.values() for r in results]
            front = np.concatenate([run.front().objectives for run in runs])
        if not len(front):
            raise NastoolError("no run found a feasible architecture, so there is no front")
        return pareto.front(front)

    @cached_property
    def _scale(self) -> tuple[Values, Values]:
        """Offset and extent that map the reference front to [0, 1]."""
        seen = [
            run.evaluations.objectives[feasible]
            for strategy, runs in self.results.items()
            for run, feasible in zip(runs, self._feasible[strategy], strict=True)
        ]
        return pareto.scale(self.reference_front, np.concatenate(seen))

    @cached_property
    def reference_point(self) -> Values:
        """Where hypervolume is measured from; minimised objectives, shape (m,)."""
        point: Values = self.reference_front.max(axis=0) + _MARGIN * self._scale[1]
        return point

    @cached_property
    def indicators(self) -> tuple[Indicator, ...]:
        """What every run is judged by."""
        best = []
        for column, objective in enumerate(self.problem.objectives):
            higher = objective.direction is Direction.MAXIMIZE
            name = f"best {objective.name}"
            best.append(Indicator(name, higher, objective.unit, column))
            best += [
                Indicator(f"{name} under {bound}", higher, objective.unit, column, bound)
                for bound in self.bounds
                if bound.metric != objective.name
            ]
        # Beside a front that is only the best known, a gap would say less than it seems to.
        known = (Indicator("gap"),) if self.true_front is not None else ()
        return (
            Indicator("hypervolume", higher_is_better=True),
            *known,
            Indicator("igd_plus"),
            Indicator("additive_epsilon"),
            *best,
        )

    def indicator(self, name: str) -> Indicator:
        """The indicator of that name.

        Raises:
            InvalidInputError: There is none.
        """
        for indicator in self.indicators:
            if indicator.name == name:
                return indicator
        known = ", ".join(indicator.name for indicator in self.indicators)
        raise InvalidInputError(f"indicator must be one of {known}, got {name!r}")

    @cached_property
    def _reference(self) -> tuple[Values, Values, float]:
        """Reference front and point, scaled, and the hypervolume between them."""
        offset, extent = self._scale
        front = (self.reference_front - offset) / extent
        point = (self.reference_point - offset) / extent
        return front, point, pareto.hypervolume(front, point)

    def _trace(self, name: str, strategy: str, counts: Sequence[NDArray[np.int64]]) -> Values:
        """An indicator of each run after its first `counts` evaluations, shape (s, k)."""
        indicator = self.indicator(name)
        traced = []
        for run, result in enumerate(self.results[strategy]):
            if indicator.objective is not None:
                traced.append(best_trace(self.problem, indicator, result, counts[run]))
            else:
                offset, extent = self._scale
                points = (result.evaluations.objectives - offset) / extent
                feasible = self._feasible[strategy][run]
                traced.append(front_trace(name, points, feasible, counts[run], *self._reference))
        return np.array(traced)

    def scores(self, indicator: str, evaluations: int | None = None) -> dict[str, Values]:
        """An indicator of every run, by strategy, shape (s,).

        Args:
            indicator: Its name.
            evaluations: Judge only that many first ones of each run; all by default.
        """
        limit = self.budget if evaluations is None else evaluations
        return {
            strategy: self._trace(
                indicator, strategy, [np.array([min(limit, len(run))]) for run in runs]
            )[:, 0]
            for strategy, runs in self.results.items()
        }

    def summaries(
        self, indicator: str, evaluations: int | None = None, confidence: float = 0.95
    ) -> list[Summary]:
        """Median and interval of an indicator for each strategy, the best first.

        Args:
            indicator: Its name.
            evaluations: Judge only that many first ones of each run; all by default.
            confidence: Of the interval, where there are enough seeds for it.
        """
        chosen = self.indicator(indicator)
        scores = self.scores(indicator, evaluations).items()
        rows = [summary(strategy, chosen, values, confidence) for strategy, values in scores]
        # What found nothing (NaN) comes last.
        return sorted(rows, key=lambda row: float(chosen.losses(np.array(row.median))))

    def curve(self, indicator: str, axis: Axis = "evaluations", points: int = 40) -> Curve:
        """How an indicator develops over the runs.

        Args:
            indicator: Its name.
            axis: Evaluations, or seconds of the study.
            points: Number of places, at most; spaced geometrically.

        Raises:
            InvalidInputError: An unknown axis or indicator.
        """
        runs = [run for results in self.results.values() for run in results]
        if axis == "evaluations":
            x = np.unique(np.geomspace(1, self.budget, points).round())
        elif axis == "seconds":
            first = min(run.elapsed[0] for run in runs if len(run))
            last = max(run.elapsed[-1] for run in runs if len(run))
            x = np.geomspace(max(first, 1e-6), max(last, 1e-6), points)
            x[-1] = last
        else:
            raise InvalidInputError(f"axis must be evaluations or seconds, got {axis!r}")
        values = {}
        for strategy, results in self.results.items():
            if axis == "evaluations":
                counts = [np.minimum(x, len(run)).astype(np.int64) for run in results]
            else:
                counts = [np.searchsorted(run.elapsed, x, side="right") for run in results]
            traced = self._trace(indicator, strategy, counts)
            started = np.stack(counts) > 0
            values[strategy] = np.where(started, traced, np.nan)
        return Curve(self.indicator(indicator), axis, x, values)

    def tests(
        self, indicator: str, evaluations: int | None = None, paired: bool = False
    ) -> list[PairTest]:
        """Whether any two strategies differ in an indicator, Holm-corrected over all pairs.

        Args:
            indicator: Its name.
            evaluations: Judge only that many first ones of each run; all by default.
            paired: Wilcoxon's signed-rank test, where a seed means the same to both strategies,
                instead of Mann and Whitney's.
        """
        losses = self.indicator(indicator).losses
        scores = {
            strategy: losses(values)
            for strategy, values in self.scores(indicator, evaluations).items()
        }
        pairs = list(itertools.combinations(scores, 2))
        p_values = np.array([p_value(scores[a], scores[b], paired) for a, b in pairs])
        tests = []
        for (a, b), p, corrected in zip(pairs, p_values, holm(p_values), strict=True):
            wins = scores[a][:, None] < scores[b]
            ties = scores[a][:, None] == scores[b]
            tests.append(
                PairTest(a, b, float(p), float(corrected), float((wins + ties / 2).mean()))
            )
        return tests

    def attainment(self, strategy: str, levels: ArrayLike = (0.25, 0.5, 0.75)) -> AttainmentSurface:
        """What shares of a strategy's runs reach in the first two objectives (Fonseca 1996).

        Args:
            strategy: Its name.
            levels: Shares in (0, 1].

        Raises:
            InvalidInputError: An unknown strategy, other levels, or other than two objectives.
        """
        if strategy not in self.results:
            known = ", ".join(self.results)
            raise InvalidInputError(f"strategy must be one of {known}, got {strategy!r}")
        if len(self.problem.objectives) != 2:
            raise InvalidInputError(
                f"attainment surfaces need two objectives, got {len(self.problem.objectives)}"
            )
        shares = np.atleast_1d(np.asarray(levels, dtype=np.float64))
        if np.any((shares <= 0) | (shares > 1)):
            raise InvalidInputError(f"levels must lie in (0, 1], got {shares.tolist()}")
        fronts = [run.front().objectives for run in self.results[strategy]]
        x, y = attained(fronts, shares)
        signs = self.problem.signs
        return AttainmentSurface(strategy, x * signs[0], shares, y * signs[1])


def check_bounds(problem: Problem, bounds: Sequence[Constraint]) -> None:
    """Raise InvalidInputError unless every bound is on a metric of the problem, in its unit."""
    for bound in bounds:
        metric = problem.metric(bound.metric)
        if bound.unit and bound.unit != metric.unit:
            raise InvalidInputError(
                f"{bound}: {metric.name} is measured in {metric.unit or 'plain numbers'}, "
                f"got a bound in {bound.unit}"
            )


def compare(
    problem: Problem,
    strategies: Mapping[str, StrategyFactory | str] | Sequence[str],
    seeds: Sequence[int],
    budget: int,
    *,
    store: Store | str | None = None,
    name: str = "comparison",
    batch_size: int | None = None,
    budgets: Mapping[str, int] | None = None,
    true_front: Values | None = None,
    bounds: Sequence[Constraint] = (),
    descriptions: Mapping[str, Mapping[str, Any]] | None = None,
    executor: Executor | None = None,
    progress: ComparisonProgress | None = None,
    ending: Callable[[], Until | None] | None = None,
) -> Comparison:
    """Run every strategy with every seed.

    With a store, finished runs are read back and unfinished ones go on, so that a comparison can
    be stopped at any time and enlarged by strategies, seeds or budget later.

    Args:
        problem: What to optimise.
        strategies: What makes each from the problem and a seed, or what it is called
            (``evolution``), by the name it goes by here; or just what they are called.
        seeds: Distinct.
        budget: Evaluations of each run.
        store: Where to keep the runs, as a store or its URL; only in memory by default.
        name: Prefix of the names of the studies.
        batch_size: As for `Study.run`.
        budgets: By strategy, where it differs from the others'.
        true_front: As for `Comparison`.
        bounds: As for `Comparison`.
        descriptions: By strategy, JSON values kept with its studies.
        executor: As for `Study`.
        progress: Told after every batch.
        ending: Makes what ends each run before its budget, when it begins.

    Raises:
        InvalidInputError: No strategies or seeds, repeated seeds, a bound on an unknown metric, or
            a blank name, or one under which the store keeps something else.
        KeyboardInterrupt: Ctrl-C; what was evaluated is kept in the store.
    """
    seeds = tuple(whole("a seed", seed) for seed in listed("seeds", seeds))
    if not strategies or not seeds or len(set(seeds)) != len(seeds):
        raise InvalidInputError(
            "a comparison must have at least one strategy and distinct seeds, got "
            f"{len(strategies)} strategies and seeds {list(seeds)}"
        )
    if not isinstance(strategies, Mapping):
        strategies = {text: text for text in listed("strategies", strategies)}
    check_bounds(problem, bounds)
    if isinstance(store, str):
        from nastool.store import open_store

        store = open_store(store)
    if not name.strip():
        raise InvalidInputError(f"a comparison must have a name that is not blank, got {name!r}")
    if store is not None:
        check_name(store, name, problem)
    results: dict[str, list[Result]] = {strategy: [] for strategy in strategies}
    # All strategies take their first seed before any takes its second: an early look is fair.
    for seed, (strategy, factory) in itertools.product(seeds, strategies.items()):
        described = (descriptions or {}).get(strategy)
        study = study_of(problem, factory, seed, store, name, strategy, described, executor)
        limit = (budgets or {}).get(strategy, budget)
        report = progress and partial(progress, strategy, seed)
        until = None if ending is None else ending()
        result = study.run(limit, batch_size, report, until=until)
        if result.stop_reason == "interrupted":
            raise KeyboardInterrupt
        # A stored run may have had a larger budget.
        results[strategy].append(result.first(limit))
    runs = {strategy: tuple(made) for strategy, made in results.items()}
    budget = max([budget, *(budgets or {}).values()])
    return Comparison(problem, runs, tuple(seeds), budget, true_front, tuple(bounds))


def runs_of(store: Store, name: str) -> list[StudySummary]:
    """The runs of a stored comparison, oldest first; none where no comparison has that name."""
    return [
        summary
        # Each is named after it: a damaged study elsewhere is not its concern.
        for summary in store.list_studies(f"{name}/")
        if (summary.comparison or ("",))[0] == name
    ]


def run_of(run: StudySummary) -> tuple[str, int]:
    """Strategy and seed of a run of a comparison.

    Raises:
        StoreError: The run is damaged.
    """
    seed = run.identity.get("seed")
    if run.comparison is None or not isinstance(seed, int):
        raise run.damaged("seed", "be a whole number", seed)
    return run.comparison[1], seed


def check_name(store: Store, name: str, problem: Problem) -> None:
    """Raise InvalidInputError if the store keeps a study or another problem's runs by that name."""
    for run in (runs := runs_of(store, name)):
        check_problem(run, problem)
    if not runs and name in store.names():
        raise InvalidInputError(
            f"a comparison must have a name of its own, got {name!r}, a study in {store.url}"
        )


def study_of(
    problem: Problem,
    factory: StrategyFactory | str,
    seed: int,
    store: Store | None,
    name: str,
    strategy: str,
    description: Mapping[str, Any] | None = None,
    executor: Executor | None = None,
) -> Study:
    """The study behind one run of a comparison; run anywhere, `compare` finds it in the store.

    Args:
        problem: What to optimise.
        factory: Makes the strategy, or its name.
        seed: Of the run.
        store: Where it is kept.
        name: Of the comparison.
        strategy: Its name in the comparison.
        description: JSON values kept with it.
        executor: As for `Study`.
    """
    origin = {"comparison": {"name": name, "strategy": strategy}}
    described = {"strategy": strategy, **(description or {}), **origin}
    study = f"{name}/{strategy}/{seed}"
    return Study(problem, factory, store, study, seed, description=described, executor=executor)


def load_comparison(
    store: Store,
    name: str,
    problem: Problem,
    *,
    bounds: Sequence[Constraint] = (),
) -> Comparison:
    """Reopen a stored comparison: the seeds with which every strategy has finished.

    Args:
        store: Where it is kept.
        name: Its name.
        problem: The one it was made for.
        bounds: As for `Comparison`.

    Raises:
        InvalidInputError: No comparison of that name, no finished seed, or another problem.
    """
    runs: dict[str, dict[int, str]] = {}
    for run in runs_of(store, name):
        if run.stop_reason not in ("", "interrupted"):
            strategy, seed = run_of(run)
            runs.setdefault(strategy, {})[seed] = run.name
    seeds = sorted(set.intersection(*map(set, runs.values()))) if runs else []
    if not seeds:
        raise InvalidInputError(
            f"no seed of a comparison {name!r} has been finished by all its strategies in "
            f"{store.url}"
        )
    results = {
        strategy: tuple(load_result(store, by_seed[seed], problem) for seed in seeds)
        for strategy, by_seed in runs.items()
    }
    budget = max(len(result) for made in results.values() for result in made)
    return Comparison(problem, results, tuple(seeds), budget, bounds=tuple(bounds))
