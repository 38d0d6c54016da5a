"""Connections to databases: their drivers, and the settings that make SQLite safe to share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from nastool.errors import MissingDependencyError, StoreError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

DEFAULT_URL = "sqlite:///nastool.db"

_LOCK_SECONDS = 10
"""How long a write waits for another process before it gives up."""


def create(text: str, create_file: bool) -> Engine:
    """What reaches the database of a URL.

    Args:
        text: A SQLAlchemy URL of SQLite or PostgreSQL.
        create_file: Whether a SQLite file may be made.

    Raises:
        StoreError: No such URL, or the file cannot be there.
        MissingDependencyError: The database's driver is not installed.
    """
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        url = make_url(text)
        if url.drivername in ("postgres", "postgresql"):
            url = url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() == "sqlite":
            return _sqlite(url, create_file)
        if url.get_backend_name() != "postgresql":
            raise ValueError
        return create_engine(url, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise StoreError(
            f"a store must be a URL such as {DEFAULT_URL} or postgresql://HOST/NAME, got {text!r}"
        ) from error
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"a store at {url.drivername}:// needs the Python package {error.name!r} "
            "(pip install 'nastool[postgresql]' brings the one for PostgreSQL)"
        ) from error


def _sqlite(url: URL, create_file: bool) -> Engine:
    from pathlib import Path

    from sqlalchemy import create_engine, event

    if url.database and url.database != ":memory:" and not url.database.startswith("file:"):
        path = Path(url.database)
        if not create_file and not path.exists():
            raise StoreError(f"there must be a store at {path}, got no such file")
        if not path.parent.is_dir():
            raise StoreError(f"a store must lie in an existing folder, got {url.database}")
    engine = create_engine(url, connect_args={"timeout": _LOCK_SECONDS})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: object) -> None:
        del record
        # The driver's own transactions commit before DDL; ours begin where `begin` says.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        _use_write_ahead_log(connection)
        # With a write-ahead log this survives a killed process, at a fraction of FULL's time.
        connection.execute("PRAGMA synchronous = NORMAL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer takes its lock at once: an upgrade from a read lock fails without waiting.
        write = connection.get_execution_options().get("nastool_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _use_write_ahead_log(connection: Any) -> None:
    """Switch a new file over; done by several at once, SQLite refuses some without waiting."""
    from sqlite3 import OperationalError

    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
