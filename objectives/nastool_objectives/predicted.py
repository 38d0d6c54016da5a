"""Any metric of a fitted predictor, for the space it was fitted on or one of equal genes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.objective import Kind, Objective, Provenance
from nastool.predictors import Card, load_predictor
from nastool.problem import CostObjective
from nastool.space import Choice, Gene, Genotypes, SearchSpace


class PredictedObjective(Objective):
    """A predictor's mean, as a function of genotypes.

    A predictor of another space is used *by genotype*: the third choice of a gene here stands for
    the third choice of the gene it was fitted on. Every output says so.

    Args:
        space: What is searched.
        folder: Holds a predictor and its card.
        name: The metric's name as users type it; the card's own by default.

    Raises:
        InvalidInputError: No predictor there, or one whose genes do not fit the space's.
    """

    def __init__(self, space: SearchSpace, folder: str | Path, name: str | None = None) -> None:
        self.space = space
        self.folder = Path(folder)
        self.predictor, self.card = load_predictor(self.folder)
        self._name = name or self.card.metric
        _check_genes(space, self.card, self.folder)
        self._costs = [_cost_of(space, cost, self.card, self.folder) for cost in self.card.costs]

    @property
    def name(self) -> str:
        return self._name

    @property
    def unit(self) -> str:
        return self.card.unit

    @cached_property
    def is_proxy(self) -> bool:
        """Whether the predictor was fitted on another space than the one searched."""
        if self.card.fingerprint:
            return self.card.fingerprint != self.space.fingerprint
        return self.card.space != self.space.name or self.card.choices != _choices(self.space)

    @property
    def provenance(self) -> Provenance:
        card = self.card
        proxy = (
            f"fitted on {card.space} ({_outline(card.choices)}), "
            f"used by genotype for {self.space.name} ({_outline(_choices(self.space))})"
            if self.is_proxy
            else ""
        )
        return Provenance(Kind.PREDICTED, card.by, card.error, proxy)

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.space.fingerprint.encode())
        for file in sorted(self.folder.rglob("*")):
            if file.is_file():
                digest.update(file.relative_to(self.folder).as_posix().encode())
                digest.update(file.read_bytes())
        for cost in self._costs:
            digest.update(cost.fingerprint.encode())
        return digest.hexdigest()[:16]

    def evaluate(self, genotypes: Genotypes) -> NDArray[np.float64]:
        if len(genotypes) == 0:
            return np.empty(0)
        if self._grid is not None:
            values: NDArray[np.float64] = self._grid.predict(genotypes)
            return values
        return self.predictor.predict(self.features(genotypes)).mean

    def features(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """What the predictor sees: the card's choices of the genes, then its costs, (n, f)."""
        columns = [column[genotypes[:, i]] for i, column in enumerate(self._values)]
        columns += [cost.evaluate(genotypes) for cost in self._costs]
        return np.stack(columns, axis=1)

    @cached_property
    def _values(self) -> list[NDArray[np.float64]]:
        """For each gene, the feature value of each choice it was fitted on."""
        return [
            np.array(
                list(choices)
                if Gene(name, choices).is_numeric
                else range(len(choices)),
                dtype=np.float64,
            )
            for name, choices in zip(self.card.genes, self.card.choices, strict=True)
        ]

    @cached_property
    def _grid(self) -> Any:
        """The faster form over choice indices; None where costs are features too."""
        return None if self._costs else self.predictor.on_grid(self._values)


def create(space: SearchSpace, argument: str | None = None) -> PredictedObjective:
    """Make the objective ``predicted[FOLDER]``: any fitted predictor, whatever it predicts.

    Args:
        space: What is searched.
        argument: Folder of the predictor.

    Raises:
        InvalidInputError: No folder given, or see `PredictedObjective`.
    """
    if argument is None:
        raise InvalidInputError("predicted needs the folder of a predictor: predicted[FOLDER]")
    return PredictedObjective(space, argument, f"predicted[{argument}]")


def _choices(space: SearchSpace) -> tuple[tuple[Choice, ...], ...]:
    return tuple(gene.choices for gene in space.genes)


def _check_genes(space: SearchSpace, card: Card, folder: Path) -> None:
    fitted, wanted = [len(c) for c in card.choices], [len(c) for c in _choices(space)]
    if fitted != wanted:
        raise InvalidInputError(
            f"{folder}: a predictor for {space.name} must have {_counts(wanted)}, "
            f"got one of {card.space} with {_counts(fitted)}"
        )


def _cost_of(space: SearchSpace, name: str, card: Card, folder: Path) -> CostObjective:
    if name not in space.costs:
        raise InvalidInputError(
            f"{folder}: the predictor of {card.space} needs the cost {name!r}, "
            f"which {space.name} does not declare"
        )
    return CostObjective(space.costs[name], space)


def _counts(numbers: Sequence[int]) -> str:
    """``12 genes of 7 choices``, or the choices of each gene where they differ."""
    if len(set(numbers)) == 1:
        return f"{len(numbers)} genes of {numbers[0]} choices"
    return f"{len(numbers)} genes of {', '.join(map(str, numbers))} choices"


def _outline(choices: Sequence[Sequence[Choice]]) -> str:
    """The number of genes and, where it is a number, the largest choice: ``12 x 384``."""
    every = [choice for gene in choices for choice in gene]
    if all(isinstance(choice, (int, float)) for choice in every):
        return f"{len(choices)} x {max(every):g}"  # type: ignore[type-var, str-format]
    return f"{len(choices)} genes"
