"""Bringing a database to the schema this version of nastool reads and writes."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, insert, inspect, select, update

from nastool.errors import StoreError
from nastool.store import tables


def _create(connection: Connection) -> None:
    tables.metadata.create_all(connection)
    connection.execute(insert(tables.schema).values(version=1))


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (_create,)
"""Entry k turns schema k into schema k + 1; entries are only ever added."""


def schema_version(connection: Connection) -> int:
    """Number of migrations a database has seen; 0 for an empty one.

    Raises:
        StoreError: It belongs to another program or to a newer nastool.
    """
    names = inspect(connection).get_table_names()
    if tables.schema.name not in names:
        if names:
            raise StoreError(
                f"holds tables of another program ({', '.join(sorted(names)[:3])}); "
                "give nastool a database of its own"
            )
        return 0
    version = connection.execute(select(tables.schema.c.version)).scalar_one()
    if version > len(MIGRATIONS):
        raise StoreError(
            f"has schema {version}, this version of nastool knows schemas up to "
            f"{len(MIGRATIONS)}: upgrade nastool"
        )
    return int(version)


def migrate(connection: Connection) -> None:
    """Apply the migrations a database has not seen, within the caller's transaction."""
    version = schema_version(connection)
    for step in MIGRATIONS[version:]:
        step(connection)
    if version < len(MIGRATIONS):
        connection.execute(update(tables.schema).values(version=len(MIGRATIONS)))
