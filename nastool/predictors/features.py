"""What predictors see of an architecture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.predictors.base import Floats
from nastool.space import Choice, Genotypes, SearchSpace


def choice_values(choices: Sequence[Choice]) -> Floats:
    """The number that stands for each choice of a gene: itself, else its index, shape (k,)."""
    numeric = all(isinstance(choice, (int, float)) for choice in choices)
    return np.array(choices if numeric else range(len(choices)), dtype=np.float64)


def space_features(space: SearchSpace, genotypes: Genotypes, costs: Sequence[str] = ()) -> Floats:
    """Gene columns, then exact costs.

    Args:
        space: The genotypes' space.
        genotypes: Shape (n, d).
        costs: Names of chain costs of the space, e.g. ``params``.

    Returns:
        Shape (n, d + len(costs)).

    Raises:
        InvalidInputError: The space has no such cost; the message lists those it has.
    """
    columns = [space.features(genotypes)]
    for name in costs:
        if name not in space.costs:
            known = ", ".join(space.costs) or "none"
            raise InvalidInputError(f"costs of {space.name} are {known}; got {name!r}")
        columns.append(space.costs[name].evaluate(genotypes)[:, None])
    return np.concatenate(columns, axis=1)


def one_hot(columns: NDArray[np.float64], known: Sequence[NDArray[np.float64]]) -> Floats:
    """Indicators of the known values of each column.

    Args:
        columns: Shape (n, d).
        known: For each column its values; a row with another value gets zeros.

    Returns:
        Shape (n, sum of the numbers of values).
    """
    parts = [columns[:, [i]] == values for i, values in enumerate(known)]
    return np.concatenate(parts, axis=1).astype(np.float64)


def physical(columns: NDArray[np.float64], ends: Floats | None = None) -> Floats:
    """Sums that operations on layers of width h cost: h, h squared, and h times the next h.

    Args:
        columns: Widths, shape (n, d).
        ends: Unused columns appended as they are, shape (n, k).

    Returns:
        Shape (n, 5 + k): the three sums, the first width and the last.
    """
    parts = [
        columns.sum(axis=1),
        np.square(columns).sum(axis=1),
        (columns[:, :-1] * columns[:, 1:]).sum(axis=1),
        columns[:, 0],
        columns[:, -1],
    ]
    return np.column_stack(parts if ends is None else [*parts, ends])
