"""Branch and bound over a whole space: the optimum or the Pareto front, with a certificate."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Int
from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.exact.certificate import Certificate
from nastool.exact.chain_sweep import ChainSweep
from nastool.exact.joint_sweep import JointSweep
from nastool.exact.layout import Layout
from nastool.exact.tables import INFINITE
from nastool.exact.task import JointTask, Outcome, Task, on_front
from nastool.files.writing import whole_file
from nastool.space import Genotypes

Progress = Callable[[Certificate], None]

MEMORY = 2 << 30
"""Most bytes that the tables of a search may take unless told otherwise."""

_UNITS = 300
"""Work units that a space is cut into, at least, where it has so many prefixes."""

_SURFACE_UNITS = 2000
"""The same for a front of three, of which every unit keeps whatever may be on it."""

_WAVE = 8
"""Units that start from the same front; fixed, so that counts do not depend on the machine."""

_CAPACITY = 1 << 12

_NEIGHBOUR_ROUNDS = 8

_STORED = ("fingerprint", "front", "done", "counts", "seconds")
"""Arrays of a checkpoint; one of before the last but one wave's front was kept has no `earlier`."""


class Sweep(Protocol):
    """What covers a space part by part; see `ChainSweep`."""

    @property
    def layout(self) -> Layout: ...
    @property
    def nbytes(self) -> int: ...
    def corners(self) -> Genotypes: ...
    def evaluate(self, genotypes: Genotypes) -> tuple[NDArray[np.bool_], Int]: ...
    def merge(self, points: Int) -> Int: ...
    def targets(self, front: Int, prune: bool) -> tuple[Int, ...]: ...
    def cover(
        self, unit: int, level: int, targets: tuple[Int, ...], front: Int, size: int, counts: Int
    ) -> tuple[int, int]: ...
    def open_bounds(self, prefixes: Int, front: Int) -> tuple[int, int] | None: ...


