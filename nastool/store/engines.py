"""Connections to databases: their drivers, and what makes them safe to share."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nastool.errors import MissingDependencyError, StoreError
from nastool.files.reading import SQLITE, reading
from nastool.store import urls

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

DEFAULT_URL = "sqlite:///nastool.db"

_LOCK_SECONDS = 60.0
"""How long a write waits for other processes before it gives up."""

_PAUSE_SECONDS = 0.02
"""Longest pause before a waiting writer looks again; who has waited for long looks more often."""

_jitter = random.SystemRandom()
"""Not the generator that a seed of the user's fixes."""


def create(text: str, create_file: bool) -> Engine:
    """What reaches the database of a URL.

    Its execution option ``nastool_read_only`` says that it may only be read.

    Args:
        text: A SQLAlchemy URL of SQLite or PostgreSQL.
        create_file: Whether a SQLite file may be made.

    Raises:
        StoreError: No such URL, the file cannot be there, or it is no store.
        MissingDependencyError: The database's driver is not installed.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    url = urls.parse(text)
    try:
        if url is None or url.get_backend_name() not in ("sqlite", "postgres", "postgresql"):
            raise ValueError
        if url.drivername in ("postgres", "postgresql"):
            url = url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() == "sqlite":
            return _sqlite(url, create_file)
        return create_engine(url, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ValueError):
        # Not `from` the error: it quotes the address.
        raise StoreError(
            f"a store must be a URL such as {DEFAULT_URL} or postgresql://USER:PASSWORD@HOST/NAME "
            f"(@ in a password written as %40), got {urls.showable(text)!r}"
        ) from None
    except ModuleNotFoundError as error:
        driver = "" if url is None else url.drivername
        raise MissingDependencyError(
            f"a store at {driver}:// needs the Python package {error.name!r} "
            "(pip install 'nastool[postgresql]' brings the one for PostgreSQL)"
        ) from error


def for_reading(engine: Engine) -> Engine:
    """The engine for transactions that only read: they see one state of the database."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return engine


def for_writing(engine: Engine) -> Engine:
    """The engine for transactions that write."""
    return engine.execution_options(nastool_write=True)


def may_only_be_read(engine: Engine) -> bool:
    """Whether the database is a file that this user cannot write to."""
    return bool(engine.get_execution_options().get("nastool_read_only", False))


def is_in_memory(engine: Engine) -> bool:
    """Whether the database lies in the memory of this process, where no other one sees it."""
    url = engine.url
    names = (url.database or "", str(url.query.get("mode", "")))
    return url.get_backend_name() == "sqlite" and (
        names[0] in ("", ":memory:", "file::memory:") or names[1] == "memory"
    )


def address(url: URL) -> str:
    """A database's URL with its secrets; that of a file leads there from any folder."""
    if url.get_backend_name() == "sqlite" and (path := _file(url)) is not None:
        url = url.set(database=os.path.abspath(path))
    return url.render_as_string(hide_password=False)


@contextlib.contextmanager
def unchanged(engine: Engine) -> Iterator[None]:
    """Within this block, a file that is read without locks must stay as it is.

    Raises:
        StoreError: Its owner has written to it.
    """
    if not may_only_be_read(engine):
        yield
        return
    path = Path(engine.url.database or "")
    before = path.stat()
    yield
    after = path.stat()
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise StoreError("was written to while it was read; do it again")


