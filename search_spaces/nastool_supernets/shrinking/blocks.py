"""What every block is worth: scores of changes one at a time, and what assembled shapes add to it.

Effects of single changes do not add up for long, and the least of them are noise of the text that
a search would pick. So effects are smoothed (what keeps less loses no less), and assembled shapes
teach what they leave out: a factor on all effects, a price of leaving out a part of a block, and
what each gene has of both on its own. The sum stays a sum of single genes, whose optimum is exact.
Draws from what is left open propose what is worth measuring.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Floats
from nastool.constraint import Constraint, limits
from nastool.errors import InfeasibleError, InvalidInputError
from nastool.exact.chains import integer_chain
from nastool.exact.dynamic import solve_chain
from nastool.exact.separable import SeparableTask, Sum, solve_separable
from nastool.exact.task import Bound, Outcome
from nastool.predictors.additive import AdditiveScores
from nastool.predictors.separable import Separable
from nastool.space import ChainCost, ConditionalCost, Genotypes, SearchSpace
from nastool_supernets.genotypes import Genotype
from nastool_supernets.shrinking.together import Together

_MOST_UNIFORM = 10_000
"""Shapes beyond which uniform ones are not listed."""

_FEW = 8
"""Assembled shapes below which genes are not told apart."""

_APART = (0.0, 0.1, 0.3, 1.0)
"""How much the factors of genes may differ from the common one."""

_NOISES = (0.03, 0.1, 0.3, 1.0)
"""How far off measurements may be, relative to what shapes lose."""

_EXACT = 1e-4
"""What measurements are off by at least, relative to the most that a part of the sum adds."""

_PRICED = 0.3
"""How much the prices of genes may differ, of what their factors may."""


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
    # Not NumPy's product, which begins anew beyond 64 bits.
    if math.prod(sizes) > _MOST_UNIFORM:
        return space.largest[None]
    grid = np.indices(sizes).reshape(len(sizes), -1).T
    rows = np.zeros((len(grid), len(space.genes)), dtype=np.int64)
    for column, places in zip(grid.T, kinds.values(), strict=True):
        rows[:, places] = column[:, None]
    return np.unique(space.canonicalize(rows), axis=0)


@dataclass(frozen=True, eq=False)
class BlockModel:
    """The loss of a shape as a sum of what its blocks add.

    Args:
        space: Of the shapes.
        scores: What each choice of each gene adds alone, as it was measured; 0 for the largest.
        full: Loss of the largest shape.
        mean: Of the coefficients of `_columns`, (p,).
        spread: Columns whose products with normal numbers are what the coefficients may be off by
            where genes differ, (p, p).
        scale: Price of leaving out a block, about.
    """

    space: SearchSpace
    scores: tuple[Floats, ...]
    full: float
    mean: Floats
    spread: Floats
    scale: float

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

        How much genes differ from each other, and how far off measurements are, is what predicts
        every assembled shape best from the others (leave-one-out, in closed form).

        Args:
            space: Of the shapes.
            changed: What `one_block_changes` makes, (n, d).
            losses: Of these, (n,).
            assembled: Other shapes, (m, d).
            own: Losses of these, (m,).
        """
        one_each = AdditiveScores(is_log=False)
        one_each.fit(space.features(changed), losses)
        values = [
            space.features(_only(space, gene))[:, gene]
            for gene, size in enumerate(space.cardinalities.tolist())
        ]
        form = one_each.separable(values)
        if form is None:
            raise InvalidInputError("the changes must be those of all genes")
        full = float(form.predict(space.largest[None])[0])
        scores = tuple(terms - terms[-1] for terms in form.terms)
        scale = float(np.median([_smooth(terms)[0] for terms in scores])) or 1.0
        columns = _columns(space, scores, scale, assembled)
        above = own - full
        # Large losses are further off; those about nothing not by nothing.
        size = np.abs(above) + (float(np.median(np.abs(above))) if len(above) else 0.0)
        # Where most shapes lose nothing at all, what is exact has no solution in floats.
        size = np.maximum(size, _EXACT * max(scale, float(np.abs(columns).max(initial=0.0))))
        few = len(assembled) < _FEW
        found = {
            apart: max(
                (_posterior(columns, above, _widths(space, apart), n * size) for n in _NOISES),
                key=lambda fitted: fitted[0],
            )
            for apart in (_APART if len(assembled) else _APART[-1:])
        }
        best = max((found[0.0],) if few and len(assembled) else found.values(), key=lambda f: f[0])
        # Genes that nothing told apart yet may still differ, or draws would all be the mean again.
        free = max((its for apart, its in found.items() if apart), key=lambda fitted: fitted[0])
        return cls(space, scores, full, best[1], free[2], scale)

    def form(self, rng: np.random.Generator | None = None, reach: float = 1.0) -> Separable:
        """The loss as a sum of terms of single genes.

        Args:
            rng: Draws one of the sums that what was measured leaves open; None for their mean.
            reach: How much farther from the mean than what is left open.
        """
        weights = self.mean
        if rng is not None:
            weights = weights + reach * (self.spread @ rng.normal(size=len(weights)))
        genes, kinds = len(self.scores), kinds_of(self.space)
        factors = weights[0] + weights[-2 * genes : -genes]
        prices = weights[1 : -2 * genes][kinds] + weights[-genes:]
        terms = tuple(
            _smooth(factor * _smooth(effects) + price * self.scale * _left_out(len(effects)))
            for factor, effects, price in zip(factors, self.scores, prices, strict=True)
        )
        return Separable(terms, self.full)

    def plain(self) -> Separable:
        """The sum of the scores alone, as they were measured."""
        return Separable(self.scores, self.full)


