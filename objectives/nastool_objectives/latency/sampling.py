"""Which architectures a campaign measures."""

from __future__ import annotations

import numpy as np

from nastool.errors import InvalidInputError
from nastool.space import Genotypes, SearchSpace

_POOL = 20
"""Candidates for each architecture that is chosen by what it tells."""

_ROUNDS = 200
"""Rounds of drawing after which a space counts as exhausted."""


def anchors(space: SearchSpace, n: int) -> Genotypes:
    """Evenly spaced architectures of equal choices, smallest and largest included.

    Args:
        space: The space.
        n: How many; fewer where the genes have fewer choices.

    Returns:
        Distinct canonical genotypes, shape (k, d), k <= n.
    """
    levels = np.linspace(0.0, 1.0, n)[:, None]
    rows = np.rint(levels * (space.cardinalities - 1)).astype(np.int64)
    return _distinct(space, rows, np.empty((0, len(space.genes)), np.int64))


def spread(space: SearchSpace, n: int, rng: np.random.Generator, exclude: Genotypes) -> Genotypes:
    """Draw architectures of every size.

    A sum over many genes hardly varies between uniform draws, and a predictor would know nothing of
    small and large architectures. So half of the draws are uniform, and in the other half each has
    a level of its own, uniform between smallest and largest, around which its genes are binomial.

    Args:
        space: The space.
        n: How many.
        rng: Draws.
        exclude: Genotypes that are not to be drawn, shape (k, d).

    Returns:
        Distinct canonical genotypes, shape (n, d).

    Raises:
        InvalidInputError: The space holds fewer.
    """
    found = _drawn(space, n, rng, exclude)
    _require(space, n, found)
    return found


def _drawn(space: SearchSpace, n: int, rng: np.random.Generator, exclude: Genotypes) -> Genotypes:
    """As `spread`, but fewer where the space holds fewer."""
    found = np.empty((0, len(space.genes)), dtype=np.int64)
    for _ in range(_ROUNDS):
        uniform = space.sample((n + 1) // 2, rng)
        levels = rng.random((n // 2, 1))
        leveled = rng.binomial(space.cardinalities - 1, levels)
        both = np.empty((n, len(space.genes)), dtype=np.int64)
        both[::2], both[1::2] = uniform, leveled
        new = _distinct(space, both, np.concatenate([exclude, found]))
        found = np.concatenate([found, new[: n - len(found)]])
        if len(found) == n:
            break
    return found


def _require(space: SearchSpace, n: int, found: Genotypes) -> None:
    if len(found) < n:
        raise InvalidInputError(
            f"{n} architectures to measure were wanted, "
            f"{space.name} has {len(found)} beside the anchors"
        )


def informative(
    space: SearchSpace, n: int, rng: np.random.Generator, measured: Genotypes
) -> Genotypes:
    """Choose the architectures that tell most about all others, for tables of a few dozen rows.

    Args:
        space: The space.
        n: How many.
        rng: Draws the candidates.
        measured: Genotypes that are measured anyway, shape (k, d).

    Returns:
        Distinct canonical genotypes in the order to measure them, shape (n, d).

    Raises:
        InvalidInputError: The space holds fewer.
    """
    from nastool.predictors.transfer import most_informative

    # A small space is its own pool.
    pool = _drawn(space, max(n, min(_POOL * n, space.count.high - len(measured))), rng, measured)
    _require(space, n, pool)
    rows = most_informative(
        space.features(pool), n, genes=len(space.genes), measured=space.features(measured)
    )
    return pool[rows]


def _distinct(space: SearchSpace, rows: Genotypes, exclude: Genotypes) -> Genotypes:
    """Canonical rows, each once and none that is excluded, in their order."""
    rows = space.canonicalize(rows)
    taken = set(space.keys(exclude))
    kept = []
    for i, key in enumerate(space.keys(rows)):
        if key not in taken:
            taken.add(key)
            kept.append(i)
    return rows[kept]
