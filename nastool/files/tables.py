"""Tables as they are written: CSV and JSON values, in which what is missing is empty or null."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def csv_text(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table as CSV, each line ended; what is missing (None, NaN) is empty.

    Args:
        header: Names of the columns; none for lines that follow others.
        rows: Their cells, line by line.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if names := [*header]:
        writer.writerow(names)
    writer.writerows([_or_none(cell) for cell in row] for row in rows)
    return text.getvalue()


def csv_of(columns: Mapping[str, Sequence[Any]]) -> str:
    """A table by column as CSV with a header."""
    return csv_text(columns, zip(*columns.values(), strict=True))


def rows_of(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """A table by column as a table by row."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def json_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON values: what is missing is null."""
    return {key: _or_none(value) for key, value in record.items()}


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
