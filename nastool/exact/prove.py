"""The exact answer to a problem."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nastool.constraint import Constraint
from nastool.exact.certificate import Certificate
from nastool.exact.dynamic import solve_chain
from nastool.exact.forms import make_form
from nastool.exact.search import MEMORY, ExactSearch, Progress
from nastool.exact.task import ChainTask
from nastool.problem import Problem
from nastool.space import Genotypes


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
        problem: One objective or two, predicted or exact costs, and constraints on such.
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
    form = make_form(problem, relax=relax)
    if isinstance(form.task, ChainTask):
        outcome = solve_chain(form.task.chain, form.task.bounds, form.task.is_front)
    else:
        search = ExactSearch(form.task, memory=memory, threads=threads)
        empty = np.empty((0, len(problem.space.genes)), dtype=np.int64)
        search.start_from(empty if start is None else start)
        outcome = search.run(progress, checkpoint=checkpoint)
    certificate = outcome.certificate
    if form.sign < 0:
        certificate = replace(certificate, best=-certificate.best, bound=-certificate.bound)
    genotypes = problem.space.canonicalize(outcome.genotypes)
    return Proof(genotypes, certificate, form.dropped)
