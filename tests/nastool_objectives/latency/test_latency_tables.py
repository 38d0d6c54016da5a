import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.testing import Widths
from nastool_objectives.latency.tables import join, read_latencies

pytest.importorskip("scipy")


def written(path, rows, header="layer_0,layer_1,layer_2,layer_3,latency_s"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_units_become_seconds(space, tmp_path):
    path = written(tmp_path / "a.csv", ["1,2,3,5,20", "8,8,8,8,40.0"])
    table = read_latencies(path, space, "ms")
    assert table.latency.tolist() == [0.02, 0.04]
    assert space.decode(table.genotypes) == [(1, 2, 3, 5), (8, 8, 8, 8)]
    assert table.repeats() is None


def test_repeated_rows_become_their_median(space, tmp_path):
    path = written(tmp_path / "a.csv", ["1,1,1,1,5", "8,8,8,8,1", "1,1,1,1,1", "1.0,1,1,1,2"])
    assert read_latencies(path, space, "s").latency.tolist() == [2.0, 1.0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1,1,1,1,0"], "line 2: latency_s must be positive and finite, got '0'"),
        (["1,1,1,1,1", "1,1,1,2,nan"], "line 3: latency_s must be positive and finite, got 'nan'"),
        (["1,1,1,1,fast"], "line 2: latency_s must be positive and finite, got 'fast'"),
        (["1,1,1,1,1", "", "1,1,1,1,"], "line 4: latency_s must be positive and finite, got ''"),
        (["1,1,1,4,1"], "line 2: layer_3 must be one of 1, 2, 3, 5, 8"),
    ],
)
def test_broken_rows_are_named(space, tmp_path, rows, message):
    with pytest.raises(InvalidInputError, match=message):
        read_latencies(written(tmp_path / "a.csv", rows), space, "s")


def test_fractions_are_choices_too(tmp_path):
    """Also in a table that nastool wrote, where 1.0 is 1.0."""
    fractions = type("Fractions", (Widths,), {"costs": {}})(layers=2, widths=(0.5, 1.0, 1.5))
    path = written(tmp_path / "a.csv", ["0.5,1.0,1", "1.5,1,2"], header="layer_0,layer_1,latency_s")
    table = read_latencies(path, fractions, "s")
    assert table.genotypes.tolist() == [[0, 1], [2, 1]]
    (tmp_path / "b.csv").write_text(table.to_csv(fractions))
    assert "0.5,1.0,1" in (tmp_path / "b.csv").read_text()
    again = read_latencies(tmp_path / "b.csv", fractions, "s")
    assert np.array_equal(again.genotypes, table.genotypes)


def test_missing_columns_and_unknown_units_are_named(space, tmp_path):
    path = written(tmp_path / "a.csv", ["1,1,1,1"], header="layer_0,layer_1,layer_2,seconds")
    with pytest.raises(InvalidInputError, match="a column 'latency_s' of latencies, or the one"):
        read_latencies(path, space, "s")
    with pytest.raises(InvalidInputError, match="must have a column 'shape', or layer_3, got"):
        read_latencies(path, space, "s", "seconds")
    with pytest.raises(InvalidInputError, match="unit must be one of s, ms, us, ns, got 'min'"):
        read_latencies(path, space, "min")


def test_a_column_of_shapes_stands_for_the_columns_of_genes(space, tmp_path):
    path = written(tmp_path / "a.csv", ["1-2-3-8,2", "8-1-1-1,4"], header="shape,latency_ms")
    table = read_latencies(path, space, "ms", "latency_ms")
    assert space.texts(table.genotypes) == ["1-2-3-8", "8-1-1-1"]
    assert table.latency.tolist() == [0.002, 0.004]
    with pytest.raises(InvalidInputError, match=r"says; did you mean latency_ms[?]$"):
        read_latencies(path, space, "ms")
    path = written(tmp_path / "b.csv", ["1-2-3-8,2", "8-1-1-9,4"], header="shape,latency_ms")
    with pytest.raises(InvalidInputError, match=r"line 3: layer_3 must be one of .* got '9'"):
        read_latencies(path, space, "ms", "latency_ms")


def test_two_runs_are_joined_by_architecture(space, tmp_path):
    first = read_latencies(written(tmp_path / "a.csv", ["1,1,1,1,2", "2,2,2,2,4"]), space, "s")
    second = read_latencies(written(tmp_path / "b.csv", ["2,2,2,2,6", "1,1,1,1,2"]), space, "s")
    both = join(space, first, second)
    assert both.latency.tolist() == [2.0, 5.0]
    assert both.halves.tolist() == [[2.0, 2.0], [4.0, 6.0]]
    other = read_latencies(written(tmp_path / "c.csv", ["3,3,3,3,1"]), space, "s")
    with pytest.raises(InvalidInputError, match="architectures in common"):
        join(space, first, other)


def test_a_table_reads_back(space, tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"1,2,3,{w},{v}" for w, v in zip((1, 2, 3, 5, 8), rng.uniform(1, 2, 5), strict=True)]
    table = read_latencies(written(tmp_path / "a.csv", rows), space, "s")
    (tmp_path / "b.csv").write_text(table.to_csv(space))
    again = read_latencies(tmp_path / "b.csv", space, "s")
    assert np.array_equal(again.genotypes, table.genotypes)
    np.testing.assert_allclose(again.latency, table.latency, rtol=1e-8)
