"""Studies that several processes work on at once: who evaluates what, and whose turn it is."""

from __future__ import annotations

import os
import platform
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nastool.arrays import narrow
from nastool.errors import StoreError
from nastool.space import Genotypes
from nastool.store import commits, rows
from nastool.store.encoding import pack_array, unpack_array
from nastool.store.records import Batch, StoredStudy

if TYPE_CHECKING:
    from sqlalchemy import Connection

NOBODY = ""
"""Owner of what a process left: it is there to be taken."""


@dataclass(frozen=True)
class Lease:
    """What a process that shares a study evaluates.

    Args:
        owner: The process.
        genotypes: Shape (k, d).
        is_live: Whether it is not over: its owner has renewed it.
    """

    owner: str
    genotypes: Genotypes
    is_live: bool


@dataclass(frozen=True)
class Turn:
    """A process's turn on a study: until it is over, others wait for theirs.

    Args:
        connection: Of the turn's transaction, which has the study's row locked.
        study: That row, as `records.read_study` gives it.
        stored: The study, with those of its evaluations only that the process did not know.
        leases: What other processes have, and what is left by some.
    """

    connection: Connection
    study: Mapping[str, Any]
    stored: StoredStudy
    leases: Sequence[Lease]

    def commit(
        self,
        batch: Batch,
        state: Mapping[str, Any] | None,
        seconds: float,
        stop_reason: str,
        held: Mapping[str, tuple[Genotypes, float]],
    ) -> int:
        """Write what the turn has come to; how often the study has been committed to now.

        Args:
            batch: Evaluations, behind all that the study has.
            state: The strategy's, with what it was told; None keeps the one that is there.
            seconds: Time the study has run.
            stop_reason: Why the process ended; empty while it goes on.
            held: Genotypes and seconds of a lease, by owner; leases that are over end.
        """
        from sqlalchemy import delete, insert

        from nastool.store.tables import leases

        key = self.study["id"]
        over = {lease.owner for lease in self.leases if not lease.is_live} | held.keys()
        condition = (leases.c.study == key, leases.c.owner.in_(over))
        self.connection.execute(delete(leases).where(*condition))
        now = database_time(self.connection)
        for owner, (genotypes, lease_s) in held.items():
            if len(genotypes):
                row = {
                    "study": key,
                    "owner": owner,
                    "expires": now + lease_s,
                    "genotypes": pack_array(narrow(genotypes)),
                }
                self.connection.execute(insert(leases).values(rows.signed(leases, row)))
        return commits.write(
            self.connection,
            self.study,
            self.study["evaluations"],
            batch,
            state,
            seconds,
            stop_reason,
        )


def database_time(connection: Connection) -> float:
    """Seconds since 1970 by the one clock that all processes share."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy import text

        found = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())"))
        return float(found.scalar_one())
    return time.time()


def read_lease(name: str, row: Mapping[str, Any], now: float) -> Lease:
    """A row of the table of leases.

    Args:
        name: Of the study.
        row: As `rows.columns` gives it.
        now: By `database_time`.

    Raises:
        StoreError: It is damaged.
    """
    from nastool.store.tables import leases

    what = f"study {name!r}, what {rows.shortened(row['owner'])} evaluates"
    read = rows.read(leases, row, what)
    try:
        genotypes = unpack_array(read["genotypes"])
    except StoreError as error:
        raise rows.damaged(leases, what, str(error)) from error
    if genotypes.ndim != 2 or genotypes.dtype.kind not in "iu":
        raise rows.damaged(leases, what, "its genotypes are none")
    owner = read["owner"]
    is_live = owner != NOBODY and read["expires"] > now and not _is_gone(owner)
    return Lease(owner, genotypes.astype(np.int64), is_live)


def new_owner() -> str:
    """A name of this process for its lease, which no other one has."""
    return f"{_place()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


def _place() -> str:
    """Where the number of a process means that process."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{platform.node()[:60]}/{space}".replace("\0", "")


def _is_gone(owner: str) -> bool:
    """Whether a process is known to have ended, as one of this machine is at once."""
    place, _, rest = owner.rpartition("/")[0].rpartition("/")
    if os.name != "posix" or place != _place() or not rest.isdecimal():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False
