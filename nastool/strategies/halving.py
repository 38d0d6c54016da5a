"""Successive halving: of what was evaluated at a low cost, what may be best at a higher one.

Perplexity on a few blocks of text orders shapes almost as perplexity on many does. So all shapes
are measured on few, and on more only those whose value there, as far as those that are measured on
both tell, may be on the front. What is decided is decided again with every value that comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.evaluations import Evaluations
from nastool.pareto import least_up_to
from nastool.problem import Problem
from nastool.space import Genotypes
from nastool.strategies.base import State, Strategy

_DEVIATIONS = 4.0
"""Standard deviations by which a shape may turn out better than expected."""

_FEW = 12
"""Shapes that are evaluated at the higher cost before it is known how far the two agree."""

_AT_ONCE = 64
"""Shapes that are proposed at a time: what they are worth spares others."""

_CELLS = 2**22
"""Numbers that are compared at a time."""


class Halving(Strategy):
    """Proposes what was found with a cheaper form of an objective and may be on the front.

    Args:
        problem: With the objective in its dearer form.
        seed: Of no effect.
        found: What was found with the cheaper one, of the same problem otherwise; nothing is
            proposed without.
        column: Of that objective.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int = 0,
        *,
        found: Evaluations | None = None,
        column: int = 0,
    ) -> None:
        super().__init__(problem, seed)
        if found is None:
            genes, objectives = len(problem.space.genes), len(problem.objectives)
            nothing = np.empty((0, genes), dtype=np.int64)
            found = Evaluations(nothing, np.empty((0, objectives)), np.empty((0, 0)))
        self._genotypes, self._column = found.genotypes, column
        self._others = np.delete(found.objectives, column, axis=1)
        name = problem.objectives[column].name
        self._limit = _limit(problem, column)
        # What breaks a bound on another metric breaks it at any cost.
        bounds = [k for k, c in enumerate(problem.constraints) if c.metric != name]
        allowed = np.isfinite(found.objectives).all(axis=1)
        if len(found):
            allowed &= (found.violations[:, bounds] <= 0).all(axis=1)
        self._low = np.where(allowed, found.objectives[:, column], np.nan)
        self._high = np.full(len(found), np.nan)
        self._feasible = np.ones(len(found), dtype=bool)
        self._places = {key: k for k, key in enumerate(problem.space.keys(self._genotypes))}
        self._told: list[Evaluations] = []

    @property
    def batch_size(self) -> int:
        return _AT_ONCE

    def ask(self, n: int) -> Genotypes:
        waiting = np.zeros(len(self._low), dtype=bool)
        waiting[self._rows(self.pending)] = True
        rows = promising(
            self._others,
            self._low,
            self._high,
            waiting=waiting,
            feasible=self._feasible,
            limit=self._limit,
        )
        return self._genotypes[rows[:n]]

    def tell(self, evaluations: Evaluations) -> None:
        self._told.append(evaluations)
        keys = self.problem.space.keys(evaluations.genotypes)
        values, feasible = evaluations.objectives[:, self._column], evaluations.feasible
        for key, value, is_feasible in zip(keys, values, feasible, strict=True):
            if (place := self._places.get(key)) is not None:
                self._high[place] = np.nan_to_num(value, nan=np.inf)
                self._feasible[place] = is_feasible

    def _rows(self, genotypes: Genotypes) -> list[int]:
        keys = self.problem.space.keys(genotypes)
        return [self._places[key] for key in keys if key in self._places]

    def state_dict(self) -> State:
        told: dict[str, Any] = {}
        if self._told:
            all_ = Evaluations.concatenate(self._told)
            self._told = [all_]
            told = {
                "genotypes": all_.genotypes,
                "objectives": all_.objectives,
                "violations": all_.violations,
            }
        return {**super().state_dict(), "told": told}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._told.clear()
        self._high[:], self._feasible[:] = np.nan, True
        if told := state["told"]:
            self.tell(Evaluations(told["genotypes"], told["objectives"], told["violations"]))


