"""Shapes by rule instead of search: fixed families as strategies, and families from a predictor.

A derived family is the cigar algorithm with the reference and the rounding that an objective gives.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.constraint import format_quantity
from nastool.errors import InvalidInputError
from nastool.evaluations import Evaluations
from nastool.objective import Objective
from nastool.problem import Problem
from nastool.space import ChainCost, Genotypes
from nastool.strategies.base import State, Strategy
from nastool_supershaper.families import (
    TEMPLATES,
    cigar_family,
    cigar_rule,
    scaled_family,
    templates,
)
from nastool_supershaper.space import SuperShaperSpace

_LOW_IMPORTANCE = 1 / 3
"""Share of layers, the least important ones, that a derived family rounds down."""

_BACKGROUND = 256
"""Random shapes over which a layer's effect is averaged."""


@dataclass(frozen=True, eq=False)
class DerivedFamily:
    """A heuristic read off an objective: what matters, how wide, and the shapes that follow.

    Args:
        space: What it is for.
        by: Where the objective's values come from.
        importances: Share of each layer in the total effect, shape (layers,).
        reference: Genotype that the family is scaled from, shape (layers,).
        rounds_down: Layers that round down when scaled, shape (layers,).
    """

    space: SuperShaperSpace
    by: str
    importances: NDArray[np.float64]
    reference: NDArray[np.int64]
    rounds_down: NDArray[np.bool_]

    @cached_property
    def genotypes(self) -> Genotypes:
        """The family by growing size, (n, layers)."""
        return scaled_family(self.space, self.reference, self.rounds_down)

    @cached_property
    def params(self) -> NDArray[np.float64]:
        """Parameter count of each member, shape (n,)."""
        return self.space.costs["params"].evaluate(self.genotypes)

    def explain(self) -> str:
        """The rule and the family as text for people."""
        size = self.space.costs["params"].evaluate(self.reference[None])[0]
        at = format_quantity(float(size))
        lines = [
            f"Heuristic for {self.space.name}, derived from {self.by}.",
            f"1. Reference shape: best sum of the layers' own effects at {at} parameters.",
            "2. For another size scale every width by one factor.",
            "3. Round to the grid: down in the layers that matter least, up in the others.",
            "",
            "layer  importance  reference  rounds",
        ]
        for i, (share, index, down) in enumerate(
            zip(self.importances, self.reference, self.rounds_down, strict=True), start=1
        ):
            width, way = self.space.widths[index], "down" if down else "up"
            lines.append(f"{i:>5}  {share:>10.1%}  {width:>9}  {way}")
        lines += ["", "params  shape"]
        for params, genotype in zip(self.params, self.genotypes, strict=True):
            lines.append(f"{format_quantity(float(params)):>6}  {self.space.format(genotype)}")
        return "\n".join(lines)


def derive_family(space: SuperShaperSpace, objective: Objective) -> DerivedFamily:
    """Turn an objective, such as a fitted predictor, into a heuristic.

    A layer's effect is the objective averaged over random shapes with that layer at each width
    in turn. Its range is the layer's importance; the shape with the best sum of effects at the
    size of the cigar's reference is the reference; the third of the layers that matters least
    rounds down.

    Args:
        space: Any size.
        objective: Cheap; better in either direction.

    Raises:
        InvalidInputError: Values that are not finite.
    """
    effects = _effects(space, objective)
    spread = np.ptp(effects, axis=1)
    total = spread.sum()
    importances = spread / total if total > 0 else np.full(space.layers, 1 / space.layers)
    order = np.argsort(importances, kind="stable")
    rounds_down = np.zeros(space.layers, dtype=bool)
    rounds_down[order[: int(space.layers * _LOW_IMPORTANCE)]] = True
    cost = space.costs["params"]
    size = cost.evaluate(cigar_rule(space)[0][None])[0]
    reference = _best_additive(effects, cost, size)
    by = f"{objective.name}: {objective.provenance}"
    return DerivedFamily(space, by, importances, reference, rounds_down)


