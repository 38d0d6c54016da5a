"""Gradient-boosted trees, the published predictor (SuperShaper, section 3.3 and appendix E)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nastool.arrays import Floats
from nastool.errors import (
    InvalidInputError,
    MissingDependencyError,
    NastoolError,
    in_one_line,
)
from nastool.files.reading import read_json_object
from nastool.predictors.base import Prediction, Predictor, check_training_data, standard
from nastool.predictors.trees import GridEnsemble, TreeEnsemble

MODEL = "model.json"

TARGET = "target.json"
"""Middle and spread of the targets, which the trees of `MODEL` do not know; older predictors have
none, and trees of the targets themselves."""


_ROUNDING = 1e-3
"""How far sums of leaves in float32, as XGBoost has them, may lie from ours, in spreads."""


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
        self._middle, self._size = 0.0, 1.0
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
        # Trees are grown in float32: around 0 and of spread 1, all its digits tell shapes apart.
        centred, middle, size = standard(targets)
        data = xgboost.DMatrix(features, centred, nthread=1)
        # `xgboost.train` grows the same trees, but asks its callbacks after each of them.
        booster = xgboost.Booster(settings, [data])
        for tree in range(self.trees):
            booster.update(data, tree)
        model = bytes(booster.save_raw("json"))
        # Formats change from release to release; a part that is not known here would be left out.
        read, own = TreeEnsemble.from_json(model).predict(features), booster.predict(data)
        if not np.allclose(read, own, rtol=_ROUNDING, atol=_ROUNDING):
            raise NastoolError(
                f"trees of XGBoost {xgboost.__version__} must predict the same once they are read "
                f"back, got differences of {np.abs(read - own).max():.2g} spreads of the targets"
            )
        self._become(model, middle, size)

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
        contributions *= self._size
        return contributions

    def on_grid(self, values: Sequence[ArrayLike]) -> GridEnsemble:
        """The trees as a function of choice indices; see `TreeEnsemble.on_grid`."""
        return self.ensemble.on_grid(values)

    def save(self, folder: Path) -> None:
        """Write `model.json`, which XGBoost itself reads too, and the scale of the targets."""
        if self._ensemble is None:
            raise InvalidInputError("the predictor must be fitted before it is saved")
        (folder / MODEL).write_bytes(self._model)
        scale = {"middle": self._middle, "size": self._size}
        (folder / TARGET).write_text(json.dumps(scale) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        scale = {"middle": 0.0, "size": 1.0}
        if (folder / TARGET).is_file():
            scale = read_json_object(folder / TARGET)
        model = (folder / MODEL).read_bytes()
        self._become(model, float(scale["middle"]), float(scale["size"]))

    def _become(self, model: bytes, middle: float, size: float) -> None:
        self._ensemble = TreeEnsemble.from_json(model).scaled(middle, size)
        self._model, self._middle, self._size = model, middle, size


def _xgboost(task: str) -> Any:
    try:
        import xgboost
    except ImportError as error:
        raise MissingDependencyError(
            f"{task} trees needs xgboost: pip install 'nastool[fit]' or 'nastool[fit-cpu]'"
        ) from error
    # Its library may not load; what it then raises has a class of its own.
    except Exception as error:
        raise NastoolError(
            f"{task} trees needs xgboost, which does not load here: {in_one_line(error)}"
        ) from error
    return xgboost
