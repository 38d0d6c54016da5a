"""What every predictor must fulfil."""

# ruff: noqa: S101 - a suite of tests asserts; nothing here runs outside of pytest
from __future__ import annotations

import zipfile
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import pytest

from nastool.arrays import Floats
from nastool.choices import check_name
from nastool.errors import InvalidInputError
from nastool.objective import read_only
from nastool.predictors.base import CARD, Prediction, Predictor
from nastool.runtime.leftovers import temporary_folder
from nastool.testing.surroundings import global_generators_kept

_WIDTHS = np.array([1.0, 2.0, 3.0, 5.0, 8.0])
_PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".dill")


class PredictorConformance(ABC):
    """What every predictor must fulfil."""

    @abstractmethod
    def make(self) -> Predictor:
        """A fresh, unfitted instance of the predictor under test."""

    rows = 100
    """Rows of the table that is fitted; lower it where fitting is slow."""

    tolerance = 0.05
    """How far, in standard deviations of the targets, targets in another unit may move a
    prediction (root mean square)."""

    moved = True
    """Whether adding a constant to the targets adds it to the predictions; False, and documented,
    for a predictor of logarithms or ratios."""

    def table(self, n: int, seed: int) -> tuple[Floats, Floats]:
        """Features (n, 5) of four genes and a cost, and positive targets (n,) with little noise."""
        rng = np.random.default_rng(seed)
        genes = _WIDTHS[rng.integers(0, len(_WIDTHS), (n, 4))]
        cost = (genes[:, :-1] * genes[:, 1:]).sum(axis=1)
        targets = 20 + genes @ [4.0, 3.0, 2.0, 1.0] + 0.05 * cost + rng.normal(0, 0.5, n)
        return np.column_stack([genes, cost]), targets

    def test_it_says_what_it_is(self) -> None:
        predictor = self.make()
        check_name("the kind", predictor.kind)
        check_name("the label", predictor.label)

    def test_what_it_predicts_has_a_row_for_each(self) -> None:
        predictor, new = self._fitted(), self._new()
        for n in (len(new), 1, 0):
            prediction = predictor.predict(new[:n])
            assert isinstance(prediction, Prediction)
            for values in (prediction.mean, prediction.std):
                if values is not None:
                    assert values.shape == (n,)
                    assert values.dtype == np.float64
                    assert np.all(np.isfinite(values))

    def test_it_learns(self) -> None:
        features, targets = self.table(200, 1)
        errors = self._fitted().predict(features).mean - targets
        assert np.square(errors).mean() < 0.5 * targets.var(), "no better than the mean"

    def test_error_bars_are_in_the_targets_unit(self) -> None:
        features, targets = self.table(200, 1)
        prediction = self._fitted().predict(features)
        if prediction.std is not None:
            assert np.all(prediction.std > 0)
            within = np.abs(prediction.mean - targets) <= 3 * prediction.std
            assert within.mean() > 0.5, f"only {within.mean():.0%} lie within three std"
            assert np.median(prediction.std) < 3 * targets.std()

    def test_fitting_again_gives_the_same(self) -> None:
        new = self._new()
        with global_generators_kept():
            first = self._fitted().predict(new)
        _check_same(self._fitted().predict(new), first)

    def test_only_the_last_table_counts(self) -> None:
        predictor, new = self._fitted(), self._new()
        other = self.table(self.rows, 5)
        predictor.fit(other[0], -other[1], genes=4)
        fresh = self.make()
        fresh.fit(other[0], -other[1], genes=4)
        _check_same(predictor.predict(new), fresh.predict(new))

    def test_rows_do_not_depend_on_the_batch(self) -> None:
        predictor, new = self._fitted(), self._new()
        together = predictor.predict(new)
        alone = [predictor.predict(row[None]) for row in new[::7]]
        reverse = predictor.predict(new[::-1])
        for name in ("mean", "std"):
            values = getattr(together, name)
            if values is not None:
                one = np.concatenate([getattr(prediction, name) for prediction in alone])
                np.testing.assert_allclose(one, values[::7], rtol=1e-6)
                np.testing.assert_allclose(getattr(reverse, name)[::-1], values, rtol=1e-6)

    def test_tables_are_left_as_they_were(self) -> None:
        features, targets = self.table(self.rows, 0)
        new = self._new()
        kept = [array.copy() for array in (features, targets, new)]
        predictor = self.make()
        predictor.fit(read_only(features), read_only(targets), genes=4)
        first = predictor.predict(read_only(new))
        for array, before in zip((features, targets, new), kept, strict=True):
            assert np.array_equal(array, before), "what it was given has changed"
        features[:], targets[:] = 0.0, 0.0
        again = predictor.predict(new)
        assert np.array_equal(again.mean, first.mean), (
            "it keeps the table itself: copy what it needs"
        )
        _check_same(again, first)

    def test_targets_may_be_in_any_unit(self) -> None:
        features, targets = self.table(self.rows, 0)
        new, spread = self._new(), targets.std()
        first = self._fitted().predict(new)
        shifts = [(1e-6, 0.0), (1e6, 0.0), *([(1.0, -300.0)] if self.moved else [])]
        for factor, shift in shifts:
            predictor = self.make()
            predictor.fit(features, factor * targets + shift, genes=4)
            scaled = predictor.predict(new)
            difference = (scaled.mean - shift) / factor - first.mean
            what = f"targets times {factor:g} plus {shift:g}"
            assert np.sqrt(np.square(difference).mean()) <= self.tolerance * spread, what
            if first.std is not None and scaled.std is not None:
                ratio = np.median(scaled.std / factor / first.std)
                assert 0.8 < ratio < 1.25, f"{what}: std times {ratio:g}"

    def test_it_survives_the_disk(self) -> None:
        predictor, new = self._fitted(), self._new()
        first = predictor.predict(new)
        with temporary_folder() as above:
            folder, copy = Path(above, "one"), Path(above, "other")
            folder.mkdir()
            copy.mkdir()
            predictor.save(folder)
            assert sorted(path.name for path in Path(above).iterdir()) == ["one", "other"]
            assert any(folder.iterdir()), "nothing was saved"
            assert not (folder / CARD).exists(), f"{CARD} is nastool's own"
            again = self.make()
            again.load(folder)
            again.save(copy)
            for file in _files(folder):
                assert not _is_pickle(file), f"{file.name} holds a pickle, which runs code"
                same = copy / file.relative_to(folder)
                assert same.read_bytes() == file.read_bytes(), f"{file.name} changes when read"
            _check_same(predictor.predict(new), first)
        # What it predicts now must need none of the files.
        _check_same(again.predict(new), first)

    def test_a_faster_form_predicts_the_same(self) -> None:
        features, targets = self.table(self.rows, 0)
        predictor = self.make()
        predictor.fit(features, targets)
        values = [*([_WIDTHS] * (features.shape[1] - 1)), np.unique(features[:, -1])]
        form = predictor.on_grid(values)
        if form is not None:
            rng = np.random.default_rng(3)
            genotypes = rng.integers(0, [len(known) for known in values], (60, len(values)))
            columns = zip(values, genotypes.T, strict=True)
            expected = predictor.predict(np.column_stack([known[g] for known, g in columns]))
            np.testing.assert_allclose(form.predict(genotypes), expected.mean, rtol=1e-6)

    def test_what_cannot_be_learned_from_is_refused(self) -> None:
        features, targets = self.table(self.rows, 0)
        for wrong in (targets[:-1], np.where(targets == targets[0], np.nan, targets)):
            with pytest.raises(InvalidInputError):
                self.make().fit(features, wrong, genes=4)
        with pytest.raises(InvalidInputError):
            self.make().fit(np.where(features == features[0, 0], np.inf, features), targets)

    def test_it_must_be_fitted_first(self) -> None:
        with pytest.raises(InvalidInputError):
            self.make().predict(self._new())

    def _fitted(self) -> Predictor:
        predictor = self.make()
        predictor.fit(*self.table(self.rows, 0), genes=4)
        return predictor

    def _new(self) -> Floats:
        return self.table(50, 2)[0]


def _check_same(one: Prediction, other: Prediction) -> None:
    assert np.array_equal(one.mean, other.mean)
    if one.std is None or other.std is None:
        assert one.std is other.std
    else:
        assert np.array_equal(one.std, other.std)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _is_pickle(file: Path) -> bool:
    if file.suffix in _PICKLES:
        return True
    with file.open("rb") as stream:
        begin = stream.read(2)
    # Protocols 2 to 5 begin so.
    if begin[:1] == b"\x80" and begin[1:] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return True
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        members = archive.namelist()
    if any(name.endswith(_PICKLES) for name in members):
        return True
    if file.suffix != ".npz":
        return False
    with np.load(file, allow_pickle=False) as arrays:
        for name in arrays.files:
            try:
                arrays[name]
            except ValueError:
                return True
    return False