@dataclass
class _Progressing:
    """What changes while a search runs.

    Args:
        front: Points known.
        earlier: Those before the last wave: the next one starts from them, so that it can begin
            while the last one is at work.
        done: Whether each unit is accounted for.
        counts: Genotypes not allowed, pruned and evaluated.
        seconds: By the clock.
    """

    front: Int
    earlier: Int
    done: NDArray[np.bool_]
    counts: Int = field(default_factory=lambda: np.zeros(3, np.int64))
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class _Wave:
    """Units at work.

    Args:
        units: Their numbers.
        results: Counts and points of the first ones, which are done.
        jobs: The others, in order.
        begin: When they began, by the performance counter.
    """

    units: Int
    results: list[tuple[Int, Int]]
    jobs: list[Future[tuple[Int, Int]]]
    begin: float


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
        task: Task | JointTask,
        *,
        memory: int = MEMORY,
        threads: int | None = None,
        prune: bool = True,
    ) -> None:
        try:
            self._sweep: Sweep = (
                ChainSweep(task, memory) if isinstance(task, Task) else JointSweep(task, memory)
            )
        except ImportError as error:
            raise MissingDependencyError(
                "exact search needs numba: pip install 'nastool[exact]'"
            ) from error
        self.task = task
        self._is_surface = isinstance(task, JointTask) and task.is_surface
        self._threads = threads or _processors()
        self._prune = prune
        sizes = task.function.cardinalities[list(self._sweep.layout.outer)].tolist()
        units = _SURFACE_UNITS if self._is_surface else _UNITS
        self._unit_level = next(
            (n for n in range(len(sizes)) if math.prod(sizes[:n]) >= units), len(sizes)
        )
        self._unit_sizes = sizes[: self._unit_level]
        n_units = math.prod(self._unit_sizes)
        self._columns = 4 if self._is_surface else 3
        none = np.empty((0, self._columns), np.int64)
        self._run = _Progressing(none, none, np.zeros(n_units, dtype=bool))
        self._order = np.random.default_rng(0).permutation(n_units)
        self._compiled = False
        self._ended = 0.0

    @property
    def nbytes(self) -> int:
        """Memory of the tables; what runs takes a few MiB a thread more."""
        return self._sweep.nbytes

    def start_from(self, genotypes: Genotypes) -> None:
        """Begin with known genotypes (n, d), improved gene by gene, so that bounds bite."""
        known = np.concatenate([genotypes, self._cheapest()])
        self._consider(known)
        tried = np.empty(0, np.int64)
        # So many points as a front of three has have more neighbours than a good part of the sweep.
        for _ in range(0 if self._is_surface else _NEIGHBOUR_ROUNDS):
            fresh = self._run.front[:, 2]
            fresh = fresh[~np.isin(fresh, tried)]
            if len(fresh) == 0:
                break
            tried = np.append(tried, fresh)
            self._consider(self._neighbours(self._decode(fresh)))
        self._run.earlier = self._run.front

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
            InvalidInputError: The checkpoint belongs to another task, is none, or would lie in a
                folder that does not exist.
            NastoolError: The checkpoint cannot be written.
        """
        if checkpoint is not None:
            if not checkpoint.absolute().parent.is_dir():
                raise InvalidInputError(
                    f"a checkpoint must lie in an existing folder, got {str(checkpoint)!r}"
                )
            if checkpoint.exists():
                self._load(checkpoint)
        if not len(self._run.front):
            self.start_from(np.empty((0, len(self.task.function.cardinalities)), np.int64))
        stopped, waves = False, deque[_Wave]()
        with ThreadPoolExecutor(self._threads) as pool:
            while True:
                try:
                    # Two at a time: threads that find nothing left of one go on with the next.
                    while not stopped and len(waves) < 2:
                        begun = self._begin(pool, waves)
                        if begun is None:
                            break
                        waves.append(begun)
                    if not waves:
                        break
                    self._end(waves.popleft())
                    if checkpoint is not None:
                        self._save(checkpoint)
                    if progress is not None:
                        progress(self.certificate(with_gap=False))
                    stopped = stopped or should_stop()
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
        costs = self.task.axis(genotypes)
        # Different sums may be one float: of those only the cheapest is on the front.
        kept = on_front(values, costs)
        certificate = replace(self.certificate(with_gap=True), front=len(kept))
        return Outcome(genotypes[kept], values[kept], costs[kept], certificate)

    def certificate(self, with_gap: bool = True) -> Certificate:
        """What is proven so far.

        Args:
            with_gap: Whether to find out how much better the unseen part can be.
        """
        run, function = self._run, self.task.function
        excluded, pruned, evaluated = run.counts.tolist()
        best = int(run.front[:, 1].min()) if len(run.front) else INFINITE
        bound, gap = best, 0
        if not run.done.all():
            bound, gap = self._open_bounds(best) if with_gap else (-INFINITE, INFINITE)
        least, lowest = function.to_float([best, bound]).tolist()
        return Certificate(
            size=math.prod(function.cardinalities.tolist()),
            excluded=excluded,
            pruned=pruned,
            evaluated=evaluated,
            best=least if best < INFINITE else math.inf,
            bound=lowest if bound > -INFINITE else -math.inf,
            gap=gap * function.quantum if gap < INFINITE else math.inf,
            front=len(run.front),
            seconds=run.seconds,
            done=float(run.done.mean()),
        )

    def _begin(self, pool: ThreadPoolExecutor, at_work: Sequence[_Wave]) -> _Wave | None:
        """Some more units, all starting from the front before the last wave; None where none is."""
        run = self._run
        open_ = ~run.done
        for wave in at_work:
            open_[wave.units] = False
        units = self._order[open_[self._order]][:_WAVE]
        if not len(units):
            return None
        front, begin = run.front if at_work else run.earlier, time.perf_counter()
        targets = self._sweep.targets(front, self._prune)
        results = []
        if not self._compiled:
            # The first unit in this thread: a signal can end the compiling of what it runs.
            results.append(self._unit(int(units[0]), targets, front))
            self._compiled = True
        rest = units[len(results) :].tolist()
        jobs = [pool.submit(self._unit, unit, targets, front) for unit in rest]
        return _Wave(units, results, jobs, begin)

    def _end(self, wave: _Wave) -> None:
        """Wait for a wave and let what it found compete."""
        run, results, interrupted = self._run, list(wave.results), False
        for job in wave.jobs:
            while True:
                try:
                    results.append(job.result())
                    break
                except KeyboardInterrupt:
                    interrupted = True
        for counts, _ in results:
            run.counts += counts
        run.earlier = run.front
        run.front = self._merge([run.front, *(front for _, front in results)])
        run.done[wave.units] = True
        now = time.perf_counter()
        run.seconds += now - max(wave.begin, self._ended)
        self._ended = now
        if interrupted:
            raise KeyboardInterrupt

    def _unit(self, unit: int, targets: tuple[Int, ...], front: Int) -> tuple[Int, Int]:
        counts = np.zeros(3, dtype=np.int64)
        # What may be on a front of three is noted, not merged: a unit's own is enough.
        known = front[: 0 if self._is_surface else None]
        capacity = max(_CAPACITY, 2 * len(known))
        while True:
            found = np.empty((capacity, self._columns), dtype=np.int64)
            found[: len(known)] = known
            full, size = self._sweep.cover(
                unit, self._unit_level, targets, found, len(known), counts
            )
            if not full:
                return counts, found[:size].copy()
            capacity *= 4

    def _open_bounds(self, best: int) -> tuple[int, int]:
        """Least value, and largest improvement on the front, that open units can still hold."""
        open_units = np.flatnonzero(~self._run.done)
        prefixes = np.zeros((1, 0), np.int64)
        if self._unit_sizes:
            prefixes = np.stack(np.unravel_index(open_units, self._unit_sizes), axis=1)
        found = self._sweep.open_bounds(prefixes, self._run.front)
        if found is None:
            return best, 0
        return min(best, found[0]), max(0, min(found[1], INFINITE))

    def _consider(self, genotypes: Genotypes) -> None:
        """Let known genotypes compete."""
        allowed, totals = self._sweep.evaluate(genotypes)
        if not self.task.is_front:
            totals[:, 0] = 0
        points = np.insert(totals, 2, self._encode(genotypes), axis=1)
        self._run.front = self._merge([self._run.front, points[allowed]])

    def _merge(self, fronts: Sequence[Int]) -> Int:
        """Points (cost, value, number ...) that none dominates; of equal ones the first."""
        return self._sweep.merge(np.concatenate(fronts))

    def _cheapest(self) -> Genotypes:
        """Genotypes that begin a search: least cost of each chain, and draws at random."""
        sizes = self.task.function.cardinalities
        drawn = np.random.default_rng(0).integers(0, sizes, size=(2000, len(sizes)))
        return np.concatenate([drawn, self._sweep.corners()])

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
        order = list(self._sweep.layout.order)
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
        with whole_file(file) as opened:
            np.savez(
                opened,
                fingerprint=np.array(self.task.fingerprint),
                front=run.front,
                earlier=run.earlier,
                done=run.done,
                counts=run.counts,
                seconds=np.array(run.seconds),
            )

    def _load(self, file: Path) -> None:
        try:
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
                stored: dict[str, Any] = {name: arrays[name] for name in _STORED}
                stored["earlier"] = arrays["earlier" if "earlier" in arrays else "front"]
        except (OSError, ValueError, EOFError, KeyError, TypeError, BadZipFile) as error:
            raise InvalidInputError(f"{file}: expected a state of an exact search") from error
        if str(stored["fingerprint"]) != self.task.fingerprint:
            raise InvalidInputError(f"{file} must belong to this search, it belongs to another one")
        # Numbers of genotypes and units follow the order of genes, which other versions may choose
        # otherwise.
        known = stored["front"]
        totals = self._sweep.evaluate(self._decode(known[:, 2]))[1]
        if not np.array_equal(totals[:, 1], known[:, 1]):
            raise InvalidInputError(
                f"{file} must be of this version of nastool, it is of one that numbers "
                "architectures otherwise: begin anew"
            )
        self._run = _Progressing(
            self._merge([self._run.front, known]),
            self._merge([self._run.front, stored["earlier"]]),
            stored["done"],
            stored["counts"],
            float(stored["seconds"]),
        )


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Not on every platform.
        return os.cpu_count() or 1