def _sqlite(url: URL, create_file: bool) -> Engine:
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool

    path = _file(url)
    if path is not None:
        if not os.path.exists(path):  # Path.exists raises for a name too long
            if not create_file:
                raise StoreError(f"there must be a store at {path}, got no such file")
            if not os.path.isdir(path.parent):
                raise StoreError(f"a store must lie in an existing folder, got {url.database}")
        else:
            _look_at(path)
    read_only = path is not None and os.path.exists(path) and not _may_write(path)
    if read_only and path is not None:
        # Looked at again in every transaction, from whatever folder is then the current one.
        path = Path(os.path.abspath(path))
        url = url.set(database=str(path))
    # What is read without locks must not stay in the memory of a connection.
    pool: dict[str, Any] = {"poolclass": NullPool} if read_only else {}
    engine = create_engine(
        url,
        connect_args={"timeout": _LOCK_SECONDS},
        execution_options={"nastool_read_only": read_only},
        **pool,
    )

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: object, arguments: Any, options: Any) -> Any:
        del dialect, record, arguments, options
        return _connect_reading(path) if read_only and path is not None else None

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: object) -> None:
        del record
        # The driver's own transactions commit before DDL; ours begin where `begin` says.
        connection.isolation_level = None
        # Bytes that are no UTF-8 are for who reads the row to name.
        connection.text_factory = _as_text
        connection.execute("PRAGMA foreign_keys = ON")
        # With a write-ahead log this survives a killed process, at a fraction of FULL's time.
        connection.execute("PRAGMA synchronous = NORMAL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer takes its lock at once: an upgrade from a read lock fails without waiting.
        if connection.get_execution_options().get("nastool_write", False):
            _begin_writing(connection)
        else:
            connection.exec_driver_sql("BEGIN")

    return engine


def _file(url: URL) -> Path | None:
    """The file of a SQLite database; None where it lies in memory or SQLite's own URI names it."""
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        return None
    return Path(url.database)


def _look_at(path: Path) -> None:
    """Check, leaving no trace, that a file is a store or may become one.

    Raises:
        StoreError: It is something else.
    """
    import sqlite3

    from sqlalchemy import create_engine
    from sqlalchemy.exc import DatabaseError
    from sqlalchemy.pool import NullPool

    from nastool.store import migrations

    if not path.is_file():
        raise StoreError(f"a store must be a file, got {path}")
    with reading(path), path.open("rb") as file:
        head = file.read(len(SQLITE))
    # SQLite takes a file of a few bytes for an empty database.
    if head not in (b"", SQLITE):
        raise StoreError(f"a store must be SQLite's, {path} is not a database")
    looking = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(_reading_uri(path), uri=True),
        poolclass=NullPool,
    )
    try:
        with looking.connect() as connection:
            migrations.schema_version(connection)
    except DatabaseError as error:
        if "not a database" in str(error.orig):
            raise StoreError(
                f"a store must be a database of SQLite, {path} is not a database"
            ) from error
        # In the middle of another process's change, say: it is looked at again under a lock.
    except StoreError as error:
        raise StoreError(f"store sqlite:///{path} {error}") from error


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)


def _reading_uri(path: Path) -> str:
    """By which SQLite reads a file without making others beside it."""
    log = Path(f"{path}-wal")
    # Where there is a log it holds a part of the database, and is there to be shared.
    mode = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
    return f"file:{quote(os.fsencode(path.absolute()))}?{mode}"


def _connect_reading(path: Path) -> Any:
    import sqlite3

    return sqlite3.connect(
        _reading_uri(path), uri=True, timeout=_LOCK_SECONDS, check_same_thread=False
    )


def _as_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _begin_writing(connection: Connection) -> None:
    """Take the lock of a SQLite database, waiting for others.

    SQLite's own waiting pauses longer and longer, so that who came last is served first and one of
    many may wait until it gives up.
    """
    import sqlite3

    from sqlalchemy.exc import OperationalError

    raw: Any = connection.connection.dbapi_connection
    began = time.monotonic()
    raw.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                if not connection.info.get("nastool_log"):
                    # Outside of a transaction; SQLite refuses it to some of many without waiting.
                    raw.execute("PRAGMA journal_mode = WAL")
                    connection.info["nastool_log"] = True
                raw.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                waited = time.monotonic() - began
                busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                if not busy or waited > _LOCK_SECONDS:
                    raise OperationalError("BEGIN IMMEDIATE", None, error) from error
                time.sleep(_jitter.uniform(0, _PAUSE_SECONDS / (1 + waited)))
            else:
                return
    finally:
        raw.execute(f"PRAGMA busy_timeout = {int(_LOCK_SECONDS * 1000)}")
