"""The store: round trips, one transaction a commit, and errors of one line."""

from __future__ import annotations

import base64
import copy
import gc
import hashlib
import io
import json
import os
import pickle  # noqa: TID251 - whether it can be, and what was just written
import signal
import sqlite3
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from nastool.errors import InvalidInputError, MissingDependencyError, NastoolError, StoreError
from nastool.objective import Kind, Objective, Provenance
from nastool.problem import Problem
from nastool.store import Batch, Store, engines, migrations, open_store
from nastool.store.encoding import (
    decode_state,
    encode_state,
    pack_array,
    state_digest,
    unpack_array,
)
from nastool.store.rows import shortened
from nastool.study import Study, load_result
from nastool.testing import example_problems
from nastool.verification.verification import measure


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/studies.db"
    else:
        url = request.getfixturevalue("postgresql")
    with open_store(url) as opened:
        yield opened


def batch(first: int, n: int, failures=()) -> Batch:
    numbers = np.arange(first, first + n)
    return Batch(
        np.stack([numbers % 7, numbers % 3], axis=1),
        np.stack([numbers / 3, -numbers / 7], axis=1),
        numbers / 100,
        failures,
    )


ELEMENTS = ["<f8", "<f4", "<i8", "<i4", "|i1", "|u1", "<u2", "|b1", ">i4"]


@given(st.data(), st.sampled_from(ELEMENTS))
def test_arrays_come_back_as_they_were(data, dtype):
    array = data.draw(arrays(dtype, array_shapes(min_dims=0, max_dims=3, min_side=0)))
    back = unpack_array(pack_array(array))
    assert back.shape == array.shape
    assert back.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(back, array)


FORMER = b"\x01\x03<u2\x02" + (1).to_bytes(8, "little") + (2).to_bytes(8, "little")
FORMER += b"\x01\x00\x02\x00"


def test_packed_arrays_are_numpys_own_files():
    packed = pack_array(np.array([[1, 2]], dtype=">u2"))
    found = np.load(io.BytesIO(packed))
    assert found.dtype == np.dtype("<u2")
    np.testing.assert_array_equal(found, [[1, 2]])
    file = io.BytesIO()
    np.save(file, np.array([[1, 2]], dtype="<u2"))
    assert packed == file.getvalue()


def test_arrays_of_earlier_versions_are_read():
    found = unpack_array(FORMER)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, [[1, 2]])
    state = decode_state(json.dumps({"a": {"$array": base64.b64encode(FORMER).decode()}}))
    np.testing.assert_array_equal(state["a"], [[1, 2]])
    # By this, a study of an earlier version is known to have begun as one does now.
    digest = hashlib.sha256(
        json.dumps(
            {"a": {"$array": base64.b64encode(FORMER).decode()}}, separators=(",", ":")
        ).encode()
    )
    assert state_digest({"a": np.array([[1, 2]], np.uint16)}) == digest.hexdigest()[:16]


def test_objects_and_text_are_not_packed():
    for array in (np.array([object()]), np.array(["a"]), np.array([1j])):
        with pytest.raises(InvalidInputError, match="must hold"):
            pack_array(array)


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:-1],
        lambda b: b + b"x",
        lambda b: b"\x09" + b[1:],
        lambda b: b[:1],
        lambda b: b[:2] + b"|O8" + b[5:],
        lambda b: b[:6] + b"\x09" + b[7:],
        lambda b: b.replace(b"<f8", b"|O8"),
        lambda b: b.replace(b"<f8", b"<c8"),
        lambda b: b.replace(b"(3,)", b"(4,)"),
        lambda b: b.replace(b"{", b"["),
    ],
)
@pytest.mark.parametrize("packed", [pack_array(np.arange(3.0)), FORMER])
def test_damaged_arrays_are_recognised(damage, packed):
    if damage(packed) == packed:
        pytest.skip("not in this format")
    with pytest.raises(StoreError, match="store"):
        unpack_array(damage(packed))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5).filter(lambda key: key != "$array"), json_values))
def test_states_come_back_as_they_were(state):
    assert decode_state(encode_state(state)) == state


