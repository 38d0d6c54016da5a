"""Tables of measured architectures: a column for each gene and one for each measured quantity."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.files import is_file, read_json_object, read_table, reading
from nastool.predictors.base import Floats
from nastool.space import Choice, SearchSpace

SUFFIXES = (".csv", ".csv.gz", ".parquet")

TABLE = "measurements.csv"
"""File in a predictor's folder that holds what it was fitted on."""

TARGET = "target"
"""Column of the measured values in that file."""

_NUMBERED = re.compile(r"(.*\D)(\d+)")


@dataclass(frozen=True, eq=False)
class Measurements:
    """What a predictor is fitted on: each measured architecture once.

    Args:
        genes: Names of the genes, in order.
        choices: The choices of each gene.
        costs: Names of the further feature columns.
        features: Shape (n, genes + costs).
        targets: Shape (n,); the mean where an architecture was measured several times.
        dropped: Number of rows whose target is missing or not finite.
        space: Name of the space.
        fingerprint: Fingerprint of the space; empty where it was read off the table.
        source: What was measured and on what, as the file beside the table says.
    """

    genes: tuple[str, ...]
    choices: tuple[tuple[Choice, ...], ...]
    costs: tuple[str, ...]
    features: Floats
    targets: Floats
    dropped: int
    space: str
    fingerprint: str
    source: dict[str, Any]

    def __len__(self) -> int:
        return len(self.targets)

    def without(self, others: Measurements) -> Measurements:
        """The shapes that another table of the same features does not have."""
        taken = {row.tobytes() for row in others.features}
        kept = [i for i, row in enumerate(self.features) if row.tobytes() not in taken]
        return replace(self, features=self.features[kept], targets=self.targets[kept])

    def joined(self, others: Measurements) -> Measurements:
        """Both tables, of the same features and without a common shape."""
        features = np.concatenate([self.features, others.features])
        return replace(
            self, features=features, targets=np.concatenate([self.targets, others.targets])
        )

    def to_csv(self) -> str:
        """A table that `read_measurements` reads, with the targets in the column ``target``."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*self.genes, *self.costs, TARGET])
        names = [
            dict(zip(_feature_values(choices).tolist(), choices, strict=True))
            for choices in self.choices
        ]
        for row, target in zip(self.features.tolist(), self.targets.tolist(), strict=True):
            choices = [known[value] for known, value in zip(names, row, strict=False)]
            writer.writerow([*choices, *row[len(names) :], target])
        return text.getvalue()


class Columns(dict[str, list[Any]]):
    """Cells of a table by column, those of CSV files as text, and where each row stands.

    Args:
        cells: By column.
        places: E.g. ``line 7``, for each row.
    """

    def __init__(self, cells: Mapping[str, list[Any]], places: Sequence[str]) -> None:
        super().__init__(cells)
        self.places = tuple(places)


def read_columns(path: Path) -> Columns:
    """Read a table column by column; cells of CSV files stay text.

    Raises:
        InvalidInputError: No such file, another format, repeated columns or ragged rows.
        MissingDependencyError: A parquet file, and pyarrow is not installed.
    """
    if not path.name.lower().endswith(SUFFIXES):
        raise InvalidInputError(f"a table must end in {', '.join(SUFFIXES)}, got {path.name!r}")
    if path.suffix.lower() == ".parquet":
        columns = _read_parquet(path)
    else:
        rows = list(read_table(path))
        names = rows[0].cells if rows else {}
        columns = Columns(
            {name: [row.cells[name] for row in rows] for name in names},
            [f"line {row.line}" for row in rows],
        )
    if not columns.places:
        raise InvalidInputError(f"{path} must hold a header and at least one row, got none")
    return columns


def _read_parquet(path: Path) -> Columns:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MissingDependencyError(
            "reading parquet needs pyarrow: pip install pyarrow, or give a CSV file"
        ) from error
    with reading(path):
        try:
            table = parquet.read_table(path)
            cells = {name.strip(): column for name, column in table.to_pydict().items()}
        except ArrowException as error:
            reason = str(error).strip().splitlines()[0]
            raise InvalidInputError(f"cannot read {path}: {reason}") from error
    if len(cells) != len(table.column_names):
        raise InvalidInputError(f"{path}: column names must be distinct, got {table.column_names}")
    return Columns(cells, [f"row {number}" for number in range(1, len(table) + 1)])


def read_measurements(
    path: Path, target: str, space: SearchSpace | None = None, costs: Sequence[str] = ()
) -> Measurements:
    """Read what a predictor is fitted on.

    Args:
        path: A table with a column for each gene and one named as the target.
        target: Column to predict.
        space: Says which columns are genes; without it they are the columns that share a name
            up to a number (``layer_1``, ``layer_2`` and so on).
        costs: Further features: costs of the space, else numeric columns of the table.

    Raises:
        InvalidInputError: A column is missing or holds something else than it must.
        MissingDependencyError: See `read_columns`.
    """
    columns = read_columns(path)
    if target not in columns:
        raise InvalidInputError(f"{path}: expected a column {target!r}, got {', '.join(columns)}")
    targets = _numbers(path, target, columns[target], columns.places, missing=True)
    kept = np.flatnonzero(np.isfinite(targets))
    if not len(kept):
        raise InvalidInputError(f"{path}: column {target!r} must hold finite numbers, got none")
    source = read_source(path)
    places = [columns.places[row] for row in kept]

    if space is None:
        genes = infer_genes(path, columns, target)
        cells = [[columns[name][row] for row in kept] for name in genes]
        values = [_parse(column) for column in cells]
        choices = tuple(tuple(sorted(set(column), key=_order)) for column in values)
        name, fingerprint = str(source.get("space") or path.name.partition(".")[0]), ""
    else:
        genes = tuple(gene.name for gene in space.genes)
        missing = [name for name in genes if name not in columns]
        if missing:
            raise InvalidInputError(
                f"{path}: a table of {space.name} must have the columns {', '.join(missing)}, "
                f"got {', '.join(columns)}"
            )
        choices = tuple(gene.choices for gene in space.genes)
        values = [_parse([columns[name][row] for row in kept]) for name in genes]
        name, fingerprint = space.name, space.fingerprint
    genotypes = _indices(path, genes, choices, values, places)

    parts = [_feature_values(choices[i])[genotypes[:, i]] for i in range(len(genes))]
    for cost in costs:
        if space is not None and cost in space.costs:
            parts.append(space.costs[cost].evaluate(genotypes))
        elif cost in columns and cost not in genes and cost != target:
            column = [columns[cost][row] for row in kept]
            parts.append(_numbers(path, cost, column, places, missing=False))
        else:
            others = [name for name in columns if name not in genes and name != target]
            known = ", ".join(dict.fromkeys([*(space.costs if space else ()), *others])) or "none"
            raise InvalidInputError(f"cost must be one of {known}; got {cost!r}")
    # A shape on both sides of a held-out split would flatter the scores.
    features, first, groups = np.unique(
        np.column_stack(parts), axis=0, return_index=True, return_inverse=True
    )
    order = np.argsort(first)  # As in the table, so that adding rows at its end moves nothing.
    groups = groups.reshape(-1)
    means = np.bincount(groups, targets[kept]) / np.bincount(groups)
    return Measurements(
        genes=genes,
        choices=choices,
        costs=tuple(costs),
        features=features[order],
        targets=means[order],
        dropped=len(targets) - len(kept),
        space=name,
        fingerprint=fingerprint,
        source=source,
    )


def read_source(path: Path) -> dict[str, Any]:
    """Description of the measurements beside a table: ``TABLE.csv.card.json`` or ``TABLE.json``.

    Raises:
        InvalidInputError: Such a file is no JSON object.
    """
    stem = path.name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if stem.lower().endswith(suffix):
            stem = stem[: -len(suffix)]
    for name in (f"{path.name}.card.json", f"{stem}.json"):
        beside = path.with_name(name)
        if is_file(beside):
            return read_json_object(beside)
    return {}


def infer_genes(path: Path, columns: Iterable[str], target: str) -> tuple[str, ...]:
    """The columns that share a name up to a number counting from 0 or 1, in that order.

    Raises:
        InvalidInputError: There is no such family of columns, or more than one.
    """
    families: dict[str, dict[int, str]] = {}
    for name in columns:
        match = _NUMBERED.fullmatch(name)
        if match and name != target:
            families.setdefault(match[1], {})[int(match[2])] = name
    complete = [
        tuple(family[i] for i in sorted(family))
        for family in families.values()
        if sorted(family) in (list(range(len(family))), list(range(1, len(family) + 1)))
    ]
    if len(complete) != 1:
        raise InvalidInputError(
            f"{path}: without --space the genes must be columns such as layer_1, layer_2, ...; "
            f"got {', '.join(columns)}"
        )
    return complete[0]


def _numbers(
    path: Path, name: str, cells: Sequence[Any], places: Sequence[str], *, missing: bool
) -> Floats:
    numbers = np.empty(len(cells))
    for i, (cell, place) in enumerate(zip(cells, places, strict=True)):
        empty = cell is None or (isinstance(cell, str) and not cell.strip())
        try:
            numbers[i] = np.nan if empty else float(cell)
        except (TypeError, ValueError, OverflowError):
            raise InvalidInputError(
                f"{path}, {place}: column {name!r} must hold numbers, got {cell!r:.60}"
            ) from None
        if not missing and not np.isfinite(numbers[i]):
            raise InvalidInputError(
                f"{path}, {place}: column {name!r} must hold finite numbers everywhere, "
                f"got {cell!r}"
            )
    return numbers


def _parse(cells: Sequence[Any]) -> list[Choice]:
    """Choices from cells: all whole numbers, else all numbers, else text."""
    try:
        numbers = [float(cell) for cell in cells]
    except (TypeError, ValueError):
        return [str(cell) for cell in cells]
    whole = all(number.is_integer() for number in numbers)
    return [int(number) for number in numbers] if whole else list(numbers)


def _order(choice: Choice) -> tuple[bool, Any]:
    return isinstance(choice, str), choice


def _indices(
    path: Path,
    genes: Sequence[str],
    choices: Sequence[tuple[Choice, ...]],
    values: Sequence[list[Choice]],
    places: Sequence[str],
) -> Any:
    genotypes = np.empty((len(values[0]), len(genes)), dtype=np.int64)
    for i, (gene, known, column) in enumerate(zip(genes, choices, values, strict=True)):
        index: dict[Choice, int] = {choice: k for k, choice in enumerate(known)}
        # Text choices of a space may look like numbers in the table.
        index |= {str(choice): k for choice, k in index.items()}
        for row, value in enumerate(column):
            found = index.get(value, index.get(str(value)))
            if found is None:
                raise InvalidInputError(
                    f"{path}, {places[row]}: {gene} must be one of "
                    f"{', '.join(map(str, known))}; got {value!r}"
                )
            genotypes[row, i] = found
    return genotypes


def _feature_values(choices: tuple[Choice, ...]) -> Floats:
    numeric = all(isinstance(choice, (int, float)) for choice in choices)
    return np.array(choices if numeric else range(len(choices)), dtype=np.float64)
