"""What every block is worth: scores of changes one at a time, and what assembled shapes add to it.

Effects of single changes do not add up for long. So assembled shapes teach a factor for every gene
on its effects, by ridge regression around one factor for all; the sum stays a sum of single genes,
whose optimum is exact. Draws from what the regression leaves open propose what is worth measuring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from nastool.branches import ConditionalCost
from nastool.chain import ChainCost
from nastool.constraint import Constraint, limits
from nastool.errors import InfeasibleError, InvalidInputError
from nastool.exact.chains import integer_chain
from nastool.exact.dynamic import solve_chain
from nastool.exact.forms import separable_cost
from nastool.exact.separable import SeparableTask, Sum, solve_separable
from nastool.exact.task import Bound, Outcome
from nastool.predictors.additive import AdditiveScores
from nastool.predictors.ridge import Ridge, fit_ridge
from nastool.predictors.separable import Separable
from nastool.space import Genotypes, SearchSpace

Floats = NDArray[np.float64]

_FEW = 8
"""Assembled shapes below which only their common factor is fitted."""

_LEAST = 0.1
"""Share of the common factor that a gene's own falls to, at least."""


def one_block_changes(space: SearchSpace, levels: int | None = None) -> Genotypes:
    """The largest shape, then every change of one gene of it, (n, d).

    Args:
        space: Whose.
        levels: Smaller choices of each gene that are tried, evenly spaced, the least included;
            None for all.
    """
    rows = [space.largest]
    for gene, size in enumerate(space.cardinalities.tolist()):
        number = size - 1 if levels is None else min(levels, size - 1)
        # The least first; with fewer than all, the largest one that is smaller need not be there.
        for place in range(number):
            row = space.largest.copy()
            row[gene] = round(place * (size - 1) / number)
            rows.append(row)
    return np.unique(space.canonicalize(np.stack(rows)), axis=0)[::-1]


def uniform_shapes(space: SearchSpace) -> Genotypes:
    """Shapes whose genes of the same choices all take the same one, (n, d)."""
    kinds: dict[tuple[object, ...], list[int]] = {}
    for place, gene in enumerate(space.genes):
        kinds.setdefault(gene.choices, []).append(place)
    sizes = [len(choices) for choices in kinds]
    grid = np.indices(sizes).reshape(len(sizes), -1).T if np.prod(sizes) <= 10_000 else None
    if grid is None:
        return space.largest[None]
    rows = np.zeros((len(grid), len(space.genes)), dtype=np.int64)
    for column, places in zip(grid.T, kinds.values(), strict=True):
        rows[:, places] = column[:, None]
    return np.unique(space.canonicalize(rows), axis=0)


@dataclass(frozen=True, eq=False)
class BlockModel:
    """The loss of a shape as a sum of what its blocks add.

    Args:
        effects: What each choice of each gene adds alone; 0 for the largest.
        full: Loss of the largest shape.
        common: Factor on all effects.
        ridge: Of what each gene's own factor adds to the common one; None while too few assembled
            shapes are known.
    """

    effects: tuple[Floats, ...]
    full: float
    common: float = 1.0
    ridge: Ridge | None = None

    @classmethod
    def fit(
        cls,
        space: SearchSpace,
        changed: Genotypes,
        losses: Floats,
        assembled: Genotypes,
        own: Floats,
    ) -> BlockModel:
        """Learn from changes of one block and from assembled shapes.

        Args:
            space: Of the shapes.
            changed: What `one_block_changes` makes, (n, d).
            losses: Of these, (n,).
            assembled: Other shapes, (m, d).
            own: Losses of these, (m,).
        """
        scores = AdditiveScores(is_log=False)
        scores.fit(space.features(changed), losses)
        values = [
            space.features(_only(space, gene))[:, gene]
            for gene, size in enumerate(space.cardinalities.tolist())
        ]
        form = scores.separable(values)
        if form is None:
            raise InvalidInputError("the changes must be those of all genes")
        full = float(form.predict(space.largest[None])[0])
        effects = tuple(terms - terms[-1] for terms in form.terms)
        if not len(assembled):
            return cls(effects, full)
        parts = _parts(effects, assembled)
        sums, above = parts.sum(axis=1), own - full
        common = max(float(sums @ above / max(sums @ sums, 1e-300)), 1e-3)
        if len(assembled) < _FEW:
            return cls(effects, full, common)
        return cls(effects, full, common, fit_ridge([parts], above - common * sums, robust=False))

    def form(self, rng: np.random.Generator | None = None) -> Separable:
        """The loss as a sum of terms of single genes.

        Args:
            rng: Draws one of the sums that what was measured leaves open; None for their mean.
        """
        factors, offset = np.full(len(self.effects), self.common), self.full
        if self.ridge is not None:
            ridge = self.ridge
            weights = ridge.weights
            if rng is not None:
                noise = rng.normal(size=len(weights))
                along = ridge.basis @ noise
                # The posterior of ridge regression: what is determined varies less.
                drawn = noise + ridge.basis.T @ ((np.sqrt(1 - ridge.shrinkage) - 1) * along)
                weights = weights + ridge.noise / np.sqrt(ridge.penalty) * drawn
            factors = np.maximum(factors + weights * ridge.scale, _LEAST * self.common)
            offset += ridge.intercept - float(ridge.center @ (ridge.weights * ridge.scale))
        elif rng is not None:
            factors = factors * rng.lognormal(0.0, 0.2, len(factors))
        terms = tuple(f * effects for f, effects in zip(factors, self.effects, strict=True))
        return Separable(terms, offset)


