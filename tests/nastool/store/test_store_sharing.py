"""Stores that many processes, users and programs meet on."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import traceback
from contextlib import closing

import numpy as np
import pytest

from nastool.errors import InvalidInputError, NastoolError, StoreError
from nastool.store import Batch, engines, migrations, open_store, showable, tables, urls
from nastool.store.encoding import encode_state
from nastool.strategies.evolution import Evolution
from nastool.strategies.random import RandomSearch
from nastool.study import Study, load_result
from nastool.testing import example_problems

NOTHING = Batch(np.empty((0, 2)), np.empty((0, 2)), np.empty(0))


def batch(n: int) -> Batch:
    numbers = np.arange(n)
    return Batch(np.stack([numbers % 7] * 2, axis=1), np.ones((n, 2)), numbers / 100)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/studies.db"
    return request.getfixturevalue("postgresql")


def at_once(n: int, work) -> list[Exception]:
    """What n threads raise that begin at the same moment."""
    gate, errors = threading.Barrier(n), []

    def run(number: int) -> None:
        gate.wait()
        try:
            work(number)
        except Exception as error:  # noqa: BLE001 - they are looked at by the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_a_new_database_is_opened_by_many_at_once(url):
    def enter(number: int) -> None:
        with open_store(url) as store:
            store.create_study(f"s{number}", {}, {})

    assert at_once(8, enter) == []
    with open_store(url) as store:
        assert sorted(store.names()) == [f"s{k}" for k in range(8)]


def test_one_of_many_makes_a_study(url):
    open_store(url).close()

    def make(_: int) -> None:
        with open_store(url) as store:
            store.create_study("mine", {}, {})

    errors = at_once(4, make)
    assert [type(error) for error in errors] == [InvalidInputError] * 3
    assert all("must be new" in str(error) for error in errors)


def test_studies_without_a_name_get_one_each(url):
    problem = example_problems()["pair"]

    def search(_: int) -> None:
        with open_store(url) as store:
            Study(problem, RandomSearch, store).run(10, 10)

    assert at_once(4, search) == []
    with open_store(url) as store:
        assert [summary.evaluations for summary in store.list_studies()] == [10] * 4


def test_a_late_process_overwrites_nothing(url):
    problem = example_problems()["pair"]
    with open_store(url) as store:
        Study(problem, Evolution, store, "s").run(20, 10)
        late = Study(problem, Evolution, store, "s")
        Study(problem, Evolution, store, "s").run(40)
        before = store.load("s")
        assert len(late.run(20)) == 20  # nothing to write
        with pytest.raises(StoreError, match="continued or deleted by another process"):
            late.run(30)
        after = store.load("s")
        assert (after.summary, after.commits) == (before.summary, before.commits)
        assert encode_state(after.state) == encode_state(before.state)
        with pytest.raises(StoreError, match="continued or deleted"):
            store.commit(after.key, 20, NOTHING, {"told": 1}, 0.1)
        with pytest.raises(StoreError, match="continued or deleted"):
            store.commit(after.key, 40, NOTHING, None, 0.1, after=after.commits - 1)
        assert store.commit(after.key, 40, NOTHING, None, 0.1, after=after.commits) > after.commits


def test_a_finished_study_is_only_read(url):
    problem = example_problems()["pair"]
    with open_store(url) as store:
        Study(problem, Evolution, store, "s").run(20, 10)
        before = store.load("s")
        assert Study(problem, Evolution, store, "s").run(20).stop_reason == "budget"
        assert store.load("s").commits == before.commits


def test_a_reader_sees_one_state(url):
    with open_store(url) as store, open_store(url) as other:
        key = store.create_study("s", {}, {})
        with store._database.read() as connection:
            first = store._database.select(connection, tables.studies)
            other.commit(key, 0, batch(5), None, 1.0)
            assert store._database.select(connection, tables.studies) == first
            assert store._database.select(connection, tables.batches) == []
        assert len(store.load("s").batch.genotypes) == 5


@pytest.mark.parametrize("name", ["a\0b", "a\ud800", "x" * 256, ""])
def test_names_that_no_database_takes(url, name):
    with open_store(url) as store:
        with pytest.raises(InvalidInputError, match="1 to 255 characters") as error:
            store.create_study(name, {}, {})
        str(error.value).encode()
        assert store.find(name) is None
        assert store.annotation(name, "x") is None
        assert store.list_studies(f"{name}/") == []
        with pytest.raises(InvalidInputError, match="unknown study"):
            store.load(name)


def test_keys_of_any_length_find_their_measurements(url):
    genotypes = np.arange(1200).reshape(2, 600)
    with open_store(url) as store:
        for space, objective in (("s" * 70, "o" * 300), ("s\0", "o\ud800"), ("s" * 70, "p" * 300)):
            assert np.isnan(store.measurements(space, objective, genotypes)).all()
            store.add_measurements(space, objective, genotypes, np.array([1.0, len(space)]))
            found = store.measurements(space, objective, genotypes[::-1])
            np.testing.assert_array_equal(found, [len(space), 1.0])


def test_writers_of_the_same_measurements_wait_in_one_order(url):
    genotypes = np.stack([np.arange(200)] * 2, axis=1)

    def write(number: int) -> None:
        with open_store(url) as store:
            order = genotypes[:: 1 if number % 2 else -1]
            store.add_measurements("s", "o", order, order[:, 0] / 2)

    open_store(url).close()
    assert at_once(4, write) == []


def old_store(path) -> None:
    """A store of schema 1, with a study whose count a late process has lowered."""
    problem = example_problems()["pair"]
    with open_store(f"sqlite:///{path}") as store:
        Study(problem, Evolution, store, "s").run(40, 10)
        store.add_measurements("space", "o", np.array([[1, 2]]), np.array([0.5]))
    with closing(sqlite3.connect(path)) as connection:
        for table in ("studies", "batches", "states", "measurements"):
            connection.execute(f"ALTER TABLE {table} DROP COLUMN digest")
        connection.execute("ALTER TABLE studies DROP COLUMN commits")
        connection.execute("UPDATE studies SET evaluations = 20")
        connection.execute("UPDATE measurements SET objective = ?", ("o" * 300,))
        connection.execute("UPDATE nastool_schema SET version = 1")
        connection.execute("PRAGMA application_id = 0")
        connection.commit()


def test_an_old_store_gets_digests_and_right_counts(tmp_path):
    path = tmp_path / "a.db"
    old_store(path)
    problem = example_problems()["pair"]
    with open_store(f"sqlite:///{path}") as store:
        assert store.list_studies()[0].evaluations == len(load_result(store, "s", problem)) == 40
        assert store.measurements("space", "o" * 300, np.array([[1, 2]])) == [0.5]
        Study(problem, Evolution, store, "s").run(60)
    with closing(sqlite3.connect(path)) as connection:
        for table in ("studies", "batches", "states", "measurements"):
            query = f"SELECT COUNT(*) FROM {table} WHERE digest IS NULL"
            assert connection.execute(query).fetchone() == (0,)
        assert connection.execute("PRAGMA application_id").fetchone()[0] == (
            migrations.APPLICATION_ID
        )


def test_a_damaged_old_store_is_migrated_and_says_so(tmp_path):
    path = tmp_path / "a.db"
    old_store(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE batches SET elapsed = 'x'")
        connection.execute("UPDATE studies SET seconds = 'x'")
        connection.execute("UPDATE measurements SET value = 'x'")
        connection.commit()
    with open_store(f"sqlite:///{path}") as store:
        with pytest.raises(StoreError, match="seconds must be a number"):
            store.load("s")
        with pytest.raises(StoreError, match="value must be a number"):
            store.measurements("space", "o" * 300, np.array([[1, 2]]))


def test_behind_a_damaged_measurement_others_of_an_old_store_are_found(tmp_path):
    path = tmp_path / "a.db"
    old_store(path)
    with closing(sqlite3.connect(path)) as connection:
        ((sql,),) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'measurements'")
        columns = [row[1] for row in connection.execute("PRAGMA table_info(measurements)")]
        changed = ", ".join("x'ff'" if name == "space" else name for name in columns)
        connection.execute("ALTER TABLE measurements RENAME TO good")
        connection.execute(sql)
        connection.execute(f"INSERT INTO measurements SELECT {changed} FROM good")
        connection.execute("INSERT INTO measurements SELECT * FROM good")
        connection.execute("DROP TABLE good")
        connection.commit()
    with open_store(f"sqlite:///{path}") as store:
        assert store.measurements("space", "o" * 300, np.array([[1, 2]])) == [0.5]


@pytest.fixture
def locked(monkeypatch):
    """Root may write everywhere: say that nobody may."""
    if os.geteuid() == 0:
        monkeypatch.setattr(engines, "_may_write", lambda path: False)

    def lock(folder, path):
        path.chmod(0o444)
        folder.chmod(0o555)

    return lock


@pytest.mark.parametrize("old", [False, True])
def test_a_store_that_may_only_be_read_is_read(tmp_path, locked, old):
    folder, problem = tmp_path / "theirs", example_problems()["pair"]
    folder.mkdir()
    path, url = folder / "a.db", f"sqlite:///{folder}/a.db"
    old_store(path)
    if not old:
        open_store(url).close()
    before = path.read_bytes()
    locked(folder, path)
    try:
        with open_store(url) as store:
            assert len(load_result(store, "s", problem)) == 40
            assert [summary.name for summary in store.list_studies()] == ["s"]
            for write in (
                lambda: store.create_study("t", {}, {}),
                lambda: store.annotate("s", "a", 1),
                lambda: store.add_measurements("s", "o", np.array([[1]]), np.array([1.0])),
            ):
                with pytest.raises(StoreError, match="may only be read"):
                    write()
        assert os.listdir(folder) == ["a.db"]
        assert path.read_bytes() == before
    finally:
        folder.chmod(0o755)


def test_a_store_that_its_owner_has_open_is_read(tmp_path, monkeypatch):
    url, problem = f"sqlite:///{tmp_path}/a.db", example_problems()["pair"]
    with open_store(url) as theirs:
        Study(problem, Evolution, theirs, "s").run(40, 10)
        monkeypatch.setattr(engines, "_may_write", lambda path: False)
        with open_store(url) as ours:
            assert len(load_result(ours, "s", problem)) == 40


def test_a_store_that_may_only_be_read_is_read_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    open_store().close()
    monkeypatch.setattr(engines, "_may_write", lambda path: False)
    with open_store() as store:
        monkeypatch.chdir("elsewhere")
        assert store.names() == []
        assert store.url == "sqlite:///nastool.db"


def test_a_store_that_changes_while_it_is_read_without_locks(tmp_path, monkeypatch):
    path = tmp_path / "a.db"
    open_store(f"sqlite:///{path}").close()
    monkeypatch.setattr(engines, "_may_write", lambda path: False)
    store = open_store(f"sqlite:///{path}")
    with (
        pytest.raises(StoreError, match="was written to while it was read"),
        store._database.read(),
    ):
        path.write_bytes(path.read_bytes() + bytes(4096))


@pytest.mark.parametrize("statements", [
    ["CREATE TABLE trials (id INTEGER)"],
    ["PRAGMA journal_mode = WAL", "CREATE TABLE trials (id INTEGER)"],
    ["PRAGMA application_id = 252006673", "PRAGMA user_version = 3"],
    ["PRAGMA user_version = 3"],
    ["CREATE VIEW trials AS SELECT 1"],
])  # fmt: skip
def test_another_programs_database_is_not_touched(tmp_path, statements):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
    before = path.read_bytes(), path.stat().st_mtime_ns
    with pytest.raises(StoreError, match="another program"):
        open_store(f"sqlite:///{path}")
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert os.listdir(tmp_path) == ["other.db"]


@pytest.mark.parametrize(
    "content", [b"x", b"SQLite", b"no database\n" * 300, b"SQLite format 3\0" + bytes(9)]
)
def test_other_files_are_not_touched(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(StoreError) as error:
        open_store(f"sqlite:///{path}")
    assert len(str(error.value).splitlines()) == 1
    assert path.read_bytes() == content
    with pytest.raises(StoreError, match="must be a file"):
        open_store(f"sqlite:///{tmp_path}")


def test_what_only_begins_as_a_database_is_named(tmp_path):
    path = tmp_path / "a.db"
    path.write_bytes(b"SQLite format 3\0" + b"x" * 4096)
    expected = f"a store must be a database of SQLite, {path} is not a database"
    with pytest.raises(StoreError, match=f"^{re.escape(expected)}$"):
        open_store(f"sqlite:///{path}")


def test_reading_leaves_nothing_beside_a_store(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    open_store(url).close()
    before = (tmp_path / "a.db").read_bytes()
    with open_store(url) as store:
        store.list_studies()
    assert os.listdir(tmp_path) == ["a.db"]
    assert (tmp_path / "a.db").read_bytes() == before


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("sqlite:///nastool.db", "sqlite:///nastool.db"),
        ("sqlite:////home/a@b/x y.db", "sqlite:////home/a@b/x y.db"),
        ("none", "none"),
        ("studies.db", "studies.db"),
        ("nosuch://place", "nosuch://place"),
        ("postgresql://nas@h/x", "postgresql://nas@h/x"),
        ("postgresql://nas:s3cretPW@h:5432/x", "postgresql://nas:***@h:5432/x"),
        ("postgresql://nas:s3cret%40PW@h/x", "postgresql://nas:***@h/x"),
        ("mysql://nas:s3cretPW@h/x", "mysql://nas:***@h/x"),
        ("postgresql://h/x?user=u&password=s3cretPW", "postgresql://h/x?password=***&user=u"),
        ("postgresql://nas:s3cret@PW@h/x", "postgresql://***@h/x"),
        ("postgresql://nas/s3cretPW@h/x", "postgresql://***@h/x"),
        ("postgresql://nas:s3cretPW/x", "postgresql://nas***"),
        ("postgresql:/nas:s3cretPW@h/x", "***@h/x"),
        ("host=h password=s3cretPW dbname=x", "host***"),
    ],
)
def test_what_is_shown_of_an_address(address, shown):
    assert showable(address) == shown
    assert showable(shown) == shown


def test_short_secrets_are_hidden_as_words_and_long_ones_anywhere():
    long = "Zq7w"[: urls._FEW].ljust(urls._FEW, "Z")
    short = long[:-1]
    for secret, inside in ((long, "x***y"), (short, f"x{short}y")):
        said = urls.redacted(f"x{secret}y ({secret})", f"postgresql://nas:{secret}@h/x")
        assert said == f"{inside} (***)"


def test_a_driver_that_quotes_a_password_is_not_repeated():
    address = "postgresql://nas:s3cret%40PW@h/x?sslpassword=other"
    message = 'no host "s3cret@PW", s3cret%40PW or other; nas'
    assert urls.redacted(message, address) == 'no host "***", *** or ***; nas'
    assert urls.redacted("a cat: a", "postgresql://nas:a@h/x") == "*** cat: ***"
    assert urls.redacted("as it was", "sqlite:///a.db") == "as it was"


@pytest.mark.parametrize("address", [
    "mysql://nas:s3cretPW@h/x",
    "postgresql://nas:s3cretPW@127.0.0.1:1/x",
    "postgresql://nas:s3cr%40etPW@127.0.0.1:1/x",
    "postgresql://nas:s3cr@etPW@127.0.0.1:1/x",
    "postgresql://nas:s3cretPW/x",
    "postgresql://127.0.0.1:1/x?user=nas&password=s3cretPW",
    "postgresql://127.0.0.1:1/x?pasword=s3cretPW",
    "postgresql+nothing://nas:s3cretPW@h/x",
    "sqlite://nas:s3cretPW@h/x",
])  # fmt: skip
def test_no_refusal_repeats_a_password(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NastoolError) as error:
        open_store(address)
    assert len(str(error.value).splitlines()) == 1
    told = "".join(traceback.format_exception(error.value))
    assert "etPW" not in told.replace(address, "").replace(repr(address), "")


def test_a_store_shows_no_password(postgresql):
    from sqlalchemy import make_url

    url = make_url(postgresql).set(password="s3cretPW").render_as_string(hide_password=False)
    with open_store(url) as store:
        assert "s3cretPW" not in f"{store.url} {store!r} {store._database._engine!r}"
        with pytest.raises(InvalidInputError, match="unknown study") as error:
            store.load("nothing")
    assert "s3cretPW" not in str(error.value)


def schema_2(path):
    """Make a store without noise; the digests of its measurements."""
    with open_store(f"sqlite:///{path}") as store:
        store.add_measurements("space", "o", np.array([[1, 2]]), np.array([0.5]))
    with closing(sqlite3.connect(path)) as connection:
        for column in ("noise", "repeats"):
            connection.execute(f"ALTER TABLE measurements DROP COLUMN {column}")
        connection.execute("UPDATE nastool_schema SET version = 2")
        connection.commit()
        return connection.execute("SELECT digest FROM measurements").fetchall()


def test_a_store_without_noise_is_migrated_and_keeps_its_digests(tmp_path):
    path, row = tmp_path / "a.db", np.array([[1, 2]])
    before = schema_2(path)
    with open_store(f"sqlite:///{path}") as store:
        assert store.measurements("space", "o", row) == [0.5]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT digest FROM measurements").fetchall() == before
        assert connection.execute("SELECT version FROM nastool_schema").fetchone() == (
            len(migrations.MIGRATIONS),
        )
    with open_store(f"sqlite:///{path}") as store:
        store.add_measurements("space", "o", row, np.array([0.7]), repeats=2)
        assert store.measurements("space", "o", row) == [0.7]


def test_a_store_without_noise_that_may_only_be_read_is_read(tmp_path, monkeypatch):
    path = tmp_path / "a.db"
    schema_2(path)
    before = path.read_bytes()
    monkeypatch.setattr(engines, "_may_write", lambda path: False)
    with open_store(f"sqlite:///{path}") as store:
        assert store.measurements("space", "o", np.array([[1, 2]])) == [0.5]
    assert path.read_bytes() == before
