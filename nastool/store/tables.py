"""The tables of a store."""

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
    Column("name", String(255), nullable=False, unique=True),
    Column("created", String(32), nullable=False),
    Column("identity", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("evaluations", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("stop_reason", String(32), nullable=False),
)
"""One row a study; identity and description are JSON."""

batches = Table(
    "batches",
    metadata,
    Column("study", ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("genotypes", LargeBinary, nullable=False),
    Column("values", LargeBinary, nullable=False),
    Column("elapsed", LargeBinary, nullable=False),
    Column("failures", Text, nullable=False),
)
"""One row a commit: consecutive evaluations from number `first` on, as packed arrays.

The primary key keeps two processes from continuing one study at once.
"""

states = Table(
    "states",
    metadata,
    Column("study", ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True),
    Column("state", Text, nullable=False),
)
"""One row a study: the strategy's latest state between two batches."""

measurements = Table(
    "measurements",
    metadata,
    Column("space", String(64), primary_key=True),
    Column("objective", String(255), primary_key=True),
    Column("genotype", LargeBinary(1024), primary_key=True),
    Column("value", Float, nullable=False),
)
"""What expensive objectives returned, for every study to use; genotypes as ``<u2`` elements."""
