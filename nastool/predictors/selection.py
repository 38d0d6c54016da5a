"""Which predictor to use: held-out scores, and the choice by cross-validated rank correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nastool.predictors.base import Floats, create_predictor
from nastool.predictors.conformal import half_width
from nastool.predictors.evaluation import Scores, holdout, score


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a predictor says about shapes that it was not fitted on.

    Args:
        scores: Agreement with the measurements.
        targets: Measured values of the held-out shapes, shape (n,).
        predictions: Predicted values, shape (n,).
        interval: Half-width that holds 90% of new measurements; None where too few were held out.
    """

    scores: Scores
    targets: Floats
    predictions: Floats
    interval: float | None


def held_out(
    kind: str, features: Floats, targets: Floats, genes: int, fraction: float, seed: int
) -> HeldOut:
    """Fit on a random part of a table and score on the rest.

    Args:
        kind: Kind of predictor.
        features: Shape (n, f).
        targets: Shape (n,).
        genes: How many leading columns are genes.
        fraction: Share held out.
        seed: Fixes the split.
    """
    fitted, rest = holdout(len(targets), fraction, seed)
    predictor = create_predictor(kind)
    predictor.fit(features[fitted], targets[fitted], genes=genes)
    predictions = predictor.predict(features[rest]).mean
    return HeldOut(
        score(targets[rest], predictions),
        targets[rest],
        predictions,
        half_width(np.abs(targets[rest] - predictions), coverage=0.9),
    )