def test_a_generator_goes_on_from_its_state():
    rng = np.random.default_rng(3)
    rng.random(5)
    state = {"rng": rng.bit_generator.state, "ages": [np.arange(3), np.float64(np.inf)]}
    back = decode_state(encode_state(state))
    other = np.random.default_rng(0)
    other.bit_generator.state = back["rng"]
    np.testing.assert_array_equal(rng.random(4), other.random(4))
    np.testing.assert_array_equal(back["ages"][0], [0, 1, 2])
    assert back["ages"][1] == np.inf


@pytest.mark.parametrize("state", [{"a": object()}, {1: 2}, {"x": {"$array": "text"}}, None])
def test_states_hold_json_values_and_arrays_only(state):
    with pytest.raises(InvalidInputError, match="must be"):
        encode_state(state)


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": {"$array": "!"}}'])
def test_damaged_states_are_recognised(text):
    with pytest.raises(StoreError, match="damaged"):
        decode_state(text)


def test_a_study_comes_back_as_it_was(store):
    key = store.create_study("a", {"seed": 1}, {"space": "x", "note": "µ"})
    failure = ["1-2", "latency", "ValueError: no"]
    store.commit(key, 0, batch(0, 5, [failure]), {"k": np.arange(2)}, 0.5)
    store.commit(key, 5, batch(5, 300), None, 1.5, "budget")
    study = store.load("a")
    expected = batch(0, 305)
    np.testing.assert_array_equal(study.batch.genotypes, expected.genotypes)
    np.testing.assert_array_equal(study.batch.values, expected.values)
    np.testing.assert_array_equal(study.batch.elapsed, expected.elapsed)
    assert study.batch.failures == [failure]
    np.testing.assert_array_equal(study.state["k"], [0, 1])
    summary = study.summary
    assert (summary.evaluations, summary.seconds, summary.stop_reason) == (305, 1.5, "budget")
    assert (summary.identity, summary.description) == ({"seed": 1}, {"space": "x", "note": "µ"})
    assert [s.name for s in store.list_studies()] == ["a"]


def test_a_study_may_begin_with_what_is_known(store):
    store.create_study("a", {}, {}, batch(0, 7))
    study = store.load("a")
    np.testing.assert_array_equal(study.batch.genotypes, batch(0, 7).genotypes)
    assert (study.summary.evaluations, study.commits) == (7, 1)
    assert store.commit(study.key, 7, batch(7, 2), None, 0.5, after=1) == 2
    np.testing.assert_array_equal(store.load("a").batch.values, batch(0, 9).values)


def test_a_turn_reads_what_its_process_does_not_know(store):
    key = store.create_study("a", {}, {})
    store.commit(key, 0, batch(0, 5), None, 0.5)
    store.commit(key, 5, batch(5, 6), None, 1.0)
    with store.turn(key, 5, "me") as turn:
        np.testing.assert_array_equal(turn.stored.batch.values, batch(5, 6).values)
    with store.turn(key, 11, "me") as turn:
        assert len(turn.stored.batch.values) == 0


def test_a_new_study_is_empty(store):
    store.create_study("a", {}, {})
    study = store.load("a")
    assert study.state is None
    assert len(study.batch.genotypes) == len(study.batch.values) == 0
    assert store.find("b") is None


def test_names_are_unique_and_unknown_ones_list_the_known(store):
    store.create_study("first", {}, {})
    with pytest.raises(InvalidInputError, match="must be new"):
        store.create_study("first", {}, {})
    for name in ("", " ", "\t\n"):
        with pytest.raises(InvalidInputError, match=r"1 to 255 .* blank"):
            store.create_study(name, {}, {})
    for call in (store.load, store.delete):
        with pytest.raises(InvalidInputError, match=r"unknown study 'second'.*known: first"):
            call("second")


def test_the_runs_of_a_comparison_are_known_by_its_name(store):
    store.create_study("mine", {}, {})
    for number in range(12):
        store.create_study(f"all/random/{number}", {}, {"comparison": {"name": "all"}})
    with pytest.raises(InvalidInputError, match=r"unknown study 'other'.*known: mine, all$"):
        store.load("other")
    with pytest.raises(InvalidInputError, match=r"unknown study 'Mine'.*did you mean mine\?$"):
        store.load("Mine")
    with pytest.raises(InvalidInputError, match=r"such as 'all/random/11', got a comparison"):
        store.load("all")


