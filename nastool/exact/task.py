"""What an exact search is asked and what it answers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.exact.boxes import BoxSum
from nastool.exact.certificate import Certificate
from nastool.exact.chains import IntegerChain, no_chain
from nastool.pareto import non_dominated, staircase
from nastool.space import Genotypes

LARGEST = 1 << 62
"""Genotypes of a space that are numbered one by one are fewer than that."""


@dataclass(frozen=True)
class Bound:
    """A chain cost within limits.

    Args:
        cost: The chain.
        lower: Least allowed cost, in the base unit.
        upper: Largest allowed cost.
    """

    cost: IntegerChain
    lower: float = -math.inf
    upper: float = math.inf

    @property
    def limits(self) -> tuple[int, int]:
        """The limits in quanta."""
        low, high = self.cost.ends
        least, most = (
            limit / self.cost.quantum - self.cost.shift for limit in (self.lower, self.upper)
        )
        return max(low, math.ceil(max(least, low))), min(high, math.floor(min(most, high)))


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be found.

    Args:
        function: Minimised.
        bounds: Chain costs and their limits; the first one is the second objective of a front.
        is_front: Whether the Pareto front of the function and the first cost is wanted; the
            least value of the function otherwise.
    """

    function: BoxSum
    bounds: tuple[Bound, ...] = ()
    is_front: bool = False

    def __post_init__(self) -> None:
        sizes = tuple(self.function.cardinalities.tolist())
        _check_size(sizes)
        if self.is_front and not self.bounds:
            raise InvalidInputError("a front needs a chain cost as its second objective, got none")
        for bound in self.bounds:
            if bound.cost.cardinalities != sizes:
                raise InvalidInputError(
                    f"costs must be chains over genes of {sizes} choices, "
                    f"got {bound.cost.cardinalities}"
                )
        if not self.bounds:
            object.__setattr__(self, "bounds", (Bound(no_chain(sizes)),))

    def axis(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """First cost of genotypes (n, d), shape (n,)."""
        cost = self.bounds[0].cost
        return cost.to_float(cost.evaluate(genotypes))

    @property
    def fingerprint(self) -> str:
        """Hex digest of everything that the answer depends on."""
        arrays = _arrays(self.function)
        for bound in self.bounds:
            arrays += [bound.cost.first, *bound.cost.steps]
        return _digest((self.is_front, [b.limits for b in self.bounds]), arrays)


@dataclass(frozen=True, eq=False)
class ChainTask:
    """What is to be found where a chain itself is minimised.

    Args:
        chain: Minimised.
        bounds: None, or one chain cost and its upper limit: the second objective of a front.
        is_front: Whether the Pareto front of both is wanted.
    """

    chain: IntegerChain
    bounds: tuple[Bound, ...] = ()
    is_front: bool = False


@dataclass(frozen=True, eq=False)
class JointTask:
    """What is to be found where more than one function is no chain cost.

    Args:
        functions: The first one is minimised; the second one is the second objective of a front,
            the third one the third; all keep their limits. At least two.
        limits: Largest allowed value of each function.
        is_front: Whether the Pareto front of the first two functions is wanted; the least value
            of the first otherwise.
        is_surface: Whether that front is one of the first three functions.

    Raises:
        InvalidInputError: Fewer than two functions, or functions of different genes.
    """

    functions: tuple[BoxSum, ...]
    limits: tuple[float, ...]
    is_front: bool = False
    is_surface: bool = False

    def __post_init__(self) -> None:
        sizes = {tuple(f.cardinalities.tolist()) for f in self.functions}
        if len(self.functions) < 2 or len(self.limits) != len(self.functions) or len(sizes) != 1:
            raise InvalidInputError(
                "a joint search needs at least two functions of the same genes, each with a "
                f"limit, got {len(self.functions)} functions and {len(self.limits)} limits"
            )
        if self.is_surface and not (self.is_front and len(self.functions) > 2):
            raise InvalidInputError(
                f"a front of three needs three functions, got {len(self.functions)}"
            )
        _check_size(next(iter(sizes)))

    @property
    def function(self) -> BoxSum:
        """What is minimised."""
        return self.functions[0]

    @property
    def uppers(self) -> tuple[int, ...]:
        """The limits in quanta, where each function has its own."""
        return tuple(map(_whole_limit, self.functions, self.limits))

    def axis(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """Second function of genotypes (n, d), shape (n,); the second and third, (n, 2)."""
        others = self.functions[1 : 3 if self.is_surface else 2]
        axes = [f.to_float(f.evaluate(genotypes)) for f in others]
        return np.stack(axes, axis=1) if self.is_surface else axes[0]

    @property
    def fingerprint(self) -> str:
        """Hex digest of everything that the answer depends on."""
        arrays = [array for function in self.functions for array in _arrays(function)]
        facts = (self.is_front, self.uppers)
        return _digest((*facts, "surface") if self.is_surface else facts, arrays)


def _whole_limit(function: BoxSum, limit: float) -> int:
    """The largest sum in quanta whose value keeps a limit."""
    least, most = function.ends
    if limit >= float(function.to_float(most)):
        return most
    if limit < float(function.to_float(least)):
        return least - 1
    # Values ascend with the sums, but the division may be off by its rounding.
    while least < most:
        middle = (least + most + 1) // 2
        if float(function.to_float(middle)) <= limit:
            least = middle
        else:
            most = middle - 1
    return least


def _check_size(sizes: Sequence[int]) -> None:
    if math.prod(sizes) >= LARGEST:
        raise InvalidInputError(
            f"exact search numbers at most 2^62 genotypes, got {math.prod(sizes):.3g}"
        )


def _arrays(function: BoxSum) -> list[NDArray[Any]]:
    return [function.cardinalities, function.masks, function.values, function.starts]


def _digest(facts: object, arrays: Sequence[NDArray[Any]]) -> str:
    digest = hashlib.sha256(repr(facts).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Outcome:
    """The best of a space, as far as it is known.

    Args:
        genotypes: The optimum, or the points of the front by ascending cost, shape (n, d).
        values: Of the function, shape (n,).
        costs: Of the first chain, or of the second function, shape (n,); of the second and the
            third function of a front of three, shape (n, 2).
        certificate: What is proven.
    """

    genotypes: Genotypes
    values: NDArray[np.float64]
    costs: NDArray[np.float64]
    certificate: Certificate


def on_front(values: NDArray[np.float64], costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which points none dominates or equals, by their costs.

    Args:
        values: Shape (n,).
        costs: Shape (n,), or (n, 2) of a front of three.

    Returns:
        Places, shape (k,).
    """
    if costs.ndim == 1:
        return staircase(costs, values)
    points = np.column_stack([costs, values])
    first = np.unique(points, axis=0, return_index=True)[1]
    return first[non_dominated(points[first])]
