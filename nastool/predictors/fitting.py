"""From a table of measurements to a predictor with a card: the one way that every command fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Floats
from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.files.reading import is_file
from nastool.objective import Direction, RankAgreement
from nastool.predictors.base import Card, Predictor, create_predictor, load_predictor
from nastool.predictors.conformal import fit_widths
from nastool.predictors.evaluation import folds, holdout, rank_agreement
from nastool.predictors.evidence import same_measurement
from nastool.predictors.optimism import Second, estimate_optimism
from nastool.predictors.outliers import named, outliers
from nastool.predictors.region import Region
from nastool.predictors.selection import (
    BlindMaker,
    Candidate,
    HeldOut,
    Maker,
    compare,
    cross_validate,
    held_out,
    makers,
    on_held_out,
)
from nastool.predictors.tables import (
    TABLE,
    TARGET,
    Measurements,
    feature_values,
    read_cells,
)
from nastool.predictors.transfer import Recalibrated

FEW = 100
"""Shapes below which a part held out is too small to score on."""

_FOLDS = 5
"""Parts that new measurements are split into to score what learned from the others."""

_REPEATED = 60
"""Shapes below which errors are measured on several splits: those of one hang on the split."""

_REPEATS = 3
"""Splits of so few shapes."""

_LARGE = 2_000
"""Shapes from which on fewer folds give as good errors."""

_FLEXIBLE = "xgboost"
"""Kind that judges what other kinds take for best: it follows what no formula foresees."""

_SCARCE = 10
"""Shapes below which scores say little."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A predictor and what it is worth.

    Args:
        predictor: Fitted on all of the table.
        data: The table.
        held_out: What predictors fitted alike said about shapes that they were not fitted on.
        ranking: Kinds that were compared, best first; empty where none were.
        optimism: By which share the best of many predictions is likely worse; None if not known.
        notes: What to know of the table: repeats, rows left out, genes of one choice.
    """

    predictor: Predictor
    data: Measurements
    held_out: HeldOut
    ranking: tuple[Candidate, ...] = ()
    optimism: float | None = None
    notes: tuple[str, ...] = ()

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
            widths=self.held_out.widths,
            region=Region.of(data.features, data.targets, len(data.genes), data.costs),
            optimism=self.optimism,
            source={
                **source,
                **({"conditions": dict(data.conditions)} if data.conditions else {}),
                **({"notes": list(self.notes)} if self.notes else {}),
            },
            direction=direction,
        )

    def agreements(self, others: Mapping[str, Measurements]) -> tuple[RankAgreement, ...]:
        """How alike other measurements order their architectures.

        Measurements that it was fitted on agree anyway and are left out.

        Args:
            others: Tables of architectures of the same space, by what they are.

        Raises:
            InvalidInputError: A table of other genes, one whose order is not defined, or one that
                holds nothing but what was fitted.
        """
        found = []
        for source, other in others.items():
            if other.genes != self.data.genes:
                raise InvalidInputError(
                    f"{source}: expected the genes {', '.join(self.data.genes)}, got "
                    f"{', '.join(other.genes)}"
                )
            shared = _shared(self.data, other)
            if shared.all():
                raise InvalidInputError(
                    f"{source}: expected other measurements than those that are fitted, got the "
                    "same"
                )
            other = other.take(np.flatnonzero(~shared))
            predicted = self.predictor.predict(other.features).mean
            agreement = rank_agreement(source, predicted, other.targets)
            if agreement is None:
                raise InvalidInputError(
                    f"{source}: expected three architectures or more that differ in value, got "
                    f"{len(other)}"
                )
            found.append(agreement)
        return tuple(found)


def fit_table(
    data: Measurements,
    kind: str = "auto",
    *,
    sources: Sequence[Predictor] = (),
    tables: Sequence[Measurements | None] = (),
    fraction: float | None = None,
    seed: int = 0,
    direction: Direction = Direction.MINIMIZE,
    keep_outliers: bool = False,
) -> Fitted:
    """Fit a predictor to a table and score it on shapes that it has not seen.

    Args:
        data: The table.
        kind: Kind of predictor; ``auto`` keeps the best by cross-validation.
        sources: Predictors of the same features to recalibrate, instead of a kind.
        tables: What each of them was fitted on, or None: shapes are held out of these, too.
        fraction: Share held out for the scores, 0 for cross-validation; 0.3 by default, and 0 for
            small tables.
        seed: Fixes the splits.
        direction: Which way is better.
        keep_outliers: Whether to fit on rows that lie far from all others, too.

    Raises:
        InvalidInputError: An unknown kind, too few shapes, targets that are all the same, or two
            kinds of rows.
    """
    genes = len(data.genes)
    if len(data) < 3 or np.ptp(data.targets) == 0:
        raise InvalidInputError(
            "a table must hold at least 3 shapes of different values, got "
            + (f"{data.targets[0]:.6g} in all {len(data):,}" if len(data) > 2 else f"{len(data)}")
        )
    data, notes = _looked_through(data, keep_outliers)
    if fraction is None:
        fraction = 0.0 if len(data) < FEW else 0.3
    ranking: list[Candidate] = []
    left_out: list[str] = []
    make: Maker | BlindMaker
    if sources:
        make = _recalibrating(sources, tables or [None] * len(sources), data)
    elif kind == "auto":
        # The held-out part must not take part in the choice, or its scores would flatter.
        rows: Any = holdout(len(data), fraction, seed)[0] if fraction else slice(None)
        features, targets = data.features[rows], data.targets[rows]
        ranking = compare(makers(), features, targets, genes, seed=seed, left_out=left_out)
        make = makers()[ranking[0].kind]
    else:
        check_kind(kind)
        make = makers()[kind]
    result = over_all = held_out(make, data.features, data.targets, genes, fraction, seed)
    if fraction:
        # Of all shapes, so that intervals are those of the predictor that is kept.
        k = _folds_of(len(data))
        predictions = cross_validate(make, data.features, data.targets, genes, k, seed)
        over_all = on_held_out(data.targets, predictions)
        result = replace(result, interval=over_all.interval, widths=over_all.widths)
    if len(data) < _REPEATED:
        # Without a part held out the first split is made already: the same folds of the same seed.
        splits = [] if fraction else [over_all.predictions]
        splits += [
            cross_validate(make, data.features, data.targets, genes, 2 * _FOLDS, seed + split)
            for split in range(len(splits), _REPEATS)
        ]
        errors = np.concatenate([predictions - data.targets for predictions in splits])
        widths = fit_widths(np.concatenate(splits), errors, repeats=_REPEATS)
        result = replace(result, widths=widths)
    optimism = estimate_optimism(
        make,
        data.features,
        data.targets,
        genes,
        _within(data),
        direction,
        seed,
        over_all.predictions,
        None if sources else _second(make(), data, seed),
    )
    predictor = make()
    predictor.fit(data.features, data.targets, genes=genes)
    return Fitted(predictor, data, result, tuple(ranking), optimism, (*notes, *left_out))


def _folds_of(n: int) -> int:
    return 2 * _FOLDS if n < _LARGE // 2 else _FOLDS if n < _LARGE else 3


def _second(predictor: Predictor, data: Measurements, seed: int) -> Second | None:
    """A flexible model of a table beside another kind; None where it cannot be fitted."""
    if predictor.kind == _FLEXIBLE:
        return None
    make, genes = makers()[_FLEXIBLE], len(data.genes)
    k = min(_FOLDS, _folds_of(len(data)))
    try:
        unseen = cross_validate(make, data.features, data.targets, genes, k, seed)
    except MissingDependencyError:
        return None
    fitted = make()
    fitted.fit(data.features, data.targets, genes=genes)
    return Second(fitted, unseen)


def _looked_through(data: Measurements, keep: bool) -> tuple[Measurements, tuple[str, ...]]:
    """A table without outliers, and what to know of it."""
    notes = [str(data.repeats)] if data.repeats else []
    far = outliers(data) if not keep else np.empty(0, dtype=np.int64)
    if len(far):
        notes.append(
            f"{len(far):,} of {len(data):,} shapes were left out, far from all others: "
            f"{named(data, far)}"
        )
        data = data.take(np.setdiff1d(np.arange(len(data)), far))
    region = Region.of(data.features, data.targets, len(data.genes), data.costs)
    if region.single:
        single = ", ".join(f"{data.genes[i]} {region.seen[i][0]:g}" for i in region.single)
        notes.append(f"one choice only of {single}: of others nothing is known")
    if len(data) < _SCARCE:
        notes.append(f"{len(data)} shapes are few: scores and importances say little")
    elif len(data) < _REPEATED:
        notes.append(
            f"{len(data)} shapes are few: intervals hold 90% of new measurements over all, in "
            "parts of the range between 84% and 95%"
        )
    return data, tuple(filter(None, notes))


def _within(data: Measurements) -> Floats | None:
    """Shapes drawn from the space that lie in the region of a table."""
    if data.pool is None:
        return None
    region = Region.of(data.features, data.targets, len(data.genes), data.costs)
    middle = np.full(len(data.pool), float(np.median(data.targets)))
    pool = data.pool[~region.outside(data.pool, middle)]
    return pool if len(pool) >= len(data) else None


def _recalibrating(
    sources: Sequence[Predictor], tables: Sequence[Measurements | None], data: Measurements
) -> Maker | BlindMaker:
    """Makes recalibrated predictors whose sources are fitted without the shapes held out.

    A source knows of such a shape what was measured on another device; where that was in truth
    the same measurement, in whatever unit, it knows the answer.
    """
    shapes = {row.tobytes() for row in data.features}
    common = [
        table is not None and any(row.tobytes() in shapes for row in table.features)
        for table in tables
    ]
    if not any(common):
        return partial(Recalibrated, sources)

    def without(unseen: Floats) -> Predictor:
        hidden = {row.tobytes() for row in unseen}
        blind = []
        for source, table, shared in zip(sources, tables, common, strict=True):
            if not hidden or not shared or table is None:
                blind.append(source)
                continue
            rows = [i for i, row in enumerate(table.features) if row.tobytes() not in hidden]
            again = maker_of(source)()
            again.fit(table.features[rows], table.targets[rows], genes=len(table.genes))
            blind.append(again)
        return Recalibrated(blind)

    return BlindMaker(without)


def refit(predictor: Predictor, table: Measurements | None, measured: Measurements) -> Fitted:
    """Teach a predictor shapes that were measured since.

    It is fitted again, on its table and the new shapes; where the table is not known or not of the
    same quantity, it is recalibrated to the new shapes alone. The scores are those of new shapes,
    each predicted without it.

    Args:
        predictor: Fitted.
        table: What it was fitted on, of the same quantity, or None.
        measured: The new shapes; a shape that is in the table too counts with its new value.

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
    for inside, rest in folds(n, min(_FOLDS, n), seed=0):
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