def test_deleting_a_study_leaves_nothing_of_it_but_measurements(store):
    key = store.create_study("a", {}, {})
    store.commit(key, 0, batch(0, 5), {"k": 1}, 0.5)
    store.add_measurements("s", "o", np.array([[1, 2]]), np.array([3.0]))
    store.delete("a")
    assert store.list_studies() == []
    assert store.measurements("s", "o", np.array([[1, 2]])) == [3.0]
    with pytest.raises(StoreError, match="deleted by another process"):
        store.commit(key, 5, batch(5, 5), {"k": 2}, 0.5)
    key = store.create_study("a", {}, {})
    assert len(store.load("a").batch.genotypes) == 0


def test_two_processes_cannot_continue_one_study(store):
    key = store.create_study("a", {}, {})
    store.commit(key, 0, batch(0, 5), {"k": 1}, 0.5)
    with pytest.raises(StoreError, match="continued or deleted by another process"):
        store.commit(key, 0, batch(0, 6), {"k": 2}, 9.0)
    study = store.load("a")
    assert (len(study.batch.genotypes), study.state, study.summary.seconds) == (5, {"k": 1}, 0.5)


def test_a_commit_that_fails_leaves_nothing(store):
    key = store.create_study("a", {}, {})
    with pytest.raises(InvalidInputError):
        store.commit(key, 0, batch(0, 5), {"k": object()}, 0.5)
    study = store.load("a")
    assert (len(study.batch.genotypes), study.state) == (0, None)


def test_measurements_are_found_by_space_objective_and_genotype(store):
    genotypes = np.array([[1, 300], [0, 5], [2, 2]])
    store.add_measurements("s", "o", genotypes, np.array([1.5, np.nan, 2.5]))
    store.add_measurements("s", "o", genotypes, np.array([9.0, 8.0, 9.0]))
    np.testing.assert_array_equal(store.measurements("s", "o", genotypes), [1.5, 8.0, 2.5])
    assert np.isnan(store.measurements("s", "other", genotypes)).all()
    assert np.isnan(store.measurements("other", "o", genotypes)).all()
    many = np.stack([np.arange(1200), np.arange(1200)], axis=1)
    store.add_measurements("t", "o", many, np.arange(1200.0))
    np.testing.assert_array_equal(store.measurements("t", "o", many[::-1]), np.arange(1200.0)[::-1])
    assert store.measurements("t", "o", many[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("studies.db", "must be a URL"),
        ("mysql://host/name", "must be a URL"),
        ("sqlite:////no/such/folder/x.db", "existing folder"),
        (f"sqlite:///{'x' * 300}.db", "unable to open database file"),
    ],
)
def test_a_url_that_cannot_work_is_named(url, message):
    with pytest.raises(StoreError, match=message) as info:
        open_store(url)
    assert "\n" not in str(info.value)


def test_an_unreachable_server_is_one_line_without_the_password():
    with pytest.raises((StoreError, MissingDependencyError)) as info:
        open_store("postgresql://user:secret@127.0.0.1:1/name")
    assert "\n" not in str(info.value)
    assert "secret" not in str(info.value)


def test_only_an_existing_store_is_opened_when_told_so(tmp_path, monkeypatch):
    here = tmp_path.with_name("here")
    here.mkdir()
    monkeypatch.chdir(here)
    url = f"sqlite:///{tmp_path}/a.db"
    with pytest.raises(StoreError, match="no such file"):
        open_store(url, create=False)
    assert not list(tmp_path.iterdir())
    open_store(url).close()
    open_store(url, create=False).close()
    assert not list(here.iterdir())  # looking at a store leaves nothing where one stands


def test_the_default_is_a_file_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_store() as store:
        assert store.url == "sqlite:///nastool.db"
    assert (tmp_path / "nastool.db").exists()


def test_other_files_and_databases_are_left_alone(tmp_path):
    text = tmp_path / "text.db"
    text.write_text("not a database, but long enough to look at " * 50)
    with pytest.raises(StoreError, match="not a database"):
        open_store(f"sqlite:///{text}")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE trials (id INTEGER)")
    with pytest.raises(StoreError, match=r"another program \(trials\)"):
        open_store(f"sqlite:///{other}")
    with sqlite3.connect(other) as connection:
        names = connection.execute("SELECT name FROM sqlite_master").fetchall()
    assert names == [("trials",)]


