"""From a table of measurements to a predictor with a card: the one way that every command fits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nastool.errors import InvalidInputError
from nastool.objective import Direction
from nastool.predictors.base import Card, Floats, Predictor, create_predictor, load_predictor
from nastool.predictors.evaluation import folds, holdout
from nastool.predictors.selection import (
    Candidate,
    HeldOut,
    Maker,
    compare,
    held_out,
    makers,
    on_held_out,
)
from nastool.predictors.tables import TABLE, Measurements
from nastool.predictors.transfer import Recalibrated

FEW = 100
"""Shapes below which a part held out is too small to score on."""

_FOLDS = 5
"""Parts that new measurements are split into to score what learned from the others."""

_EQUAL = 1e-8
"""Relative difference up to which two tables hold the same measurement: one may be rounded."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A predictor and what it is worth.

    Args:
        predictor: Fitted on all of the table.
        data: The table.
        held_out: What predictors fitted alike said about shapes that they were not fitted on.
        ranking: Kinds that were compared, best first; empty where none were.
    """

    predictor: Predictor
    data: Measurements
    held_out: HeldOut
    ranking: tuple[Candidate, ...] = ()

    def card(
        self,
        metric: str,
        unit: str,
        source: Mapping[str, Any],
        direction: Direction = Direction.MINIMIZE,
    ) -> Card:
        """Its card.

        Args:
            metric: What it predicts.
            unit: Unit of the predicted values; empty for plain numbers.
            source: What was measured and on what.
            direction: Which way is better.
        """
        data = self.data
        return Card(
            metric=metric,
            unit=unit,
            kind=self.predictor.kind,
            label=self.predictor.label,
            space=data.space,
            fingerprint=data.fingerprint,
            genes=data.genes,
            choices=data.choices,
            features=(*data.genes, *data.costs),
            shapes=len(data),
            scores=self.held_out.scores,
            interval=self.held_out.interval,
            source=source,
            direction=direction,
        )


def fit_table(
    data: Measurements,
    kind: str = "auto",
    *,
    sources: Sequence[Predictor] = (),
    fraction: float | None = None,
    seed: int = 0,
) -> Fitted:
    """Fit a predictor to a table and score it on shapes that it has not seen.

    Args:
        data: The table.
        kind: Kind of predictor; ``auto`` keeps the best by cross-validation.
        sources: Predictors of the same features to recalibrate, instead of a kind.
        fraction: Share held out for the scores, 0 for cross-validation; 0.3 by default, and 0 for
            small tables.
        seed: Fixes the splits.

    Raises:
        InvalidInputError: An unknown kind, or too few shapes.
    """
    genes = len(data.genes)
    if fraction is None:
        fraction = 0.0 if len(data) < FEW else 0.3
    ranking: list[Candidate] = []
    make: Maker
    if sources:
        make = partial(Recalibrated, sources)
    elif kind == "auto":
        # The held-out part must not take part in the choice, or its scores would flatter.
        rows: Any = holdout(len(data), fraction, seed)[0] if fraction else slice(None)
        ranking = compare(makers(), data.features[rows], data.targets[rows], genes, seed=seed)
        make = makers()[ranking[0].kind]
    else:
        check_kind(kind)
        make = makers()[kind]
    result = held_out(make, data.features, data.targets, genes, fraction, seed)
    predictor = make()
    predictor.fit(data.features, data.targets, genes=genes)
    return Fitted(predictor, data, result, tuple(ranking))


def refit(
    predictor: Predictor, table: Measurements | None, measured: Measurements, seed: int = 0
) -> Fitted:
    """Teach a predictor shapes that were measured since.

    It is fitted again, on its table and the new shapes; where the table is not known or not of the
    same quantity, it is recalibrated to the new shapes alone. The scores are those of new shapes,
    each predicted without it.

    Args:
        predictor: Fitted.
        table: What it was fitted on, of the same quantity, or None.
        measured: The new shapes; a shape that is in the table too counts with its new value.
        seed: Fixes the splits.

    Raises:
        InvalidInputError: Fewer than three new shapes.
    """
    n, genes = len(measured), len(measured.genes)
    if n < 3:
        raise InvalidInputError(f"refitting needs at least 3 measured shapes, got {n}")
    make: Maker = partial(Recalibrated, [predictor]) if table is None else maker_of(predictor)
    known = None if table is None else table.without(measured)

    def fitted(rows: Any) -> Predictor:
        features, targets = measured.features[rows], measured.targets[rows]
        if known is not None:
            features = np.concatenate([known.features, features])
            targets = np.concatenate([known.targets, targets])
        made = make()
        made.fit(features, targets, genes=genes)
        return made

    predictions: Floats = np.empty(n)
    for inside, rest in folds(n, min(_FOLDS, n), seed):
        predictions[rest] = fitted(inside).predict(measured.features[rest]).mean
    data = measured if known is None else known.joined(measured)
    return Fitted(fitted(slice(None)), data, on_held_out(measured.targets, predictions))


def maker_of(predictor: Predictor) -> Maker:
    """What makes an unfitted predictor like this one."""
    if isinstance(predictor, Recalibrated):
        return partial(Recalibrated, predictor.sources)
    return partial(create_predictor, predictor.kind)


def check_kind(kind: str) -> None:
    """Check that a kind of predictor can be fitted on a table alone.

    Raises:
        InvalidInputError: It is neither ``auto`` nor a known kind.
    """
    if kind != "auto" and kind not in makers():
        raise InvalidInputError(
            f"a predictor must be auto or one of {', '.join(makers())}, got {kind!r}"
        )


def load_sources(folders: Sequence[Path]) -> tuple[list[Predictor], list[Card]]:
    """Predictors of known devices, and their cards."""
    loaded = [load_predictor(folder) for folder in folders]
    return [predictor for predictor, _ in loaded], [card for _, card in loaded]


def check_features(features: Sequence[str], folders: Sequence[Path], cards: Sequence[Card]) -> None:
    """Check that predictors know the features of a table.

    Args:
        features: Names of the columns, genes first, then costs.
        folders: Of the predictors.
        cards: Of the predictors.

    Raises:
        InvalidInputError: One has other features.
    """
    for folder, card in zip(folders, cards, strict=True):
        if card.features != tuple(features):
            raise InvalidInputError(
                f"{folder}: what is recalibrated must have the features {', '.join(features)}; "
                f"got {', '.join(card.features)}"
            )


def check_sources(data: Measurements, folders: Sequence[Path], cards: Sequence[Card]) -> None:
    """Check that predictors can be recalibrated to a table.

    Args:
        data: The table.
        folders: Of the predictors.
        cards: Of the predictors.

    Raises:
        InvalidInputError: One has other features, a table that cannot be read, or was fitted on
            rows of this table: what it learned of them would flatter the scores on held-out ones.
    """
    check_features((*data.genes, *data.costs), folders, cards)
    own = _rows(data.to_csv())
    for folder in folders:
        if not (folder / TABLE).is_file():
            continue
        try:
            known = _rows((folder / TABLE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidInputError(f"cannot read {folder / TABLE}: {error}") from error
        shared = sum(
            math.isclose(known.get(shape, math.nan), target, rel_tol=_EQUAL)
            for shape, target in own.items()
        )
        if shared:
            raise InvalidInputError(
                f"{folder}: what is recalibrated must be fitted on other measurements, got "
                f"{shared:,} of the {len(own):,} rows of this table"
            )


def _rows(table: str) -> dict[str, float]:
    """Targets by what stands before them, of a table as `Measurements.to_csv` writes it."""
    rows = (line.rpartition(",") for line in table.splitlines()[1:])
    return {shape: float(target) for shape, _, target in rows}
