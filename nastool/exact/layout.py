"""Which gene plays which part in a sweep.

The genes fall into three parts. *Outer* genes are fixed one by one, most important first, so that
bounds cut off prefixes early. For a prefix of all of them the function of the other genes is added
up at once: these are a *block*, three *axes* of one or more genes each, and *lanes*, neighbouring
genes that lie side by side in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nastool.arrays import Int

AXES = 3
_AXIS_CHOICES = 8
_LANES = 64
_LANE_MULTIPLE = 4
"""Lanes are padded to whole vector registers."""


@dataclass(frozen=True)
class Layout:
    """Which gene plays which part.

    Args:
        outer: Fixed one by one, in this order.
        axes: Genes of each of the three axes of a block; some may have none.
        lanes: Neighbouring genes, in ascending order.
    """

    outer: tuple[int, ...]
    axes: tuple[tuple[int, ...], ...]
    lanes: tuple[int, ...]

    @property
    def inner(self) -> tuple[int, ...]:
        """Genes of the axes, axis by axis."""
        return tuple(gene for axis in self.axes for gene in axis)

    @property
    def order(self) -> tuple[int, ...]:
        """All genes: outer ones, axes, lanes."""
        return (*self.outer, *self.inner, *self.lanes)


def choose_layout(cardinalities: Sequence[int], importance: Sequence[float]) -> Layout:
    """Leave the least important genes to the blocks.

    Args:
        cardinalities: Number of choices of each gene.
        importance: How much each gene matters.
    """
    d = len(cardinalities)
    runs = [
        range(begin, end)
        for begin in range(d)
        for end in range(begin + 1, d + 1)
        if end == begin + 1 or math.prod(cardinalities[begin:end]) <= _LANES
    ]

    # Long rows first: short ones leave registers empty.
    def merit(run: range) -> tuple[bool, float]:
        size = math.prod(cardinalities[gene] for gene in run)
        return size >= _LANES // 2, -sum(importance[gene] for gene in run) / math.log(size + 1)

    lanes = max(runs, key=merit)
    rest = sorted(set(range(d)) - set(lanes), key=lambda gene: (importance[gene], gene))
    axes: list[tuple[int, ...]] = []
    for _ in range(AXES):
        axis: tuple[int, ...] = ()
        while rest:
            size = math.prod(cardinalities[gene] for gene in (*axis, rest[0]))
            if axis and size > _AXIS_CHOICES:
                break
            axis = (*axis, rest.pop(0))
        axes.append(axis)
    return Layout(tuple(reversed(rest)), tuple(axes), tuple(lanes))


def joint_choices(sizes: Sequence[int]) -> Int:
    """All joint choices in lexicographic order, shape (product, genes)."""
    if not sizes:
        return np.zeros((1, 0), dtype=np.int64)
    return np.indices(sizes).reshape(len(sizes), -1).T.astype(np.int64)


def padded_length(n: int) -> int:
    """Up to whole vector registers."""
    return -(-n // _LANE_MULTIPLE) * _LANE_MULTIPLE
