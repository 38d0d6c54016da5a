"""What a commit to a study writes, within the transaction of who commits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nastool.arrays import narrow
from nastool.store import rows
from nastool.store.encoding import encode_state, pack_array
from nastool.store.records import Batch

if TYPE_CHECKING:
    from sqlalchemy import Connection


def write(
    connection: Connection,
    study: Mapping[str, Any],
    begin: int,
    batch: Batch,
    state: Mapping[str, Any] | None,
    seconds: float,
    stop_reason: str,
) -> int:
    """Write evaluations and the strategy's state; how often the study has been committed to now.

    Args:
        connection: In a transaction that has the study's row locked.
        study: That row, as `records.read_study` gives it.
        begin: Number of the first of these evaluations; what is there from it on is replaced.
        batch: The evaluations; may be empty.
        state: The strategy's; None keeps the one that is there.
        seconds: Time the study has run.
        stop_reason: Why the run ended; empty while it goes on.
    """
    from sqlalchemy import delete, insert, update

    from nastool.store.tables import batches, states, studies

    key = study["id"]
    if begin < study["evaluations"]:
        kept = (batches.c.study == key, batches.c.first >= begin)
        connection.execute(delete(batches).where(*kept))
    if len(batch.genotypes):
        row = {
            "study": key,
            "first": begin,
            "genotypes": pack_array(narrow(batch.genotypes)),
            "values": pack_array(batch.values),
            "elapsed": pack_array(batch.elapsed),
            "failures": json.dumps(list(batch.failures)),
        }
        connection.execute(insert(batches).values(rows.signed(batches, row)))
    if state is not None:
        row = {"study": key, "state": encode_state(state)}
        connection.execute(delete(states).where(states.c.study == key))
        connection.execute(insert(states).values(rows.signed(states, row)))
    new = {
        **study,
        "evaluations": begin + len(batch.genotypes),
        "seconds": float(seconds),
        "stop_reason": stop_reason,
        "commits": study["commits"] + 1,
    }
    row = rows.signed(studies, new)
    connection.execute(update(studies).where(studies.c.id == key).values(row))
    return int(new["commits"])
