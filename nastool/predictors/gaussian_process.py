"""Gaussian processes for small tables: smooth interpolation with error bars."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from nastool.arrays import Floats
from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.predictors.base import Prediction, Predictor, check_training_data
from nastool.predictors.linear import MODEL, physical
from nastool.runtime.quiet import quiet


@dataclass(frozen=True, eq=False)
class _Process:
    """A fitted process.

    Args:
        center: Mean of each column, shape (p,).
        scale: What each centred column is multiplied by, shape (p,).
        rows: Scaled columns fitted on, shape (n, p).
        weights: What the covariance with each of them is multiplied by, shape (n,).
        factor: Lower Cholesky factor of their covariance, shape (n, n).
        kernel: Variance and length of the deviation, variance of the trend and of the noise.
        target: Mean and standard deviation of the targets.
    """

    center: Floats
    scale: Floats
    rows: Floats
    weights: Floats
    factor: Floats
    kernel: Floats
    target: Floats


class GaussianProcess(Predictor):
    """A linear trend plus a smooth deviation; scikit-learn fits, numpy predicts.

    Args:
        rows: Largest number of rows it is fitted on, as its cost grows with the cube; from larger
            tables it takes a random part.
        seed: Fixes that part.
    """

    kind = "gaussian-process"
    label = "Gaussian process"

    def __init__(self, rows: int = 500, seed: int = 0) -> None:
        self.rows = rows
        self.seed = seed
        self._genes = 0
        self._process: _Process | None = None

    def fit(self, features: Floats, targets: Floats, *, genes: int | None = None) -> None:
        features, targets, self._genes = check_training_data(features, targets, genes)
        try:
            from sklearn.exceptions import ConvergenceWarning
            from sklearn.gaussian_process import GaussianProcessRegressor
            from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct
            from sklearn.gaussian_process.kernels import WhiteKernel as Noise
        except ImportError as error:
            raise MissingDependencyError(
                "fitting Gaussian processes needs scikit-learn: pip install 'nastool[fit]'"
            ) from error
        if len(targets) > self.rows:
            part = np.random.default_rng(self.seed).choice(len(targets), self.rows, replace=False)
            features, targets = features[part], targets[part]
        columns = self._columns(features)
        center, spread = columns.mean(axis=0), columns.std(axis=0)
        scale = np.where(spread > 0, 1.0 / np.where(spread > 0, spread, 1.0), 0.0)
        rows = (columns - center) * scale
        middle, size = float(targets.mean()), float(targets.std()) or 1.0

        kernel = (
            ConstantKernel(1.0, (1e-4, 1e3)) * RBF(5.0, (0.5, 200.0))
            + ConstantKernel(0.1, (1e-6, 1e3)) * DotProduct(1.0, "fixed")
            + Noise(0.05, (1e-6, 1.0))
        )
        process = GaussianProcessRegressor(kernel, alpha=1e-8, random_state=self.seed)
        # A hyperparameter at its bound is an answer too: no noise, or no deviation.
        with quiet("sklearn", warning=ConvergenceWarning):
            process.fit(rows, (targets - middle) / size)
        deviation, length, trend, noise = np.exp(process.kernel_.theta)
        self._process = _Process(
            center=center,
            scale=scale,
            rows=rows,
            weights=process.alpha_,
            factor=process.L_,
            kernel=np.array([deviation, length, trend, noise]),
            target=np.array([middle, size]),
        )

    def _columns(self, features: Floats) -> Floats:
        genes, costs = np.split(np.asarray(features, dtype=np.float64), [self._genes], axis=1)
        return np.column_stack([genes, physical(genes), costs])

    def predict(self, features: Floats) -> Prediction:
        fitted = self._fitted
        new = (self._columns(features) - fitted.center) * fitted.scale
        deviation, length, trend, noise = fitted.kernel
        products = new @ fitted.rows.T
        own, theirs = np.square(new).sum(axis=1), np.square(fitted.rows).sum(axis=1)
        distances = np.maximum(own[:, None] + theirs - 2.0 * products, 0.0)
        covariance = deviation * np.exp(-0.5 * distances / length**2) + trend * (products + 1.0)
        prior = deviation + trend * (own + 1.0) + noise
        explained = np.square(np.linalg.solve(fitted.factor, covariance.T)).sum(axis=0)
        middle, size = fitted.target
        return Prediction(
            covariance @ fitted.weights * size + middle,
            np.sqrt(np.maximum(prior - explained, noise)) * size,
        )

    @property
    def _fitted(self) -> _Process:
        if self._process is None:
            raise InvalidInputError("the predictor must be fitted before it is used")
        return self._process

    def save(self, folder: Path) -> None:
        arrays = {f.name: getattr(self._fitted, f.name) for f in fields(_Process)}
        np.savez_compressed(folder / MODEL, genes=np.array(self._genes), **arrays)

    def load(self, folder: Path) -> None:
        with np.load(folder / MODEL, allow_pickle=False) as arrays:
            self._genes = int(arrays["genes"])
            self._process = _Process(**{f.name: arrays[f.name] for f in fields(_Process)})
