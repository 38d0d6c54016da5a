"""A new device from a handful of measurements, by recalibrating predictors of known devices."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Floats
from nastool.errors import InvalidInputError
from nastool.files.reading import read_json
from nastool.predictors.base import Prediction, Predictor, check_training_data, create_predictor
from nastool.predictors.linear import (
    MODEL,
    RATIOS,
    Known,
    from_arrays,
    known_values,
    linear_design,
    to_arrays,
)
from nastool.predictors.ridge import Ridge, fit_ridge

SOURCES = "sources.json"

_NOISE = 0.1
"""Standard deviation of a measurement, relative to the effect of a physical sum."""


class Recalibrated(Predictor):
    """What other predictors say, rescaled, plus what the new measurements add to it.

    The known devices' predictions are trusted first, then physical sums, then single widths; how
    much less each is trusted is chosen with the penalty, by the marginal likelihood.

    Args:
        sources: Fitted predictors of the same features, e.g. of other devices.
    """

    kind = "transfer"
    label = "Recalibrated predictor"

    def __init__(self, sources: Sequence[Predictor] = ()) -> None:
        self.sources = tuple(sources)
        self._ridge: Ridge | None = None
        self._known: Known = ()

    @property
    def ridge(self) -> Ridge:
        """The fitted model of the sources' predictions and derived columns.

        Raises:
            InvalidInputError: Not fitted yet.
        """
        if self._ridge is None:
            raise InvalidInputError("the predictor must be fitted before it is used")
        return self._ridge

    def _groups(self, features: Floats) -> list[Floats]:
        means = [source.predict(features).mean for source in self.sources]
        return [np.column_stack(means), *linear_design(self._known, features)]

    def fit(self, features: Floats, targets: Floats, *, genes: int | None = None) -> None:
        features, targets, d = check_training_data(features, targets, genes)
        if not self.sources:
            raise InvalidInputError("a transfer needs at least one source predictor, got none")
        self._known = known_values(features[:, :d])
        self._ridge = fit_ridge(self._groups(features), targets, (*RATIOS, 0.01, 0.003))

    def predict(self, features: Floats) -> Prediction:
        ridge = self.ridge
        columns = np.concatenate(self._groups(np.asarray(features, dtype=np.float64)), axis=1)
        return Prediction(ridge.mean(columns), ridge.std(columns))

    def save(self, folder: Path) -> None:
        np.savez_compressed(folder / MODEL, **to_arrays(self.ridge, self._known))
        (folder / SOURCES).write_text(json.dumps([source.kind for source in self.sources]))
        for i, source in enumerate(self.sources):
            (folder / f"source_{i}").mkdir()
            source.save(folder / f"source_{i}")

    def load(self, folder: Path) -> None:
        self.sources = tuple(map(create_predictor, read_json(folder / SOURCES)))
        for i, source in enumerate(self.sources):
            source.load(folder / f"source_{i}")
        with np.load(folder / MODEL, allow_pickle=False) as arrays:
            self._ridge, self._known = from_arrays(arrays)


def most_informative(
    pool: Floats,
    n: int,
    *,
    genes: int | None = None,
    measured: Floats | None = None,
) -> NDArray[np.int64]:
    """Which shapes to measure next: those that lower the pool's mean variance most.

    Greedy I-optimal design for the linear model of costs; what was measured does not matter,
    only where.

    Args:
        pool: Features of candidate shapes, shape (m, f).
        n: Number of shapes wanted.
        genes: How many leading columns are genes; all by default.
        measured: Features of shapes measured already, shape (k, f).

    Returns:
        Rows of the pool in the order to measure them, shape (n,).

    Raises:
        InvalidInputError: More shapes wanted than the pool holds.
    """
    if not 0 <= n <= len(pool):
        raise InvalidInputError(f"expected between 0 and {len(pool)} shapes, got {n}")
    d = pool.shape[1] if genes is None else genes
    known = known_values(pool[:, :d])
    coarse, fine = linear_design(known, pool)
    columns, center, scale = _scaled(coarse, fine)
    covariance = np.eye(columns.shape[1])
    if measured is not None:
        rows = (np.concatenate(linear_design(known, measured), axis=1) - center) * scale
        for row in rows:
            covariance = _observe(covariance, row)
    second_moment = columns.T @ columns
    chosen: list[int] = []
    for _ in range(n):
        spread = columns @ covariance
        variance = (spread * columns).sum(axis=1)
        gain = ((spread @ second_moment) * spread).sum(axis=1) / (_NOISE**2 + variance)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
        covariance = _observe(covariance, columns[chosen[-1]])
    return np.array(chosen, dtype=np.int64)


def _scaled(coarse: Floats, fine: Floats) -> tuple[Floats, Floats, Floats]:
    """Standardised columns, the finer ones a priori ten times less important."""
    columns = np.concatenate([coarse, fine], axis=1)
    center, spread = columns.mean(axis=0), columns.std(axis=0)
    weight = np.repeat([1.0, 0.1], [coarse.shape[1], fine.shape[1]])
    scale = np.where(spread > 0, weight / np.where(spread > 0, spread, 1.0), 0.0)
    return (columns - center) * scale, center, scale


def _observe(covariance: Floats, row: Floats) -> Floats:
    """Covariance of the weights after one more measurement."""
    moved = covariance @ row
    result: Floats = covariance - np.outer(moved, moved) / (_NOISE**2 + row @ moved)
    return result