def _columns(
    space: SearchSpace, scores: Sequence[Floats], scale: float, genotypes: Genotypes
) -> Floats:
    """What coefficients are of, (n, p): together, then gene by gene.

    All smoothed effects, what is left out of each kind of genes, every gene's own effect, and what
    is left out of it.
    """
    own = _parts([_smooth(effects) for effects in scores], genotypes)
    out = scale * _parts([_left_out(len(effects)) for effects in scores], genotypes)
    kinds = kinds_of(space)
    by_kind = [out[:, kinds == kind].sum(axis=1) for kind in range(int(kinds.max()) + 1)]
    return np.column_stack([own.sum(axis=1), *by_kind, own, out])


def _widths(space: SearchSpace, apart: float) -> Floats:
    """Standard deviations of the coefficients before anything is assembled, (p,).

    Args:
        space: Of the shapes.
        apart: How much genes differ from what all of them have in common.
    """
    kinds, genes = int(kinds_of(space).max()) + 1, len(space.genes)
    own = np.repeat([apart, _PRICED * apart], genes)
    return np.concatenate([[1.0], np.ones(kinds), own])


def _posterior(
    columns: Floats, above: Floats, widths: Floats, noise: Floats
) -> tuple[float, Floats, Floats]:
    """Linear regression around a factor of 1 on all effects, and nothing else.

    Args:
        columns: (n, p).
        above: What was measured above the largest shape, (n,).
        widths: Standard deviations of the coefficients before, (p,).
        noise: Standard deviations of what was measured, (n,).

    Returns:
        Log density of what was measured, each predicted from all others; mean of the coefficients;
        and what their products with normal numbers are off by.
    """
    before = np.zeros(len(widths))
    before[0] = 1.0
    scaled = columns * widths / noise[:, None]
    inside = np.linalg.cholesky(np.eye(len(widths)) + scaled.T @ scaled)
    spread = widths[:, None] * np.linalg.inv(inside).T
    missed = (above - columns @ before) / noise
    mean = before + spread @ (np.linalg.inv(inside) @ (scaled.T @ missed))
    kept = np.linalg.solve(inside, scaled.T)
    # What a measurement does not say itself, (n,).
    free = np.maximum(1.0 - np.square(kept).sum(axis=0), 1e-9)
    alone = (above - columns @ mean) / noise / free
    density = -0.5 * np.sum(alone**2 * free - np.log(free) + 2 * np.log(noise))
    return float(density), mean, spread


def _smooth(effects: Floats) -> Floats:
    """The nearest effects that are never below 0 and no larger for what keeps more, (k,)."""
    # Pools of neighbours, from the largest choice down (Ayer et al., 1955).
    pools: list[tuple[float, int]] = []
    for effect in effects[::-1].tolist():
        total, size = effect, 1
        while pools and pools[-1][0] / pools[-1][1] > total / size:
            before, number = pools.pop()
            total, size = total + before, size + number
        pools.append((total, size))
    means = [total / size for total, size in pools for _ in range(size)]
    return np.maximum(np.array(means[::-1]), 0.0)


