"""Several predictors, weighted by how they do on shapes they were not fitted on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nastool.arrays import Floats
from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.files.reading import read_json_object
from nastool.predictors.base import (
    Prediction,
    Predictor,
    check_training_data,
    create_predictor,
    standard,
)
from nastool.predictors.evaluation import folds

WEIGHTS = "weights.json"


class Ensemble(Predictor):
    """A convex combination (stacking: Wolpert, 1992; Breiman, 1996).

    Args:
        kinds: Kinds of the members.
        splits: Folds that the weights are found on.
        seed: Fixes the folds.
    """

    kind = "ensemble"
    label = "Ensemble"

    def __init__(
        self, kinds: Sequence[str] = ("pairwise", "xgboost"), splits: int = 3, seed: int = 0
    ) -> None:
        self.kinds = tuple(kinds)
        self.splits = splits
        self.seed = seed
        self.weights: Floats = np.empty(0)
        self._members: list[Predictor] = []
        self._noise = 0.0

    @property
    def members(self) -> tuple[Predictor, ...]:
        """The fitted members, in the order of the weights."""
        return tuple(self._members)

    def fit(self, features: Floats, targets: Floats, *, genes: int | None = None) -> None:
        features, targets, d = check_training_data(features, targets, genes)
        try:
            from scipy.optimize import nnls
        except ImportError as error:
            raise MissingDependencyError(
                "fitting ensembles needs scipy: pip install 'nastool[fit]'"
            ) from error
        outside = np.empty((len(targets), len(self.kinds)))
        for inside, rest in folds(len(targets), min(self.splits, len(targets)), self.seed):
            for i, kind in enumerate(self.kinds):
                member = create_predictor(kind)
                member.fit(features[inside], targets[inside], genes=d)
                outside[rest, i] = member.predict(features[rest]).mean
        # Around the mean, so that weights say how to mix and not how to scale.
        centred, middle, size = standard(targets)
        weights, _ = nnls((outside - middle) / size, centred)
        self.weights = (
            weights / weights.sum() if weights.any() else np.full(len(weights), 1.0 / len(weights))
        )
        self._noise = float(np.std(targets - outside @ self.weights))
        self._members = [create_predictor(kind) for kind in self.kinds]
        for member in self._members:
            member.fit(features, targets, genes=d)

    def predict(self, features: Floats) -> Prediction:
        if not self._members:
            raise InvalidInputError("the predictor must be fitted before it is used")
        means = np.stack([member.predict(features).mean for member in self._members], axis=1)
        mean = means @ self.weights
        disagreement = np.square(means - mean[:, None]) @ self.weights
        return Prediction(mean, np.sqrt(self._noise**2 + disagreement))

    def save(self, folder: Path) -> None:
        if not self._members:
            raise InvalidInputError("the predictor must be fitted before it is saved")
        content = {
            "weights": dict(zip(self.kinds, self.weights.tolist(), strict=True)),
            "noise": self._noise,
        }
        (folder / WEIGHTS).write_text(json.dumps(content))
        for member in self._members:
            (folder / member.kind).mkdir()
            member.save(folder / member.kind)

    def load(self, folder: Path) -> None:
        content = read_json_object(folder / WEIGHTS)
        self.kinds = tuple(content["weights"])
        self.weights = np.array(list(content["weights"].values()))
        self._noise = float(content["noise"])
        self._members = [create_predictor(kind) for kind in self.kinds]
        for member in self._members:
            member.load(folder / member.kind)
