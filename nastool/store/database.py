"""A database: its connections, its transactions, and what goes wrong with them in one line."""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nastool.errors import NastoolError, StoreError, first_line
from nastool.runtime.interrupt import signals_wait
from nastool.store import engines, rows, urls

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

_LOG = logging.getLogger(__name__)


class Database:
    """One of nastool's databases, brought to the newest schema where it may be written.

    Args:
        address: A SQLAlchemy URL.
        create: Whether a SQLite file may be made.

    Raises:
        StoreError: It cannot be reached, or is another program's.
        MissingDependencyError: Its driver is not installed.
    """

    def __init__(self, address: str, create: bool) -> None:
        from nastool.store import migrations

        self._address = address
        self.url = urls.showable(address)
        self._engine = engines.create(address, create)
        self._anywhere = engines.address(self._engine.url)
        # Of who forgets to close; from Python 3.13 on, SQLite's connections complain of that.
        weakref.finalize(self, self._engine.dispose).atexit = False
        _LOG.debug("opened %s", self.url)
        newest = len(migrations.MIGRATIONS)
        self.version = newest
        try:
            with self.read() as connection:
                version = migrations.schema_version(connection)
        except NastoolError:
            raise
        except (TypeError, ValueError) as error:  # a driver about what the address asks of it
            raise self._error(f"cannot be opened: {first_line(error)}") from None
        if version < newest and not (version and self._may_only_read()):
            with self.write() as connection:
                migrations.migrate(connection)
        else:
            self.version = version

    def close(self) -> None:
        """Give the connections back; new ones are opened when it is used again."""
        # Closing takes a log into the database; what is raised amid it, SQLAlchemy writes out at
        # length and forgets.
        with signals_wait():
            self._engine.dispose()

    @property
    def address(self) -> str:
        """The URL that opens the same database from any folder, secrets included.

        Raises:
            StoreError: None does.
        """
        if self.is_in_memory:
            raise self._error("lies in memory and can be neither pickled nor copied")
        return self._anywhere

    @property
    def is_in_memory(self) -> bool:
        """Whether it lies in the memory of this process, where no other one sees it."""
        return engines.is_in_memory(self._engine)

    def _may_only_read(self) -> bool:
        """Whether this user may not write, so that an older schema stays as it is."""
        if self._engine.dialect.name != "postgresql":
            return engines.may_only_be_read(self._engine)
        from sqlalchemy import text

        # A role with fewer rights, or a server that repeats another one.
        query = text(
            "SELECT pg_is_in_recovery() OR NOT pg_has_role(tableowner, 'USAGE') FROM pg_tables "
            "WHERE tablename = 'studies' AND schemaname = ANY (current_schemas(false))"
        )
        with self.read() as connection:
            return bool(connection.execute(query).scalar())

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database."""
        reader = engines.for_reading(self._engine)
        with self._errors(), engines.unchanged(reader), reader.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is alone in writing what it has read.

        Raises:
            StoreError: It may only be read, or cannot be written.
        """
        from nastool.store import migrations

        if engines.may_only_be_read(self._engine) or self.version < len(migrations.MIGRATIONS):
            raise StoreError(f"store {self.url}: must be writable for this, it may only be read")
        writer = engines.for_writing(self._engine)
        with self._errors(), writer.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what databases and drivers raise into one line, without what must not be shown."""
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            said = (error.orig if isinstance(error, DBAPIError) else None) or error
            quotes = urls.redacted(str(said), self._address) != str(said)
            # A traceback shows the cause, too.
            raise self._error(first_line(said)) from (None if quotes else error)
        except StoreError as error:
            if str(error).startswith("store "):
                raise
            raise StoreError(f"store {self.url} {error}") from error

    def _error(self, text: str) -> StoreError:
        return StoreError(f"store {self.url}: {urls.redacted(text, self._address)}")

    def select(self, connection: Connection, table: Table, *where: Any) -> list[dict[str, Any]]:
        """Rows of a table as the driver reads them, by their first columns.

        Args:
            connection: Of `read` or `write`; of the latter, others wait who would change them.
            table: One of the store's.
            where: Conditions that hold for all of them.
        """
        from sqlalchemy import select

        query = select(*rows.columns(table, self.version)).select_from(table).where(*where)
        query = query.order_by(*table.primary_key.columns)
        if connection.get_execution_options().get("nastool_write", False):
            query = query.with_for_update()
        return [dict(row) for row in connection.execute(query).mappings()]
