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
    ups, others = _draw_steps(space, len(genotypes), rng)
    changed = genotypes.copy()
    genes = np.nonzero(mask)
    changed[genes] = _stepped(space, genotypes[genes], genes[1], ups[genes], others[genes])
    return changed


def step_or_resample(
    space: SearchSpace,
    genotypes: Genotypes,
    mask: NDArray[np.bool_],
    resampled: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Genotypes:
    """Change the masked genes (n, d): as `resample_genes` in some rows (n,), else `step_genes`."""
    drawn = space.draw(len(genotypes), rng)
    ups, others = _draw_steps(space, len(genotypes), rng)
    changed = genotypes.copy()
    genes = np.nonzero(mask)
    stepped = _stepped(space, genotypes[genes], genes[1], ups[genes], others[genes])
    changed[genes] = np.where(resampled[genes[0]], drawn[genes], stepped)
    return changed


def _draw_steps(
    space: SearchSpace, n: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every gene of n genotypes whether to step up (0 or 1), and which other choice it takes.

    Draws are made for every gene, the rest for the few that change.
    """
    shape = n, len(space.genes)
    others = np.maximum(space.cardinalities - 1, 1)
    # One number for all genes makes the same draws, sooner.
    most = int(others[0]) if (others == others[0]).all() else others
    ups = rng.integers(0, 2, size=shape)
    return ups, rng.integers(0, most, size=shape)


def _stepped(
    space: SearchSpace,
    old: NDArray[np.int64],
    columns: NDArray[np.int64],
    ups: NDArray[np.int64],
    others: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Choices of some genes after a step, all of shape (k,): by place, choice, gene and draws."""
    sizes, up = space.cardinalities[columns], ups * 2 - 1
    stepped = old + up
    # At an end there is one neighbour only.
    stepped = np.where((stepped < 0) | (stepped >= sizes), old - up, stepped)
    stepped = np.minimum(np.maximum(stepped, 0), sizes - 1)
    ordered = np.array([gene.ordered for gene in space.genes])
    if not ordered.all():
        jumped = np.where(sizes > 1, (old + others + 1) % sizes, old)
        stepped = np.where(ordered[columns], stepped, jumped)
    return stepped


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
    free = space.free
    if not len(free):
        return genotypes.copy()
    drawn = rng.random((2, len(genotypes)))
    columns = free.take((drawn[0] * len(free)).astype(np.int64))
    places = np.arange(0, genotypes.size, genotypes.shape[1]) + columns
    if by_steps:
        mask = np.zeros(genotypes.shape, dtype=bool)
        mask.put(places, True)
        return step_genes(space, genotypes, mask, rng)
    sizes = space.cardinalities.take(columns)
    shift = 1 + (drawn[1] * (sizes - 1)).astype(np.int64)
    changed = genotypes.copy()
    changed.put(places, (genotypes.take(places) + shift) % sizes)
    return changed


def choose_genes(
    n: int, d: int, counts: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Mark counts[i] distinct genes, drawn uniformly, in row i; shape (n, d)."""
    drawn = rng.random((n, d))
    if counts.max(initial=0) <= 1:
        last = drawn.min(axis=1)
    else:
        last = np.sort(drawn, axis=1)[np.arange(n), np.clip(counts, 1, d) - 1]
    marked: NDArray[np.bool_] = drawn <= last[:, None]
    marked[counts == 0] = False
    return marked


def uniform_crossover(
    first: Genotypes,
    second: Genotypes,
    rng: np.random.Generator,
    crossed: NDArray[np.bool_] | None = None,
) -> Genotypes:
    """Take each gene from either parent (n, d) with equal probability.

    Args:
        first: Shape (n, d).
        second: Shape (n, d).
        rng: Draws which.
        crossed: Rows that have two parents, shape (n,); the others are the first. All by default.
    """
    from_first = rng.random(first.shape) < 0.5
    if crossed is not None:
        from_first |= ~crossed[:, None]
    return np.where(from_first, first, second)