def check_sources(
    data: Measurements, folders: Sequence[Path], cards: Sequence[Card]
) -> list[Measurements | None]:
    """Check that predictors can be recalibrated to a table.

    Args:
        data: The table.
        folders: Of the predictors.
        cards: Of the predictors.

    Returns:
        What each was fitted on, of the shapes that the table has, too; None where not known.

    Raises:
        InvalidInputError: One has other features, a table that cannot be read, or was fitted on
            measurements of this table, in whatever unit: what it learned of them would flatter
            the scores on held-out ones.
    """
    features = (*data.genes, *data.costs)
    check_features(features, folders, cards)
    found: list[Measurements | None] = []
    for folder, card in zip(folders, cards, strict=True):
        table = table_of(folder, card)
        found.append(table)
        if table is not None and (shared := int(_shared(data, table).sum())):
            raise InvalidInputError(
                f"{folder}: what is recalibrated must be fitted on other measurements, got "
                f"{shared:,} of the {len(data):,} rows of this table"
            )
    return found


def _shared(data: Measurements, other: Measurements) -> NDArray[np.bool_]:
    """Which rows of another table of the same features the first one has, in whatever unit."""
    own = {row.tobytes(): target for row, target in zip(data.features, data.targets, strict=True)}
    mine = np.array([own.get(row.tobytes(), np.nan) for row in other.features])
    both = np.flatnonzero(np.isfinite(mine))
    found = np.zeros(len(other), dtype=bool)
    if len(both):
        found[both] = same_measurement(mine[both], other.targets[both])
    return found


