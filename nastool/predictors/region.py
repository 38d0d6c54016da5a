"""Where a predictor's error was earned: the choices, sums and values that its table holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nastool.arrays import Floats
from nastool.errors import InvalidInputError

_TOTAL = "sum of the genes"
"""Name of the range of that sum: shapes may lie far out though each of their choices was seen."""

_SLACK = 1e-9
"""Share of a range by which rounding may leave it."""


@dataclass(frozen=True)
class Region:
    """What a predictor has seen.

    Args:
        seen: For each gene the feature values of the choices in the table, in increasing order.
        targets: Least and largest measured value.
        ranges: Least and largest value of each exact cost, and of the sum of the genes.

    Raises:
        InvalidInputError: A gene without a choice, or a range that is none.
    """

    seen: tuple[tuple[float, ...], ...]
    targets: tuple[float, float]
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ends = (self.targets, *self.ranges.values())
        if not all(self.seen) or not all(low <= high for low, high in ends):
            raise InvalidInputError("a region must hold a choice of each gene, and ranges")

    @classmethod
    def of(cls, features: Floats, targets: Floats, genes: int, costs: Sequence[str]) -> Region:
        """The region of a table.

        Args:
            features: Genes, then costs, shape (n, f).
            targets: Shape (n,).
            genes: Number of leading columns that are genes.
            costs: Names of the others.
        """
        columns = [features[:, :genes].sum(axis=1), *features[:, genes:].T]
        return cls(
            tuple(tuple(np.unique(column).tolist()) for column in features[:, :genes].T),
            _ends(targets),
            {name: _ends(c) for name, c in zip((_TOTAL, *costs), columns, strict=True)},
        )

    def outside(self, features: Floats, predictions: Floats) -> NDArray[np.bool_]:
        """Which shapes lie outside, or are predicted to be what no measured one is.

        Args:
            features: Genes, then costs, shape (n, f).
            predictions: Shape (n,).
        """
        genes = len(self.seen)
        found = _beyond(predictions, self.targets)
        for column, seen in zip(features[:, :genes].T, self.seen, strict=True):
            found |= ~np.isin(column, seen)
        columns = [features[:, :genes].sum(axis=1), *features[:, genes:].T]
        for column, ends in zip(columns, self.ranges.values(), strict=True):
            found |= _beyond(column, ends)
        return found

    @property
    def single(self) -> tuple[int, ...]:
        """Genes of which the table has one choice only."""
        return tuple(i for i, seen in enumerate(self.seen) if len(seen) == 1)

    @classmethod
    def from_dict(cls, content: Mapping[str, object]) -> Region:
        """What `dataclasses.asdict` made of one.

        Raises:
            TypeError: An entry is missing or of the wrong type.
            ValueError: Likewise.
        """
        made: dict[str, object] = dict(content)
        made["seen"] = tuple(tuple(map(float, seen)) for seen in made["seen"])  # type: ignore[attr-defined]  # checked by running
        made["targets"] = tuple(map(float, made["targets"]))  # type: ignore[call-overload]  # likewise
        made["ranges"] = {k: (float(a), float(b)) for k, (a, b) in made["ranges"].items()}  # type: ignore[attr-defined]  # likewise
        return cls(**made)  # type: ignore[arg-type]  # likewise


def _ends(values: ArrayLike) -> tuple[float, float]:
    return float(np.min(values)), float(np.max(values))


def _beyond(values: Floats, ends: tuple[float, float]) -> NDArray[np.bool_]:
    slack = _SLACK * max(abs(ends[0]), abs(ends[1]))
    beyond: NDArray[np.bool_] = (values < ends[0] - slack) | (values > ends[1] + slack)
    return beyond
