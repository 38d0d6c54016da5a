import shutil

import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.predictors.base import Card, create_predictor, load_predictor, save_predictor
from nastool.predictors.digests import DIGESTS

rng = np.random.default_rng(0)
FEATURES = rng.integers(0, 4, (40, 3)).astype(float)


@pytest.fixture(scope="module", params=["pairwise", "ensemble"])
def saved(request, tmp_path_factory):
    predictor = create_predictor(request.param)
    predictor.fit(FEATURES, FEATURES @ [1.0, 2.0, 3.0])
    names = ("a", "b", "c")
    card = Card(
        metric="loss",
        unit="",
        kind=predictor.kind,
        label=predictor.label,
        space="box",
        fingerprint="",
        genes=names,
        choices=((0, 1, 2, 3),) * 3,
        features=names,
        shapes=40,
    )
    folder = tmp_path_factory.mktemp("predictor") / "p"
    save_predictor(folder, predictor, card)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "p")


def test_a_flipped_bit_of_any_file_is_noticed(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != DIGESTS]
    assert len(files) > 1
    for path in files:
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[len(damaged) // 2] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(InvalidInputError, match=f"{path.name} is damaged") as error:
            load_predictor(folder)
        assert len(str(error.value).splitlines()) == 1
        path.write_bytes(whole)
    load_predictor(folder)


def test_a_missing_file_is_named(folder):
    path = next(
        p for p in folder.rglob("*") if p.is_file() and p.name not in (DIGESTS, "card.json")
    )
    path.unlink()
    with pytest.raises(InvalidInputError, match=path.name):
        load_predictor(folder)


def test_older_folders_are_read(folder):
    expected = load_predictor(folder)[0].predict(FEATURES).mean
    (folder / DIGESTS).unlink()
    np.testing.assert_array_equal(load_predictor(folder)[0].predict(FEATURES).mean, expected)


def test_a_damaged_note_is_one_line(folder):
    (folder / DIGESTS).write_text("[")
    with pytest.raises(InvalidInputError, match=DIGESTS):
        load_predictor(folder)
