"""The tables of a store.

The digest of a row is that of its other columns (`nastool.store.rows`); none (NULL) is not known.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

NAME_LENGTH = 255
STOP_REASON_LENGTH = 32
SPACE_LENGTH = 64
OBJECTIVE_LENGTH = 255
GENOTYPE_LENGTH = 1024
OWNER_LENGTH = 128

metadata = MetaData()

schema = Table(
    "nastool_schema",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
)
"""One row: how many of the migrations have been applied."""

studies = Table(
    "studies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(NAME_LENGTH), nullable=False, unique=True),
    Column("created", String(32), nullable=False),
    Column("identity", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("evaluations", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("stop_reason", String(STOP_REASON_LENGTH), nullable=False),
    Column("commits", BigInteger, nullable=False, server_default="0"),
    Column("digest", String(16)),
)
"""One row a study; identity and description are JSON.

The number of commits tells apart two states of a study that hold the same evaluations.
"""

batches = Table(
    "batches",
    metadata,
    Column("study", ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("genotypes", LargeBinary, nullable=False),
    Column("values", LargeBinary, nullable=False),
    Column("elapsed", LargeBinary, nullable=False),
    Column("failures", Text, nullable=False),
    Column("digest", String(16)),
)
"""One row a commit: consecutive evaluations from number `first` on, as packed arrays.

The primary key keeps two processes from continuing one study at once.
"""

states = Table(
    "states",
    metadata,
    Column("study", ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True),
    Column("state", Text, nullable=False),
    Column("digest", String(16)),
)
"""One row a study: the strategy's latest state between two batches."""

leases = Table(
    "leases",
    metadata,
    Column("study", ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True),
    Column("owner", String(OWNER_LENGTH), primary_key=True),
    Column("expires", Float, nullable=False),
    Column("genotypes", LargeBinary, nullable=False),
    Column("digest", String(16)),
)
"""One row a process of those that share a study: what it is evaluating, as a packed array.

It expires, in seconds since 1970 by the database's clock, unless its owner renews it. What nobody
has, because its owner left it, is in the row whose owner is empty.
"""

measurements = Table(
    "measurements",
    metadata,
    Column("space", String(SPACE_LENGTH), primary_key=True),
    Column("objective", String(OBJECTIVE_LENGTH), primary_key=True),
    Column("genotype", LargeBinary(GENOTYPE_LENGTH), primary_key=True),
    Column("value", Float, nullable=False),
    Column("digest", String(16)),
    Column("noise", Float),
    Column("repeats", BigInteger, nullable=False, server_default="1"),
)
"""The ledger: what was measured, for every study to use; genotypes as ``<u2`` elements.

The objective is the key of what measured (`Objective.ledger`); noise is relative to the value, and
none is not known.

Keys that are longer than their columns are replaced by a digest, see `nastool.store.rows`.
"""
