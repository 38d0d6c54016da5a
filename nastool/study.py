"""Studies: a strategy runs on a problem under a budget, and can go on after any stop."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from nastool.archive import Archive
from nastool.errors import InvalidInputError, NastoolError, StoreError, naming
from nastool.evaluations import Evaluations
from nastool.executors import Executor, InProcess
from nastool.interrupt import Interrupt
from nastool.objective import Objective, evaluate
from nastool.problem import Problem
from nastool.results import STOP_MESSAGES, Failure, Result, StopReason, describe_metrics
from nastool.space import Genotypes
from nastool.strategies.base import Strategy

if TYPE_CHECKING:
    from nastool.store import Store, StoredStudy, StudySummary

Progress = Callable[[int, int], None]
"""Called after every batch with the number of evaluations so far and the budget."""

StrategyFactory = Callable[[Problem, int], Strategy]
"""Makes a strategy from a problem and a seed, as every strategy class does."""

_COMMIT_SECONDS = 0.5
"""Oldest work that a kill can undo; a commit every batch would cost more than fast objectives."""

_STALE_LIMIT = 100
"""Consecutive batches without a new genotype after which a strategy counts as stalled."""

_STARTING_STATE = "starting state of the strategy"

_HOPELESS = 8
"""Number of architectures of which one at least must not raise."""


class Study:
    """A strategy on a problem.

    The strategy is always asked for whole batches, and a budget that ends within one leaves the
    rest of it for the next run. So the evaluations under a small budget are the first ones under
    a large budget, and a study that was stopped at any instant, even killed, goes on from the
    last committed state, reproduces what was lost and ends with the same archive.

    Args:
        problem: What to optimise.
        strategy: A fresh one, or what makes one from the problem and the seed (such as a strategy
            class).
        store: Where to keep the study, as a store or its URL; only in memory by default.
        name: Unique in the store; a study of that name goes on. A new name by default.
        seed: Given to a strategy that is made here; else only recorded.
        description: JSON values, kept with the study, from which a command line can build problem
            and strategy again.
        executor: Where objectives run that are not cheap; in this process by default.

    Raises:
        InvalidInputError: The store has a study of that name, made with something else.
        StoreError: The store cannot be read.
    """

    def __init__(
        self,
        problem: Problem,
        strategy: Strategy | StrategyFactory,
        store: Store | str | None = None,
        name: str | None = None,
        seed: int = 0,
        *,
        description: Mapping[str, Any] | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.problem = problem
        self.strategy = (
            strategy if isinstance(strategy, Strategy) else _make(strategy, problem, seed)
        )
        if self.strategy.problem.fingerprint != problem.fingerprint:
            raise InvalidInputError("a strategy must be made for the problem of its study")
        self.seed = seed
        self.description = _describe(problem, self.strategy, seed, description)
        self.name = name or ""
        self._executor = executor or InProcess()
        self._archive = Archive(problem)
        self._failures: list[Failure] = []
        self._batch_size: int | None = None
        self._pending: tuple[Genotypes, list[Any]] | None = None
        self._told = 0
        self._size = problem.space.size
        self._stale = 0
        self._seconds = 0.0
        self._committed = 0
        self._committed_failures = 0
        self._committed_at = 0.0
        self._commits = 0
        self._kept: tuple[int, int, str] | None = None
        self._key: int | None = None
        self._store: Store | None = None
        if store is not None:
            from nastool.store import Store, open_store

            self._store = store if isinstance(store, Store) else open_store(store)
            self._identity = self._make_identity()
            stored = self._store.find(name) if name else None
            if stored is not None:
                self._restore(stored)

    def __len__(self) -> int:
        return len(self._archive)

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return (
            f"<Study{name}: {len(self):,} evaluations of {self.problem.summary} by "
            f"{self.description['strategy']}, seed {self.seed}>"
        )

    def run(
        self, budget: int, batch_size: int | None = None, progress: Progress | None = None
    ) -> Result:
        """Evaluate until the study holds that many distinct genotypes.

        Ctrl-C ends the run early: what is evaluated is kept and returned, with ``stop_reason``
        "interrupted"; a second Ctrl-C raises KeyboardInterrupt.

        Args:
            budget: Evaluations of the whole study, those of earlier runs included.
            batch_size: How many genotypes the strategy is asked for at a time; the strategy's own
                choice by default. It belongs to the study: a later run must not change it.
            progress: Told after every batch.

        Raises:
            InvalidInputError: A budget or batch size below 1, another batch size than before, or
                a strategy or objective that returns something else than it must.
            NastoolError: Every architecture so far failed, or the strategy or a cheap objective
                raised.
            StoreError: The store cannot be written.
        """
        if budget < 1:
            raise InvalidInputError(f"a budget must be at least 1 evaluation, got {budget}")
        batch_size = self._settle_batch_size(batch_size)
        self._create()
        begin = self._committed_at = time.perf_counter()
        offset = self._seconds
        stop_reason: StopReason = ""
        try:
            with Interrupt() as interrupt:
                while not stop_reason:
                    if interrupt.requested:
                        stop_reason = "interrupted"
                    else:
                        stop_reason = self._step(budget, batch_size, interrupt, begin - offset)
                    now = time.perf_counter()
                    self._seconds = offset + now - begin
                    if stop_reason or now - self._committed_at >= _COMMIT_SECONDS:
                        self._commit(stop_reason)
                    if progress is not None:
                        progress(len(self._archive), budget)
        except BaseException:
            # Whatever it was is more important than a second error about the store.
            with contextlib.suppress(StoreError):
                self._commit("", boundary=False)
            raise
        return Result.from_archive(
            self.problem,
            self._archive,
            self._seconds,
            stop_reason,
            self._failures,
            self.name,
            self.description,
        )

    def _step(self, budget: int, batch_size: int, interrupt: Interrupt, zero: float) -> StopReason:
        """Ask, evaluate what is new, tell; returns why to stop, empty to go on."""
        archive = self._archive
        if len(archive) >= budget:
            return "budget"
        if self._stale >= _STALE_LIMIT:
            return "stalled"
        if self._pending is None:
            if self._told >= self._size:
                return "exhausted"
            try:
                with interrupt.cutting_short(self.strategy.can_be_interrupted):
                    proposals = self._ask(batch_size)
            except KeyboardInterrupt:
                if not interrupt.requested or not self.strategy.can_be_interrupted:
                    raise
                return "interrupted"
            if len(proposals) == 0:
                return "exhausted"
            self._pending = proposals, self.problem.space.keys(proposals)
        proposals, keys = self._pending
        new = archive.first_positions(keys)
        begin = len(archive)
        if len(new):
            chosen = new[: budget - begin]
            values = self._evaluate(proposals[chosen], interrupt)
            known = chosen[: len(values)]
            elapsed = time.perf_counter() - zero
            archive.append([keys[k] for k in known.tolist()], proposals[known], values, elapsed)
            if len(known) < len(chosen):
                return "interrupted"
            if len(chosen) < len(new):
                return "budget"
        if len(new) == len(keys):
            told = len(archive)
            self._tell(archive.evaluations(slice(begin, told)))
        else:
            # After a kill the archive is ahead of the strategy: what it has not seen is new to it.
            rows = archive.rows(keys)
            told = max(self._told, int(rows.max()) + 1)
            self._tell(archive.evaluations(rows))
        self._pending = None
        self._stale = 0 if told > self._told else self._stale + 1
        self._told = told
        return ""

    def _ask(self, n: int) -> Genotypes:
        space, what = self.problem.space, f"strategy {self.description['strategy']}"
        with naming(what):
            proposals = self.strategy.ask(n)
        try:
            genotypes = space.validate(proposals)
        except InvalidInputError as error:
            raise InvalidInputError(f"{what}: {error}") from error
        if len(genotypes) > n:
            raise InvalidInputError(
                f"{what} must propose at most {n} genotypes, got {len(genotypes)}"
            )
        return space.canonicalize(genotypes)

    def _tell(self, evaluations: Evaluations) -> None:
        with naming(f"strategy {self.description['strategy']}"):
            self.strategy.tell(evaluations)

    def _evaluate(self, genotypes: Genotypes, interrupt: Interrupt) -> NDArray[np.float64]:
        """Values (k, r) of the first k genotypes (n, d); k = n unless interrupted."""
        reported = self.problem.reported
        values = np.full((len(genotypes), len(reported)), np.nan)
        ready = [0] * len(reported)
        failures: list[tuple[int, Failure]] = []
        # The slow ones last: where they are cut short, their first rows are complete.
        order = sorted(range(len(reported)), key=lambda column: not reported[column].is_cheap)
        with contextlib.suppress(KeyboardInterrupt), interrupt.cutting_short():
            for column in order:
                objective = reported[column]
                if objective.is_cheap:
                    values[:, column] = evaluate(objective, genotypes)
                    ready[column] = len(genotypes)
                else:
                    rows = self._measure(objective, genotypes, values[:, column], failures)
                    for known in rows:
                        ready[column] = known
                    self._check_hope(column, values[:, column], failures)
        self._failures += [failure for row, failure in failures if row < min(ready)]
        return values[: min(ready)]

    def _measure(
        self,
        objective: Objective,
        genotypes: Genotypes,
        values: NDArray[np.float64],
        failures: list[tuple[int, Failure]],
    ) -> Iterator[int]:
        """Fill in values (n,) of a slow objective, yielding how many first rows are known."""
        if self._store is not None:
            known = self._store.measurements(
                self.problem.space.fingerprint, objective.fingerprint, genotypes
            )
            values[:] = known
        missing = np.flatnonzero(np.isnan(values))
        saved = done = 0
        saved_at = time.perf_counter()
        try:
            # Closing ends what still runs when an interrupt leaves the loop early.
            with contextlib.closing(self._executor.run(objective, genotypes[missing])) as chunks:
                for chunk in chunks:
                    values[missing[chunk.first : chunk.first + len(chunk.values)]] = chunk.values
                    done = chunk.first + len(chunk.values)
                    for k, message in chunk.messages.items():
                        row = int(missing[chunk.first + k])
                        shape = self.problem.space.format(genotypes[row])
                        failures.append((row, Failure(shape, objective.name, message)))
                    if time.perf_counter() - saved_at >= _COMMIT_SECONDS:
                        self._save(objective, genotypes, values, missing[saved:done])
                        saved, saved_at = done, time.perf_counter()
                    if done < len(missing):
                        yield int(missing[done])
            yield len(genotypes)
        finally:
            self._save(objective, genotypes, values, missing[saved:done])

    def _save(
        self,
        objective: Objective,
        genotypes: Genotypes,
        values: NDArray[np.float64],
        rows: NDArray[np.int64],
    ) -> None:
        if self._store is not None and len(rows):
            self._store.add_measurements(
                self.problem.space.fingerprint,
                objective.fingerprint,
                genotypes[rows],
                values[rows],
            )

    def _check_hope(
        self, column: int, values: NDArray[np.float64], failures: list[tuple[int, Failure]]
    ) -> None:
        """Refuse to spend a whole budget on an objective that always raises."""
        before = self._archive.values[:, column]
        count = len(before) + len(values)
        if failures and count >= _HOPELESS and np.isnan(before).all() and np.isnan(values).all():
            last = failures[-1][1]
            raise NastoolError(
                f"{last.metric} failed on all of the first {count} architectures, "
                f"{last.architecture} with {last.message}"
            )

    def _settle_batch_size(self, batch_size: int | None) -> int:
        if batch_size is not None and batch_size < 1:
            raise InvalidInputError(f"batch_size must be at least 1, got {batch_size}")
        if self._batch_size is None:
            self._batch_size = batch_size or max(1, self.strategy.batch_size)
        elif batch_size not in (None, self._batch_size):
            raise InvalidInputError(
                f"batch_size must stay {self._batch_size}, with which the study began, "
                f"got {batch_size}"
            )
        return self._batch_size

    def _make_identity(self) -> dict[str, Any]:
        """What must not change between runs."""
        from nastool.store import encode_state

        state = encode_state(self.strategy.state_dict())
        return {
            **_problem_identity(self.problem),
            "strategy": self.description["strategy"],
            "settings": self.description["settings"],
            "seed": self.seed,
            # Tells apart what the description leaves out.
            _STARTING_STATE: hashlib.sha256(state.encode()).hexdigest()[:16],
        }

    def _restore(self, stored: StoredStudy) -> None:
        known = dict(stored.summary.identity)
        batch_size = known.pop("batch_size", None)
        _compare_identities(self.name, known, self._identity)
        if not _is_count(batch_size) or batch_size < 1:
            raise stored.summary.damaged("batch_size", "be a number of at least 1", batch_size)
        self._key = stored.key
        self._batch_size = batch_size
        self._commits = stored.commits
        _fill(self._archive, stored)
        self._failures = _failures(stored)
        self._committed, self._committed_failures = len(self._archive), len(self._failures)
        self._seconds = stored.summary.seconds
        if stored.state is not None:
            self._restore_state(stored)

    def _restore_state(self, stored: StoredStudy) -> None:
        state = stored.state or {}
        told, stale = state.get("told"), state.get("stale")
        if not _is_count(told) or not _is_count(stale) or told > len(self._archive):
            raise stored.summary.damaged("state", "say how much the strategy was told", state)
        try:
            self.strategy.load_state_dict(state["strategy"])
        except Exception as error:
            # What a strategy makes of a state that is not its own is anything.
            raise StoreError(
                f"study {self.name!r} is damaged: its state is none of strategy "
                f"{self.description['strategy']} ({type(error).__name__}: {error})"
            ) from error
        self._told, self._stale = told, stale
        self._kept = told, stale, stored.summary.stop_reason

    def _create(self) -> None:
        if self._store is None or self._key is not None:
            return
        identity = {**self._identity, "batch_size": self._batch_size}
        if self.name:
            self._key = self._store.create_study(self.name, identity, self.description)
            return
        base = f"{self.problem.space.name}-{self.description['strategy']}"
        while True:
            taken = set(self._store.names())
            numbers = range(1, len(taken) + 2)
            name = next(n for k in numbers if (n := f"{base}-{k}") not in taken)
            try:
                self._key = self._store.create_study(name, identity, self.description)
            except InvalidInputError:
                # Another process has taken it in the meantime, or it cannot be a name.
                if name not in self._store.names():
                    raise
            else:
                self.name = name
                return

    def _commit(self, stop_reason: StopReason, boundary: bool = True) -> None:
        """Write what is new; the strategy's state too, unless it is within a batch."""
        self._committed_at = time.perf_counter()
        if self._store is None or self._key is None:
            return
        from nastool.store import Batch

        archive, begin = self._archive, self._committed
        state = None
        if boundary and self._pending is None:
            state = {
                "strategy": self.strategy.state_dict(),
                "told": self._told,
                "stale": self._stale,
            }
        failures = [
            list(asdict(failure).values()) for failure in self._failures[self._committed_failures :]
        ]
        kept = self._kept if state is None else (self._told, self._stale, stop_reason)
        if begin == len(archive) and not failures and kept == self._kept:
            return
        batch = Batch(
            archive.genotypes[begin:], archive.values[begin:], archive.elapsed[begin:], failures
        )
        self._commits = self._store.commit(
            self._key, begin, batch, state, self._seconds, stop_reason, self._commits
        )
        self._committed, self._committed_failures = len(archive), len(self._failures)
        self._kept = kept


