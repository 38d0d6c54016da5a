"""Gradient-boosted trees, the published predictor (SuperShaper, section 3.3 and appendix E)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.predictors.base import Floats, Prediction, Predictor, check_training_data
from nastool.predictors.trees import GridEnsemble, TreeEnsemble

MODEL = "model.json"


class BoostedTrees(Predictor):
    """XGBoost grows the trees; predicting needs numpy only.

    Args:
        trees: Number of trees.
        depth: Largest depth of a tree.
        learning_rate: Shrinkage of each tree.
        seed: Fixes the rows that each tree sees.
    """

    kind = "xgboost"
    label = "XGBoost"

    def __init__(
        self, trees: int = 300, depth: int = 4, learning_rate: float = 0.1, seed: int = 0
    ) -> None:
        self.settings = {"max_depth": depth, "learning_rate": learning_rate, "seed": seed}
        self.trees = trees
        self._model = b""
        self._ensemble: TreeEnsemble | None = None

    @property
    def ensemble(self) -> TreeEnsemble:
        """The fitted trees.

        Raises:
            InvalidInputError: Not fitted yet.
        """
        if self._ensemble is None:
            raise InvalidInputError("the predictor must be fitted before it predicts")
        return self._ensemble

    def fit(self, features: Floats, targets: Floats, *, genes: int | None = None) -> None:
        """Grow the trees; see `Predictor.fit`."""
        features, targets, _ = check_training_data(features, targets, genes)
        xgboost = _xgboost("growing")
        # Histogram sums depend on the number of threads in the last bits: one thread, one model.
        settings = {
            **self.settings,
            "objective": "reg:squarederror",
            "tree_method": "hist",
            "nthread": 1,
            "verbosity": 0,
        }
        data = xgboost.DMatrix(features, targets, nthread=1)
        booster = xgboost.train(settings, data, num_boost_round=self.trees)
        self._become(bytes(booster.save_raw("json")))

    def predict(self, features: Floats) -> Prediction:
        """Sum of the leaves; see `Predictor.predict`."""
        return Prediction(self.ensemble.predict(features))

    def contributions(self, features: Floats) -> Floats:
        """How far each column moves a prediction away from the average one: exact Shapley values.

        Args:
            features: Shape (n, f).

        Returns:
            Shape (n, f); with the average prediction, each row sums up to its prediction.
        """
        xgboost = _xgboost("explaining")
        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(bytearray(self._model))
        data = xgboost.DMatrix(np.asarray(features, dtype=np.float64), nthread=1)
        contributions: Floats = booster.predict(data, pred_contribs=True)[:, :-1].astype(np.float64)
        return contributions

    def on_grid(self, values: Sequence[ArrayLike]) -> GridEnsemble:
        """The trees as a function of choice indices; see `TreeEnsemble.on_grid`."""
        return self.ensemble.on_grid(values)

    def save(self, folder: Path) -> None:
        """Write `model.json`, which XGBoost itself reads too."""
        if self._ensemble is None:
            raise InvalidInputError("the predictor must be fitted before it is saved")
        (folder / MODEL).write_bytes(self._model)

    def load(self, folder: Path) -> None:
        """Read `model.json`."""
        self._become((folder / MODEL).read_bytes())

    def _become(self, model: bytes) -> None:
        self._ensemble = TreeEnsemble.from_json(model)
        self._model = model


def _xgboost(task: str) -> Any:
    try:
        import xgboost
    except ImportError as error:
        raise MissingDependencyError(
            f"{task} trees needs xgboost: pip install 'nastool[fit]' or 'nastool[fit-cpu]'"
        ) from error
    return xgboost
