"""Variation operators: how new genotypes come from old ones, a whole batch at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nastool.space import Genotypes, SearchSpace


def resample_genes(
    space: SearchSpace, genotypes: Genotypes, mask: NDArray[np.bool_], rng: np.random.Generator
) -> Genotypes:
    """Replace the masked genes (n, d) by uniform draws from their choices."""
    return np.where(mask, space.draw(len(genotypes), rng), genotypes)


def step_genes(
    space: SearchSpace, genotypes: Genotypes, mask: NDArray[np.bool_], rng: np.random.Generator
) -> Genotypes:
    """Change the masked genes (n, d): an ordered one by a step, another to any other choice."""
    ups = rng.integers(0, 2, size=genotypes.shape)
    shifts = rng.integers(0, np.maximum(space.cardinalities - 1, 1), size=genotypes.shape)
    # Draws are made for every gene, the rest for the few that change.
    rows, columns = np.nonzero(mask)
    sizes, old = space.cardinalities[columns], genotypes[rows, columns]
    up = ups[rows, columns] * 2 - 1
    stepped = old + up
    # At an end there is one neighbour only.
    stepped = np.where((stepped < 0) | (stepped >= sizes), old - up, stepped)
    stepped = np.clip(stepped, 0, sizes - 1)
    jumped = np.where(sizes > 1, (old + shifts[rows, columns] + 1) % sizes, old)
    ordered = np.array([gene.ordered for gene in space.genes])
    changed = genotypes.copy()
    changed[rows, columns] = np.where(ordered[columns], stepped, jumped)
    return changed


def change_one_gene(
    space: SearchSpace, genotypes: Genotypes, rng: np.random.Generator, *, by_steps: bool
) -> Genotypes:
    """Give exactly one gene of each row (n, d) another choice (Real et al., 2019, section 3.2).

    Args:
        space: Its genes; one with a single choice is never drawn.
        genotypes: Shape (n, d).
        rng: Draws genes and choices.
        by_steps: Whether an ordered gene takes a neighbouring choice instead of any other.
    """
    changed = genotypes.copy()
    free = space.free
    if not len(free):
        return changed
    rows = np.arange(len(genotypes))
    drawn = rng.random((2, len(rows)))
    columns = free[(drawn[0] * len(free)).astype(np.int64)]
    if by_steps:
        mask = np.zeros(genotypes.shape, dtype=bool)
        mask[rows, columns] = True
        return step_genes(space, genotypes, mask, rng)
    sizes = space.cardinalities[columns]
    shift = 1 + (drawn[1] * (sizes - 1)).astype(np.int64)
    changed[rows, columns] = (genotypes[rows, columns] + shift) % sizes
    return changed


def choose_genes(
    n: int, d: int, counts: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Mark counts[i] distinct genes, drawn uniformly, in row i; shape (n, d)."""
    drawn = rng.random((n, d))
    mask = np.zeros((n, d), dtype=bool)
    one = counts == 1
    mask[one, drawn[one].argmin(axis=1)] = True
    more = counts > 1
    if more.any():
        mask[more] = drawn[more].argsort(axis=1).argsort(axis=1) < counts[more, None]
    return mask


def uniform_crossover(first: Genotypes, second: Genotypes, rng: np.random.Generator) -> Genotypes:
    """Take each gene from either parent (n, d) with equal probability."""
    return np.where(rng.random(first.shape) < 0.5, first, second)