def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "a.db"
    open_store(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE nastool_schema SET version = 99")
    with pytest.raises(StoreError, match=r"has schema 99.*upgrade nastool"):
        open_store(f"sqlite:///{path}")


def test_an_older_schema_is_migrated_once(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/a.db"
    with open_store(url) as store:
        store.create_study("old", {}, {})
    calls = []

    def add_column(connection):
        calls.append(1)
        connection.exec_driver_sql("ALTER TABLE studies ADD COLUMN colour TEXT")

    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, add_column))
    for _ in range(2):
        with open_store(url) as store:
            assert [s.name for s in store.list_studies()] == ["old"]
    assert calls == [1]


def test_a_locked_database_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "_LOCK_SECONDS", 0.1)
    path = tmp_path / "a.db"
    with open_store(f"sqlite:///{path}") as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            store.create_study("a", {}, {})
        other.close()
        store.create_study("a", {}, {})


def test_a_new_file_in_use_is_waited_for(tmp_path):
    path = tmp_path / "a.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE passing (a)")
    # SQLite refuses to switch the journal of a file another is writing, however long it may wait.
    other.execute("BEGIN IMMEDIATE")
    leave = threading.Timer(0.2, lambda: (other.execute("ROLLBACK"), other.close()))
    leave.start()
    with pytest.raises(StoreError, match="tables of another program"):
        Store(f"sqlite:///{path}")
    leave.join()


