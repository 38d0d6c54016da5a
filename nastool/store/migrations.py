"""Bringing a database to the schema this version of nastool reads and writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    insert,
    inspect,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.types import NullType

from nastool.errors import StoreError
from nastool.store import rows, tables
from nastool.store.encoding import unpack_array

APPLICATION_ID = 0x6E617374
"""By which SQLite's own tools know a store: ``nast``."""

_OPENING = 0x6E617374_6F6F6C
"""Number of PostgreSQL's advisory lock under which a database is brought to a schema."""


def _create(connection: Connection) -> None:
    tables.metadata.create_all(connection)
    connection.execute(insert(tables.schema).values(version=1))


def _add_digests(connection: Connection) -> None:
    """Rows carry digests; those that are there get one of what they say now."""
    for table in tables.metadata.sorted_tables:
        there = {column["name"] for column in inspect(connection).get_columns(table.name)}
        for name, kind in (("digest", "VARCHAR(16)"), ("commits", "BIGINT NOT NULL DEFAULT 0")):
            if name in table.columns and name not in there:
                connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {name} {kind}"))
    _shorten_keys(connection)
    _recount(connection)
    for table in (tables.studies, tables.batches, tables.states, tables.measurements):
        change = update(table).where(_is_row(table)).values(digest=bindparam("new_digest"))
        changes = [
            {**_key(table, row), "new_digest": rows.digest(table, row)}
            for row in _all(connection, table)
        ]
        if changes:
            connection.execute(change, changes)
    if connection.dialect.name == "sqlite":
        connection.execute(text(f"PRAGMA application_id = {APPLICATION_ID}"))


def _all(connection: Connection, table: Table) -> list[dict[str, Any]]:
    """Every row as the driver reads it; what it holds may be damaged."""
    found = connection.execute(select(*rows.columns(table, 2))).mappings()
    return [dict(row) for row in found]


def _is_row(table: Table) -> ColumnElement[bool]:
    """The condition that holds for the row of a `_key` alone."""
    keys = table.primary_key.columns
    return and_(*(key == bindparam(f"key_{key.name}", type_=NullType()) for key in keys))


def _key(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    return {f"key_{key.name}": row[key.name] for key in table.primary_key.columns}


def _shorten_keys(connection: Connection) -> None:
    """Give measurements with overlong keys, which SQLite took, the keys they are found by now."""
    table = tables.measurements
    for row in _all(connection, table):
        try:
            keys = {
                "space": rows.key_text(row["space"], tables.SPACE_LENGTH),
                "objective": rows.key_text(row["objective"], tables.OBJECTIVE_LENGTH),
                "genotype": rows.key_bytes(bytes(row["genotype"]), tables.GENOTYPE_LENGTH),
            }
        except (TypeError, AttributeError):  # damaged; no key finds it
            continue
        if any(row[name] != key for name, key in keys.items()):
            connection.execute(update(table).where(_is_row(table)).values(keys), _key(table, row))


def _recount(connection: Connection) -> None:
    """Set the number of evaluations to that of the rows: a late process could lower it."""
    counts: dict[Any, int] = {}
    for row in _all(connection, tables.batches):
        try:
            counts[row["study"]] = counts.get(row["study"], 0) + len(unpack_array(row["elapsed"]))
        except (StoreError, TypeError):  # damaged: reading the study says so
            counts[row["study"]] = -1
    for study, count in counts.items():
        if count > 0:
            connection.execute(
                update(tables.studies)
                .where(tables.studies.c.id == study, tables.studies.c.evaluations < count)
                .values(evaluations=count)
            )


def _add_noise(connection: Connection) -> None:
    """Measurements say how they repeat; what is there was measured once, as far as is known."""
    name = tables.measurements.name
    there = {column["name"] for column in inspect(connection).get_columns(name)}
    for column, kind in (("noise", "FLOAT"), ("repeats", "BIGINT NOT NULL DEFAULT 1")):
        if column not in there:
            connection.execute(text(f"ALTER TABLE {name} ADD COLUMN {column} {kind}"))


def _add_leases(connection: Connection) -> None:
    """Several processes may share a study."""
    tables.leases.create(connection, checkfirst=True)


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (
    _create,
    _add_digests,
    _add_noise,
    _add_leases,
)
"""Entry k turns schema k into schema k + 1; entries are only ever added.

The first one makes the newest tables, so that the others must leave alone what is there.
"""


def schema_version(connection: Connection) -> int:
    """Number of migrations a database has seen; 0 for an empty one.

    Raises:
        StoreError: It belongs to another program or to a newer nastool.
    """
    there = inspect(connection)
    names = there.get_table_names()
    if tables.schema.name not in names:
        names += there.get_view_names()
        if not names and connection.dialect.name == "sqlite":
            marks = ("application_id", "user_version")
            # One of ours that has no tables is just being made by another process.
            names = [
                f"{mark} {value}"
                for mark in marks
                if (value := connection.execute(text(f"PRAGMA {mark}")).scalar_one())
                not in (0, APPLICATION_ID)
            ]
        if names:
            raise StoreError(
                f"holds tables of another program ({', '.join(sorted(names)[:3])}); "
                "give nastool a database of its own"
            )
        return 0
    column: ColumnElement[Any] = literal_column(tables.schema.c.version.name)
    found = [row[0] for row in connection.execute(select(column).select_from(tables.schema))]
    if len(found) != 1 or not isinstance(found[0], int) or found[0] < 1:
        raise StoreError(
            f"is damaged: table {tables.schema.name} must hold one number, "
            f"got {', '.join(map(rows.shortened, found)) or 'none'}"
        )
    version = found[0]
    if version > len(MIGRATIONS):
        raise StoreError(
            f"has schema {version}, this version of nastool knows schemas up to "
            f"{len(MIGRATIONS)}: upgrade nastool"
        )
    return version


def migrate(connection: Connection) -> None:
    """Apply the migrations a database has not seen, within the caller's transaction."""
    if connection.dialect.name == "postgresql":
        # As SQLite's lock does: who comes second finds what the first one made.
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_OPENING})"))
    version = schema_version(connection)
    for step in MIGRATIONS[version:]:
        step(connection)
    if version < len(MIGRATIONS):
        connection.execute(update(tables.schema).values(version=len(MIGRATIONS)))
