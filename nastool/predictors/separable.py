"""Functions of genotypes that add up gene by gene: what is searched exactly however large it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Floats
from nastool.space import ChainCost


@dataclass(frozen=True, eq=False)
class Separable:
    """A sum of one term a gene, or the exponential of such a sum.

    Args:
        terms: For each gene the terms of its choices, shape (k_i,).
        offset: Added to the sum.
        is_log: Whether the sum is the logarithm of the value.
    """

    terms: tuple[Floats, ...]
    offset: float = 0.0
    is_log: bool = False

    def predict(self, genotypes: NDArray[np.int64]) -> Floats:
        """Values of genotypes (n, d), shape (n,)."""
        total = np.full(len(genotypes), self.offset)
        for gene, terms in enumerate(self.terms):
            total += terms[genotypes[:, gene]]
        return self.value(total)

    def value(self, sums: Floats) -> Floats:
        """What sums of terms stand for."""
        return np.exp(sums) if self.is_log else sums

    def chain(self, name: str, unit: str = "") -> ChainCost | None:
        """The function as a chain cost with just its values; None where it is an exponential.

        Args:
            name: Metric name.
            unit: Base unit.
        """
        if self.is_log:
            return None
        first, *rest = self.terms
        steps = [
            np.broadcast_to(there, (len(here), len(there)))
            for here, there in zip(self.terms, rest, strict=False)
        ]
        return ChainCost(name, self.offset + first, tuple(steps), unit)

    def restrict(self, chosen: Mapping[int, int]) -> Separable:
        """The same function where some genes have their choice, of the other genes alone.

        Args:
            chosen: Index of the choice of each gene that is fixed. Where all are, the function is
                one of a gene with a single choice.
        """
        fixed = [float(self.terms[gene][choice]) for gene, choice in chosen.items()]
        free = tuple(terms for gene, terms in enumerate(self.terms) if gene not in chosen)
        return replace(self, terms=free or (np.zeros(1),), offset=math.fsum([self.offset, *fixed]))
