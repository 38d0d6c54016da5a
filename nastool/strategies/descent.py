"""Genotypes to begin with where bounds are so tight that hardly a draw keeps them."""

from __future__ import annotations

import numpy as np

from nastool.arrays import Floats
from nastool.constraint import format_quantity, violations
from nastool.errors import InfeasibleError
from nastool.evaluations import summed
from nastool.objective import evaluate
from nastool.problem import Problem
from nastool.space import Genotypes

_ROUNDS = 20, 200
"""Rounds of drawing, 256 at least in each, before draws are led to where the bounds hold: at least,
with two more for each that is wanted, and at most."""

_LED = 16
"""Draws that are led at least: one may end where no change of one gene helps."""


def seeds(
    problem: Problem, n: int, rng: np.random.Generator, least: int | None = None
) -> Genotypes:
    """Draw n canonical genotypes that satisfy the hard constraints, to breed from.

    They are uniform draws, as those of `Problem.sample`; where these are hard to find, draws are
    led to where the constraints hold, which is near the edge of what they allow.

    Args:
        problem: Knows the hard constraints.
        n: How many are wanted.
        rng: Source of the draws.
        least: With how many to be content; n by default.

    Raises:
        InfeasibleError: Fewer are found.
    """
    found = problem.sample(n, rng, least=0, rounds=min(_ROUNDS[0] + 2 * n, _ROUNDS[1]))
    if len(found) >= n:
        return found
    led, violation = descend(problem, problem.draw(max(n - len(found), _LED), rng))
    # Many may end at one.
    new = np.sort(np.unique(led, axis=0, return_index=True)[1])
    led, violation = led[new], violation[new]
    found = np.concatenate([found, led[violation <= 0]])[:n]
    if len(found) >= (n if least is None else least):
        return found
    nearest = led[violation.argmin()][None]
    known = [
        f"{c.metric} {format_quantity(float(value), problem.metric(c.metric).unit)}"
        for c in problem.hard_constraints
        for value in evaluate(problem.metric(c.metric), nearest).values
    ]
    raise InfeasibleError(
        f"{n} architectures of {problem.space.name} with "
        f"{', '.join(map(str, problem.hard_constraints))} were wanted, {len(found)} found; the "
        f"nearest that draws were led to has {', '.join(dict.fromkeys(known))}: 'exact' proves "
        "whether there are any"
    )


def descend(problem: Problem, starts: Genotypes) -> tuple[Genotypes, Floats]:
    """Change one gene at a time, whichever takes most off what the hard constraints are missed by.

    Args:
        problem: Knows the hard constraints.
        starts: Where to begin, shape (n, d).

    Returns:
        Where that ends, canonical, shape (n, d), and by how much the constraints are missed there,
        shape (n,): 0 where they hold, infinite where a metric fails.
    """
    space = problem.space
    led = space.canonicalize(starts)
    missed = _missed(problem, led)
    genes = np.repeat(np.arange(len(space.genes)), space.cardinalities)
    choices = np.concatenate([np.arange(k) for k in space.cardinalities])
    moving = np.flatnonzero(missed > 0)
    while len(moving):
        tried = np.repeat(led[moving], len(genes), axis=0)
        tried[np.arange(len(tried)), np.tile(genes, len(moving))] = np.tile(choices, len(moving))
        tried = space.canonicalize(tried)
        values = _missed(problem, tried).reshape(len(moving), -1)
        best = values.argmin(axis=1)
        better = values[np.arange(len(moving)), best] < missed[moving]
        rows = np.flatnonzero(better)
        led[moving[rows]] = tried[rows * len(genes) + best[rows]]
        missed[moving[rows]] = values[rows, best[rows]]
        moving = moving[better & (missed[moving] > 0)]
    return led, missed


def _missed(problem: Problem, genotypes: Genotypes) -> Floats:
    bounds = problem.hard_constraints
    values = {
        name: evaluate(problem.metric(name), genotypes).values
        for name in dict.fromkeys(c.metric for c in bounds)
    }
    return np.nan_to_num(summed(violations(bounds, values, len(genotypes))), nan=np.inf)