def load_result(store: Store, name: str, problem: Problem) -> Result:
    """Reopen what a stored study found, without going on with it.

    Args:
        store: Where it is kept.
        name: Its name.
        problem: The one it was made for.

    Raises:
        InvalidInputError: No study of that name, or one of another problem.
    """
    stored = store.load(name)
    check_problem(stored.summary, problem)
    archive = Archive(problem)
    _fill(archive, stored)
    _check_named(stored.summary, problem)
    return Result.from_archive(
        problem,
        archive,
        stored.summary.seconds,
        _stop_reason(stored.summary),
        _failures(stored),
        name,
        stored.summary.description,
    )


def _check_named(summary: StudySummary, problem: Problem) -> None:
    """Raise StoreError unless the names of a fixed list stand beside genotypes of the space."""
    named = summary.description.get("named", [])
    try:
        if not all(isinstance(name, str) for name, _ in named):
            raise InvalidInputError("a name is no text")
        if named:
            problem.space.validate(np.array([genotype for _, genotype in named]))
    except (InvalidInputError, TypeError, ValueError) as error:
        raise summary.damaged("named", "hold names and genotypes", named) from error


def check_problem(summary: StudySummary, problem: Problem) -> None:
    """Raise InvalidInputError unless a stored study was made for that problem."""
    _compare_identities(summary.name, summary.identity, _problem_identity(problem))