def _only(space: SearchSpace, gene: int) -> Genotypes:
    """Every choice of one gene, the first of all others, (k, d)."""
    size = int(space.cardinalities[gene])
    rows = np.zeros((size, len(space.genes)), dtype=np.int64)
    rows[:, gene] = np.arange(size)
    return rows


def _parts(effects: Sequence[Floats], genotypes: Genotypes) -> Floats:
    """What each gene adds alone, (n, d)."""
    columns = zip(effects, genotypes.T, strict=True)
    return np.stack([terms[column] for terms, column in columns], axis=1)


def check_bounds(space: SearchSpace, bounds: Sequence[Constraint]) -> None:
    """Check that the optimum within bounds can be proven.

    Raises:
        InvalidInputError: One is on something that the space does not count, or they do not add up
            gene by gene.
    """
    for bound in bounds:
        cost = space.costs.get(bound.metric)
        if cost is None:
            raise InvalidInputError(
                f"--max: {bound.metric!r} must be one of {', '.join(space.costs)}, which "
                f"{space.name} counts"
            )
        if bound.unit and bound.unit != cost.unit:
            raise InvalidInputError(
                f"--max: {bound.metric} is in {cost.unit or 'plain numbers'}, got a bound in "
                f"{bound.unit}"
            )
        if isinstance(cost, ConditionalCost):
            raise InvalidInputError(f"--max: {bound.metric} of {space.name} must be one chain")
    names = list(dict.fromkeys(bound.metric for bound in bounds))
    if len(names) > 1 and any(_separable(space, name) is None for name in names):
        raise InvalidInputError(
            f"--max: expected one bound, for costs of {space.name} do not add up gene by gene, got "
            f"{', '.join(names)}"
        )


def _separable(space: SearchSpace, name: str) -> Separable | None:
    cost = space.costs[name]
    return None if isinstance(cost, ConditionalCost) else separable_cost(cost)


def optimum(space: SearchSpace, function: Separable, bounds: Sequence[Constraint]) -> Outcome:
    """The least loss within bounds on exact costs, proven.

    Args:
        space: Searched.
        function: The loss.
        bounds: On costs of the space.

    Raises:
        InvalidInputError: See `check_bounds`.
        InfeasibleError: Nothing lies within the bounds.
    """
    check_bounds(space, bounds)
    sums = []
    for name in dict.fromkeys(bound.metric for bound in bounds):
        cost, (lower, upper) = _separable(space, name), limits(bounds, name)
        if cost is None:
            outcome = _chained(space, function, name, upper)
            break
        sums.append(Sum(cost, lower=lower, upper=upper))
    else:
        outcome = solve_separable(SeparableTask(Sum(function), tuple(sums)))
    if not len(outcome.genotypes):
        said = ", ".join(map(str, bounds))
        raise InfeasibleError(f"no shape of {space.name} keeps {said}")
    return outcome


def _chained(space: SearchSpace, function: Separable, name: str, upper: float) -> Outcome:
    """The optimum where the one cost that is bounded is a sum of terms in neighbouring genes."""
    cost = cast("ChainCost", space.costs[name])
    first, *others = function.terms
    before = space.cardinalities.tolist()
    steps = tuple(np.tile(t, (k, 1)) for t, k in zip(others, before, strict=False))
    loss = integer_chain(ChainCost("loss", first + function.offset, steps))
    return solve_chain(loss, (Bound(integer_chain(cost), upper=upper),), is_front=False)