def test_many_writers_wait_for_each_other(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    errors = []

    def write(number: int) -> None:
        try:
            with Store(url) as store:
                key = store.create_study(f"s{number}", {}, {})
                for first in range(0, 20, 5):
                    store.commit(key, first, batch(first, 5), {"k": first}, 0.5)
        except NastoolError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Store(url) as store:
        assert [s.evaluations for s in store.list_studies()] == [20] * 4


def test_each_study_keeps_its_own_state(store):
    keys = [store.create_study(name, {}, {}) for name in "abc"]
    for number, key in enumerate(keys):
        store.commit(key, 0, batch(number, 5), {"k": number}, 0.5)
    store.commit(keys[0], 5, batch(5, 2), {"k": 9}, 1.0)
    assert [store.load(name).state for name in "abc"] == [{"k": 9}, {"k": 1}, {"k": 2}]
    store.delete("b")
    assert [store.load(name).state for name in "ac"] == [{"k": 9}, {"k": 2}]
    assert [len(store.load(name).batch.genotypes) for name in "ac"] == [7, 5]
    assert [store.load(name).summary.seconds for name in "ac"] == [1.0, 0.5]


def test_the_lock_is_taken_before_the_first_read(tmp_path, monkeypatch):
    """What is read before it is written must not be changed by another process in between."""
    path = tmp_path / "a.db"
    with open_store(f"sqlite:///{path}") as store:
        store.create_study("a", {}, {})
        monkeypatch.setattr(engines, "_LOCK_SECONDS", 0.1)
        with store._database.write() as connection:
            connection.exec_driver_sql("SELECT name FROM studies").all()
            other = sqlite3.connect(path, isolation_level=None, timeout=0)
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
            other.close()


def test_more_repeats_take_the_place_of_fewer(store):
    rows = np.array([[1, 2], [3, 4]])
    store.add_measurements("s", "o", rows, np.array([1.0, 2.0]))
    store.add_measurements("s", "o", rows[:1], np.array([1.5]), noise=np.array([0.1]), repeats=4)
    store.add_measurements("s", "o", rows, np.array([9.0, 2.5]), repeats=3)
    np.testing.assert_array_equal(store.measurements("s", "o", rows), [1.5, 2.5])
    np.testing.assert_array_equal(store.measurements("s", "o", rows, 4), [1.5, np.nan])


class Measuring(Objective):
    """Counts what it is asked for; its key is shared with another objective's."""

    name = "speed"
    provenance = Provenance(Kind.MEASURED, "a stopwatch")

    def __init__(self, fingerprint="one", ledger="stopwatch/speed", repeats=2):
        self.fingerprint, self.ledger, self.repeats = fingerprint, ledger, repeats
        self.asked = 0

    def evaluate(self, genotypes):
        self.asked += len(genotypes)
        return genotypes.sum(axis=1) + 0.5


def test_what_measures_the_same_thing_measures_nothing_twice(store):
    space = example_problems()["pair"].space
    first, second = Measuring(), Measuring("two", repeats=1)
    Study(Problem(space, [first]), "random", store, "a").run(30, 10)
    assert first.asked == 30
    rows = Study(Problem(space, [second]), "random", store, "b").run(30, 10).evaluations.genotypes
    assert second.asked == 0
    measured = measure(space, third := Measuring("three", repeats=3), rows, store)
    assert third.asked == 30
    np.testing.assert_array_equal(measured, rows.sum(axis=1) + 0.5)
    # What an older version has kept, under the fingerprint, is found, too.
    other = Measuring("four", "another")
    store.add_measurements(space.fingerprint, "four", rows, np.arange(30.0))
    np.testing.assert_array_equal(measure(space, other, rows, store), np.arange(30.0))
    assert other.asked == 0


@pytest.mark.parametrize("length", [0, 37, 38, 39, 500])
def test_values_in_messages_are_forty_characters_at_most(length):
    """The quotes count."""
    text = shortened("x" * length)
    if length <= 38:
        assert text == f"'{'x' * length}'"
    else:
        assert text == f"'{'x' * 36}..."


def test_a_signal_waits_for_the_store_to_be_closed(tmp_path, caplog):
    store = open_store(f"sqlite:///{tmp_path}/studies.db")
    dialect = store._database._engine.dialect

    def closed_under_a_signal(connection, closed=dialect.do_close):
        os.kill(os.getpid(), signal.SIGINT)
        closed(connection)

    dialect.do_close = closed_under_a_signal
    with pytest.raises(KeyboardInterrupt):
        store.close()
    assert caplog.text == ""
    assert not (tmp_path / "studies.db-wal").exists()


def test_a_store_that_nobody_has_any_more_leaves_no_connection_open(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 's.db'}")
    with store._database.read() as connection:
        opened = connection.connection.dbapi_connection
    opened.execute("SELECT 1")
    del store
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened.execute("SELECT 1")


def test_studies_go_to_other_processes_with_their_store(store, tmp_path, monkeypatch):
    problem = next(iter(example_problems().values()))
    whole = Study(problem, "evolution", seed=0).run(60)
    study = Study(problem, "evolution", store, "mine", seed=0)
    study.run(20)
    sent = pickle.dumps(study)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    there = pickle.loads(sent)
    assert there.run(60).to_csv(everything=True) == whole.to_csv(everything=True)
    assert len(store.load("mine").batch.genotypes) == 60
    # Of two that go on, the late one changes nothing.
    with pytest.raises(StoreError, match="continued or deleted by another"):
        study.run(40)
    assert len(copy.deepcopy(there).run(80)) == len(store.load("mine").batch.genotypes) == 80


def test_a_copy_of_a_store_is_where_the_store_was_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_store("sqlite:///here.db") as store:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        with pickle.loads(pickle.dumps(store)) as there:
            Study(next(iter(example_problems().values())), "random", there, "mine").run(5)
        assert store.names() == ["mine"]
    assert not list((tmp_path / "elsewhere").iterdir())
    with open_store("sqlite://") as store, pytest.raises(StoreError, match=r"neither pickled nor"):
        pickle.dumps(store)


def test_stores_are_given_open_or_by_their_urls(tmp_path):
    problem, url = next(iter(example_problems().values())), f"sqlite:///{tmp_path}/a.db"
    with open_store(url) as store:
        assert open_store(store) is store
        Study(problem, "random", store, "mine").run(5)
        for given in (store, url):
            assert len(load_result(given, "mine", problem)) == 5
    message = r"^a store's URL must be a text, got PosixPath "
    for use in (
        open_store,
        lambda path: Study(problem, "random", path, "mine"),
        lambda path: load_result(path, "mine", problem),
    ):
        with pytest.raises(InvalidInputError, match=message):
            use(tmp_path / "a.db")
