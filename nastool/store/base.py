"""Where studies are kept: one database, written in transactions that never leave half a batch."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from nastool.choices import check_text
from nastool.errors import InvalidInputError, StoreError, nearest
from nastool.files.hub import fetched, is_on_hub
from nastool.space import Genotypes
from nastool.store import commits, engines, measurements, records, rows, sharing
from nastool.store.database import Database
from nastool.store.records import Batch, StoredStudy, StudySummary

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

FILE = "nastool.db"
"""Name of the store in the folder of a study that was pushed."""

SHARED_SINCE = 4
"""The first schema in which several processes may share a study."""


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
        self._database = Database(check_text("a store's URL", url or engines.DEFAULT_URL), create)
        self.url = self._database.url

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def __reduce__(self) -> tuple[type[Store], tuple[str, bool]]:
        # A copy, here or in another process, has connections of its own.
        return type(self), (self._database.address, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back; the store opens new ones when it is used again."""
        self._database.close()

    def _study(self, connection: Connection, where: ColumnElement[bool]) -> dict[str, Any] | None:
        from nastool.store.tables import studies

        found = self._database.select(connection, studies, where)
        return records.read_study(found[0]) if found else None

    def create_study(
        self,
        name: str,
        identity: Mapping[str, Any],
        description: Mapping[str, Any],
        batch: Batch | None = None,
    ) -> int:
        """Add a study.

        Args:
            name: Not empty and not taken.
            identity: JSON values that must stay the same for the study to go on.
            description: JSON values from which the study can be built again.
            batch: Evaluations that it begins with, as if committed once; none by default.

        Returns:
            Its number in the store.

        Raises:
            InvalidInputError: An empty, blank, overlong or taken name.
        """
        from sqlalchemy import insert
        from sqlalchemy.exc import IntegrityError

        from nastool.store.tables import NAME_LENGTH, studies

        if not name.strip() or len(name) > NAME_LENGTH or not rows.storable(name):
            raise InvalidInputError(
                f"a study's name must have 1 to {NAME_LENGTH} characters that UTF-8 knows, none of "
                f"them null and not all of them blank, got {rows.shortened(name)}"
            )
        row = {
            "name": name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "identity": json.dumps(identity),
            "description": json.dumps(description),
            "evaluations": 0,
            "seconds": 0.0,
            "stop_reason": "",
            "commits": 0,
        }
        try:
            with self._database.write() as connection:
                result = connection.execute(insert(studies).values(rows.signed(studies, row)))
                key = int(result.inserted_primary_key[0])  # type: ignore[index]  # rows have one
                if batch is not None:
                    commits.write(connection, {**row, "id": key}, 0, batch, None, 0.0, "")
                return key
        except StoreError as error:
            if isinstance(error.__cause__, IntegrityError):
                raise InvalidInputError(
                    f"a study's name must be new to {self.url}, got {name!r}"
                ) from error
            raise

    def names(self) -> list[str]:
        """Names of all studies, oldest first."""
        from sqlalchemy import select

        from nastool.store.tables import studies

        with self._database.read() as connection:
            found = connection.execute(select(studies.c.name).order_by(studies.c.id)).scalars()
            return [str(name) for name in found]

    def list_studies(self, prefix: str = "") -> list[StudySummary]:
        """All studies, oldest first.

        Args:
            prefix: Of their names; others are not even read.

        Raises:
            StoreError: One is damaged.
        """
        from nastool.store.tables import studies

        if not rows.storable(prefix):
            return []
        where = [studies.c.name.startswith(prefix, autoescape=True)] if prefix else []
        with self._database.read() as connection:
            found = self._database.select(connection, studies, *where)
            summaries = [records.summarise(records.read_study(row)) for row in found]
        # SQLite compares without regard to case.
        return [summary for summary in summaries if summary.name.startswith(prefix)]

    def find(self, name: str) -> StoredStudy | None:
        """The study of that name with all its evaluations, or None.

        Raises:
            StoreError: It is damaged.
        """
        from nastool.store.tables import studies

        if not rows.storable(name):
            return None
        with self._database.read() as connection:
            row = self._study(connection, studies.c.name == name)
            if row is None:
                return None
            return self._content(connection, row)

    def _content(
        self, connection: Connection, row: Mapping[str, Any], first: int = 0
    ) -> StoredStudy:
        """A study from its checked row, with its evaluations from the first on that is wanted."""
        from nastool.store.tables import batches, states

        summary, name = records.summarise(row), row["name"]
        wanted = (batches.c.study == row["id"], batches.c.first >= first)
        batch = records.read_batches(
            name, self._database.select(connection, batches, *wanted), first
        )
        # What has no digest may come from an older nastool, whose counts could be late.
        if row["digest"] is not None and summary.evaluations != first + len(batch.genotypes):
            raise StoreError(
                f"holds a damaged study {name!r}: it must have {summary.evaluations:,} "
                f"evaluations, got {first + len(batch.genotypes):,}"
            )
        kept = self._database.select(connection, states, states.c.study == row["id"])
        state = records.read_state(name, kept[0] if kept else None)
        return StoredStudy(row["id"], summary, batch, state, row["commits"])

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

        if not rows.storable(name):
            raise self._unknown(name)
        with self._database.write() as connection:
            if connection.execute(delete(studies).where(studies.c.name == name)).rowcount == 0:
                raise self._unknown(name)

    def copy(self, name: str, target: Store) -> None:
        """Copy a study, its evaluations and its strategy's state to another store.

        Args:
            name: Of the study.
            target: Has no study of that name.

        Raises:
            InvalidInputError: There is none of that name.
        """
        from sqlalchemy import insert

        from nastool.store.tables import batches, states, studies

        with self._database.read() as connection:
            found = self._database.select(connection, studies, studies.c.name == name)
            if not found:
                raise self._unknown(name)
            row = rows.read(studies, found[0], f"study {name!r}")
            old = row.pop("id")
            parts = {
                table: [
                    rows.read(table, part, f"study {name!r}")
                    for part in self._database.select(connection, table, table.c.study == old)
                ]
                for table in (batches, states)
            }
        with target._database.write() as connection:
            key = connection.execute(insert(studies).values(rows.signed(studies, row)))
            new = int(key.inserted_primary_key[0])  # type: ignore[index]  # rows have one
            for table, content in parts.items():
                for part in content:
                    connection.execute(
                        insert(table).values(rows.signed(table, {**part, "study": new}))
                    )

    def annotate(self, name: str, key: str, value: object) -> None:
        """Add to the description of a study, or replace what is there under that key.

        Args:
            name: The study.
            key: Under which `annotation` finds it.
            value: A JSON value.

        Raises:
            InvalidInputError: There is no study of that name.
        """
        from sqlalchemy import update

        from nastool.store.tables import studies

        if not rows.storable(name):
            raise self._unknown(name)
        with self._database.write() as connection:
            row = self._study(connection, studies.c.name == name)
            if row is None:
                raise self._unknown(name)
            description = {**records.summarise(row).description, key: value}
            row = rows.signed(studies, {**row, "description": json.dumps(description)})
            connection.execute(update(studies).where(studies.c.id == row["id"]).values(row))

    def annotation(self, name: str, key: str) -> Any:
        """What the description of a study says under a key; None where study or key is missing."""
        from nastool.store.tables import studies

        if not rows.storable(name):
            return None
        with self._database.read() as connection:
            row = self._study(connection, studies.c.name == name)
            return None if row is None else records.summarise(row).description.get(key)

    def _unknown(self, name: str) -> InvalidInputError:
        from nastool.store.tables import studies

        # The runs of a comparison are many, and go by its name.
        listed = {}
        with self._database.read() as connection:
            for row in self._database.select(connection, studies):
                known = study = str(row["name"])
                # A damaged study must not hide the others.
                with contextlib.suppress(StoreError):
                    known, _ = records.summarise(records.read_study(row)).comparison or (study, "")
                listed[known] = study
        if name in listed:
            return InvalidInputError(f"expected a study such as {listed[name]!r}, got a comparison")
        return InvalidInputError(
            f"unknown study {name!r} in {self.url}; {nearest(name, listed, most=10)}"
        )

    def commit(
        self,
        key: int,
        first: int,
        batch: Batch,
        state: Mapping[str, Any] | None,
        seconds: float,
        stop_reason: str = "",
        after: int | None = None,
        *,
        anew: bool = False,
    ) -> int:
        """Write evaluations and the strategy's state in one transaction.

        Args:
            key: Number of the study.
            first: How many evaluations the study had before these.
            batch: The new ones; may be empty.
            state: The strategy's state between two batches; None keeps the one that is there.
            seconds: Time the study has run.
            stop_reason: Why the run ended; empty while it goes on.
            after: How often the study had been committed to when its number of evaluations and its
                state were read; None where only its number of evaluations is compared.
            anew: Whether the batch is all that the study has, in the place of what is there:
                evaluations that had failed have other values now.

        Returns:
            How often it has been committed to now.

        Raises:
            InvalidInputError: An overlong reason.
            StoreError: Another process has continued or deleted the study in the meantime.
        """
        from sqlalchemy.exc import IntegrityError

        from nastool.store.tables import STOP_REASON_LENGTH, studies

        if len(stop_reason) > STOP_REASON_LENGTH or not rows.storable(stop_reason):
            raise InvalidInputError(
                f"why a run ended must be said in at most {STOP_REASON_LENGTH} characters, got "
                f"{rows.shortened(stop_reason)}"
            )
        late = self._late()
        try:
            with self._database.write() as connection:
                study = self._study(connection, studies.c.id == key)
                if study is None or study["evaluations"] != first:
                    raise late
                if after is not None and study["commits"] != after:
                    raise late
                return commits.write(
                    connection, study, 0 if anew else first, batch, state, seconds, stop_reason
                )
        except StoreError as error:
            if isinstance(error.__cause__, IntegrityError):
                raise late from error
            raise

    def _late(self) -> StoreError:
        return StoreError(
            f"store {self.url}: the study was continued or deleted by another process"
        )

    @property
    def is_shared(self) -> bool:
        """Whether other processes can open it: it does not lie in this one's memory."""
        return not self._database.is_in_memory

    @contextlib.contextmanager
    def turn(self, key: int, first: int, owner: str) -> Iterator[sharing.Turn]:
        """A turn on a study that several processes share; others wait until the block ends.

        Args:
            key: Number of the study.
            first: How many of its evaluations the process knows.
            owner: The process, whose own lease is left out.

        Raises:
            StoreError: The study is damaged, or another process has deleted it or begun it anew.
        """
        from nastool.store.tables import studies

        with self._database.write() as connection:
            study = self._study(connection, studies.c.id == key)
            if study is None or study["evaluations"] < first:
                raise self._late()
            stored = self._content(connection, study, first)
            others = [o for o in self._leases(connection, study) if o.owner != owner]
            yield sharing.Turn(connection, study, stored, others)

    def leases(self, key: int) -> list[sharing.Lease]:
        """What of a study is being evaluated by processes that share it, or left by some.

        Args:
            key: Number of the study.
        """
        from nastool.store.tables import studies

        with self._database.read() as connection:
            study = self._study(connection, studies.c.id == key)
            return [] if study is None else self._leases(connection, study)

    def _leases(self, connection: Connection, study: Mapping[str, Any]) -> list[sharing.Lease]:
        from nastool.store.tables import leases

        if self._database.version < SHARED_SINCE:
            return []
        found = self._database.select(connection, leases, leases.c.study == study["id"])
        now = sharing.database_time(connection)
        return [sharing.read_lease(study["name"], row, now) for row in found]

    def renew(self, key: int, owner: str, lease_s: float) -> None:
        """Let what a process evaluates of a study be its own for some more seconds."""
        from sqlalchemy import update

        from nastool.store.tables import leases

        mine = (leases.c.study == key, leases.c.owner == owner)
        with self._database.write() as connection:
            for row in self._database.select(connection, leases, *mine):
                row["expires"] = sharing.database_time(connection) + lease_s
                changed = rows.signed(leases, row)
                connection.execute(update(leases).where(*mine).values(changed))

    def measurements(
        self, space: str, objective: str, genotypes: Genotypes, repeats: int = 1
    ) -> NDArray[np.float64]:
        """Values that were measured before, in any study.

        Args:
            space: Fingerprint of the space.
            objective: Key of what measures, see `Objective.ledger`.
            genotypes: Canonical, shape (n, d).
            repeats: How many a value must rest on at least.

        Returns:
            Shape (n,), NaN where there is none.
        """
        return measurements.read(self._database, space, objective, genotypes, repeats)

    def add_measurements(
        self,
        space: str,
        objective: str,
        genotypes: Genotypes,
        values: NDArray[np.float64],
        *,
        noise: NDArray[np.float64] | None = None,
        repeats: int = 1,
    ) -> None:
        """Keep measured values for every study.

        The first value of a genotype stays, unless it rests on fewer repeats than another one.

        Args:
            space: Fingerprint of the space.
            objective: Key of what measured, see `Objective.ledger`.
            genotypes: Canonical, shape (n, d).
            values: Shape (n,); failed ones (NaN) are left out, to be tried again.
            noise: How far repeats lay apart, relative to their median, shape (n,), where known.
            repeats: How many there were of each.
        """
        new = measurements.new_rows(space, objective, genotypes, values, noise, repeats)
        if new:
            with self._database.write() as connection:
                measurements.write(connection, new)


def open_store(url: Store | str | None = None, create: bool = True) -> Store:
    """Open the store at a URL, by default ``nastool.db`` in the current folder.

    Args:
        url: A SQLAlchemy URL, ``hf://USER/NAME`` for what was pushed there (to be read only), or
            None for the default. A store that is open stays as it is.
        create: Whether a SQLite file may be made.

    Raises:
        StoreError: The database cannot be reached, or is not one of nastool's.
    """
    if isinstance(url, Store):
        return url
    if url is not None and is_on_hub(url):
        from nastool.files.reading import is_file

        path = fetched(url) / FILE
        if not is_file(path):
            raise StoreError(f"{url} must hold a store that 'nastool push' left, got no {FILE}")
        # The copy in the cache stays what is on the hub.
        return Store(f"sqlite:///file:{quote(str(path.resolve()))}?mode=ro&immutable=1&uri=true")
    return Store(url, create)
