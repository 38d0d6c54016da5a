"""A campaign that shrinks a net: what is measured when, kept so that it goes on where it stopped.

Rounds follow from the plan, the seed and the rounds before. So a campaign that is stopped at any
moment and started again measures what one that never stopped would have measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nastool import pareto
from nastool.constraint import Constraint
from nastool.errors import InfeasibleError, InvalidInputError, NastoolError
from nastool.exact.certificate import Certificate
from nastool.exact.task import Outcome
from nastool.numbers import is_whole
from nastool.predictors.evaluation import Scores, score
from nastool.predictors.separable import Separable
from nastool.space import ChainCost, Genotypes, SearchSpace
from nastool_supernets.genotypes import Genotype, row, rows
from nastool_supernets.measuring.perplexities import perplexities, share_prefixes
from nastool_supernets.shrinking.blocks import (
    BlockModel,
    Costs,
    check_feasible,
    one_block_changes,
    optimum,
    uniform_shapes,
)
from nastool_supernets.shrinking.measured import TABLE, Row, read_rows, write_rows

if TYPE_CHECKING:
    from nastool_supernets.supernet import Supernet

Ids = NDArray[np.int64]
Text = tuple[Ids, Ids]
"""What is read and what is to be predicted of it, (n, length) each."""

Told = Callable[[str, int, int], None]
"""Told what is measured, how many shapes of it are, and of how many."""

SCORES, FIRST = 0, 1
"""Rounds: changes of one block; the first assembled shapes. Those after are refinements."""

_CHUNK = 12
"""Shapes between two writings of the table."""

_MISSES = 40
"""Draws in a row without a new shape after which a round is left smaller."""

_SAME = 8
"""Draws in a row without a new shape after which they reach twice as far."""

_MOVES = (2, 4, 8)
"""Genes that may differ from the best known shape near which draws are."""

_TARGETS = 11
"""Sizes between the bound and the largest shape that the front is made of."""

_FINALISTS = 6
"""Shapes within the bounds that are measured on further text before one is chosen."""


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Args:
        levels: Smaller choices of each gene that are scored.
        blocks: Blocks of text that shapes are measured on.
        first: Assembled shapes of the first round.
        rounds: Refinements.
        shapes: Shapes a refinement.
        check: Blocks of other text that the front is measured on.
        seed: Of the draws.

    Raises:
        InvalidInputError: What is no number of anything.
    """

    levels: int
    blocks: int
    first: int
    rounds: int
    shapes: int
    check: int
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 1 if name in ("levels", "blocks") else 0
            if not is_whole(value, least):
                raise InvalidInputError(
                    f"{name} must be a whole number from {least}, got {value!r:.60}"
                )


@dataclass(frozen=True, eq=False)
class Front:
    """What a campaign found.

    Args:
        genotypes: By ascending size, (n, d).
        costs: Their first bounded cost, (n,).
        losses: On the text that was searched by, (n,).
        checked: On the other text, (n,).
        predicted: By what is known at the end, (n,).
        chosen: Place of the one that is kept: the best within all bounds.
        scores: How well the losses of assembled shapes were predicted before they were measured,
            of at least twenty; None where there are fewer than two.
        certificate: Of the optimum within the bounds, by what is known at the end.
        additive: The optimum of the one-block scores alone within the bounds.
        uniform: The best uniform shape within the bounds that was measured; None where none is.
    """

    genotypes: Genotypes
    costs: NDArray[np.float64]
    losses: NDArray[np.float64]
    checked: NDArray[np.float64]
    predicted: NDArray[np.float64]
    chosen: int
    scores: Scores | None
    certificate: Certificate
    additive: Genotype
    uniform: Genotype | None


