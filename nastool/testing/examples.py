"""Small spaces, objectives and problems of every kind, which the suites and tests search."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from nastool.constraint import Constraint
from nastool.objective import Direction, Kind, Objective, Provenance
from nastool.problem import Problem
from nastool.space import Branch, ChainCost, ConditionalCost, Gene, Genotypes, SearchSpace


class Widths(SearchSpace):
    """Ordered genes with a chain cost ``params``.

    Args:
        layers: Number of genes.
        widths: Choices of each.
    """

    def __init__(self, layers: int = 4, widths: tuple[int, ...] = (1, 2, 3, 5, 8)) -> None:
        self._genes = tuple(Gene(f"layer_{i}", widths, ordered=True) for i in range(layers))
        w = np.array(widths)
        step = np.multiply.outer(w, w) + w
        self._costs = {"params": ChainCost("params", 10 + w, (step,) * (layers - 1))}

    @property
    def name(self) -> str:
        return "widths"

    @property
    def genes(self) -> tuple[Gene, ...]:
        return self._genes

    @property
    def costs(self) -> Mapping[str, ChainCost]:
        return self._costs


class Mixed(SearchSpace):
    """Ordered, unordered and constant genes of different cardinalities; no chain cost.

    Where the operator is ``skip`` the kernel means nothing and is canonicalised away.
    """

    @property
    def name(self) -> str:
        return "mixed"

    @property
    def genes(self) -> tuple[Gene, ...]:
        return (
            Gene("operator", ("conv", "attention", "skip")),
            Gene("kernel", (1, 3, 5, 7), ordered=True),
            Gene("depth", (2, 4, 6, 8, 10, 12), ordered=True),
            Gene("stem", ("plain",)),
            Gene("pool", ("mean", "max")),
        )

    def canonicalize(self, genotypes: Genotypes) -> Genotypes:
        kernel = np.where(genotypes[:, 0] == 2, 0, genotypes[:, 1])
        return np.column_stack([genotypes[:, 0], kernel, genotypes[:, 2:]])


class Layered(SearchSpace):
    """Depth, one width for all layers, heads and a hidden size of each layer: a conditional cost.

    Genes of layers beyond the depth make no difference.

    Args:
        layers: The largest depth.
        widths: Choices of the width.
        heads: Choices of the heads of a layer.
        hidden: Choices of the hidden size of a layer.
    """

    def __init__(
        self,
        layers: int = 3,
        widths: tuple[int, ...] = (4, 8),
        heads: tuple[int, ...] = (1, 2, 4),
        hidden: tuple[int, ...] = (8, 16),
    ) -> None:
        self._genes = (
            Gene("depth", tuple(range(1, layers + 1)), ordered=True),
            Gene("width", widths, ordered=True),
            *(
                gene
                for i in range(1, layers + 1)
                for gene in (
                    Gene(f"heads_{i}", heads, ordered=True),
                    Gene(f"hidden_{i}", hidden, ordered=True),
                )
            ),
        )
        places = range(2, len(self._genes))
        self._branches = tuple(
            Branch({0: depth, 1: width}, tuple(places[2 * (depth + 1) :]))
            for depth in range(layers)
            for width in range(len(widths))
        )
        chains = [
            self._chain(branch.chosen[0] + 1, widths[branch.chosen[1]], heads, hidden)
            for branch in self._branches
        ]
        cost = ConditionalCost("params", self.cardinalities, self._branches, chains)
        self._costs = {"params": cost}

    @property
    def name(self) -> str:
        return "layered"

    @property
    def genes(self) -> tuple[Gene, ...]:
        return self._genes

    @property
    def branches(self) -> tuple[Branch, ...]:
        return self._branches

    @property
    def costs(self) -> Mapping[str, ConditionalCost]:
        return self._costs

    @property
    def objectives(self) -> tuple[str, ...]:
        return ("params",)

    @staticmethod
    def _chain(
        depth: int, width: int, heads: tuple[int, ...], hidden: tuple[int, ...]
    ) -> ChainCost:
        """Embeddings of ten words, and of each layer attention with heads of 3 and two matrices."""
        attention = 4 * width * 3 * np.array(heads)
        forward = 2 * width * np.array(hidden)
        within = np.add.outer(np.zeros(len(heads), dtype=np.int64), forward)
        between = np.add.outer(np.zeros(len(hidden), dtype=np.int64), attention)
        steps = [within, *(step for _ in range(depth - 1) for step in (between, within))]
        return ChainCost("params", 10 * width + attention, tuple(steps))


_CLOSED_FORM = Provenance(Kind.COMPUTED, "closed form")


class Formula(Objective):
    """A function of the genotypes, in closed form.

    Args:
        name: The metric's name.
        function: From genotypes (n, d) to values (n,).
        direction: Which way is better.
        cheap: Whether a constraint on it is enforced beforehand; by default unless it says of
            itself that it is measured.
        unit: Of the values.
        provenance: What it says of itself.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[Genotypes], NDArray[np.float64]],
        direction: Direction = Direction.MINIMIZE,
        cheap: bool | None = None,
        unit: str = "",
        provenance: Provenance = _CLOSED_FORM,
    ) -> None:
        self._name = name
        self._function = function
        self._direction = direction
        self._cheap = cheap
        self._unit = unit
        self._provenance = provenance

    @property
    def name(self) -> str:
        return self._name

    @property
    def direction(self) -> Direction:
        return self._direction

    @property
    def unit(self) -> str:
        return self._unit

    @property
    def provenance(self) -> Provenance:
        return self._provenance

    @property
    def is_cheap(self) -> bool:
        return super().is_cheap if self._cheap is None else self._cheap

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._name.encode()).hexdigest()[:16]

    def evaluate(self, genotypes: Genotypes) -> NDArray[np.float64]:
        return self._function(genotypes)


