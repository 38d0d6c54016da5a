"""What an exact search is asked and what it answers."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.exact.boxes import BoxSum
from nastool.exact.certificate import Certificate
from nastool.exact.chains import IntegerChain, no_chain
from nastool.space import Genotypes


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
        scaled = sorted(
            (limit / self.cost.quantum) - self.cost.shift for limit in (self.lower, self.upper)
        )
        return max(low, math.ceil(max(scaled[0], low))), min(high, math.floor(min(scaled[1], high)))


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
        if math.prod(sizes) >= 1 << 62:
            raise InvalidInputError(
                f"exact search numbers at most 2^62 genotypes, got {math.prod(sizes):.3g}"
            )
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

    @property
    def fingerprint(self) -> str:
        """Hex digest of everything that the answer depends on."""
        digest = hashlib.sha256(repr((self.is_front, [b.limits for b in self.bounds])).encode())
        f = self.function
        for array in (f.cardinalities, f.masks, f.values, f.starts):
            digest.update(np.ascontiguousarray(array).tobytes())
        for bound in self.bounds:
            for terms in (bound.cost.first, *bound.cost.steps):
                digest.update(np.ascontiguousarray(terms).tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Outcome:
    """The best of a space, as far as it is known.

    Args:
        genotypes: The optimum, or the points of the front by ascending cost, shape (n, d).
        values: Of the function, shape (n,).
        costs: Of the first chain, shape (n,).
        certificate: What is proven.
    """

    genotypes: Genotypes
    values: NDArray[np.float64]
    costs: NDArray[np.float64]
    certificate: Certificate
