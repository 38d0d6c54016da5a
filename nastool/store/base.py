"""Where studies are kept: one database, written in transactions that never leave half a batch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError, StoreError
from nastool.space import Genotypes
from nastool.store import engines
from nastool.store.encoding import decode_state, encode_state, pack_array, unpack_array

if TYPE_CHECKING:
    from sqlalchemy import Connection

_KEYS_PER_QUERY = 500
"""Bound on the parameters of one query; SQLite takes at most 999 in old builds."""


@dataclass(frozen=True)
class StudySummary:
    """What a list of studies shows.

    Args:
        name: Unique in the store.
        created: UTC, ISO 8601.
        evaluations: Distinct genotypes evaluated so far.
        seconds: Time spent running.
        stop_reason: Why the last run ended; empty while it runs or where it was killed.
        identity: What must stay the same for the study to go on.
        description: Enough to build the problem and the strategy again.
    """

    name: str
    created: str
    evaluations: int
    seconds: float
    stop_reason: str
    identity: Mapping[str, Any]
    description: Mapping[str, Any]


@dataclass(frozen=True)
class Batch:
    """Consecutive evaluations of a study.

    Args:
        genotypes: Shape (n, d).
        values: Every reported metric in its natural sign and base unit, shape (n, r).
        elapsed: Seconds of the study after which each was known, shape (n,).
        failures: Messages of evaluations that raised, as JSON values.
    """

    genotypes: Genotypes
    values: NDArray[np.float64]
    elapsed: NDArray[np.float64]
    failures: Sequence[Any] = ()


@dataclass(frozen=True)
class StoredStudy:
    """A study as it was last committed.

    Args:
        key: Number of the study in its store.
        summary: Its description.
        batch: All its evaluations in order.
        state: The strategy's latest state; None before the first one was committed.
    """

    key: int
    summary: StudySummary
    batch: Batch
    state: Mapping[str, Any] | None = field(default=None)


class Store:
    """Studies, their evaluations, the states of their strategies, and measurements.

    Args:
        url: A SQLAlchemy URL, e.g. ``sqlite:///nastool.db`` or ``postgresql://user@host/name``.
        create: Whether a SQLite file may be made.

    Raises:
        StoreError: The database cannot be reached, or is not one of nastool's.
        MissingDependencyError: The database's driver is not installed.
    """

    def __init__(self, url: str | None = None, create: bool = True) -> None:
        self._engine = engines.create(url or engines.DEFAULT_URL, create)
        self.url = self._engine.url.render_as_string(hide_password=True)
        from nastool.store import migrations

        with self._read() as connection:
            version = migrations.schema_version(connection)
        if version < len(migrations.MIGRATIONS):
            with self._write() as connection:
                migrations.migrate(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back; the store opens new ones when it is used again."""
        self._engine.dispose()

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._errors(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        writer = self._engine.execution_options(nastool_write=True)
        with self._errors(), writer.begin() as connection:
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError

        try:
            yield
        except DBAPIError as error:
            lines = str(error.orig).strip().splitlines() or [type(error).__name__]
            raise StoreError(f"store {self.url}: {lines[0]}") from error
        except SQLAlchemyError as error:
            raise StoreError(f"store {self.url}: {str(error).splitlines()[0]}") from error
        except StoreError as error:
            if str(error).startswith("store "):
                raise
            raise StoreError(f"store {self.url} {error}") from error

    def create_study(
        self, name: str, identity: Mapping[str, Any], description: Mapping[str, Any]
    ) -> int:
        """Add an empty study.

        Args:
            name: Not empty and not taken.
            identity: JSON values that must stay the same for the study to go on.
            description: JSON values from which the study can be built again.

        Returns:
            Its number in the store.

        Raises:
            InvalidInputError: An empty, overlong or taken name.
        """
        from sqlalchemy import insert
        from sqlalchemy.exc import IntegrityError

        from nastool.store.tables import studies

        if not 0 < len(name) <= 255:
            raise InvalidInputError(f"a study's name must have 1 to 255 characters, got {name!r}")
        row = {
            "name": name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "identity": json.dumps(identity),
            "description": json.dumps(description),
            "evaluations": 0,
            "seconds": 0.0,
            "stop_reason": "",
        }
        try:
            with self._write() as connection:
                result = connection.execute(insert(studies).values(row))
                return int(result.inserted_primary_key[0])  # type: ignore[index]  # rows have one
        except StoreError as error:
            if isinstance(error.__cause__, IntegrityError):
                raise InvalidInputError(
                    f"a study's name must be new to {self.url}, got {name!r}"
                ) from error
            raise

    def list_studies(self) -> list[StudySummary]:
        """All studies, oldest first."""
        from sqlalchemy import select

        from nastool.store.tables import studies

        with self._read() as connection:
            rows = connection.execute(select(studies).order_by(studies.c.id)).all()
        return [_summary(row) for row in rows]

    def find(self, name: str) -> StoredStudy | None:
        """The study of that name with all its evaluations, or None."""
        from sqlalchemy import select

        from nastool.store.tables import batches, states, studies

        with self._read() as connection:
            row = connection.execute(select(studies).where(studies.c.name == name)).one_or_none()
            if row is None:
                return None
            parts = (
                connection.execute(
                    select(batches).where(batches.c.study == row.id).order_by(batches.c.first)
                )
                .mappings()
                .all()
            )
            state = connection.execute(
                select(states.c.state).where(states.c.study == row.id)
            ).scalar_one_or_none()
        columns = [
            [unpack_array(part[name]) for part in parts]
            for name in ("genotypes", "values", "elapsed")
        ]
        begin = 0
        for part, genotypes in zip(parts, columns[0], strict=True):
            if part["first"] != begin:
                raise StoreError(
                    f"store {self.url}: study {name!r} must go on with evaluation {begin}, "
                    f"got {part['first']}"
                )
            begin += len(genotypes)
        batch = Batch(
            np.concatenate(columns[0]).astype(np.int64) if parts else np.empty((0, 0), np.int64),
            np.concatenate(columns[1]) if parts else np.empty((0, 0)),
            np.concatenate(columns[2]) if parts else np.empty(0),
            [failure for part in parts for failure in json.loads(part["failures"])],
        )
        decoded = None if state is None else decode_state(state)
        return StoredStudy(int(row.id), _summary(row), batch, decoded)

    def load(self, name: str) -> StoredStudy:
        """The study of that name with all its evaluations.

        Raises:
            InvalidInputError: There is none; the message lists those there are.
        """
        study = self.find(name)
        if study is None:
            raise self._unknown(name)
        return study

    def delete(self, name: str) -> None:
        """Remove a study and its evaluations; measurements stay.

        Raises:
            InvalidInputError: There is none of that name.
        """
        from sqlalchemy import delete

        from nastool.store.tables import studies

        with self._write() as connection:
            if connection.execute(delete(studies).where(studies.c.name == name)).rowcount == 0:
                raise self._unknown(name)

    def annotate(self, name: str, key: str, value: object) -> None:
        """Add to the description of a study, or replace what is there under that key.

        Args:
            name: The study.
            key: Under which `annotation` finds it.
            value: A JSON value.

        Raises:
            InvalidInputError: There is no study of that name.
        """
        from sqlalchemy import select, update

        from nastool.store.tables import studies

        with self._write() as connection:
            where = studies.c.name == name
            row = connection.execute(select(studies.c.description).where(where)).one_or_none()
            if row is None:
                raise self._unknown(name)
            text = json.dumps({**json.loads(row.description), key: value})
            connection.execute(update(studies).where(where).values(description=text))

    def annotation(self, name: str, key: str) -> Any:
        """What the description of a study says under a key; None where study or key is missing."""
        from sqlalchemy import select

        from nastool.store.tables import studies

        with self._read() as connection:
            query = select(studies.c.description).where(studies.c.name == name)
            text = connection.execute(query).scalar_one_or_none()
        return None if text is None else json.loads(text).get(key)

    def _unknown(self, name: str) -> InvalidInputError:
        # The runs of a comparison are many, and go by its name.
        listed = {}
        for study in self.list_studies():
            comparison = study.description.get("comparison") or {}
            listed[comparison.get("name", study.name)] = study.name
        if name in listed:
            return InvalidInputError(f"expected a study such as {listed[name]!r}, got a comparison")
        known = ", ".join([*listed][-10:]) or "none"
        return InvalidInputError(f"unknown study {name!r} in {self.url}; known: {known}")

    def commit(
        self,
        key: int,
        first: int,
        batch: Batch,
        state: Mapping[str, Any] | None,
        seconds: float,
        stop_reason: str = "",
    ) -> None:
        """Write evaluations and the strategy's state in one transaction.

        Args:
            key: Number of the study.
            first: How many evaluations the study had before these.
            batch: The new ones; may be empty.
            state: The strategy's state between two batches; None keeps the one that is there.
            seconds: Time the study has run.
            stop_reason: Why the run ended; empty while it goes on.

        Raises:
            StoreError: Another process has continued or deleted the study in the meantime.
        """
        from sqlalchemy import delete, insert, update
        from sqlalchemy.exc import IntegrityError

        from nastool.store.tables import states, studies

        try:
            with self._write() as connection:
                _add_batch(connection, key, first, batch)
                if state is not None:
                    connection.execute(delete(states).where(states.c.study == key))
                    connection.execute(insert(states).values(study=key, state=encode_state(state)))
                connection.execute(
                    update(studies)
                    .where(studies.c.id == key)
                    .values(
                        evaluations=first + len(batch.genotypes),
                        seconds=seconds,
                        stop_reason=stop_reason,
                    )
                )
        except StoreError as error:
            if isinstance(error.__cause__, IntegrityError):
                raise StoreError(
                    f"store {self.url}: the study was continued or deleted by another process"
                ) from error
            raise

    def revise(
        self,
        key: int,
        count: int,
        batch: Batch,
        state: Mapping[str, Any] | None,
        seconds: float,
    ) -> None:
        """Write all evaluations of a study anew, in one transaction: some have other values now.

        Args:
            key: Number of the study.
            count: How many evaluations the study had.
            batch: All of them and any new ones.
            state: As for `commit`.
            seconds: Time the study has run.

        Raises:
            StoreError: Another process has continued or deleted the study in the meantime.
        """
        from sqlalchemy import delete, insert, select, update

        from nastool.store.tables import batches, states, studies

        with self._write() as connection:
            where = studies.c.id == key
            held = connection.execute(select(studies.c.evaluations).where(where)).scalar()
            if held != count:
                raise StoreError(
                    f"store {self.url}: the study was continued or deleted by another process"
                )
            connection.execute(delete(batches).where(batches.c.study == key))
            _add_batch(connection, key, 0, batch)
            if state is not None:
                connection.execute(delete(states).where(states.c.study == key))
                connection.execute(insert(states).values(study=key, state=encode_state(state)))
            connection.execute(
                update(studies)
                .where(where)
                .values(evaluations=len(batch.genotypes), seconds=seconds, stop_reason="")
            )

    def measurements(self, space: str, objective: str, genotypes: Genotypes) -> NDArray[np.float64]:
        """Values that were measured before, in any study.

        Args:
            space: Fingerprint of the space.
            objective: Fingerprint of the objective.
            genotypes: Canonical, shape (n, d).

        Returns:
            Shape (n,), NaN where there is none.
        """
        from sqlalchemy import select

        from nastool.store.tables import measurements as table

        keys = _genotype_keys(genotypes)
        found: dict[bytes, float] = {}
        with self._read() as connection:
            for begin in range(0, len(keys), _KEYS_PER_QUERY):
                query = select(table.c.genotype, table.c.value).where(
                    table.c.space == space,
                    table.c.objective == objective,
                    table.c.genotype.in_(keys[begin : begin + _KEYS_PER_QUERY]),
                )
                found.update((bytes(key), value) for key, value in connection.execute(query))
        return np.array([found.get(key, np.nan) for key in keys], dtype=np.float64)

    def add_measurements(
        self, space: str, objective: str, genotypes: Genotypes, values: NDArray[np.float64]
    ) -> None:
        """Keep measured values for every study; the first value of a genotype stays.

        Args:
            space: Fingerprint of the space.
            objective: Fingerprint of the objective.
            genotypes: Canonical, shape (n, d).
            values: Shape (n,); failed ones (NaN) are left out, to be tried again.
        """
        from nastool.store.tables import measurements as table

        good = ~np.isnan(values)
        rows = [
            {"space": space, "objective": objective, "genotype": key, "value": value}
            for key, value in zip(
                _genotype_keys(genotypes[good]), values[good].tolist(), strict=True
            )
        ]
        if not rows:
            return
        if self._engine.dialect.name == "sqlite":
            from sqlalchemy.dialects.sqlite import insert
        else:
            from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
        with self._write() as connection:
            connection.execute(insert(table).on_conflict_do_nothing(), rows)


def open_store(url: str | None = None, create: bool = True) -> Store:
    """Open the store at a URL, by default ``nastool.db`` in the current folder.

    Args:
        url: A SQLAlchemy URL, or None for the default.
        create: Whether a SQLite file may be made.

    Raises:
        StoreError: The database cannot be reached, or is not one of nastool's.
    """
    return Store(url, create)


def _summary(row: Any) -> StudySummary:
    return StudySummary(
        row.name,
        row.created,
        int(row.evaluations),
        float(row.seconds),
        row.stop_reason,
        json.loads(row.identity),
        json.loads(row.description),
    )


def _add_batch(connection: Connection, key: int, first: int, batch: Batch) -> None:
    from sqlalchemy import insert

    from nastool.store.tables import batches

    if len(batch.genotypes):
        row = {
            "study": key,
            "first": first,
            "genotypes": pack_array(_compact(batch.genotypes)),
            "values": pack_array(batch.values),
            "elapsed": pack_array(batch.elapsed),
            "failures": json.dumps(list(batch.failures)),
        }
        connection.execute(insert(batches).values(row))


def _compact(genotypes: Genotypes) -> NDArray[Any]:
    """Genotypes in the smallest integer type that holds them."""
    return genotypes.astype(np.min_scalar_type(int(genotypes.max(initial=0))))


def _genotype_keys(genotypes: Genotypes) -> list[bytes]:
    if genotypes.size and int(genotypes.max()) > 65_535:
        raise InvalidInputError(
            f"a gene whose measurements are stored must have at most 65,536 choices, got an index "
            f"of {int(genotypes.max())}"
        )
    return [row.tobytes() for row in genotypes.astype("<u2")]