def _rugged(genotypes: Genotypes) -> NDArray[np.float64]:
    g = genotypes.astype(np.float64)
    weights = 1.0 + np.arange(g.shape[1]) % 3
    interaction: NDArray[np.float64] = np.sin(2.3 * g[:, :-1] + 1.7 * g[:, 1:]).sum(axis=1)
    distance: NDArray[np.float64] = (weights * (g - 2.2) ** 2).sum(axis=1)
    return distance + 0.9 * interaction


def _quality(genotypes: Genotypes) -> NDArray[np.float64]:
    g = genotypes.astype(np.float64)
    weights = 1.0 + 0.37 * np.arange(g.shape[1])
    falling: NDArray[np.float64] = (weights / (1.0 + g)).sum(axis=1)
    wave: NDArray[np.float64] = np.sin(3.0 * g.sum(axis=1))
    return falling + 0.2 * wave


def _flaky(genotypes: Genotypes) -> NDArray[np.float64]:
    values: NDArray[np.float64] = _rugged(genotypes)
    values[genotypes.sum(axis=1) % 7 == 3] = np.nan
    return values


def _narrow_fails(genotypes: Genotypes) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.where(genotypes[:, 0] == 0, np.nan, _total(genotypes))
    return values


def _total(genotypes: Genotypes) -> NDArray[np.float64]:
    indices: NDArray[np.int64] = genotypes.sum(axis=1)
    return indices.astype(np.float64)


def example_problems() -> dict[str, Problem]:
    """Small problems of every kind.

    One to three objectives in both directions, constraints that are hard and that are honoured in
    the ranking, evaluations that fail, spaces with and without a chain cost.
    """
    widths, mixed = Widths(), Mixed()
    loss = Formula("loss", _rugged)
    score = Formula("score", lambda genotypes: -_quality(genotypes), Direction.MAXIMIZE)
    params = Problem(widths, (loss,)).metric("params")
    known = Formula("sum", _total)
    slow = Formula("sum", _total, cheap=False)
    return {
        "single": Problem(widths, (loss,)),
        "single-mixed": Problem(mixed, (loss,)),
        "single-hard": Problem(widths, (loss,), (Constraint("params", "<=", 60),)),
        "single-soft": Problem(mixed, (loss,), (Constraint("sum", ">=", 6),), metrics=(slow,)),
        "failing": Problem(widths, (Formula("loss", _flaky),)),
        "quarter-failing": Problem(Widths(4, (1, 2, 3, 5)), (Formula("loss", _narrow_fails),)),
        "pair": Problem(widths, (score, params)),
        "pair-hard": Problem(
            widths,
            (score, params),
            (Constraint("params", "<=", 90), Constraint("sum", ">=", 5)),
            metrics=(known,),
        ),
        "pair-soft": Problem(mixed, (loss, score), (Constraint("sum", "<=", 7),), metrics=(slow,)),
        "triple-failing": Problem(mixed, (score, Formula("flaky", _flaky), known)),
    }


def easy_problems() -> dict[str, Problem]:
    """Problems that whoever learns solves better than chance: a sum over eight genes.

    By name: one objective in each direction, two that agree, one in each direction, and ``soft``,
    where a constraint that is honoured in the ranking holds for half of the space and excludes
    the better half.
    """
    space = Widths(8)
    loss = Formula("loss", _total)
    score = Formula("score", _total, Direction.MAXIMIZE)
    rest = Formula("rest", _remainder)
    slow = Formula("sum", _total, cheap=False)
    return {
        "minimised": Problem(space, (loss,)),
        "maximised": Problem(space, (score,)),
        "both": Problem(space, (score, rest)),
        "soft": Problem(space, (loss,), (Constraint("sum", ">=", 16),), metrics=(slow,)),
    }


def _remainder(genotypes: Genotypes) -> NDArray[np.float64]:
    distances: NDArray[np.float64] = (4 - genotypes) @ np.linspace(1, 2, genotypes.shape[1])
    return distances
