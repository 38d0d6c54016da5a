"""Parameters of an Optuna study as a search space, and budgets on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from nastool.choices import plain
from nastool.constraint import Constraint
from nastool.errors import InvalidInputError
from nastool.numbers import is_number
from nastool.space import ChainCost, Gene, SearchSpace

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

GRID = 101
"""Points of the grid that stands for a parameter without a step."""

_MOST_CHOICES = 1_000_000
"""Beyond that many values a parameter is as good as continuous."""

_MOST_PAIRS = 200_000
"""Calls of a user's cost that splitting it into terms may take."""

_CHECKED = 64
"""Random points at which a split cost must equal the user's."""


@dataclass(frozen=True)
class Budget:
    """A bound on a cost that is known before a trial runs, such as a number of parameters.

    Args:
        cost: From the values of all parameters to a number; a sum of terms in one parameter or in
            two that are neighbours in the search space.
        upper: What it must not exceed.
        lower: What it must not fall below.
        name: What messages call it.

    Raises:
        InvalidInputError: No function, or a bound that is no number.
    """

    cost: Callable[[dict[str, Any]], float]
    upper: float = math.inf
    lower: float = -math.inf
    name: str = "budget"

    def __post_init__(self) -> None:
        if not callable(self.cost):
            raise InvalidInputError(
                f"{self.name}: the cost must be a function of the parameters, got {self.cost!r:.80}"
            )
        for bound in (self.upper, self.lower):
            if not is_number(plain(bound)):
                raise InvalidInputError(f"{self.name}: a bound must be a number, got {bound!r:.80}")

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The bounds that are finite."""
        bounds = (("<=", self.upper), (">=", self.lower))
        return tuple(
            Constraint(self.name, sense, float(bound))  # type: ignore[arg-type]  # two literals
            for sense, bound in bounds
            if math.isfinite(bound)
        )


class _Values(Protocol):
    """The values of one parameter, in order."""

    def __len__(self) -> int: ...

    def value(self, index: int) -> Any:
        """The value of that index, as a user sees it."""

    def index(self, internal: float) -> int:
        """The index of what is nearest to Optuna's internal value."""


@dataclass(frozen=True)
class _Choices:
    """Values of a categorical parameter."""

    distribution: CategoricalDistribution

    def __len__(self) -> int:
        return len(self.distribution.choices)

    def value(self, index: int) -> Any:
        return self.distribution.to_external_repr(index)

    def index(self, internal: float) -> int:
        return int(internal)


@dataclass(frozen=True)
class _Steps:
    """Values of a parameter with a step, all of them."""

    distribution: IntDistribution | FloatDistribution
    step: float

    def __len__(self) -> int:
        return round((self.distribution.high - self.distribution.low) / self.step) + 1

    def value(self, index: int) -> Any:
        distribution = self.distribution
        if isinstance(distribution, IntDistribution):
            return distribution.low + index * distribution.step
        # In decimals, as Optuna counts: in binary 3 * 0.1 lies above 0.3, outside the range.
        low, step = Decimal(str(distribution.low)), Decimal(str(self.step))
        return float(low + index * step)

    def index(self, internal: float) -> int:
        return round((internal - self.distribution.low) / self.step)


class _Grid:
    """Values that stand for those of a parameter with too many, evenly or in even ratios.

    Args:
        distribution: Of the parameter.
        points: At most so many.
    """

    def __init__(self, distribution: IntDistribution | FloatDistribution, points: int) -> None:
        low, high = float(distribution.low), float(distribution.high)
        if distribution.log:
            values = np.geomspace(low, high, points)
        else:  # by halves: the difference of the ends may exceed the largest float
            values = np.linspace(low / 2, high / 2, points) * 2
        values = np.clip(values, low, high)
        if distribution.step is not None:
            values = low + np.rint((values - low) / distribution.step) * distribution.step
            values = np.clip(values, low, high)
        self._values = np.unique(values)
        scale = np.log(self._values) if distribution.log else self._values
        self._is_log = distribution.log
        self._borders = scale[:-1] + np.diff(scale) / 2
        self._type = int if isinstance(distribution, IntDistribution) else float

    def __len__(self) -> int:
        return len(self._values)

    def value(self, index: int) -> Any:
        return self._type(self._values[index])

    def index(self, internal: float) -> int:
        return int(np.searchsorted(self._borders, math.log(internal) if self._is_log else internal))


def _values(name: str, distribution: BaseDistribution, points: int) -> _Values:
    if isinstance(distribution, CategoricalDistribution):
        return _Choices(distribution)
    if not isinstance(distribution, IntDistribution | FloatDistribution):
        raise InvalidInputError(
            f"parameter {name!r} must be categorical, an integer or a float, got {distribution}"
        )
    if distribution.step is not None:
        steps = _Steps(distribution, distribution.step)
        # Beside evenly spread draws the small values of a logarithmic range would not be seen.
        if len(steps) <= (points if distribution.log else _MOST_CHOICES):
            return steps
    return _Grid(distribution, points)


