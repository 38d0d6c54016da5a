"""Rows of measured values, as the ledger keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nastool.arrays import Floats
from nastool.errors import InvalidInputError
from nastool.space import Genotypes
from nastool.store import rows

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from nastool.store.database import Database


KEYS_PER_QUERY = 500
"""Bound on the parameters of one query; SQLite takes at most 999 in old builds."""


def genotype_keys(genotypes: Genotypes) -> list[bytes]:
    """Genotypes as the ledger knows them.

    Raises:
        InvalidInputError: A gene of too many choices.
    """
    from nastool.store.tables import GENOTYPE_LENGTH

    if genotypes.size and int(genotypes.max()) > 65_535:
        raise InvalidInputError(
            f"a gene whose measurements are stored must have at most 65,536 choices, got an index "
            f"of {int(genotypes.max())}"
        )
    return [rows.key_bytes(row.tobytes(), GENOTYPE_LENGTH) for row in genotypes.astype("<u2")]


def ledger_keys(space: str, objective: str) -> tuple[str, str]:
    """Fingerprint of a space and key of an objective as their columns take them."""
    from nastool.store.tables import OBJECTIVE_LENGTH, SPACE_LENGTH

    return rows.key_text(space, SPACE_LENGTH), rows.key_text(objective, OBJECTIVE_LENGTH)


def read(
    database: Database, space: str, objective: str, genotypes: Genotypes, repeats: int
) -> Floats:
    """Values that were measured before, shape (n,); NaN where there is none.

    Args:
        database: Where they are kept.
        space: Fingerprint of the space.
        objective: Key of what measures.
        genotypes: Canonical, shape (n, d).
        repeats: How many a value must rest on at least.
    """
    from nastool.store.tables import measurements as table

    keys = genotype_keys(genotypes)
    space, objective = ledger_keys(space, objective)
    mine = (table.c.space == space, table.c.objective == objective)
    found: dict[bytes, float] = {}
    with database.read() as connection:
        for begin in range(0, len(keys), KEYS_PER_QUERY):
            chosen = table.c.genotype.in_(keys[begin : begin + KEYS_PER_QUERY])
            for row in database.select(connection, table, *mine, chosen):
                known = rows.read(table, row, f"a value of {rows.shortened(objective)}")
                if known["repeats"] >= repeats:
                    found[known["genotype"]] = known["value"]
    return np.array([found.get(key, np.nan) for key in keys])


def new_rows(
    space: str,
    objective: str,
    genotypes: Genotypes,
    values: Floats,
    noise: Floats | None,
    repeats: int,
) -> list[dict[str, Any]]:
    """Rows to be written, in the one order in which all writers write them.

    Writers of the same ones must not wait for each other in turn.

    Args:
        space: Fingerprint of the space.
        objective: Key of what measured.
        genotypes: Canonical, shape (n, d).
        values: Shape (n,); NaN is left out.
        noise: How far repeats lay apart, relative to their median, shape (n,), or None.
        repeats: How many there were of each.
    """
    from nastool.store.tables import measurements as table

    space, objective = ledger_keys(space, objective)
    spreads = np.full(len(values), np.nan) if noise is None else noise
    good = np.flatnonzero(~np.isnan(values))
    keys = genotype_keys(genotypes[good])
    cells = zip(keys, values[good].tolist(), spreads[good].tolist(), strict=True)
    return [
        rows.signed(
            table,
            {
                "space": space,
                "objective": objective,
                "genotype": key,
                "value": value,
                "noise": None if np.isnan(spread) else spread,
                "repeats": repeats,
            },
        )
        for key, value, spread in sorted(cells, key=lambda cell: cell[0])
    ]


def write(connection: Connection, new: list[dict[str, Any]]) -> None:
    """Write rows; what is there stays unless it rests on fewer repeats."""
    from nastool.store.tables import measurements as table

    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
    statement = insert(table)
    changed = ("value", "noise", "repeats", "digest")
    statement = statement.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={name: statement.excluded[name] for name in changed},
        where=statement.excluded.repeats > table.c.repeats,
    )
    connection.execute(statement, new)
