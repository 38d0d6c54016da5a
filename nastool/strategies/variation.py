"""Variation operators: how new genotypes come from old ones, a whole batch at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nastool.space import Genotypes, SearchSpace


def resample_genes(
    space: SearchSpace, genotypes: Genotypes, mask: NDArray[np.bool_], rng: np.random.Generator
) -> Genotypes:
    """Replace the masked genes (n, d) by uniform draws from their choices."""
    return np.where(mask, space.sample(len(genotypes), rng), genotypes)


def step_genes(
    space: SearchSpace, genotypes: Genotypes, mask: NDArray[np.bool_], rng: np.random.Generator
) -> Genotypes:
    """Change the masked genes (n, d): an ordered one by a step, another to any other choice."""
    cardinalities = space.cardinalities
    up = rng.integers(0, 2, size=genotypes.shape) * 2 - 1
    stepped = genotypes + up
    # At an end there is one neighbour only.
    stepped = np.where((stepped < 0) | (stepped >= cardinalities), genotypes - up, stepped)
    stepped = np.clip(stepped, 0, cardinalities - 1)
    others = np.maximum(cardinalities - 1, 1)
    shift = rng.integers(0, others, size=genotypes.shape) + 1
    jumped = np.where(cardinalities > 1, (genotypes + shift) % cardinalities, genotypes)
    ordered = np.array([gene.ordered for gene in space.genes])
    return np.where(mask, np.where(ordered, stepped, jumped), genotypes)


def choose_genes(
    n: int, d: int, counts: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Mark counts[i] distinct genes, drawn uniformly, in row i; shape (n, d)."""
    order = rng.random((n, d)).argsort(axis=1).argsort(axis=1)
    return order < counts[:, None]


def uniform_crossover(first: Genotypes, second: Genotypes, rng: np.random.Generator) -> Genotypes:
    """Take each gene from either parent (n, d) with equal probability."""
    return np.where(rng.random(first.shape) < 0.5, first, second)