class Parameters(SearchSpace):
    """Parameters of a study as genes; choices are the indices of their values.

    Args:
        distributions: By parameter.
        points: Of the grid that stands for a parameter without a step.
        budgets: Bounds on costs of theirs.

    Raises:
        InvalidInputError: A distribution that Optuna does not have, or a cost that is no sum of
            terms in neighbouring parameters.
    """

    name = "parameters"
    genes: tuple[Gene, ...]
    costs: Mapping[str, ChainCost]

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        points: int = GRID,
        budgets: Sequence[Budget] = (),
    ) -> None:
        self.distributions = dict(distributions)
        self._points = [_values(name, d, points) for name, d in self.distributions.items()]
        self.genes = tuple(
            Gene(
                name,
                tuple(range(len(values))),
                ordered=not isinstance(distribution, CategoricalDistribution),
            )
            for (name, distribution), values in zip(
                self.distributions.items(), self._points, strict=True
            )
        )
        self.costs = {budget.name: self._split(budget) for budget in budgets}

    @cached_property
    def _tables(self) -> list[dict[int, Any]]:
        """Values by index that were asked for already: decimals take their time."""
        return [{} for _ in self._points]

    @cached_property
    def _places(self) -> list[dict[float, int]]:
        """Indices by Optuna's internal value, of values that were seen already."""
        return [{} for _ in self._points]

    @property
    def is_whole(self) -> bool:
        """Whether every value of every parameter is a choice, or a budget rules out the others."""
        return bool(self.costs) or not any(isinstance(v, _Grid) for v in self._points)

    def params(self, genotype: Sequence[int]) -> dict[str, Any]:
        """Values of the parameters.

        Args:
            genotype: An index for each.
        """
        found = {}
        for name, values, table, index in zip(
            self.distributions, self._points, self._tables, genotype, strict=True
        ):
            if index not in table:
                table[index] = values.value(index)
            found[name] = table[index]
        return found

    def indices(self, trial: FrozenTrial) -> list[int] | None:
        """Of a trial's values, in order; None where one is missing or outside of its range."""
        row = []
        params = trial.params
        for (name, distribution), values, table in zip(
            self.distributions.items(), self._points, self._places, strict=True
        ):
            if name not in params:
                return None
            internal = distribution.to_internal_repr(params[name])
            if internal not in table:
                if not distribution._contains(internal):  # noqa: SLF001 - as Optuna's samplers do
                    return None
                table[internal] = values.index(internal)
            row.append(table[internal])
        return row

    def _split(self, budget: Budget) -> ChainCost:
        """A user's cost as a chain, from its values at points that differ in two neighbours."""
        sizes = self.cardinalities.tolist()
        calls = sum(a * b for a, b in pairwise(sizes))
        if calls > _MOST_PAIRS:
            raise InvalidInputError(
                f"{budget.name}: neighbouring parameters must have at most {_MOST_PAIRS:,} pairs "
                f"of values together, got {calls:,}: give floats a step"
            )
        base = [0] * len(sizes)

        def at(*places: tuple[int, int]) -> float:
            point = list(base)
            for gene, index in places:
                point[gene] = index
            return float(budget.cost(self.params(point)))

        zero = at()
        alone = [
            np.array([at((gene, index)) - zero for index in range(size)])
            for gene, size in enumerate(sizes)
        ]
        steps = []
        for gene in range(1, len(sizes)):
            together = np.array(
                [
                    [at((gene - 1, a), (gene, b)) for b in range(sizes[gene])]
                    for a in range(sizes[gene - 1])
                ]
            )
            steps.append(together - zero - alone[gene - 1][:, None])
        cost = _integral(ChainCost(budget.name, alone[0] + zero, tuple(steps)))
        points = self.sample(_CHECKED, np.random.default_rng(0))
        true = np.array([float(budget.cost(self.params(row))) for row in points.tolist()])
        if not np.allclose(cost.evaluate(points), true, rtol=1e-6, atol=1e-9 * np.abs(true).max()):
            raise InvalidInputError(
                f"{budget.name}: the cost must be a sum of terms in one parameter or in two "
                f"neighbours among {', '.join(self.distributions)}"
            )
        return cost


def _integral(cost: ChainCost) -> ChainCost:
    """The same with whole numbers as integers: their sums are exact."""
    if not all(np.all(terms == np.rint(terms)) for terms in cost.terms):
        return cost
    first, *steps = (np.rint(terms).astype(np.int64) for terms in cost.terms)
    return ChainCost(cost.name, first, tuple(steps))


def searchable(distributions: Mapping[str, BaseDistribution]) -> dict[str, BaseDistribution]:
    """The distributions of more than one value.

    Raises:
        InvalidInputError: They are not by name, or one is no distribution of Optuna's.
    """
    given: object = distributions
    if not isinstance(given, Mapping):
        raise InvalidInputError(f"a search_space must be by name, got {given!r:.80}")
    for name, distribution in given.items():
        if not isinstance(distribution, BaseDistribution):
            raise InvalidInputError(
                f"search_space: {name} must be a distribution of Optuna's, got {distribution!r:.80}"
            )
    return {name: d for name, d in distributions.items() if not d.single()}