def table_of(folder: Path, card: Card) -> Measurements | None:
    """What the predictor in a folder was fitted on; None where nothing is kept beside it.

    Raises:
        InvalidInputError: The table has other columns than the card, or cells that are none of it.
    """
    if not is_file(folder / TABLE):
        return None
    cells = read_cells(folder / TABLE)
    missing = [name for name in (*card.features, TARGET) if name not in cells.columns]
    if missing:
        raise InvalidInputError(f"{folder / TABLE}: expected the columns {', '.join(missing)}")
    columns = []
    for name, choices in zip(card.genes, card.choices, strict=True):
        value = dict(zip(map(str, choices), feature_values(choices).tolist(), strict=True))
        cells_of = cells.columns[name]
        unknown = next((cell for cell in cells_of if cell not in value), None)
        if unknown is not None:
            raise InvalidInputError(f"{folder / TABLE}: {name} has no choice {unknown!r}")
        columns.append([value[cell] for cell in cells_of])
    try:
        numbers = [list(map(float, cells.columns[name])) for name in (*card.costs, TARGET)]
    except ValueError as error:
        raise InvalidInputError(f"{folder / TABLE}: {error}") from error
    return Measurements(
        genes=card.genes,
        choices=card.choices,
        costs=card.costs,
        features=np.array([*columns, *numbers[:-1]]).T,
        targets=np.array(numbers[-1]),
        dropped=0,
        space=card.space,
        fingerprint=card.fingerprint,
        source={},
    )
