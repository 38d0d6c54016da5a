"""Which predictor to use: scores on shapes not fitted on, and the choice between kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from nastool.arrays import Floats
from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.predictors.base import Predictor, create_predictor, known_predictors, means_of
from nastool.predictors.conformal import Widths, fit_widths, half_width
from nastool.predictors.evaluation import Scores, folds, holdout, score

Maker = Callable[[], Predictor]
"""Makes an unfitted predictor."""


@dataclass(frozen=True, eq=False)
class BlindMaker:
    """Makes an unfitted predictor that knows nothing of some shapes.

    Args:
        without: From their features (n, f) to the predictor.
    """

    without: Callable[[Floats], Predictor]

    def __call__(self) -> Predictor:
        """One that may know all shapes."""
        return self.without(np.empty((0, 0)))


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a predictor says about shapes that it was not fitted on.

    Args:
        scores: Agreement with the measurements.
        targets: Measured values, shape (n,).
        predictions: Predicted values, shape (n,).
        interval: Half-width that holds 90% of new measurements over all; None where n is too
            small.
        widths: Half-widths by predicted value, likewise.
    """

    scores: Scores
    targets: Floats
    predictions: Floats
    interval: float | None
    widths: Widths | None = None


@dataclass(frozen=True)
class Candidate:
    """A kind of predictor and how it does in cross-validation.

    Args:
        kind: Kind of predictor.
        label: What people call it.
        scores: Agreement over all folds.
    """

    kind: str
    label: str
    scores: Scores


def held_out(
    make: Maker | BlindMaker,
    features: Floats,
    targets: Floats,
    genes: int,
    fraction: float,
    seed: int,
) -> HeldOut:
    """Fit on a random part of a table and score on the rest.

    Args:
        make: Makes the predictor; see `cross_validate`.
        features: Shape (n, f).
        targets: Shape (n,).
        genes: How many leading columns are genes.
        fraction: Share held out; 0 for ten-fold cross-validation over all shapes.
        seed: Fixes the split.
    """
    if fraction == 0:
        predictions = cross_validate(make, features, targets, genes, 10, seed)
        return on_held_out(targets, predictions)
    fitted, rest = holdout(len(targets), fraction, seed)
    predictor = _made(make, features[rest])
    predictor.fit(features[fitted], targets[fitted], genes=genes)
    return on_held_out(targets[rest], means_of(predictor, features[rest]))


def on_held_out(targets: Floats, predictions: Floats) -> HeldOut:
    """Score predictions of shapes that were not fitted on, targets and predictions (n,)."""
    errors = np.abs(targets - predictions)
    return HeldOut(
        # Nothing is chosen by Kendall's correlation: fitting must not fail for want of it.
        score(targets, predictions, partly=True),
        targets,
        predictions,
        half_width(errors),
        fit_widths(predictions, errors),
    )


def cross_validate(
    make: Maker | BlindMaker, features: Floats, targets: Floats, genes: int, k: int, seed: int
) -> Floats:
    """Predict each shape by a predictor fitted on the folds without it.

    Args:
        make: Makes the predictor; a `BlindMaker` is told which shapes it must not know.
        features: Shape (n, f).
        targets: Shape (n,).
        genes: How many leading columns are genes.
        k: Number of folds.
        seed: Fixes the folds.

    Returns:
        Shape (n,).

    Raises:
        InvalidInputError: Fewer than three shapes.
    """
    predictions = np.empty(len(targets))
    if len(targets) < 3:
        raise InvalidInputError(f"cross-validation needs at least 3 shapes, got {len(targets)}")
    for fitted, rest in folds(len(targets), min(k, len(targets)), seed):
        predictor = _made(make, features[rest])
        predictor.fit(features[fitted], targets[fitted], genes=genes)
        predictions[rest] = means_of(predictor, features[rest])
    return predictions


def _made(make: Maker | BlindMaker, unseen: Floats) -> Predictor:
    return make.without(unseen) if isinstance(make, BlindMaker) else make()


def makers() -> dict[str, Maker]:
    """Every kind that can be fitted on a table alone, with its default settings."""
    kinds = [kind for kind in known_predictors() if kind != "transfer"]
    return {kind: partial(create_predictor, kind) for kind in kinds}


def compare(
    candidates: Mapping[str, Maker],
    features: Floats,
    targets: Floats,
    genes: int,
    k: int | None = None,
    seed: int = 0,
    left_out: list[str] | None = None,
) -> list[Candidate]:
    """Rank kinds of predictors by cross-validated rank correlation.

    Args:
        candidates: What to compare, by kind.
        features: Shape (n, f).
        targets: Shape (n,).
        genes: How many leading columns are genes.
        k: Number of folds, the same ones for all; by default the fewer, the larger the table.
        seed: Fixes the folds.
        left_out: Takes the reasons why kinds whose packages are not installed are left out.

    Returns:
        All candidates, the best first; the smaller error decides between equals.

    Raises:
        MissingDependencyError: None of them can be fitted.
    """
    if k is None:
        k = 10 if len(targets) < 100 else 5 if len(targets) < 500 else 3
    found: list[Candidate] = []
    missing: MissingDependencyError | None = None
    for kind, make in candidates.items():
        try:
            predictions = cross_validate(make, features, targets, genes, k, seed)
        except MissingDependencyError as error:
            missing = error
            if left_out is not None:
                left_out.append(f"{kind} is left out: {error}")
            continue
        found.append(Candidate(kind, make().label, score(targets, predictions, partly=True)))
    if missing is not None and not found:
        raise missing
    return sorted(found, key=lambda c: (-np.nan_to_num(c.scores.spearman, nan=-2.0), c.scores.rmse))
