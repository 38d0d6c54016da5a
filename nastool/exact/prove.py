"""The exact answer to a problem."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nastool.constraint import Constraint
from nastool.exact.certificate import Certificate
from nastool.exact.dynamic import solve_chain
from nastool.exact.forms import Form, make_form
from nastool.exact.levels import is_unlimited, search_levels
from nastool.exact.search import MEMORY, ExactSearch, Progress
from nastool.exact.separable import SeparableTask, solve_separable
from nastool.exact.task import ChainTask, Outcome, Task, on_front
from nastool.problem import Problem
from nastool.space import Branching, Genotypes


@dataclass(frozen=True, eq=False)
class Proof:
    """The best of a whole space.

    Args:
        genotypes: The optimum, or the points of the front, by ascending cost; shape (n, d).
        certificate: What is proven about them, in the objective's natural sign.
        dropped: Constraints that were left out; with any, the certificate is a bound only.
    """

    genotypes: Genotypes
    certificate: Certificate
    dropped: tuple[Constraint, ...] = ()


def prove(
    problem: Problem,
    start: Genotypes | None = None,
    progress: Progress | None = None,
    *,
    relax: bool = False,
    memory: int = MEMORY,
    threads: int | None = None,
    checkpoint: Path | None = None,
) -> Proof:
    """Find the optimum, or the front, of a whole space and prove it.

    Ctrl-C ends it early; the certificate then says what is proven so far.

    Args:
        problem: Up to three objectives, predicted or exact costs, and constraints on such.
        start: Genotypes to begin with, shape (n, d); good ones make bounds bite.
        progress: Told every now and then.
        relax: Leave out other constraints, for a bound instead of a proof.
        memory: Most bytes that tables may take.
        threads: Worker threads; one for each processor by default.
        checkpoint: File that keeps the state of an unfinished search, which goes on from it.

    Raises:
        InvalidInputError: A problem that cannot be certified, or a model too large.
        MissingDependencyError: numba is not installed.
    """
    space = problem.space
    begin = np.empty((0, len(space.genes)), dtype=np.int64) if start is None else start
    branching = space.branching
    if branching is None:
        form = make_form(problem, relax=relax)
        outcome = _solve(form, begin, progress, memory, threads, checkpoint)
        if space.has_own_forms:
            counted = replace(outcome.certificate, counted="genotypes")
            outcome = replace(outcome, certificate=counted)
    else:
        found: list[Outcome] = []
        form = make_form(problem, relax=relax, branch=0)
        branches = branching.of(begin)
        for branch, genes in enumerate(branching.free):
            of_branch = make_form(problem, relax=relax, branch=branch)
            known = begin[branches == branch][:, genes or [0]] * bool(genes)
            file = None if checkpoint is None else _file_of(checkpoint, branch)
            told = _Told(progress, found, branching) if progress is not None else None
            solved = _solve(of_branch, known, told, memory, threads, file)
            genotypes = branching.complete(branch, solved.genotypes)
            found.append(replace(solved, genotypes=genotypes))
            if not solved.certificate.is_complete:
                break
        outcome = _together(found, branching, form.task.is_front)
    certificate = outcome.certificate
    if form.sign < 0:
        certificate = replace(certificate, best=-certificate.best, bound=-certificate.bound)
    return Proof(space.canonicalize(outcome.genotypes), certificate, form.dropped)


def _solve(
    form: Form,
    start: Genotypes,
    progress: Progress | None,
    memory: int,
    threads: int | None,
    checkpoint: Path | None,
) -> Outcome:
    if isinstance(form.task, ChainTask):
        return solve_chain(form.task.chain, form.task.bounds, form.task.is_front)
    if isinstance(form.task, SeparableTask):
        return solve_separable(form.task)
    if checkpoint is None and isinstance(form.task, Task) and is_unlimited(form.task):
        found = search_levels(form.task, start)
        if found is not None:
            return found
    search = ExactSearch(form.task, memory=memory, threads=threads)
    search.start_from(start)
    return search.run(progress, checkpoint=checkpoint)


def _file_of(checkpoint: Path, branch: int) -> Path:
    """Each branch is a search of its own."""
    return checkpoint.with_name(f"{checkpoint.name}.{branch}")


@dataclass(frozen=True)
class _Told:
    """Tells of a branch at work as a part of the space.

    Args:
        progress: Told.
        found: What the branches before it came to.
        branching: All branches.
    """

    progress: Progress
    found: list[Outcome]
    branching: Branching

    def __call__(self, certificate: Certificate) -> None:
        done = [outcome.certificate for outcome in self.found]
        self.progress(_sum([*done, certificate], self.branching, certificate.front))


def _together(found: Sequence[Outcome], branching: Branching, is_front: bool) -> Outcome:
    """The best of what branches came to, of the first of them to as many as were searched."""
    genotypes = np.concatenate([outcome.genotypes for outcome in found])
    values = np.concatenate([outcome.values for outcome in found])
    costs = np.concatenate([outcome.costs for outcome in found])
    kept = on_front(values, costs) if is_front else np.lexsort((costs, values))[:1]
    certificate = _sum([outcome.certificate for outcome in found], branching, len(kept))
    return Outcome(genotypes[kept], values[kept], costs[kept], certificate)


def _sum(parts: Sequence[Certificate], branching: Branching, front: int) -> Certificate:
    """What is proven of a space by what is proven of the first of its branches."""
    searched = len(parts) == len(branching.branches)
    best = min(part.best for part in parts)
    return Certificate(
        size=branching.size,
        excluded=sum(part.excluded for part in parts),
        pruned=sum(part.pruned for part in parts),
        evaluated=sum(part.evaluated for part in parts),
        best=best,
        bound=min(part.bound for part in parts) if searched else -math.inf,
        gap=max(part.gap for part in parts) if searched else math.inf,
        front=front,
        seconds=sum(part.seconds for part in parts),
        done=sum(
            part.done * size / branching.size
            for part, size in zip(parts, branching.sizes, strict=False)
        )
        if not searched or parts[-1].done < 1
        else 1.0,
    )
