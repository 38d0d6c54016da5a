"""Branch and bound over a whole space: the optimum or the Pareto front, with a certificate."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.exact.certificate import Certificate
from nastool.exact.chains import Int, IntegerChain
from nastool.exact.plan import NEVER, Plan, make_plan
from nastool.exact.task import Outcome, Task
from nastool.space import Genotypes

Progress = Callable[[Certificate], None]

MEMORY = 2 << 30
"""Most bytes that the tables of a search may take unless told otherwise."""

_UNITS = 300
"""Work units that a space is cut into, at least, where it has so many prefixes."""

_WAVE = 8
"""Units that start from the same front; fixed, so that counts do not depend on the machine."""

_CAPACITY = 1 << 12

_INFINITE = NEVER >> 1

_NEIGHBOUR_ROUNDS = 8


@dataclass
class _Progressing:
    """What changes while a search runs."""

    front: Int
    done: NDArray[np.bool_]
    counts: Int = field(default_factory=lambda: np.zeros(3, np.int64))
    seconds: float = 0.0


class ExactSearch:
    """A search that can be stopped and gone on with.

    Args:
        task: What is to be found.
        memory: Most bytes that tables may take.
        threads: Worker threads; one for each processor by default.
        prune: Whether bounds are used; without them everything allowed is evaluated.

    Raises:
        InvalidInputError: The model is too large for the memory.
        MissingDependencyError: numba is not installed.
    """

    def __init__(
        self,
        task: Task,
        *,
        memory: int = MEMORY,
        threads: int | None = None,
        prune: bool = True,
    ) -> None:
        try:
            from nastool.exact import kernels
        except ImportError as error:
            raise MissingDependencyError(
                "exact search needs numba: pip install 'nastool[exact]'"
            ) from error
        self._sweep: Callable[..., tuple[int, int]] = kernels.sweep
        self.task = task
        self._threads = threads or _processors()
        self._prune = prune
        self.plan: Plan = make_plan(task.function, [b.cost for b in task.bounds], memory)
        limits = np.array([bound.limits for bound in task.bounds], dtype=np.int64)
        self._lower, self._upper = np.ascontiguousarray(limits.T)
        sizes = self.plan.tables.sizes.tolist()
        self._unit_level = next(
            (n for n in range(len(sizes)) if math.prod(sizes[:n]) >= _UNITS), len(sizes)
        )
        self._n_units = math.prod(sizes[: self._unit_level])
        self._run = _Progressing(np.empty((0, 3), np.int64), np.zeros(self._n_units, dtype=bool))
        self._order = np.random.default_rng(0).permutation(self._n_units)

    @property
    def nbytes(self) -> int:
        """Memory of the tables; what runs takes a few MiB a thread more."""
        return self.plan.nbytes

    def start_from(self, genotypes: Genotypes) -> None:
        """Begin with known genotypes (n, d), improved gene by gene, so that bounds bite."""
        known = np.concatenate([genotypes, self._cheapest()])
        self._consider(known)
        for _ in range(_NEIGHBOUR_ROUNDS):
            before = self._run.front
            if len(before) == 0:
                return
            self._consider(self._neighbours(self._decode(before[:, 2])))
            if np.array_equal(before, self._run.front):
                return

    def run(
        self,
        progress: Progress | None = None,
        *,
        checkpoint: Path | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Outcome:
        """Go on until the whole space is accounted for.

        Ctrl-C ends the run after the units at hand; the outcome says what is proven by then.

        Args:
            progress: Told after every few units.
            checkpoint: File that keeps the state; an unfinished search of the same task goes on
                from it.
            should_stop: Asked after every few units.

        Raises:
            InvalidInputError: The checkpoint belongs to another task.
        """
        if checkpoint is not None and checkpoint.exists():
            self._load(checkpoint)
        if not len(self._run.front):
            self.start_from(np.empty((0, len(self.task.function.cardinalities)), np.int64))
        stopped = False
        with ThreadPoolExecutor(self._threads) as pool:
            while not stopped and not self._run.done.all():
                try:
                    self._wave(pool)
                    if checkpoint is not None:
                        self._save(checkpoint)
                    if progress is not None:
                        progress(self.certificate(with_gap=False))
                    stopped = should_stop()
                except KeyboardInterrupt:
                    stopped = True
        if checkpoint is not None:
            self._save(checkpoint)
        return self.outcome()

    def outcome(self) -> Outcome:
        """The best found so far, and what is proven about it."""
        front = self._run.front
        genotypes = self._decode(front[:, 2])
        values = self.task.function.to_float(front[:, 1])
        axis = self.task.bounds[0].cost
        costs = axis.to_float(axis.evaluate(genotypes))
        # Different sums may be one float: of those only the cheapest is on the front.
        kept = values < np.minimum.accumulate(np.append(np.inf, values))[:-1]
        return Outcome(genotypes[kept], values[kept], costs[kept], self.certificate(with_gap=True))

    def certificate(self, with_gap: bool = True) -> Certificate:
        """What is proven so far.

        Args:
            with_gap: Whether to find out how much better the unseen part can be.
        """
        run, function = self._run, self.task.function
        excluded, pruned, evaluated = run.counts.tolist()
        best = int(run.front[:, 1].min()) if len(run.front) else _INFINITE
        bound, gap = best, 0
        if not run.done.all():
            bound, gap = self._open_bounds(best) if with_gap else (-_INFINITE, _INFINITE)
        least, lowest = function.to_float([best, bound]).tolist()
        return Certificate(
            size=math.prod(function.cardinalities.tolist()),
            excluded=excluded,
            pruned=pruned,
            evaluated=evaluated,
            best=least if best < _INFINITE else math.inf,
            bound=lowest if bound > -_INFINITE else -math.inf,
            gap=gap * function.quantum if gap < _INFINITE else math.inf,
            front=len(run.front),
            seconds=run.seconds,
            done=float(run.done.mean()),
        )

    def _wave(self, pool: ThreadPoolExecutor) -> None:
        """Some more units, all starting from the same front."""
        run, begin = self._run, time.perf_counter()
        units = self._order[~run.done[self._order]][:_WAVE]
        targets, rows = self._targets()
        if not self._prune:
            targets[:] = _INFINITE
        jobs = [pool.submit(self._unit, int(unit), targets, rows) for unit in units]
        interrupted = False
        results = []
        for job in jobs:
            while True:
                try:
                    results.append(job.result())
                    break
                except KeyboardInterrupt:
                    interrupted = True
        for counts, _ in results:
            run.counts += counts
        run.front = self._merge([run.front, *(front for _, front in results)])
        run.done[units] = True
        run.seconds += time.perf_counter() - begin
        if interrupted:
            raise KeyboardInterrupt

    def _unit(self, unit: int, targets: Int, rows: Int) -> tuple[Int, Int]:
        counts = np.zeros(3, dtype=np.int64)
        known = self._run.front
        capacity = max(_CAPACITY, 2 * len(known))
        while True:
            front = np.empty((capacity, 3), dtype=np.int64)
            front[: len(known)] = known
            status, size = self._sweep(
                self.plan.tables,
                unit,
                self._unit_level,
                self.task.is_front,
                self._lower,
                self._upper,
                self.plan.width,
                targets,
                rows,
                front,
                len(known),
                counts,
            )
            if status == 0:
                return counts, front[:size].copy()
            capacity *= 4

    def _targets(self) -> tuple[Int, Int]:
        """What ``f + slope * cost`` must stay below to improve on the front.

        Returns:
            For each window with its slope, shape (windows,); for costs from the begin of one
            window to as far behind another, with the slope of the latter, (windows, windows).
        """
        slopes, width = self.plan.tables.slopes, self.plan.width
        lower, upper = int(self._lower[0]), int(self._upper[0])
        front = self._run.front
        if self.task.is_front:
            begins = np.append(lower, front[:, 0])
            ends = np.append(front[:, 0] - 1, upper)
            values = np.append(_INFINITE, front[:, 1])
        else:
            begins, ends = np.array([lower]), np.array([upper])
            values = front[:, 1] if len(front) else np.array([_INFINITE])
        windows = len(slopes)
        edges = np.arange(windows + 1, dtype=np.int64) << width
        # What costs within each window may reach, with every slope.
        reach = np.full((windows, windows), -_INFINITE, dtype=np.int64)
        for window in range(windows):
            low, high = max(int(edges[window]), lower), min(int(edges[window + 1]) - 1, upper)
            touching = (begins <= high) & (ends >= low) & (begins <= ends)
            if touching.any() and low <= high:
                # Steps end where the next point begins: the highest sum is at the end of one.
                at = np.minimum(ends[touching], high)
                best = (values[touching, None] + slopes * at[:, None]).max(axis=0)
                reach[window] = np.minimum(best, _INFINITE)
        rows = np.full((windows, windows), -_INFINITE, dtype=np.int64)
        for begin in range(windows):
            highest = np.maximum.accumulate(reach[begin:], axis=0)
            for window in range(begin, windows):
                last = min(2 * window - begin + 1, windows - 1)
                rows[begin, window] = highest[last - begin, window]
        return np.ascontiguousarray(reach.diagonal()), rows

    def _open_bounds(self, best: int) -> tuple[int, int]:
        """Least value, and largest improvement on the front, that open units can still hold."""
        tables = self.plan.tables
        open_units = np.flatnonzero(~self._run.done)
        sizes = tables.sizes[: self._unit_level].tolist()
        prefixes = (
            np.stack(np.unravel_index(open_units, sizes), axis=1)
            if sizes
            else (np.zeros((1, 0), np.int64))
        )
        state = np.broadcast_to(tables.roots, (len(prefixes), len(tables.roots)))
        choices = np.zeros((len(prefixes), len(self.task.function.cardinalities)), np.int64)
        fixed = set()
        for level, gene in enumerate(tables.outer[: self._unit_level].tolist()):
            state = tables.following[state, prefixes[:, level, None]]
            choices[:, gene] = prefixes[:, level]
            fixed.add(gene)
        least = np.broadcast_to(
            tables.bounds[state, 0].sum(axis=1)[:, None], (len(prefixes), len(tables.slopes))
        ).copy()
        low, high = np.zeros((2, len(prefixes), len(self.task.bounds)), np.int64)
        for row, bound in enumerate(self.task.bounds):
            own = np.zeros(len(prefixes), np.int64)
            if 0 in fixed:
                own += bound.cost.first[choices[:, 0]]
            for i, step in enumerate(bound.cost.steps):
                if {i, i + 1} <= fixed:
                    own += step[choices[:, i], choices[:, i + 1]]
            low[:, row] += own
            high[:, row] += own
            if row == 0:
                least += tables.slopes * own[:, None]
        for left, right, width, offset in tables.segments[self._unit_level].tolist():
            if offset < 0:
                break
            entry = np.full(len(prefixes), offset)
            entry += choices[:, left] * width if left >= 0 else 0
            entry += choices[:, right] if right >= 0 else 0
            least += tables.gain[entry]
            low += tables.low[entry]
            high += tables.high[entry]
        allowed = ((low <= self._upper) & (high >= self._lower)).all(axis=1)
        if not allowed.any():
            return best, 0
        least = least[allowed]
        # At the largest allowed cost, with the slope that bounds it best.
        values = (least - tables.slopes * int(self._upper[0])).max(axis=1)
        targets, _ = self._targets()
        gap = int((targets - least).max())
        return min(best, int(values.min())), max(0, min(gap, _INFINITE))

    def _consider(self, genotypes: Genotypes) -> None:
        """Let known genotypes compete."""
        totals = np.stack([b.cost.evaluate(genotypes) for b in self.task.bounds], axis=1)
        allowed = ((totals >= self._lower) & (totals <= self._upper)).all(axis=1)
        genotypes, totals = genotypes[allowed], totals[allowed]
        axis = totals[:, 0] if self.task.is_front else np.zeros(len(genotypes), np.int64)
        values = self.plan.states.evaluate(genotypes)
        points = np.stack([axis, values, self._encode(genotypes)], axis=1)
        self._run.front = self._merge([self._run.front, points])

    @staticmethod
    def _merge(fronts: Sequence[Int]) -> Int:
        """Points (cost, value, number) that none dominates, by cost; of equal ones the first."""
        points = np.concatenate(fronts)
        points = points[np.lexsort(points.T[::-1])]
        if not len(points):
            return points
        before = np.append(_INFINITE, np.minimum.accumulate(points[:, 1])[:-1])
        return np.ascontiguousarray(points[points[:, 1] < before])

    def _cheapest(self) -> Genotypes:
        """Genotypes that begin a search: least cost of each chain, and draws at random."""
        sizes = self.task.function.cardinalities
        drawn = np.random.default_rng(0).integers(0, sizes, size=(2000, len(sizes)))
        extremes = [_extreme(b.cost, sign) for b in self.task.bounds for sign in (1, -1)]
        return np.concatenate([drawn, np.stack(extremes)])

    def _neighbours(self, genotypes: Genotypes) -> Genotypes:
        """Every change of one gene."""
        parts = []
        for gene, size in enumerate(self.task.function.cardinalities.tolist()):
            for choice in range(size):
                changed = genotypes[genotypes[:, gene] != choice].copy()
                changed[:, gene] = choice
                parts.append(changed)
        return np.concatenate(parts)

    @property
    def _strides(self) -> Int:
        order = list(self.plan.layout.order)
        sizes = self.task.function.cardinalities[order]
        strides = np.empty(len(order), dtype=np.int64)
        strides[order] = np.cumprod(np.append(1, sizes[:0:-1]))[::-1]
        return strides

    def _encode(self, genotypes: Genotypes) -> Int:
        return genotypes @ self._strides

    def _decode(self, numbers: Int) -> Genotypes:
        decoded: Genotypes = numbers[:, None] // self._strides % self.task.function.cardinalities
        return decoded

    def _save(self, file: Path) -> None:
        run = self._run
        temporary = file.with_name(f"{file.name}.new.npz")
        np.savez(
            temporary,
            fingerprint=np.array(self.task.fingerprint),
            front=run.front,
            done=run.done,
            counts=run.counts,
            seconds=np.array(run.seconds),
        )
        temporary.replace(file)

    def _load(self, file: Path) -> None:
        try:
            with np.load(file, allow_pickle=False) as arrays:
                stored: dict[str, Any] = dict(arrays)
        except (OSError, ValueError, EOFError) as error:
            raise InvalidInputError(f"{file}: expected a state of an exact search") from error
        if str(stored.get("fingerprint")) != self.task.fingerprint:
            raise InvalidInputError(f"{file} must belong to this search, it belongs to another one")
        self._run = _Progressing(
            self._merge([self._run.front, stored["front"]]),
            stored["done"],
            stored["counts"],
            float(stored["seconds"]),
        )


def _extreme(cost: IntegerChain, sign: int) -> NDArray[np.int64]:
    from nastool.chain import ChainCost

    chain = ChainCost("cost", cost.first, cost.steps)
    return chain.minimum[1] if sign == 1 else chain.maximum[1]


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Not on every platform.
        return os.cpu_count() or 1