def _left_out(size: int) -> Floats:
    """Share of a gene's choices that each one does without, (k,)."""
    return 1.0 - np.arange(size) / max(size - 1, 1)


def kinds_of(space: SearchSpace) -> NDArray[np.int64]:
    """Number of the kind of every gene, (d,): genes of the same choices are of one."""
    names = list(dict.fromkeys(gene.choices for gene in space.genes))
    return np.array([names.index(gene.choices) for gene in space.genes])


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


Costs = Mapping[str, ChainCost | ConditionalCost]


def check_bounds(space: SearchSpace, bounds: Sequence[Constraint], costs: Costs) -> None:
    """Check that the optimum within bounds can be proven.

    Args:
        space: Searched.
        bounds: On costs.
        costs: By name.

    Raises:
        InvalidInputError: One is on something that the space does not count, or they do not add up
            over a few genes at a time.
    """
    for bound in bounds:
        cost = costs.get(bound.metric)
        if cost is None:
            raise InvalidInputError(
                f"--max: {bound.metric!r} must be one of {', '.join(costs)}, which "
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
    if len(names) > 1 and Together.of(space, [_chain(costs, name) for name in names]) is None:
        raise InvalidInputError(
            f"--max: expected one bound, for costs of {space.name} do not add up gene by gene, got "
            f"{', '.join(names)}"
        )


def check_feasible(space: SearchSpace, bounds: Sequence[Constraint], costs: Costs) -> None:
    """Check that a shape lies within bounds.

    Args:
        space: Searched.
        bounds: On costs.
        costs: By name.

    Raises:
        InvalidInputError: See `check_bounds`.
        InfeasibleError: Nothing lies within the bounds.
    """
    nothing = Separable(tuple(np.zeros(size) for size in space.cardinalities.tolist()))
    optimum(space, nothing, bounds, costs=costs)


def _chain(costs: Costs, name: str) -> ChainCost:
    return cast("ChainCost", costs[name])  # checked before


def optimum(
    space: SearchSpace,
    function: Separable,
    bounds: Sequence[Constraint],
    near: tuple[Genotype, int] | None = None,
    costs: Costs | None = None,
) -> Outcome:
    """The least loss within bounds on exact costs, proven.

    Args:
        space: Searched.
        function: The loss.
        bounds: On costs.
        near: A shape, and how many of its genes may differ; for costs that add up over a few genes
            at a time.
        costs: By name; those of the space by default.

    Raises:
        InvalidInputError: See `check_bounds`.
        InfeasibleError: Nothing lies within the bounds.
    """
    costs = space.costs if costs is None else costs
    check_bounds(space, bounds, costs)
    names = list(dict.fromkeys(bound.metric for bound in bounds))
    together = Together.of(space, [_chain(costs, name) for name in names])
    if together is None:
        (name,) = names
        outcome = _chained(space, function, _chain(costs, name), limits(bounds, name)[1])
    else:
        sums = []
        if near is not None:
            sums.append(Sum(together.separable(_different(space, near[0])), upper=near[1]))
        for name in names:
            lower, upper = limits(bounds, name)
            sums.append(Sum(together.chain(_chain(costs, name)), lower=lower, upper=upper))
        task = SeparableTask(Sum(together.separable(function)), tuple(sums))
        outcome = solve_separable(task)
        outcome = replace(outcome, genotypes=together.apart(outcome.genotypes))
    if not len(outcome.genotypes):
        said = ", ".join(map(str, bounds))
        raise InfeasibleError(f"no shape of {space.name} keeps {said}")
    return outcome


def _different(space: SearchSpace, genotype: Genotype) -> Separable:
    """How many genes differ from a shape."""
    sizes = space.cardinalities.tolist()
    return Separable(
        tuple(
            (np.arange(size) != own).astype(np.float64)
            for size, own in zip(sizes, genotype, strict=True)
        )
    )


def _chained(space: SearchSpace, function: Separable, cost: ChainCost, upper: float) -> Outcome:
    """The optimum where the one cost that is bounded is a sum of terms in neighbouring genes."""
    first, *others = function.terms
    before = space.cardinalities.tolist()
    steps = tuple(np.tile(t, (k, 1)) for t, k in zip(others, before, strict=False))
    loss = integer_chain(ChainCost("loss", first + function.offset, steps))
    return solve_chain(loss, (Bound(integer_chain(cost), upper=upper),), is_front=False)