def _limit(problem: Problem, column: int) -> float:
    """The largest value of an objective, minimised, that the constraints allow."""
    objective = problem.objectives[column]
    sense = "<=" if objective.direction.sign > 0 else ">="
    bounds = [c for c in problem.constraints if (c.metric, c.sense) == (objective.name, sense)]
    return min((c.bound * objective.direction.sign for c in bounds), default=np.inf)


def promising(
    others: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    *,
    waiting: NDArray[np.bool_] | None = None,
    feasible: NDArray[np.bool_] | None = None,
    limit: float = np.inf,
) -> NDArray[np.int64]:
    """Rows (k,) of what is to be evaluated at the higher cost next, the most promising first.

    Args:
        others: What is to be small beside the value, shape (n, m); m may be 0.
        low: Values at the lower cost, to be small, shape (n,); NaN where there are none.
        high: Values at the higher cost; NaN where not evaluated, infinite where that failed.
        waiting: Which are being evaluated at the higher cost.
        feasible: Which of those that are evaluated at the higher cost meet all constraints.
        limit: Largest value that meets them.
    """
    known, both = np.isfinite(low), np.isfinite(low) & np.isfinite(high)
    under_way = np.zeros(len(low), dtype=bool) if waiting is None else waiting & np.isnan(high)
    open_ = known & np.isnan(high) & ~under_way
    if not open_.any():
        return np.empty(0, dtype=np.int64)
    positive = low[known].min() > 0 and (high[both] > 0).all()
    scale = np.log if positive else np.asarray
    x = np.full(len(low), np.nan)
    x[known] = scale(low[known])
    rows = np.flatnonzero(both)
    if len(rows) < _FEW:
        return _first(others, x, open_, len(rows) + int(under_way.sum()))
    y = scale(high[rows])
    same = np.ptp(x[rows]) == 0
    slope, offset = (1.0, (y - x[rows]).mean()) if same else np.polyfit(x[rows], y, 1)
    residual = y - (offset + slope * x[rows])
    spread = np.sqrt((residual**2).sum() / (len(rows) - 2) * (1 + 1 / len(rows)))
    candidates = np.flatnonzero(open_)
    hoped = offset + slope * x[candidates] - _DEVIATIONS * spread
    beats = np.ones(len(rows), dtype=bool) if feasible is None else feasible[rows]
    ahead = hoped - _least(others[candidates], others[rows[beats]], y[beats])
    bound = limit if not positive else np.log(limit) if limit > 0 else -np.inf
    chosen = (ahead <= 0) & (hoped <= bound)
    order = np.argsort(ahead[chosen], kind="stable")
    found: NDArray[np.int64] = candidates[chosen][order]
    return found


def _first(
    others: NDArray[np.float64], x: NDArray[np.float64], open_: NDArray[np.bool_], have: int
) -> NDArray[np.int64]:
    """What is evaluated first: what is best at the lower cost, and some of every kind."""
    known, candidates = np.flatnonzero(np.isfinite(x)), np.flatnonzero(open_)
    best = x[candidates] <= _least(others[candidates], others[known], x[known])
    rest = candidates[~best]
    missing = _FEW - have - int(best.sum())
    if missing > 0 and len(rest):
        # Of every size: how far the two agree may depend on it.
        size = others[rest, 0] if others.shape[1] else x[rest]
        places = np.linspace(0, len(rest) - 1, missing).round().astype(int)
        rest = np.unique(rest[np.argsort(size, kind="stable")][places])
        return np.concatenate([candidates[best], rest])
    return candidates[best]


def _least(
    others: NDArray[np.float64], of: NDArray[np.float64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The least value among those that are no worse in all else; infinite without any, shape (n,).

    Args:
        others: Shape (n, m).
        of: Of those that have values, shape (k, m).
        values: Shape (k,).
    """
    if others.shape[1] == 1:
        return least_up_to(others[:, 0], of[:, 0], values)
    found = np.full(len(others), np.inf)
    step = max(1, _CELLS // max(1, len(of) * max(1, of.shape[1])))
    for begin in range(0, len(others), step):
        part = slice(begin, begin + step)
        no_worse = (of[None] <= others[part, None]).all(axis=2)
        found[part] = np.where(no_worse, values, np.inf).min(axis=1, initial=np.inf)
    return found