def _fill(archive: Archive, stored: StoredStudy) -> None:
    batch, space = stored.batch, archive.problem.space
    if not len(batch.genotypes):
        return
    columns = len(archive.problem.reported)
    if batch.values.shape[1] != columns:
        raise stored.summary.damaged("evaluations", f"have {columns} values", batch.values.shape[1])
    try:
        genotypes = space.validate(batch.genotypes)
    except InvalidInputError as error:
        raise StoreError(f"study {stored.summary.name!r} is damaged: {error}") from error
    keys = space.keys(genotypes)
    if len(set(keys)) < len(keys):
        raise stored.summary.damaged("evaluations", "be of distinct architectures", len(keys))
    archive.append(keys, genotypes, batch.values, batch.elapsed)


def _failures(stored: StoredStudy) -> list[Failure]:
    for failure in stored.batch.failures:
        texts = failure if isinstance(failure, list) else [failure]
        if len(texts) != 3 or not all(isinstance(text, str) for text in texts):
            raise stored.summary.damaged("failures", "be three texts each", failure)
    return [Failure(*failure) for failure in stored.batch.failures]


def _stop_reason(summary: StudySummary) -> StopReason:
    for reason in STOP_MESSAGES:
        if reason == summary.stop_reason:
            return reason
    raise summary.damaged(
        "stop_reason", f"be one of {', '.join(filter(None, STOP_MESSAGES))}", summary.stop_reason
    )


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _problem_identity(problem: Problem) -> dict[str, Any]:
    return {
        "space": [problem.space.name, problem.space.fingerprint],
        "objectives": [[o.name, o.direction.value, o.fingerprint] for o in problem.objectives],
        "constraints": [
            [c.metric, c.sense, c.bound, problem.metric(c.metric).fingerprint]
            for c in problem.constraints
        ],
    }


