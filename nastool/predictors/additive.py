"""Scores block by block: what each choice of each gene adds, whatever the other genes are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nastool.arrays import Floats
from nastool.errors import InvalidInputError
from nastool.predictors.base import Prediction, Predictor, check_training_data
from nastool.predictors.linear import Known, known_values
from nastool.predictors.ridge import fit_ridge
from nastool.predictors.separable import Separable
from nastool.space import summable

MODEL = "scores.npz"


class AdditiveScores(Predictor):
    """A sum of one effect a gene, of the logarithm of the targets where that fits better.

    A table that changes one gene of a shape at a time determines it exactly. Any larger one is
    fitted by ridge regression on the steps from one choice to the next, and the scale is the one
    whose leave-one-out errors are smaller. Of a choice that no row has, the effect is interpolated
    between those of its neighbours. Costs among the features are left alone.

    Adding a constant to the targets does not add it to the predictions where the scale is
    logarithmic, as it is wherever the table does not say and all targets are positive.

    Args:
        is_log: Whether the logarithm adds up; as described by default.
    """

    kind = "additive"
    label = "Additive scores"

    def __init__(self, is_log: bool | None = None) -> None:
        self._wanted = is_log
        self._known: Known = ()
        self._form: Separable | None = None
        self._noise = np.nan

    @property
    def form(self) -> Separable:
        """The effects of the known values of each gene.

        Raises:
            InvalidInputError: Not fitted yet.
        """
        if self._form is None:
            raise InvalidInputError("the predictor must be fitted before it is used")
        return self._form

    def fit(self, features: Floats, targets: Floats, *, genes: int | None = None) -> None:
        features, targets, d = check_training_data(features, targets, genes)
        is_positive = bool(np.all(targets > 0))
        if self._wanted and not is_positive:
            raise InvalidInputError(
                f"the logarithm needs positive targets, got one of {targets.min():.6g}"
            )
        self._known = known_values(features[:, :d])
        steps = _steps(features[:, :d], self._known)
        scales = [self._wanted] if self._wanted is not None else [True, False][not is_positive :]
        fits = [_fit(steps, targets, self._known, is_log=bool(scale)) for scale in scales]
        # Without errors to tell by, NaN, the first stays.
        self._form, self._noise, _ = min(fits, key=lambda fit: np.nan_to_num(fit[2], nan=0.0))

    def predict(self, features: Floats) -> Prediction:
        form = self.form
        features = np.asarray(features, dtype=np.float64)
        total = np.full(len(features), form.offset)
        for column, known, terms in zip(features.T, self._known, form.terms, strict=False):
            total += np.interp(column, known, terms)
        mean = form.value(total)
        if np.isnan(self._noise):
            return Prediction(mean)
        return Prediction(mean, self._noise * (mean if form.is_log else np.ones_like(mean)))

    def separable(self, values: Sequence[Floats]) -> Separable | None:
        form = self.form
        if len(values) != len(self._known):
            return None
        # Exact sums: the searches that add them up in another order find the same.
        terms = [
            np.interp(*of_gene) for of_gene in zip(values, self._known, form.terms, strict=True)
        ]
        return Separable(*summable(terms, form.offset), form.is_log)

    def on_grid(self, values: Sequence[Floats]) -> Separable | None:
        return self.separable(values)

    def save(self, folder: Path) -> None:
        form = self.form
        np.savez_compressed(
            folder / MODEL,
            known=np.concatenate([np.empty(0), *self._known]),
            terms=np.concatenate([np.empty(0), *form.terms]),
            counts=np.array([len(known) for known in self._known], dtype=np.int64),
            offset=np.array(form.offset),
            is_log=np.array(form.is_log),
            noise=np.array(self._noise),
        )

    def load(self, folder: Path) -> None:
        with np.load(folder / MODEL, allow_pickle=False) as arrays:
            ends = np.cumsum(arrays["counts"])[:-1]
            self._known = tuple(np.split(arrays["known"], ends))
            terms = tuple(np.split(arrays["terms"], ends))
            self._form = Separable(terms, float(arrays["offset"]), bool(arrays["is_log"]))
            self._noise = float(arrays["noise"])


def _steps(genes: Floats, known: Known) -> Floats:
    """Whether each gene lies below each of its values but the least, (n, d) to (n, p)."""
    parts = [genes[:, [i]] < values[1:] for i, values in enumerate(known)]
    return np.column_stack([np.empty((len(genes), 0)), *parts]).astype(np.float64)


def _fit(
    steps: Floats, targets: Floats, known: Known, *, is_log: bool
) -> tuple[Separable, float, float]:
    """The effects, the noise around them and the leave-one-out error in the targets' unit.

    The noise and the error are NaN where the table determines the effects and no more.
    """
    rows, columns = steps.shape
    values = np.log(targets) if is_log else targets
    everything = np.column_stack([np.ones(rows), steps])
    if rows == columns + 1 and np.linalg.matrix_rank(everything) == rows:
        offset, *slopes = np.linalg.solve(everything, values).tolist()
        noise = error = np.nan
    else:
        ridge = fit_ridge([steps], values, robust=False)
        slopes = (ridge.weights * ridge.scale).tolist()
        offset = ridge.intercept - float(ridge.center @ np.array(slopes))
        noise = max(float(np.sqrt(np.square(ridge.errors).mean())), np.finfo(float).tiny)
        without = values - ridge.errors
        # An overflow is an error that another scale does not make.
        with np.errstate(over="ignore"):
            missed = targets - (np.exp(without) if is_log else without)
            error = float(np.nan_to_num(np.sqrt(np.square(missed).mean()), posinf=1e300))
    terms = []
    at = 0
    for its in known:
        # Being below a value is being below all larger ones too.
        own = np.array(slopes[at : at + len(its) - 1])
        terms.append(np.append(np.cumsum(own[::-1])[::-1], 0.0))
        at += len(its) - 1
    return Separable(tuple(terms), float(offset), is_log), noise, error