class FamilyStrategy(Strategy):
    """Proposes the admissible members of a fixed family once, then nothing more.

    A subclass says which family.

    Args:
        problem: Its space must be a SuperShaper space.
        seed: Part of the contract of strategies; a fixed family draws nothing.

    Raises:
        InvalidInputError: Another kind of space.
    """

    def __init__(self, problem: Problem, seed: int = 0) -> None:
        super().__init__(problem, seed)
        if not isinstance(problem.space, SuperShaperSpace):
            raise InvalidInputError(
                f"{type(self).__name__} needs a supershaper space, got {problem.space.name!r}"
            )
        members = self.family(problem.space)
        self._named = tuple(zip(self.names(problem.space, members), members.tolist(), strict=True))
        self._members = members[problem.admissible(members)]
        self._asked = 0

    @abstractmethod
    def family(self, space: SuperShaperSpace) -> Genotypes:
        """The members in the order they are proposed, (n, layers)."""

    def names(self, space: SuperShaperSpace, members: Genotypes) -> list[str]:
        """What each member (n, layers) is called: by its parameter count, here."""
        kind = type(self).__name__.removesuffix("Strategy").lower()
        sizes = space.costs["params"].evaluate(members)
        return [f"{kind}_{format_quantity(float(size))}" for size in sizes]

    @property
    def named(self) -> tuple[tuple[str, list[int]], ...]:
        """All members, also those that the hard constraints rule out."""
        return self._named

    def ask(self, n: int) -> Genotypes:
        """Propose the next members, (k, layers) with k <= n."""
        batch = self._members[self._asked : self._asked + n]
        self._asked += len(batch)
        return batch

    def tell(self, evaluations: Evaluations) -> None:
        """Learn nothing: the family is fixed."""

    def state_dict(self) -> State:
        """How many members were proposed."""
        return {**super().state_dict(), "asked": self._asked}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self._asked = int(state["asked"])


class CigarStrategy(FamilyStrategy):
    """The cigar family of the paper, by growing size."""

    def family(self, space: SuperShaperSpace) -> Genotypes:
        """See `cigar_family`."""
        return cigar_family(space)


class TemplatesStrategy(FamilyStrategy):
    """The seven templates that the paper compares."""

    def family(self, space: SuperShaperSpace) -> Genotypes:
        """See `templates`."""
        return templates(space)

    def names(self, space: SuperShaperSpace, members: Genotypes) -> list[str]:
        """The names of `TEMPLATES`."""
        del space, members
        return list(TEMPLATES)


class DerivedStrategy(FamilyStrategy):
    """The family derived from the problem's first objective, by growing size."""

    def family(self, space: SuperShaperSpace) -> Genotypes:
        """See `derive_family`."""
        return derive_family(space, self.problem.objectives[0]).genotypes


def _effects(space: SuperShaperSpace, objective: Objective) -> NDArray[np.float64]:
    """Mean of the minimised objective with each layer at each width, (layers, widths)."""
    layers, widths = space.layers, len(space.widths)
    background = space.sample(_BACKGROUND, np.random.default_rng(0))
    batch = np.tile(background, (layers, widths, 1, 1))
    for layer in range(layers):
        batch[layer, :, :, layer] = np.arange(widths)[:, None]
    values = objective.evaluate(batch.reshape(-1, layers)) * objective.direction.sign
    if not np.isfinite(values).all():
        raise InvalidInputError(
            f"a heuristic needs finite values of {objective.name}, "
            f"got {int((~np.isfinite(values)).sum())} failures"
        )
    means: NDArray[np.float64] = values.reshape(layers, widths, -1).mean(axis=2)
    return means


def _best_additive(effects: NDArray[np.float64], cost: ChainCost, size: float) -> NDArray[np.int64]:
    """The genotype with the best sum of effects near a size, by a price on every unit of cost."""

    def best(price: float) -> tuple[float, NDArray[np.int64]]:
        steps = [e + price * s for e, s in zip(effects[1:], cost.steps, strict=True)]
        genotype = ChainCost("priced", effects[0] + price * cost.first, tuple(steps)).minimum[1]
        return float(cost.evaluate(genotype[None])[0]), genotype

    free = best(0.0)
    if free[0] <= size:
        return free[1]
    # At this price a single step of the grid in size outweighs all effects together.
    low, high = 0.0, float(np.ptp(effects, axis=1).sum()) + 1.0
    nearest = best(high)
    for _ in range(64):
        price = (low + high) / 2
        found = best(price)
        if abs(found[0] - size) < abs(nearest[0] - size):
            nearest = found
        low, high = (price, high) if found[0] > size else (low, price)
    return nearest[1]
