"""Linear models of what layers cost: few measurements suffice where costs add up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nastool.arrays import Floats
from nastool.errors import InvalidInputError
from nastool.predictors.base import GridForm, Prediction, Predictor, check_training_data
from nastool.predictors.ridge import Ridge, fit_ridge
from nastool.space import ChainCost, summable

MODEL = "model.npz"

RATIOS = (1.0, 0.3, 0.1, 0.03)
"""How much smaller the coefficients of a finer group of columns may be."""

Known = tuple[Floats, ...]
"""For each gene the values seen when fitting."""

Design = Callable[[Known, Floats], list[Floats]]
"""From known values and features (n, f) to groups of columns, the most trusted first."""


class Additive(Predictor):
    """Ridge regression on columns derived from the genes; `linear` and `pairwise` make one.

    Args:
        kind: Name of the design.
        label: What people call it.
        design: Derives the columns.
    """

    def __init__(self, kind: str, label: str, design: Design) -> None:
        self.kind = kind
        self.label = label
        self._design = design
        self._ridge: Ridge | None = None
        self._known: Known = ()

    @property
    def ridge(self) -> Ridge:
        """The fitted model of the derived columns.

        Raises:
            InvalidInputError: Not fitted yet.
        """
        if self._ridge is None:
            raise InvalidInputError("the predictor must be fitted before it is used")
        return self._ridge

    def fit(self, features: Floats, targets: Floats, *, genes: int | None = None) -> None:
        features, targets, d = check_training_data(features, targets, genes)
        self._known = known_values(features[:, :d])
        self._ridge = fit_ridge(self._design(self._known, features), targets, RATIOS)

    def predict(self, features: Floats) -> Prediction:
        columns = self._columns(features)
        return Prediction(self.ridge.mean(columns), self.ridge.std(columns))

    def mean(self, features: Floats) -> Floats:
        """The mean of rows (n, f) alone, (n,): deviations take most of the time."""
        return self.ridge.mean(self._columns(features))

    def _columns(self, features: Floats) -> Floats:
        return np.concatenate(self._design(self._known, np.asarray(features)), axis=1)

    @property
    def is_chain(self) -> bool:
        """Whether it uses neighbouring genes only, so that the mean is a chain cost."""
        return self.kind == "linear"

    def chain(
        self,
        values: Sequence[ArrayLike],
        name: str,
        unit: str = "",
        costs: Sequence[ChainCost] = (),
    ) -> ChainCost:
        """The mean as a chain cost, which the core bounds, counts and samples exactly.

        Args:
            values: For each gene the values of its choices.
            name: Metric name.
            unit: Base unit.
            costs: Those that it was fitted on, in that order.

        Raises:
            InvalidInputError: The model uses other features, or pairs of distant genes.
        """
        grid = [np.asarray(v, dtype=np.float64) for v in values]
        ridge, d = self.ridge, len(self._known)
        levels = sum(len(known) for known in self._known)
        sums = len(ridge.weights) - levels
        own_sums = sums - len(costs)
        fits = len(grid) == d and own_sums == physical(np.zeros((1, d))).shape[1]
        if not (self.is_chain and fits):
            raise InvalidInputError(
                f"a chain cost needs a linear model of {len(grid)} genes and {len(costs)} costs, "
                f"got a {self.kind} model of {d} genes"
            )
        slopes = ridge.weights * ridge.scale
        # A single gene has no products and no ends of its own.
        physical_slopes = np.append(slopes[:own_sums], np.zeros(5 - own_sums))
        total, squares, products, first, last = physical_slopes
        own = []
        start = sums
        for h, known in zip(grid, self._known, strict=True):
            level = slopes[start : start + len(known)]
            own.append(h * total + h**2 * squares + (h[:, None] == known) @ level)
            start += len(known)
        own[0] = own[0] + grid[0] * first + ridge.intercept - ridge.center @ slopes
        own[-1] = own[-1] + grid[-1] * last
        steps = [
            here[:, None] * there * products + terms
            for (here, there), terms in zip(pairwise(grid), own[1:], strict=True)
        ]
        for cost, slope in zip(costs, slopes[own_sums:sums], strict=True):
            own[0] = own[0] + slope * cost.first
            steps = [mine + slope * more for mine, more in zip(steps, cost.steps, strict=True)]
        # Shapes that should cost the same do, whatever order their terms are added up in.
        rounded, offset = summable([own[0], *steps])
        return ChainCost(name, rounded[0] + offset, rounded[1:], unit)

    def on_grid(self, values: Sequence[Floats]) -> GridForm | None:
        if not self.is_chain or len(values) != len(self._known):
            return None
        return ChainForm(self.chain(values, self.kind))

    def save(self, folder: Path) -> None:
        np.savez_compressed(folder / MODEL, **to_arrays(self.ridge, self._known))

    def load(self, folder: Path) -> None:
        with np.load(folder / MODEL, allow_pickle=False) as arrays:
            self._ridge, self._known = from_arrays(arrays)


@dataclass(frozen=True, eq=False)
class ChainForm:
    """A chain cost under the name that predictors use.

    Args:
        cost: What is predicted.
    """

    cost: ChainCost

    def predict(self, genotypes: NDArray[np.int64]) -> Floats:
        """Values of genotypes (n, d), shape (n,)."""
        return self.cost.evaluate(genotypes)


def linear() -> Additive:
    """Costs that add up layer by layer: a sum of terms in neighbouring genes."""
    return Additive("linear", "Linear model", linear_design)


def pairwise_additive() -> Additive:
    """A sum of terms in pairs of genes: smooth in every pair, free in neighbouring ones."""
    return Additive("pairwise", "Pairwise-additive model", pairwise_design)


def linear_design(known: Known, features: Floats) -> list[Floats]:
    """Physical sums and exact costs, then a level for each value of each gene."""
    genes, costs = np.split(features, [len(known)], axis=1)
    return [np.column_stack([physical(genes), costs]), one_hot(genes, known)]


def pairwise_design(known: Known, features: Floats) -> list[Floats]:
    """As `linear_design`, with products of all pairs and a table for neighbouring ones."""
    genes, costs = np.split(features, [len(known)], axis=1)
    d = len(known)
    middle = np.array([values.mean() for values in known])
    spread = np.array([max(float(np.ptp(values)), 1.0) for values in known])
    scaled = (genes - middle) / spread
    i, j = np.triu_indices(d, k=1)
    levels = [one_hot(genes[:, [k]], known[k : k + 1]) for k in range(d)]
    tables = [
        (here[:, :, None] * there[:, None, :]).reshape(-1, here.shape[1] * there.shape[1])
        for here, there in pairwise(levels)
    ]
    return [
        np.column_stack([physical(genes), costs]),
        np.column_stack([*levels, scaled[:, i] * scaled[:, j]]),
        np.column_stack([np.empty((len(genes), 0)), *tables]),
    ]


def physical(genes: Floats) -> Floats:
    """What operations on layers of width h cost: h, h squared, and h times the next h.

    Args:
        genes: Widths, shape (n, d).

    Returns:
        The three sums, the first width and the last, shape (n, 5); only the first two sums,
        shape (n, 2), where there is a single gene.
    """
    sums = [genes.sum(axis=1), np.square(genes).sum(axis=1)]
    if genes.shape[1] > 1:
        sums += [(genes[:, :-1] * genes[:, 1:]).sum(axis=1), genes[:, 0], genes[:, -1]]
    return np.column_stack(sums)


def known_values(genes: Floats) -> Known:
    """The values that occur in each column of shape (n, d)."""
    return tuple(np.unique(column) for column in genes.T)


def one_hot(genes: Floats, known: Known) -> Floats:
    """Indicators of the known values of each gene; zeros where a value is new.

    Args:
        genes: Shape (n, d).
        known: For each gene its values.

    Returns:
        Shape (n, total number of values).
    """
    parts = [genes[:, [i]] == values for i, values in enumerate(known)]
    return np.column_stack([np.empty((len(genes), 0)), *parts])


_ARRAYS = ("center", "scale", "weights", "basis", "shrinkage", "errors")
_NUMBERS = ("intercept", "penalty", "noise")


def to_arrays(ridge: Ridge, known: Known) -> dict[str, Any]:
    """A fitted model as arrays for an npz file."""
    arrays: dict[str, Any] = {
        name: np.asarray(getattr(ridge, name)) for name in (*_ARRAYS, *_NUMBERS, "rows")
    }
    arrays["known"] = np.concatenate([np.empty(0), *known])
    arrays["counts"] = np.array([len(values) for values in known], dtype=np.int64)
    return arrays


def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> tuple[Ridge, Known]:
    """What `to_arrays` took apart."""
    parts: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
    parts |= {name: float(arrays[name]) for name in _NUMBERS}
    ridge = Ridge(**parts, rows=int(arrays["rows"]))
    bounds = np.cumsum(arrays["counts"])[:-1]
    return ridge, tuple(np.split(arrays["known"], bounds)) if len(arrays["counts"]) else ()
