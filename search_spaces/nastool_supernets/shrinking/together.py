"""Neighbouring genes taken together, so that costs which tell them not apart add up again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nastool.predictors.separable import Separable
from nastool.space import ChainCost, Genotypes, SearchSpace

_MOST = 4_096
"""Choices of genes together, beyond which a chain is solved as a chain."""


@dataclass(frozen=True, eq=False)
class Together:
    """Genes in groups: within a group costs have terms in neighbours, between groups they add up.

    Args:
        choices: For each group every choice of its genes, (k, number of genes) each.
    """

    choices: tuple[Genotypes, ...]

    @classmethod
    def of(cls, space: SearchSpace, costs: Sequence[ChainCost]) -> Together | None:
        """The smallest groups that costs add up over; None where one has too many choices.

        Args:
            space: Whose genes.
            costs: Of it.
        """
        groups = [[0]]
        for gene in range(1, len(space.genes)):
            if all(_adds_up(cost, gene) for cost in costs):
                groups.append([gene])
            else:
                groups[-1].append(gene)
        sizes = [[int(space.cardinalities[gene]) for gene in genes] for genes in groups]
        if any(math.prod(own) > _MOST for own in sizes):
            return None
        return cls(tuple(np.indices(own).reshape(len(own), -1).T for own in sizes))

    def separable(self, function: Separable) -> Separable:
        """A sum over genes as one over groups."""
        terms = [np.zeros(len(rows)) for rows in self.choices]
        for place, (first, rows) in enumerate(self._groups()):
            for column in range(rows.shape[1]):
                terms[place] += function.terms[first + column][rows[:, column]]
        return Separable(tuple(terms), function.offset, function.is_log)

    def chain(self, cost: ChainCost) -> Separable:
        """A cost as a sum over groups."""
        terms = []
        ahead = np.asarray(cost.first, dtype=np.float64)
        for first, rows in self._groups():
            own = ahead[rows[:, 0]]
            for column, (before, after) in enumerate(pairwise(rows.T), start=first):
                own = own + cost.steps[column][before, after]
            last = first + rows.shape[1] - 1
            if last < len(cost.steps):
                table = np.asarray(cost.steps[last], dtype=np.float64)
                own = own + (table[:, 0] - table[0, 0])[rows[:, -1]]
                ahead = table[0]
            terms.append(own)
        return Separable(tuple(terms))

    def apart(self, genotypes: Genotypes) -> Genotypes:
        """Genotypes of genes, (n, d), from choices of groups, (n, number of groups)."""
        columns = zip(self.choices, genotypes.T, strict=True)
        return np.concatenate([rows[column] for rows, column in columns], axis=1)

    def _groups(self) -> list[tuple[int, Genotypes]]:
        """The first gene of each group, and its choices."""
        firsts = np.cumsum([0, *(rows.shape[1] for rows in self.choices)]).tolist()
        return list(zip(firsts, self.choices, strict=False))


def _adds_up(cost: ChainCost, gene: int) -> bool:
    """Whether a gene's terms do not depend on the gene before it."""
    table = np.asarray(cost.steps[gene - 1], dtype=np.float64)
    ahead = table[:, :1] - table[0, 0]
    return bool(np.abs(table - ahead - table[0]).max() <= cost.tolerance)
