"""Genotypes one by one: rows of a space's genotypes as plain numbers, which slices are taken by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.space import Genotypes, SearchSpace

Genotype = tuple[int, ...]
"""Index of the choice taken, gene by gene."""

_MISSES = 10_000, 50
"""So many draws in a row, and for each shape taken, that give no new one: there is none left."""


def row(genotype: NDArray[np.int64]) -> Genotype:
    """One row of `Genotypes`, (d,), as plain numbers."""
    return tuple(genotype.tolist())


def rows(genotypes: Genotypes) -> list[Genotype]:
    """`Genotypes` (n, d) as plain numbers, row by row."""
    return [tuple(numbers) for numbers in genotypes.tolist()]


def distinct(
    space: SearchSpace,
    n: int,
    generator: np.random.Generator,
    exclude: Iterable[Genotype] = (),
) -> list[Genotype]:
    """Draw different architectures uniformly; a longer list starts with the shorter one.

    Args:
        space: Whose architectures.
        n: How many.
        generator: Source of randomness.
        exclude: Genotypes that are not to be drawn.

    Returns:
        Canonical genotypes.

    Raises:
        InvalidInputError: The space holds fewer.
    """
    taken = set(_canonical(space, [*exclude]))
    if n > space.size - len(taken):
        raise InvalidInputError(
            f"the space holds {space.size} shapes, {len(taken)} of them taken; expected at most "
            f"what is left, got {n}"
        )
    drawn: list[Genotype] = []
    misses = 0
    while len(drawn) < n:
        # One by one: what is drawn then depends on no number of draws.
        (genotype,) = rows(space.canonicalize(space.sample(1, generator)))
        misses += 1
        if genotype not in taken:
            taken.add(genotype)
            drawn.append(genotype)
            misses = 0
        elif misses > _MISSES[0] + _MISSES[1] * len(taken):
            raise InvalidInputError(
                f"the space holds {len(taken)} different shapes, {len(taken) - len(drawn)} of them "
                f"taken; expected at most what is left, got {n}"
            )
    return drawn


def _canonical(space: SearchSpace, genotypes: Sequence[Genotype]) -> list[Genotype]:
    if not genotypes:
        return []
    return rows(space.canonicalize(np.array(genotypes, dtype=np.int64)))