@dataclass
class Campaign:
    """Shapes of a net within bounds, measured in rounds.

    Args:
        net: The supernet.
        bounds: On exact costs of its space; the front is that of the first.
        folder: Of the table.
        plan: How much is measured.
        text: What is searched by; the first `plan.blocks` blocks are read.
        check: Other text, for the front.
        told: Told every now and then.
        sizes: Upper limits of the first cost above its bound that the front is made of; by default
            eleven, evenly spaced up to the largest shape.
        further: Costs beside those of the space that bounds are on, by name.
        keeps: Whether a shape keeps bounds that are on estimates: asked of the few that one is
            chosen from, the best first.

    Raises:
        InvalidInputError: Costs that the space does not count, or a damaged table.
        InfeasibleError: Nothing lies within the bounds.
    """

    net: Supernet
    bounds: Sequence[Constraint]
    folder: Path
    plan: Plan
    text: Text
    check: Text
    told: Told = lambda *_: None
    sizes: Sequence[float] = ()
    further: Mapping[str, ChainCost] = field(default_factory=dict)
    keeps: Callable[[Genotype], bool] = lambda _: True
    _known: dict[Genotype, Row] = field(default_factory=dict)
    _checked: dict[Genotype, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # What cannot be kept is told before anything is measured.
        check_feasible(self.space, self.bounds, self.costs)
        self._known = read_rows(self.folder / TABLE, self.space)

    @property
    def space(self) -> SearchSpace:
        return self.net.space

    @property
    def costs(self) -> Costs:
        """What bounds may be on, by name."""
        return {**self.space.costs, **self.further}

    def _optimum(
        self,
        function: Separable,
        bounds: Sequence[Constraint],
        near: tuple[Genotype, int] | None = None,
    ) -> Outcome:
        return optimum(self.space, function, bounds, near, self.costs)

    def run(self) -> Front:
        """Measure what is missing of all rounds; return what was found."""
        self.measure()
        return self._front()

    def measure(self) -> None:
        """Measure what is missing of all rounds."""
        plan = self.plan
        self.score_blocks()
        for number in range(FIRST, FIRST + plan.rounds + 1):
            model = self._model(before=number)
            wanted = self._first(model) if number == FIRST else self._refinement(model, number)
            what = "assembled shapes" if number == FIRST else f"refinement {number - FIRST}"
            self._measure(number, what, wanted, model)

    def score_blocks(self) -> None:
        """Measure what is missing of the one-block scores, which no seed changes."""
        scored = one_block_changes(self.space, self.plan.levels)
        self._measure(SCORES, "one-block scores", rows(scored), None)

    # ----------------------------------------------------------------------------------------------
    # Rounds

    def _model(self, before: int) -> BlockModel:
        """What the rounds before one teach."""
        parts = [
            [(g, r.loss) for g, r in self._known.items() if wanted(r.round) and np.isfinite(r.loss)]
            for wanted in (lambda n: n == SCORES, lambda n: SCORES < n < before)
        ]
        (changed, losses), (assembled, own) = (
            (
                np.array([g for g, _ in part], dtype=np.int64).reshape(-1, len(self.space.genes)),
                np.array([loss for _, loss in part]),
            )
            for part in parts
        )
        return BlockModel.fit(self.space, changed, losses, assembled, own)

    def _sizes(self) -> list[float]:
        """Upper limits of the first cost that the front is made of, the bound first."""
        bound = self.bounds[0]
        largest = float(self.costs[bound.metric].evaluate(self.space.largest[None])[0])
        if self.sizes or bound.bound >= largest:
            return [bound.bound, *self.sizes]
        return np.linspace(bound.bound, largest, _TARGETS + 1)[:-1].tolist()

    def _within(self, size: float) -> list[Constraint]:
        """All bounds for the smallest point of the front, one on the first cost for larger ones."""
        first = self.bounds[0]
        if size == first.bound:
            return list(self.bounds)
        return [Constraint(first.metric, "<=", size, first.unit)]

    def _first(self, model: BlockModel) -> list[Genotype]:
        """Optima of the scores, as they are and smoothed, uniform shapes, and draws."""
        found = [self.additive(self.bounds[0].bound)]
        found += [self._best(model, size, None) for size in self._sizes()]
        found += self._uniform()
        return self._filled(found, model, FIRST, self.plan.first)

    def _refinement(self, model: BlockModel, number: int) -> list[Genotype]:
        """Optima at all sizes by what is known, and draws from what that leaves open.

        Draws are optima of the whole space and, in turn, of what lies near the best that is known.
        """
        found = [self._best(model, size, None) for size in self._sizes()]
        return self._filled(found, model, number, self.plan.shapes)

    def _filled(
        self, found: Sequence[Genotype], model: BlockModel, number: int, wanted: int
    ) -> list[Genotype]:
        """Different shapes that no earlier round has, so many where there are."""
        earlier = {g for g, known in self._known.items() if known.round < number}
        chosen = [g for g in dict.fromkeys(found) if g not in earlier]
        rng = np.random.default_rng([self.plan.seed, number])
        sizes = self._sizes()
        attempt = misses = 0
        while len(chosen) < wanted and misses < _MISSES:
            # Every other one at the bound, where the shape that is kept will lie.
            size = sizes[0] if attempt % 2 == 0 else float(rng.choice(sizes))
            near = self._best_known(size, earlier) if attempt % 4 >= 2 else None
            # Far enough for a trade, not so far that what was learnt elsewhere says little.
            moves = None if near is None else (near, int(rng.choice(_MOVES)))
            # What is known all too well proposes the same again and again.
            reach = 2.0 ** (misses // _SAME)
            genotype = self._best(model, size, rng, moves, reach)
            attempt, misses = attempt + 1, misses + 1
            if genotype not in earlier and genotype not in chosen:
                chosen.append(genotype)
                misses = 0
        return chosen[: max(wanted, len(found))]

    def _best(
        self,
        model: BlockModel,
        size: float,
        rng: np.random.Generator | None,
        near: tuple[Genotype, int] | None = None,
        reach: float = 1.0,
    ) -> Genotype:
        form = model.form(rng, reach)
        return row(self._optimum(form, self._within(size), near).genotypes[0])

    def _best_known(self, size: float, earlier: Collection[Genotype]) -> Genotype | None:
        """The best shape of earlier rounds that keeps the bounds of a size."""
        finite = sorted(g for g in earlier if np.isfinite(self._known[g].loss))
        known = np.array(finite, dtype=np.int64)
        known = known[self._keeps(known, self._within(size))] if len(known) else known
        return min(rows(known), key=lambda g: self._known[g].loss, default=None)

    def _uniform(self) -> list[Genotype]:
        """The largest uniform shapes within the bounds: none is larger in every gene."""
        shapes = uniform_shapes(self.space)
        shapes = shapes[self._keeps(shapes)]
        kept = [
            shape
            for shape in shapes
            if not np.any(np.all(shapes >= shape, axis=1) & np.any(shapes > shape, axis=1))
        ]
        return rows(np.array(kept, dtype=np.int64).reshape(-1, len(self.space.genes)))

    def _keeps(
        self, genotypes: Genotypes, bounds: Sequence[Constraint] | None = None
    ) -> NDArray[np.bool_]:
        """Which genotypes keep bounds, by default those of the campaign."""
        kept = np.ones(len(genotypes), dtype=bool)
        for bound in self.bounds if bounds is None else bounds:
            kept &= bound.holds(self.costs[bound.metric].evaluate(genotypes))
        return kept

    # ----------------------------------------------------------------------------------------------
    # Measuring

    def _measure(
        self, number: int, what: str, wanted: Sequence[Genotype], model: BlockModel | None
    ) -> None:
        missing = share_prefixes(self.net, [g for g in wanted if g not in self._known])
        predicted = dict.fromkeys(missing, math.nan)
        if model is not None and missing:
            values = model.form().predict(np.array(missing, dtype=np.int64)).tolist()
            predicted = dict(zip(missing, values, strict=True))
        done = len(wanted) - len(missing)
        self.told(what, done, len(wanted))
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            losses = self._losses(self.text, self.plan.blocks, chunk)
            for genotype, loss in zip(chunk, losses, strict=True):
                self._known[genotype] = Row(number, predicted[genotype], loss)
            write_rows(self.folder / TABLE, self.space, self._known)
            self.told(what, done + start + len(chunk), len(wanted))

    def _losses(self, text: Text, blocks: int, genotypes: Sequence[Genotype]) -> list[float]:
        ids, labels = (part[:blocks] for part in text)
        found: list[float] = np.log(perplexities(self.net, ids, labels, genotypes)).tolist()
        return found

    # ----------------------------------------------------------------------------------------------
    # What was found

    def _front(self) -> Front:
        genotypes = np.array(list(self._known), dtype=np.int64)
        losses = np.array([known.loss for known in self._known.values()])
        costs = self.costs[self.bounds[0].metric].evaluate(genotypes)
        usable = np.isfinite(losses)
        within = np.flatnonzero(usable & self._keeps(genotypes))
        if not len(within):
            raise NastoolError(
                "none of the shapes that were measured within the bounds has a finite loss on the "
                "text"
            )
        finalists = within[np.argsort(losses[within], kind="stable")[:_FINALISTS]]
        points = np.stack([costs, losses], axis=1)
        best = np.flatnonzero(usable)[pareto.non_dominated(points[usable])]
        # Of the front, what is no smaller than asked for; else its largest.
        best = best[costs[best] >= costs[finalists].min()]
        kept = np.unique(np.concatenate([best, finalists]))
        kept = kept[np.lexsort((losses[kept], costs[kept]))]
        measured = self._check(rows(genotypes[kept]))
        total = losses + np.inf
        # Both texts count: the best of many on one of them is too good there.
        total[kept] = losses[kept] + measured
        ranked = finalists[np.argsort(total[finalists], kind="stable")].tolist()
        chosen = next((n for n in ranked if self.keeps(row(genotypes[n]))), None)
        if chosen is None:
            raise InfeasibleError(
                f"none of the best {len(ranked)} shapes keeps its bounds where they are measured"
            )
        keeping = np.array([n in best or n == chosen for n in kept.tolist()])
        kept, measured = kept[keeping], measured[keeping]
        uniform = [g for g in self._uniform() if g in self._known]
        return Front(
            genotypes[kept],
            costs[kept],
            losses[kept],
            measured,
            self._last().form().predict(genotypes[kept]),
            int(np.flatnonzero(kept == chosen)[0]),
            self._scores(),
            self.proven(self.bounds[0].bound).certificate,
            self.additive(self.bounds[0].bound),
            min(uniform, key=lambda g: self._known[g].loss, default=None),
        )

    def _last(self) -> BlockModel:
        """What all rounds teach."""
        return self._model(before=FIRST + self.plan.rounds + 1)

    def proven(self, size: float) -> Outcome:
        """The optimum of the last fit within an upper limit of the first cost."""
        return self._optimum(self._last().form(), self._within(size))

    def additive(self, size: float) -> Genotype:
        """The optimum of the one-block scores alone within an upper limit of the first cost."""
        plain = self._model(before=FIRST).plain()
        return row(self._optimum(plain, self._within(size)).genotypes[0])

    def typical(self) -> Genotype:
        """A shape of about the size of what will be chosen: the largest uniform one, or any."""
        uniform = self._uniform()
        if uniform:
            cost = self.costs[self.bounds[0].metric]
            return max(uniform, key=lambda g: float(cost.evaluate(np.array([g]))[0]))
        nothing = Separable(tuple(np.zeros(size) for size in self.space.cardinalities.tolist()))
        return row(self._optimum(nothing, self.bounds).genotypes[0])

    def spread(self, number: int) -> list[Genotype]:
        """Measured shapes within the bounds: the best, and others up to the middle of them all.

        Args:
            number: How many, evenly spaced by rank; fewer where fewer are known.
        """
        known = np.array([g for g, r in self._known.items() if np.isfinite(r.loss)], dtype=np.int64)
        ranked = sorted(rows(known[self._keeps(known)]), key=lambda g: self._known[g].loss)
        last = max((len(ranked) - 1) // 2, min(number, len(ranked)) - 1)
        places = np.unique(np.linspace(0, last, number).round().astype(int))
        return [ranked[place] for place in places.tolist()]

    def loss(self, genotype: Genotype) -> tuple[float, float]:
        """Loss of a shape on both texts, measured where it is not known."""
        known = self._known.get(genotype)
        found = known.loss if known else self._losses(self.text, self.plan.blocks, [genotype])[0]
        return found, float(self._check([genotype])[0])

    def _check(self, genotypes: Sequence[Genotype]) -> NDArray[np.float64]:
        missing = [g for g in genotypes if g not in self._checked]
        if missing:
            self.told("the front on other text", 0, len(missing))
            losses = self._losses(self.check, self.plan.check, missing)
            self._checked |= dict(zip(missing, losses, strict=True))
        return np.array([self._checked[g] for g in genotypes])

    def _scores(self) -> Scores | None:
        """Of the latest rounds that together have twenty shapes predicted before."""
        pairs = sorted(
            ((r.round, r.predicted, r.loss) for r in self._known.values() if r.round >= FIRST),
            key=lambda pair: -pair[0],
        )
        enough = [pair for pair in pairs if np.isfinite(pair[1]) and np.isfinite(pair[2])]
        last = enough[min(19, len(enough) - 1)][0] if enough else FIRST
        taken = np.array([pair[1:] for pair in enough if pair[0] >= last]).reshape(-1, 2)
        return score(taken[:, 1], taken[:, 0], partly=True) if len(taken) > 1 else None
