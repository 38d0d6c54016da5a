"""What a disk, a hand or another program has made of a store is noticed, and said in one line."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nastool.errors import InvalidInputError, NastoolError, StoreError
from nastool.store import Batch, open_store, rows, tables
from nastool.strategies.evolution import Evolution
from nastool.study import Study, load_result
from nastool.testing import example_problems

KEYS = ("id", "study", "first", "digest")
TABLES = {
    table.name: [column.name for column in table.columns if column.name not in KEYS]
    for table in (tables.studies, tables.batches, tables.states)
}
DAMAGE = ("'x'", "x'ff00'", "'['", "CAST(x'c328' AS TEXT)", "1e300")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The bytes of a store with a study."""
    path = tmp_path_factory.mktemp("store") / "a.db"
    problem = example_problems()["pair"]
    with open_store(f"sqlite:///{path}") as store:
        study = Study(problem, Evolution, store, "mine")
        for budget in (20, 40):
            study.run(budget, 10)
        store.add_measurements("space", "loss", np.array([[1, 2]]), np.array([0.25]))
    return path.read_bytes()


def damaged(path, kept, *statements):
    path.write_bytes(kept)
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return f"sqlite:///{path}"


def reopened(url):
    """Everything that reads a study."""
    problem = example_problems()["pair"]
    with open_store(url) as store:
        for summary in store.list_studies():
            assert summary.texts("objectives")
        load_result(store, "mine", problem)
        Study(problem, Evolution, store, "mine")


def test_what_is_whole_is_read(tmp_path, kept):
    url = damaged(tmp_path / "a.db", kept)
    reopened(url)
    with open_store(url) as store:
        assert store.measurements("space", "loss", np.array([[1, 2]])) == [0.25]


@pytest.mark.parametrize("value", DAMAGE)
@pytest.mark.parametrize(
    ("table", "column"), [(table, column) for table, names in TABLES.items() for column in names]
)
def test_every_damaged_column_is_one_line(tmp_path, kept, table, column, value):
    url = damaged(tmp_path / "a.db", kept, f'UPDATE {table} SET "{column}" = {value}')
    with pytest.raises(StoreError, match=r"damaged") as error:
        reopened(url)
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("value", DAMAGE)
@pytest.mark.parametrize("column", ["description", "identity", "failures", "state", "genotypes"])
def test_rows_without_a_digest_are_not_trusted_either(tmp_path, kept, column, value):
    table = next(name for name, columns in TABLES.items() if column in columns)
    url = damaged(
        tmp_path / "a.db", kept, f'UPDATE {table} SET "{column}" = {value}, digest = NULL'
    )
    with pytest.raises(NastoolError) as error:
        reopened(url)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE states SET state = '{}'", "told"),
        ('UPDATE states SET state = \'{"strategy":{},"told":1,"stale":0}\'', "evolution"),
        ('UPDATE states SET state = \'{"strategy":{},"told":99,"stale":0}\'', "told"),
        ("UPDATE studies SET stop_reason = 'tired'", "'tired'"),
        ("UPDATE studies SET description = '{\"objectives\": 3}'", "'objectives'"),
        ("UPDATE studies SET identity = '{}'", "made with"),
    ],
)
def test_well_formed_nonsense_is_named(tmp_path, kept, statement, message):
    url = damaged(tmp_path / "a.db", kept, statement + ", digest = NULL")
    with pytest.raises(NastoolError, match=f"(?i){message}"):
        reopened(url)


def test_a_flipped_bit_of_a_value_is_noticed(tmp_path, kept):
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(damaged(path, kept)[len("sqlite:///") :])) as connection:
        values = bytearray(connection.execute('SELECT "values" FROM batches').fetchone()[0])
        values[-3] ^= 1
        connection.execute('UPDATE batches SET "values" = ? WHERE first = 0', (bytes(values),))
        connection.commit()
    with pytest.raises(StoreError, match=r"table batches .*'mine'.*digest"):
        reopened(f"sqlite:///{path}")


@pytest.mark.parametrize("change", ["value = 0.5", "value = 'x'", "genotype = x'01000300'"])
def test_a_damaged_measurement_is_noticed(tmp_path, kept, change):
    url = damaged(tmp_path / "a.db", kept, f"UPDATE measurements SET {change}")
    with open_store(url) as store, pytest.raises(StoreError, match="table measurements"):
        store.measurements("space", "loss", np.array([[1, 2], [1, 3]]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DELETE FROM batches WHERE first = (SELECT MAX(first) FROM batches)", "must have 40"),
        ("UPDATE studies SET evaluations = 20", "digest"),
        ("UPDATE batches SET first = first + 1", "digest"),
        ("UPDATE batches SET study = 9", "must have 40"),
        ("DELETE FROM nastool_schema", "one number"),
        ("UPDATE nastool_schema SET version = 0", "one number"),
        ("DROP TABLE batches", "batches"),
    ],
)
def test_missing_rows_are_noticed(tmp_path, kept, change, message):
    url = damaged(tmp_path / "a.db", kept, change)
    with pytest.raises(StoreError, match=message):
        reopened(url)


def test_a_damaged_study_hides_no_other(tmp_path, kept):
    url = damaged(tmp_path / "a.db", kept, "UPDATE studies SET description = '['")
    problem = example_problems()["pair"]
    Study(problem, Evolution, url, "other").run(20, 10)
    with open_store(url) as store:
        assert len(load_result(store, "other", problem)) == 20
        with pytest.raises(InvalidInputError, match="known: mine, other"):
            store.load("third")
        store.delete("mine")
        assert [summary.name for summary in store.list_studies()] == ["other"]


def test_a_damaged_row_is_not_written_over(tmp_path, kept):
    url = damaged(tmp_path / "a.db", kept, "UPDATE studies SET seconds = 1.0")
    with open_store(url) as store:
        with pytest.raises(StoreError, match="digest"):
            store.commit(1, 40, Batch(np.empty((0, 2)), np.empty((0, 2)), np.empty(0)), None, 9.0)
        with pytest.raises(StoreError, match="digest"):
            store.annotate("mine", "note", 1)


@given(
    st.floats() | st.integers(-(2**62), 2**62) | st.text(max_size=5) | st.binary(max_size=5),
    st.floats() | st.integers(-(2**62), 2**62) | st.text(max_size=5) | st.binary(max_size=5),
)
def test_rows_of_different_content_have_different_digests(a, b):
    def digest(value):
        row = {"space": "s", "objective": "o", "genotype": value, "value": 1.0}
        return rows.digest(tables.measurements, row)

    assert (digest(a) == digest(b)) == (repr(a) == repr(b))


@given(st.floats(allow_nan=False))
@settings(max_examples=50)
def test_every_number_comes_back_under_its_digest(value):
    with open_store("sqlite://") as store:
        store.add_measurements("s", "o", np.array([[0]]), np.array([value]))
        assert store.measurements("s", "o", np.array([[0]])) == [value]