def _compare_identities(name: str, stored: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    for key, ours in given.items():
        if _as_kept(stored.get(key)) != _as_kept(ours):
            if key == _STARTING_STATE:
                raise InvalidInputError(
                    f"study {name!r} began with another starting state of the strategy "
                    f"{given['strategy']} (other settings or another version): take another name"
                )
            raise InvalidInputError(
                f"study {name!r} was made with {key} {stored.get(key)}, got {ours}: take another "
                "name, or the problem, strategy and seed of the study"
            )


def _as_kept(value: Any) -> Any:
    """A value as JSON keeps it, floats to the 15 digits that every way of writing them shares."""
    return json.loads(json.dumps(value), parse_float=lambda text: float(f"{float(text):.15g}"))


def _make(factory: StrategyFactory, problem: Problem, seed: int) -> Strategy:
    strategy = factory(problem, seed)
    if not isinstance(strategy, Strategy):
        raise InvalidInputError(
            f"a strategy must derive from nastool.strategies.base.Strategy, got "
            f"{type(strategy).__qualname__}"
        )
    return strategy


def _strategy_name(strategy: Strategy) -> str:
    return type(strategy).__name__


def _describe(
    problem: Problem, strategy: Strategy, seed: int, given: Mapping[str, Any] | None
) -> dict[str, Any]:
    description = {
        "space": problem.space.name,
        "objectives": [objective.name for objective in problem.objectives],
        "constraints": [str(constraint) for constraint in problem.constraints],
        "metrics": describe_metrics(problem),
        "strategy": _strategy_name(strategy),
        "settings": {},
        "seed": seed,
        **(given or {}),
    }
    if strategy.named:
        description["named"] = [[name, list(map(int, row))] for name, row in strategy.named]
    try:
        json.dumps(description)
    except TypeError as error:
        raise InvalidInputError(f"a description must hold JSON values only: {error}") from error
    return description
