"""Studies: a strategy runs on a problem under a budget, and can go on after any stop."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nastool.choices import check_name, whole
from nastool.errors import InvalidInputError, StoreError
from nastool.evaluations import Evaluations
from nastool.executors import MOMENT, Executor, Serial, load_executor
from nastool.plugins import load_strategy
from nastool.problem import Problem
from nastool.recipes.study_recipe import StudyRecipe, described_recipe, stored_recipe
from nastool.results import STOP_MESSAGES, Result, StopReason
from nastool.results.archive import Archive
from nastool.runtime.interrupt import Interrupt
from nastool.strategies.base import Strategy, check_size, check_strategy
from nastool.study.batches import BatchEvaluator
from nastool.study.course import Course
from nastool.study.flowing import MOMENT_SHARED, Alone, Flow, Shared
from nastool.study.keeping import Keeper
from nastool.study.known import Known, as_known
from nastool.study.reopening import (
    ASYNCHRONOUS,
    KNOWN,
    check_course,
    check_named,
    check_problem,
    check_shareable,
    compare_identities,
    describe,
    fill,
    identify,
    restore,
    stored_batch_size,
    stored_failures,
    stored_stop_reason,
)
from nastool.study.rounds import Rounds
from nastool.study.streams import Stream

if TYPE_CHECKING:
    from nastool.store import Store, StoredStudy

Progress = Callable[[int, int], None]
"""Called after every batch with the number of evaluations so far and the budget."""

Until = Callable[["Study"], StopReason | bool]
"""Asked between batches: why the run is to end, or whether; empty or False to go on."""

StrategyFactory = Callable[[Problem, int], Strategy]
"""Makes a strategy from a problem and a seed, as every strategy class does."""

_LOG = logging.getLogger(__package__)


class Study:
    """A strategy on a problem.

    The strategy is always asked for whole batches, and a budget that ends within one leaves the
    rest of it for the next run. So the evaluations under a small budget are the first ones under
    a large budget, and a study that was stopped at any instant, even killed, goes on from the
    last committed state, reproduces what was lost and ends with the same archive.

    Args:
        problem: What to optimise.
        strategy: A fresh one, or what makes one from the problem and the seed: a strategy class,
            or a name such as ``evolution``.
        store: Where to keep the study, as a store or its URL; only in memory by default.
        name: Unique in the store; a study of that name goes on. A new name by default.
        seed: Given to a strategy that is made here; else only recorded.
        description: JSON values, kept with the study, from which a command line can build problem
            and strategy again.
        executor: Where objectives run that are not cheap, as an executor, or as its name, such as
            ``processes:4``, which is then closed after every run; in this process by default.
        known: Evaluations that the study begins with, whose strategy is told of them: no budget is
            spent on them. As they are, or as the text of a table or of a study in the store, see
            `nastool.study.known.find_known`.

    Raises:
        InvalidInputError: The store has a study of that name, made with something else.
        StoreError: The store cannot be read.
    """

    def __init__(
        self,
        problem: Problem,
        strategy: Strategy | StrategyFactory | str,
        store: Store | str | None = None,
        name: str | None = None,
        seed: int = 0,
        *,
        description: Mapping[str, Any] | None = None,
        executor: Executor | str | None = None,
        known: Known | str | None = None,
    ) -> None:
        seed = whole("a seed", seed)
        if isinstance(strategy, str):
            description = {"strategy": strategy, **(description or {})}
            strategy = load_strategy(strategy, problem, seed)
        self.problem = problem
        self.strategy = check_strategy(strategy(problem, seed) if callable(strategy) else strategy)
        if self.strategy.problem.fingerprint != problem.fingerprint:
            raise InvalidInputError("a strategy must be made for the problem of its study")
        self.seed = seed
        self.description = describe(problem, self.strategy, seed, description)
        self.name = name or ""
        self._course = Course(self.strategy, self.description["strategy"])
        self._archive = self._course.archive
        self._batch_size: int | None = None
        self._flow: Flow | None = None
        self._is_running = False
        self._seconds = 0.0
        self._stop_reason: StopReason = ""
        self._keeper: Keeper | None = None
        opened: Store | None = None
        if store is not None:
            from nastool.store import open_store

            opened = open_store(store)
            self._keeper = Keeper(opened)
        self._closes = isinstance(executor, str)
        made = load_executor(executor) if isinstance(executor, str) else executor
        self._opened, self._executor = opened, made or Serial()
        self._known = known = as_known(known, problem, self._opened)
        if known is not None:
            self.description[KNOWN] = {"evaluations": len(known), "source": known.source}
        evaluator = BatchEvaluator(self._archive, self._opened, self._executor)
        self._rounds = Rounds(self._course, evaluator)
        if self._keeper is not None:
            self._identity = identify(problem, self.strategy, seed, self.description, known)
            stored = self._keeper.store.find(name) if isinstance(name, str) and name else None
            if stored is not None:
                self._restore(stored, self._keeper)
            elif name:
                check_name("a study's name", name)

    @classmethod
    def of(
        cls,
        recipe: StudyRecipe,
        store: Store | str | None = None,
        *,
        problem: Problem | None = None,
        executor: Executor | str | None = None,
        known: Known | None = None,
    ) -> Self:
        """The study that a recipe describes, with what the store already holds of it.

        Args:
            recipe: What it is made from; its budget is for `run`.
            store: Where to keep it, as a store or its URL; only in memory by default.
            problem: The recipe's, where it is made already.
            executor: As for the class.
            known: In the place of what the recipe names.

        Raises:
            InvalidInputError: Something is unknown, or the parts do not fit together.
        """
        strategy = recipe.make_strategy(problem)
        name = recipe.study or (None if store is None else recipe.name_for(strategy))
        return cls(
            strategy.problem,
            strategy,
            store,
            name,
            recipe.seed,
            description=recipe.description,
            executor=executor,
            known=known or recipe.known or None,
        )

    @classmethod
    def open(cls, name: str, store: Store | str | None = None) -> Self:
        """A stored study, made again from what the store says of it; `run` goes on with it.

        Args:
            name: As ``nastool studies`` lists it.
            store: Where it is kept; ``nastool.db`` in the current folder by default.

        Raises:
            InvalidInputError: There is none of that name, or a part of it is unknown.
            StoreError: It is damaged.
        """
        from nastool.store import open_store

        opened = open_store(store, create=False)
        # What it began with is there.
        recipe = replace(stored_recipe(opened.load(name).summary), known="")
        return cls.of(recipe, opened)

    @property
    def recipe(self) -> StudyRecipe:
        """What the study is made from, as far as names say it."""
        return described_recipe(self.description, len(self), self.name)

    def result(self) -> Result:
        """What has been found so far; `run` returns the same at its end."""
        return Result.from_archive(
            self.problem,
            self._archive,
            self._seconds,
            self._stop_reason,
            self._course.failures,
            self.name,
            self.description,
        )

    @property
    def evaluations(self) -> Evaluations:
        """What has been evaluated so far, in that order."""
        return self.evaluations_from(0)

    def evaluations_from(self, first: int) -> Evaluations:
        """What has been evaluated from that number on, counted from 0."""
        return self._archive.evaluations(slice(first, len(self._archive)))

    def __len__(self) -> int:
        return len(self._archive)

    @property
    def known(self) -> int:
        """How many of its evaluations it began with, and has not paid for."""
        said: int = self.description.get(KNOWN, {"evaluations": 0})["evaluations"]
        return min(said, len(self))

    @property
    def failed(self) -> int:
        """How many of its evaluations have failed; `run` can try them again."""
        return int(np.isnan(self._archive.values).any(axis=1).sum())

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return (
            f"<Study{name}: {len(self):,} evaluations of {self.problem.summary} by "
            f"{self.description['strategy']}, seed {self.seed}>"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: what has been found so far."""
        result = self.result()
        if not result.strategy:
            result = replace(result, strategy=str(self.description["strategy"]))
        return result._repr_html_()

    def run(
        self,
        budget: int,
        batch_size: int | None = None,
        progress: Progress | None = None,
        *,
        retry_failed: bool = False,
        until: Until | None = None,
        pending: int | None = None,
        join: bool = False,
    ) -> Result:
        """Evaluate until the study holds that many distinct genotypes.

        Ctrl-C ends the run early: what is evaluated is kept and returned, with ``stop_reason``
        "interrupted"; a second Ctrl-C raises KeyboardInterrupt.

        Args:
            budget: Evaluations of the whole study, those of earlier runs included, those that
                it began with not.
            batch_size: How many genotypes the strategy is asked for at a time; the strategy's own
                choice by default. It belongs to the study: a later run must not change it.
            progress: Told after every batch.
            retry_failed: Whether to begin by evaluating again, once, what has failed in earlier
                runs; what comes of it takes the place of the failures.
            until: Asked between batches whether the run is to end before its budget, e.g.
                `nastool.study.Patience`; a later run goes on as if it had not ended.
            pending: How many architectures are under way at any time. The strategy is then told
                each as it is evaluated, in an order that depends on the machines; by default it is
                told whole batches, and what is found does not depend on them.
            join: Whether other processes that join it work on the study, too, each of them under
                the same budget. What one of them has under way is its own, as many as take a moment
                or ``pending``; the strategy is told as with ``pending``, and if a process dies, the
                others evaluate what it had. All end with all that was found.

        Raises:
            InvalidInputError: A budget or batch size below 1, another batch size than before, a
                strategy that returns something else than it must, a study to be joined that
                others cannot find, or one that is running already, in another thread.
            NastoolError: Every architecture so far failed, or the strategy raised.
            StoreError: The store cannot be written.
        """
        budget = whole("a budget", budget, 1)
        if until is not None and not callable(until):
            raise InvalidInputError(f"until must be a function of the study, got {until!r:.80}")
        if pending is not None:
            check_size("pending", pending)
        if join:
            check_shareable(self._opened, self.name, retry_failed)
        if self._is_running:
            raise InvalidInputError("a study runs once at a time, and this one is running")
        self._is_running = True
        try:
            return self._run(budget, batch_size, progress, retry_failed, until, pending, join)
        finally:
            self._is_running = False

    def _run(
        self,
        budget: int,
        batch_size: int | None,
        progress: Progress | None,
        retry_failed: bool,
        until: Until | None,
        pending: int | None,
        join: bool,
    ) -> Result:
        if join or pending is not None:
            self.note(ASYNCHRONOUS, "several processes" if join else f"{pending} under way")
        batch_size = self._begin(batch_size, join)
        keeper, begin = self._keeper, time.perf_counter()
        known = self.known
        budget += known
        strategy = self.description["strategy"]
        _LOG.info("%s by %s: %d of %d", self.problem.summary, strategy, len(self._archive), budget)
        offset = self._seconds
        stop_reason: StopReason = ""
        flow = self._flow = self._make_flow(pending, join)
        try:
            with Interrupt() as interrupt:
                if retry_failed and self.failed:
                    stop_reason = self._rounds.retry(interrupt)
                    self._commit("", revise=True)
                while not stop_reason:
                    zero = begin - offset
                    if interrupt.requested:
                        stop_reason = "interrupted"
                    elif until is not None and len(self) and (ended := until(self)):
                        stop_reason = _reason(ended)
                    elif flow is not None:
                        stop_reason = flow.step(budget, interrupt, zero)
                    else:
                        stop_reason = self._rounds.step(budget, batch_size, known, interrupt, zero)
                    self._seconds = offset + time.perf_counter() - begin
                    if stop_reason or (keeper is not None and keeper.is_due):
                        self._commit(stop_reason)
                    _LOG.debug("%d of %d evaluations", len(self._archive), budget)
                    if progress is not None:
                        progress(len(self._archive) - known, budget - known)
        except BaseException:
            # Whatever it was is more important than a second error about the store.
            with contextlib.suppress(StoreError):
                self._commit("", boundary=False)
                if flow is not None:
                    flow.close("")
            raise
        finally:
            self._flow = None
            if self._closes:
                self._executor.close()
        if flow is not None:
            flow.close(stop_reason)
        self._stop_reason = stop_reason
        _LOG.info("%d evaluations in %.1f s: %s", len(self._archive), self._seconds, stop_reason)
        return self.result()

    def note(self, key: str, text: str) -> None:
        """Have the study say from now on how it went: by `ASYNCHRONOUS` or `HALVED`."""
        if self.description.get(key) != text:
            self.description[key] = text
            if self._keeper is not None and self._keeper.exists:
                self._keeper.store.annotate(self.name, key, text)

    def _begin(self, batch_size: int | None, join: bool) -> int:
        """Make the study in its store, unless it is there; its batch size.

        Raises:
            InvalidInputError: Its batch size is another one, or processes share it.
        """
        settled = self._settle_batch_size(batch_size)
        if (keeper := self._keeper) is None:
            self._take_known()
            return settled
        if not join:
            self._course.take_over(keeper.left(self.name))
        base = f"{self.problem.space.name}-{self.description['strategy']}"
        identity = {**self._identity, "batch_size": settled}
        is_there = keeper.exists
        try:
            known = self._known
            self.name = keeper.create(self.name, base, identity, self.description, known)
            if not is_there:
                self._take_known()
        except InvalidInputError:
            stored = keeper.store.find(self.name) if join else None
            if stored is None:
                raise
            # Who joins comes when another one has begun.
            self._restore(stored, keeper)
            settled = self._settle_batch_size(batch_size)
        keeper.begin()
        return settled

    def _take_known(self) -> None:
        """Begin with what is known, unless it has begun."""
        if self._known is not None and not len(self._archive):
            keys = self.problem.space.keys(self._known.genotypes)
            self._archive.append(keys, self._known.genotypes, self._known.values, 0.0)

    def _make_flow(self, pending: int | None, join: bool) -> Flow | None:
        """What runs it one by one, where that is asked for."""
        if pending is None and not join:
            return None
        self._rounds.leave()
        moment = MOMENT_SHARED if join else MOMENT
        stream = Stream(self._archive, self._opened, self._executor, moment)
        if join and self._keeper is not None:
            return Shared(self._course, stream, self._keeper, pending, self._executor.workers)
        return Alone(self._course, stream, pending or self._executor.workers)

    def _settle_batch_size(self, batch_size: int | None) -> int:
        if batch_size is not None:
            batch_size = whole("batch_size", batch_size, 1)
            check_size("batch_size", batch_size)
        if self._batch_size is None:
            self._batch_size = batch_size or max(1, int(self.strategy.batch_size))
        elif batch_size not in (None, self._batch_size):
            raise InvalidInputError(
                f"batch_size must stay {self._batch_size}, with which the study began, "
                f"got {batch_size}"
            )
        return self._batch_size

    def _restore(self, stored: StoredStudy, keeper: Keeper) -> None:
        known = dict(stored.summary.identity)
        known.pop("batch_size", None)
        compare_identities(self.name, known, self._identity)
        self._batch_size = stored_batch_size(stored.summary)
        fill(self._archive, stored)
        self._course.failures = stored_failures(stored)
        self._stop_reason = stored_stop_reason(stored.summary)
        self._seconds = stored.summary.seconds
        self.description |= check_course(stored.summary)
        if stored.state is not None:
            restore(self._course, stored)
        kept = self._course.told, self._course.stale, stored.summary.stop_reason
        keeper.follow(stored, None if stored.state is None else kept)

    def _commit(self, stop_reason: StopReason, boundary: bool = True, revise: bool = False) -> None:
        """Write what is new, or everything anew; the strategy's state too, unless within a batch.

        Args:
            stop_reason: Why the run ended; empty while it goes on.
            boundary: Whether the strategy is between two batches.
            revise: Whether evaluations that the store has are others now.
        """
        if self._keeper is None or (self._flow is not None and self._flow.commits):
            return
        state, course = None, self._course
        if boundary and self._rounds.is_between:
            state = course.state(course.left if self._flow is None else self._flow.under_way)
        self._keeper.commit(
            self._archive, course.failures, state, self._seconds, stop_reason, revise=revise
        )


def _reason(ended: object) -> StopReason:
    """What a run ends for that was asked to: a reason there is, or else whatever is true."""
    return next((reason for reason in STOP_MESSAGES if reason == ended), "asked")


def load_result(store: Store | str, name: str, problem: Problem) -> Result:
    """Reopen what a stored study found, without going on with it.

    Args:
        store: Where it is kept, or its URL.
        name: Its name.
        problem: The one it was made for.

    Raises:
        InvalidInputError: No study of that name, or one of another problem.
    """
    from nastool.store import open_store

    stored = open_store(store, create=False).load(name)
    check_problem(stored.summary, problem)
    check_course(stored.summary)
    archive = Archive(problem)
    fill(archive, stored)
    check_named(stored.summary, problem)
    return Result.from_archive(
        problem,
        archive,
        stored.summary.seconds,
        stored_stop_reason(stored.summary),
        stored_failures(stored),
        name,
        stored.summary.description,
    )
