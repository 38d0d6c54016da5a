"""Tables as people's tools write them, and errors that say where in them."""

import gzip

import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.predictors.tables import read_cells, read_measurements
from nastool.space import Gene, SearchSpace

TABLE = "layer_1,layer_2,loss\n12,24,1.5\n24,24,2.5\n"
MESSY = '\ufeff , "layer_1", layer_2,loss ,\r\n1, 12,24 ,1.5,\r\n\r\n2,24,"24",2.5,\r\n,,,,\r\n'


class TwoLayers(SearchSpace):
    name = "two-layers"
    genes = tuple(Gene(f"layer_{i}", (12, 24), ordered=True) for i in (1, 2))


@pytest.fixture
def space():
    return TwoLayers()


def write(path, text):
    content = text.encode("utf-16" if "16" in path.name else "utf-8")
    path.write_bytes(gzip.compress(content) if path.name.lower().endswith("gz") else content)
    return path


@pytest.mark.parametrize("text", [TABLE, MESSY, TABLE.replace("\n", "\r")])
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "T.CSV.GZ", "utf16.csv"])
def test_a_table_is_read_however_it_was_written(tmp_path, name, text):
    found = read_measurements(write(tmp_path / name, text), "loss")
    assert found.genes == ("layer_1", "layer_2")
    assert found.features.tolist() == [[12, 24], [24, 24]]
    assert found.targets.tolist() == [1.5, 2.5]


def test_the_source_beside_a_table_of_capital_letters_is_found(tmp_path):
    write(tmp_path / "t.json", '\ufeff{"space": "mine"}')
    assert read_measurements(write(tmp_path / "t.CSV", TABLE), "loss").space == "mine"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("12,24,1\n\n12,24,fast\n", "line 4: column 'loss' must hold numbers, got 'fast'"),
        ("12,24,1\n12,24,\n13,24,2\n", r"line 4: layer_1 must be one of 12, 24; got 13"),
        ("12,24\n", "line 2: expected 3 cells, got 2"),
        ('12,24,"1\n12,24,2\n', "line 2: "),
    ],
)
def test_errors_say_where(tmp_path, space, rows, message):
    path = write(tmp_path / "t.csv", "layer_1,layer_2,loss\n" + rows)
    with pytest.raises(InvalidInputError, match=rf"t\.csv, {message}"):
        read_measurements(path, "loss", space)


def test_parquet_says_which_row_and_damaged_parquet_is_one_line(tmp_path, space):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "t.PARQUET"
    columns = {"layer_1": [12, 13], "layer_2": [24, 24], "loss": [1.0, 2.0]}
    parquet.write_table(pyarrow.table(columns), path)
    assert read_cells(path).columns["layer_1"] == [12, 13]
    with pytest.raises(InvalidInputError, match=r"PARQUET, row 2: layer_1 must be one of"):
        read_measurements(path, "loss", space)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InvalidInputError) as caught:
        read_cells(path)
    assert len(str(caught.value).splitlines()) == 1


def test_every_row_is_used_or_counted(tmp_path):
    text = TABLE + "12,12,\n12,24,2.5\n24,12,inf\n"
    found = read_measurements(write(tmp_path / "t.csv", text), "loss")
    assert (len(found), found.dropped) == (2, 2)
    assert np.array_equal(found.targets, [2.0, 2.5])
