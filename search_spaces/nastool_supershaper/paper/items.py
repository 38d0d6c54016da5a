"""A figure or a table of the paper: what was found here, beside what was published."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from importlib import resources
from typing import Any

from nastool.errors import InvalidInputError
from nastool.files.tables import csv_text
from nastool.plots.page import Cell, Panel, Section, Table, Text

Value = str | float | None

TITLES = {
    "2": "Trajectories of training",
    "3a": "Diagonals of the first layer's bottlenecks",
    "3b": "Sliced from the supernet against trained from scratch",
    "3c": "Pre-training saved, and score gained, by inherited weights",
    "4": "Perplexity over parameters: measured, searched and by rule",
    "5": "Perplexity over latency",
    "6": "Cigars",
    "7": "Diagonals of every layer's bottlenecks",
    "8": "What the predictors listen to",
    "9": "Predicted against measured",
    "table1": "Beside other models of 60 to 67M parameters",
    "table4": "Beside BERT-base",
    "table5": "Fine-tuned, size by size",
    "table6": "Templates",
    "table7": "Distance to the best shape, and how much is lost",
    "table8": "Beside HAT, OFA and YOCO-BERT",
}
"""Every item by its key, in the order of the page."""


ROWS = 150
"""Of a table on the page at most: longer ones are for files."""


class Status(Enum):
    """How an item came about."""

    MEASURED = "measured"
    PREDICTED = "predicted"
    MISSING = "missing"


@dataclass(frozen=True, eq=False)
class Item:
    """A figure or a table.

    Args:
        key: ``3a``, ``table6``.
        status: How it came about; predicted where any number of it was.
        findings: What it says, a sentence each.
        columns: Of its CSV file, published columns included.
        rows: A value for each column.
        panels: Its pictures.
        command: What makes it where it is missing.
        takes: About how long that takes.
        notes: What the paper says of the same, and how to read the numbers.
    """

    key: str
    status: Status
    findings: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    panels: tuple[Panel, ...] = ()
    command: str = ""
    takes: str = ""
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What people call it, e.g. ``figure 3a``."""
        return self.key.replace("table", "table ") if "table" in self.key else f"figure {self.key}"

    @property
    def file(self) -> str:
        """Name of its CSV file."""
        return f"{self.label.replace(' ', '-')}.csv"

    def csv(self) -> str:
        """Its numbers."""
        return csv_text(self.columns, self.rows)

    def sections(self) -> tuple[Section, ...]:
        """It as a part of the page."""
        said = [f"{self.status.value}.", *self.findings]
        if self.command:
            said.append(f"What makes it ({self.takes}):")
        head = Text(tuple(said), f"{self.label.capitalize()}: {TITLES[self.key]}", self.command)
        if len(self.rows) > ROWS:
            many = f"{self.file} holds its {len(self.rows):,} rows"
            return (head, *self.panels, Text((*self.notes, many)))
        cells = tuple(tuple(map(_cell, row)) for row in self.rows)
        table = Table(f"table-{self.key}", self.columns, cells, notes=self.notes)
        under = (table,) if cells else (Text(self.notes),) if self.notes else ()
        return (head, *self.panels, *under)


def _cell(value: Value) -> Cell:
    if value is None:
        return Cell("", "")
    if isinstance(value, str):
        return Cell(value)
    whole = float(value).is_integer()
    return Cell(f"{value:,.0f}" if whole else f"{value:,.4g}", float(value))


def missing(
    key: str,
    command: str,
    takes: str,
    columns: tuple[str, ...] = (),
    rows: tuple[tuple[Value, ...], ...] = (),
    reason: str = "",
) -> Item:
    """An item that needs what is not there; what was published is shown all the same."""
    return Item(
        key,
        Status.MISSING,
        (reason,) if reason else (),
        columns or ("published",),
        rows,
        command=command,
        takes=takes,
        notes=published_notes(key),
    )


@lru_cache(maxsize=1)
def published() -> dict[str, Any]:
    """The paper's numbers by item."""
    text = resources.files("nastool_supershaper").joinpath("reference", "published.json")
    content: dict[str, Any] = json.loads(text.read_text("utf-8"))
    return content


def published_notes(key: str) -> tuple[str, ...]:
    """What the paper says of an item."""
    return tuple(published().get(key, {}).get("notes", ()))


def chosen(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The keys that ``--only`` names.

    Args:
        texts: Names, separated by commas; ``fig. 3a``, ``table 6`` and ``4`` among them. None
            are all.

    Raises:
        InvalidInputError: There is no such item.
    """
    wanted = []
    for part in (part for text in texts for part in text.split(",")):
        key = part.strip().lower().replace(" ", "").replace(".", "").replace("-", "")
        for prefix in ("figure", "fig"):
            key = key.removeprefix(prefix)
        # The paper's panels, such as 2(b), belong to one figure.
        plain = key.replace("(", "").replace(")", "")
        base = plain.rstrip("abcdef")
        found = plain if plain in TITLES else base if base in TITLES and base.isdigit() else ""
        if not found:
            raise InvalidInputError(
                f"--only: no such figure or table, got {part.strip()!r}; known: {', '.join(TITLES)}"
            )
        wanted.append(found)
    return tuple(key for key in TITLES if not wanted or key in wanted)
