"""Any metric of a fitted predictor, for the space it was fitted on or one of equal genes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nastool.choices import Choice
from nastool.errors import InvalidInputError
from nastool.exact.boxes import BoxSum
from nastool.files.hub import fetched
from nastool.objective import Direction, Kind, Objective, Provenance, RankAgreement
from nastool.predictors.base import GridForm, load_predictor, save_predictor
from nastool.predictors.ensemble import Ensemble
from nastool.predictors.evaluation import rank_agreement
from nastool.predictors.linear import Additive, ChainForm
from nastool.predictors.separable import Separable
from nastool.predictors.tables import TABLE, TARGET, Measurements, read_measurements
from nastool.space import ChainCost, Gene, Genotypes, SearchSpace

_PAIRS = 1 << 15
"""Pairs of choices of two genes that a predictor may be asked for: half a second."""


class PredictedObjective(Objective):
    """A predictor's mean, as a function of genotypes.

    A predictor of another space is used *by genotype*: the third choice of a gene here stands for
    the third choice of the gene it was fitted on. Every output says so.

    Args:
        space: What is searched.
        folder: Holds a predictor and its card.
        name: The metric's name as users type it; the card's own by default.

    Raises:
        InvalidInputError: No predictor there, or one whose genes or costs do not fit the space.
    """

    def __init__(self, space: SearchSpace, folder: str | Path, name: str | None = None) -> None:
        self.space = space
        self.folder = fetched(folder)
        self.predictor, self.card = load_predictor(self.folder)
        self._name = name or self.card.metric
        self._check_fit()

    @property
    def name(self) -> str:
        return self._name

    @property
    def unit(self) -> str:
        return self.card.unit

    @property
    def direction(self) -> Direction:
        return self.card.direction

    @property
    def is_proxy(self) -> bool:
        """Whether the predictor was fitted on another space than the one searched."""
        card = self.card
        if card.fingerprint:
            return card.fingerprint != self.space.fingerprint
        return (card.space, card.choices) != (self.space.name, _choices(self.space))

    @cached_property
    def provenance(self) -> Provenance:
        card = self.card
        proxy = (
            f"fitted on {card.space} ({_outline(card.choices)}), "
            f"used by genotype for {self.space.name} ({_outline(_choices(self.space))})"
            if self.is_proxy
            else ""
        )
        known = (str(card.source.get(name, "")) for name in ("noise", "caution"))
        error = ", ".join(filter(None, (card.error, *known)))
        return Provenance(Kind.PREDICTED, card.by, error, proxy, self._agreements())

    def _agreements(self) -> tuple[RankAgreement, ...]:
        """With what is published of the metric on this space, then what the card knows."""
        metric = self.card.metric.partition("[")[0]
        live = [
            rank_agreement(source, self.evaluate(genotypes), values, published=True)
            for source, (genotypes, values) in self.space.published(metric).items()
        ]
        # What was found on another space's shapes says nothing of this one's.
        found = () if self.is_proxy else self.card.agreements
        return (*(agreement for agreement in live if agreement), *found)

    @property
    def interval(self) -> float | None:
        # Of another space's shapes, it promises nothing for this one.
        return None if self.is_proxy else self.card.interval

    def half_widths(self, values: NDArray[np.float64]) -> NDArray[np.float64] | None:
        return None if self.is_proxy else self.card.half_widths(values)

    def outside(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        region = self.card.region
        if region is None or not len(genotypes):
            return np.zeros(len(genotypes), dtype=bool)
        return region.outside(self.features(genotypes), self.evaluate(genotypes))

    def chain(self) -> ChainCost | None:
        # Of a space with branches, each has genes of its own.
        return None if self.space.branches else self._chain

    @property
    def optimism(self) -> float | None:
        return None if self.is_proxy else self.card.optimism

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.space.fingerprint.encode())
        for file in sorted(self.folder.rglob("*")):
            if file.is_file():
                digest.update(file.relative_to(self.folder).as_posix().encode())
                digest.update(file.read_bytes())
        for cost in self.card.costs:
            chain = self.space.costs[cost]
            for terms in chain.terms:
                digest.update(np.ascontiguousarray(terms).tobytes())
        return digest.hexdigest()[:16]

    def evaluate(self, genotypes: Genotypes) -> NDArray[np.float64]:
        if len(genotypes) == 0:
            return np.empty(0)
        # It was fitted on canonical forms, and equivalent genotypes are one architecture.
        genotypes = self.space.canonicalize(genotypes)
        if self._grid is not None:
            return self._grid.predict(genotypes)
        return self.predictor.predict(self.features(genotypes)).mean

    def features(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """What the predictor sees: choices it was fitted on, then exact costs, (n, f)."""
        columns = [values[genotypes[:, gene]] for gene, values in enumerate(self._values)]
        columns += [self.space.costs[name].evaluate(genotypes) for name in self.card.costs]
        return np.stack(columns, axis=1)

    def boxes(self) -> BoxSum:
        """The mean as a sum of box functions, for the exact search.

        Raises:
            InvalidInputError: A predictor that is no such sum.
        """
        return self._boxes

    @cached_property
    def _boxes(self) -> BoxSum:
        from nastool.exact.chains import integer_chain
        from nastool.exact.dynamic import chain_boxes
        from nastool.exact.forms import predictor_boxes

        if self._chain is not None:
            return chain_boxes(integer_chain(self._chain))
        return predictor_boxes(self.predictor, self._values, self.features)

    def separable(self) -> Separable | None:
        """The mean as a sum of terms in single genes, for the exact search; None if it is none."""
        return self.predictor.separable(self._values)

    def refitted(
        self, genotypes: Genotypes, values: NDArray[np.float64], folder: Path
    ) -> PredictedObjective:
        """The same metric by a predictor that has also seen new measurements.

        A predictor of another space, or one whose table is not known, is recalibrated to them.

        Args:
            genotypes: Distinct measured shapes, shape (n, d).
            values: What was measured, shape (n,), finite.
            folder: Keeps the new predictor and its table.

        Raises:
            InvalidInputError: Fewer than three shapes, or the folder holds something else.
        """
        from nastool.predictors.fitting import refit

        card, space = self.card, self.space
        measured = Measurements(
            genes=card.genes,
            choices=card.choices,
            costs=card.costs,
            features=self.features(genotypes),
            targets=values,
            dropped=0,
            space=space.name,
            fingerprint=space.fingerprint,
            source={},
        )
        fitted = refit(self.predictor, self._table(), measured)
        source = {**card.source, "refitted from": str(card), "measured near fronts": len(values)}
        new = fitted.card(card.metric, card.unit, source, card.direction)
        save_predictor(folder, fitted.predictor, new, fitted.data)
        return PredictedObjective(space, folder, self.name)

    def learned(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        """Whether its predictor was fitted on shapes of (n, d), shape (n,).

        None of them, for a predictor of another space, or one whose table is not known.
        """
        table = self._table()
        known = set() if table is None else {row.tobytes() for row in table.features}
        return np.array([row.tobytes() in known for row in self.features(genotypes)], dtype=bool)

    def _table(self) -> Measurements | None:
        """What its predictor was fitted on, where that is known and of this space."""
        card, space = self.card, self.space
        # What was recalibrated from another space keeps that one's choices.
        own = tuple(gene.name for gene in space.genes), _choices(space)
        if (card.genes, card.choices) != own or self.is_proxy:
            return None
        if not (self.folder / TABLE).is_file():
            return None
        return read_measurements(self.folder / TABLE, TARGET, space, card.costs)

    @cached_property
    def _values(self) -> list[NDArray[np.float64]]:
        """For each gene what its choices looked like when the predictor was fitted."""
        genes = map(Gene, self.card.genes, self.card.choices)
        return [
            np.array(g.choices if g.is_numeric else range(len(g.choices)), dtype=np.float64)
            for g in genes
        ]

    @cached_property
    def _grid(self) -> GridForm | None:
        """The faster form over choice indices; costs are no gene, so most know none."""
        if self._chain is not None:
            return ChainForm(self._chain)
        separable = self.separable()
        if separable is not None:
            return separable
        form = None if self.card.costs else self.predictor.on_grid(self._values)
        sizes = self.space.cardinalities
        asked = int(sizes.sum() ** 2 - np.square(sizes).sum()) // 2
        if form is None and isinstance(self.predictor, (Additive, Ensemble)) and asked <= _PAIRS:
            # As the exact search takes it apart, so that both say the same to the last bit.
            with suppress(InvalidInputError):
                form = self.boxes().on_grid()
        return form

    @cached_property
    def _chain(self) -> ChainCost | None:
        """The mean along all genes, and costs along them that it uses."""
        predictor, costs = self.predictor, [self.space.costs[name] for name in self.card.costs]
        chains = [cost for cost in costs if isinstance(cost, ChainCost)]
        if len(chains) < len(costs):
            return None
        if isinstance(predictor, Additive) and predictor.is_chain:
            return predictor.chain(self._values, self.name, self.unit, chains)
        separable = None if costs else self.separable()
        return None if separable is None else separable.chain(self.name, self.unit)

    def _check_fit(self) -> None:
        card, space = self.card, self.space
        fitted = [len(choices) for choices in card.choices]
        if fitted != space.cardinalities.tolist():
            raise InvalidInputError(
                f"{self.folder}: a predictor for {space.name} must have "
                f"{_counts(space.cardinalities.tolist())}, got one of {card.space} with "
                f"{_counts(fitted)}"
            )
        # A cost of this space lies outside of what a predictor of another space has seen.
        if card.costs and self.is_proxy:
            raise InvalidInputError(
                f"{self.folder}: a predictor that uses {', '.join(card.costs)} must be fitted on "
                f"{space.name}, got one of {card.space}"
            )
        missing = [name for name in card.costs if name not in space.costs]
        if missing:
            raise InvalidInputError(
                f"{self.folder}: {space.name} must declare {', '.join(missing)}, "
                f"its costs: {', '.join(space.costs) or 'none'}"
            )


def _choices(space: SearchSpace) -> tuple[tuple[Choice, ...], ...]:
    return tuple(gene.choices for gene in space.genes)


def _counts(numbers: Sequence[int]) -> str:
    if len(set(numbers)) == 1:
        return f"{len(numbers)} genes of {numbers[0]} choices"
    return f"{len(numbers)} genes of {'/'.join(map(str, numbers))} choices"


def _outline(choices: Sequence[Sequence[Choice]]) -> str:
    """The number of genes and, where choices are numbers, the largest: ``12 x 384``."""
    numbers = [c for gene in choices for c in gene if not isinstance(c, str)]
    if len(numbers) < sum(map(len, choices)):
        return f"{len(choices)} genes"
    return f"{len(choices)} x {max(numbers):g}"
