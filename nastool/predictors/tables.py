"""Tables of measured architectures: a column for each gene and one for each measured quantity."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.choices import Choice
from nastool.errors import InvalidInputError, MissingDependencyError, nearest, one_line
from nastool.files.reading import is_file, read_json_object, read_table, reading
from nastool.files.tables import csv_text
from nastool.predictors.evidence import Repeats, conditions, groups_of, level, repeats_of
from nastool.space import Genotypes, SearchSpace

SUFFIXES = (".csv", ".csv.gz", ".csv.gzip", ".parquet")

_DRAWN = 4_000
"""Shapes drawn from a space to stand for what a search chooses from."""

TABLE = "measurements.csv"
"""File in a predictor's folder that holds what it was fitted on."""

TARGET = "target"
"""Column of the measured values in that file."""

SHAPE = "shape"
"""Column in which a search writes its architectures, as `SearchSpace.format` does."""

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
        lines: For each shape the lines of the file that it was read from; empty without a file.
        conditions: How all of it was measured, as the table says: nobody said what is not there.
        repeats: What repeated rows say about the noise; None where that is not known.
        pool: Features of shapes drawn from the space, shape (k, genes + costs), or None.
    """

    genes: tuple[str, ...]
    choices: tuple[tuple[Choice, ...], ...]
    costs: tuple[str, ...]
    features: NDArray[np.float64]
    targets: NDArray[np.float64]
    dropped: int
    space: str
    fingerprint: str
    source: dict[str, Any]
    lines: tuple[tuple[int, ...], ...] = ()
    conditions: Mapping[str, str] = field(default_factory=dict)
    repeats: Repeats | None = None
    pool: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: Any) -> Measurements:
        """Some of the shapes, by their indices (k,)."""
        lines = tuple(self.lines[row] for row in rows) if self.lines else ()
        return replace(self, features=self.features[rows], targets=self.targets[rows], lines=lines)

    def without(self, others: Measurements) -> Measurements:
        """The shapes that another table of the same features does not have."""
        taken = {row.tobytes() for row in others.features}
        kept = [i for i, row in enumerate(self.features) if row.tobytes() not in taken]
        return self.take(np.array(kept, dtype=np.int64))

    def joined(self, others: Measurements) -> Measurements:
        """Both tables, of the same features and without a common shape."""
        features = np.concatenate([self.features, others.features])
        targets = np.concatenate([self.targets, others.targets])
        return replace(self, features=features, targets=targets, lines=())

    def to_csv(self) -> str:
        """A table that `read_measurements` reads, with the targets in the column ``target``."""
        names = [
            dict(zip(feature_values(choices).tolist(), choices, strict=True))
            for choices in self.choices
        ]
        rows = []
        for row, target in zip(self.features.tolist(), self.targets.tolist(), strict=True):
            choices = [known[value] for known, value in zip(names, row, strict=False)]
            rows.append([*choices, *row[len(names) :], target])
        return csv_text([*self.genes, *self.costs, TARGET], rows)


@dataclass(frozen=True, eq=False)
class Cells:
    """A table by column.

    Args:
        path: Its file.
        columns: Cells by name; those of CSV files are text.
        lines: Where each row begins in the file, from 1; of parquet files the row's number.
    """

    path: Path
    columns: dict[str, list[Any]]
    lines: tuple[int, ...]

    def place(self, row: int) -> str:
        """Names a row in its file."""
        unit = "row" if self.path.suffix.lower() == ".parquet" else "line"
        return f"{self.path}, {unit} {self.lines[row]}"

    def take(self, rows: Sequence[int]) -> Cells:
        """Some of the rows."""
        columns = {name: [cells[row] for row in rows] for name, cells in self.columns.items()}
        return Cells(self.path, columns, tuple(self.lines[row] for row in rows))


def read_cells(path: Path, where: Sequence[str] = ()) -> Cells:
    """Read a table.

    Args:
        path: A .csv, .csv.gz or .parquet file.
        where: Rows to take, as ``COLUMN=VALUE``; all of these must hold.

    Raises:
        InvalidInputError: No such file, another format, ragged rows, an unknown column or no row
            that is left.
        MissingDependencyError: A parquet file, and pyarrow is not installed.
    """
    lower = path.name.lower()
    if not lower.endswith(SUFFIXES):
        raise InvalidInputError(f"a table must end in {', '.join(SUFFIXES)}, got {path.name!r}")
    if lower.endswith(".parquet"):
        columns = _read_parquet(path)
        lines = list(range(1, len(next(iter(columns.values()), [])) + 1))
    else:
        columns, lines = {}, []
        for row in read_table(path):
            for name, cell in row.cells.items():
                columns.setdefault(name, []).append(cell)
            lines.append(row.line)
    if not lines:
        raise InvalidInputError(f"{path} must hold a header and at least one row, got none")
    cells = Cells(path, columns, tuple(lines))
    for condition in where:
        name, equals, value = condition.partition("=")
        name, value = name.strip(), value.strip()
        if not equals or name not in columns:
            raise InvalidInputError(
                f"--where: expected COLUMN=VALUE with a column of {path} "
                f"({', '.join(columns)}), got {condition!r}"
            )
        kept = [row for row, cell in enumerate(cells.columns[name]) if level(cell) == level(value)]
        if not kept:
            levels = ", ".join(dict.fromkeys(map(level, cells.columns[name])))
            raise InvalidInputError(
                f"--where: expected {name} to be one of {levels:.200}, got {value!r}"
            )
        cells = cells.take(kept)
    return cells


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MissingDependencyError(
            "reading parquet needs pyarrow: pip install pyarrow, or give a CSV file"
        ) from error
    with reading(path), one_line(f"cannot read {path}", InvalidInputError, ArrowException):
        table = parquet.read_table(path)
        columns = {name.strip(): column for name, column in table.to_pydict().items()}
    if len(columns) != len(table.column_names):
        raise InvalidInputError(f"{path}: column names must be distinct, got {table.column_names}")
    return columns


@dataclass(frozen=True, eq=False)
class Observations:
    """The rows of a table that measure something.

    Args:
        cells: These rows.
        genes: Names of the genes.
        choices: The choices of each gene.
        genotypes: Canonical, shape (n, d).
        values: What was measured, shape (n,), finite.
        groups: Rows of each distinct shape, in the order of the table.
        conditions: What the table says about how all rows were measured.
        repeats: What repeated rows say.
        dropped: Rows whose value is missing or not finite.
    """

    cells: Cells
    genes: tuple[str, ...]
    choices: tuple[tuple[Choice, ...], ...]
    genotypes: Genotypes
    values: NDArray[np.float64]
    groups: list[Any]
    conditions: dict[str, str]
    repeats: Repeats
    dropped: int


def observations(
    cells: Cells, target: str, space: SearchSpace | None = None, costs: Sequence[str] = ()
) -> Observations:
    """Judge measured rows; see `read_measurements`."""
    path, columns = cells.path, cells.columns
    check_column(cells, target)
    values = _numbers(cells, target, missing=True)
    kept = np.flatnonzero(np.isfinite(values))
    if not len(kept):
        raise InvalidInputError(f"{path}: column {target!r} must hold finite numbers, got none")
    dropped = len(values) - len(kept)
    cells, values = cells.take(kept.tolist()), values[kept]
    columns = cells.columns
    if space is None:
        genes = infer_genes(path, columns, target)
        parsed = [_parse(columns[name]) for name in genes]
        choices = tuple(tuple(sorted(set(column), key=_order)) for column in parsed)
        genotypes = _indices(cells, genes, choices, parsed)
    else:
        genes = tuple(gene.name for gene in space.genes)
        choices = tuple(gene.choices for gene in space.genes)
        genotypes = genotypes_of(cells, space)
    groups = groups_of(genotypes)

    def name(row: int) -> str:
        return "-".join(str(choices[i][k]) for i, k in enumerate(genotypes[row].tolist()))

    used = {*genes, *costs, *((*space.costs, SHAPE) if space else ()), target}
    stated = conditions(columns, used, groups, str(path))
    others = {column: cells for column, cells in columns.items() if column not in used}
    repeats = repeats_of(groups, values, cells.place, name, others)
    return Observations(cells, genes, choices, genotypes, values, groups, stated, repeats, dropped)


def read_measurements(
    path: Path,
    target: str,
    space: SearchSpace | None = None,
    costs: Sequence[str] = (),
    where: Sequence[str] = (),
) -> Measurements:
    """Read what a predictor is fitted on.

    Args:
        path: A table with a column for each gene, or of a known space one of shapes, and one named
            as the target.
        target: Column to predict.
        space: Says which columns are genes; without it they are the columns that share a name
            up to a number (``layer_1``, ``layer_2`` and so on).
        costs: Further features: costs of the space, else numeric columns of the table.
        where: Rows to take, as ``COLUMN=VALUE``.

    Raises:
        InvalidInputError: A column is missing or holds something else than it must, rows were
            measured under different conditions, or repeats of a shape disagree grossly.
        MissingDependencyError: See `read_cells`.
    """
    seen = observations(read_cells(path, where), target, space, costs)
    genotypes, columns = seen.genotypes, seen.cells.columns
    source = read_source(path)
    first = np.array([rows[0] for rows in seen.groups])

    parts = [feature_values(seen.choices[i])[genotypes[first, i]] for i in range(len(seen.genes))]
    for cost in costs:
        if space is not None and cost in space.costs:
            parts.append(space.costs[cost].evaluate(genotypes[first]))
        elif cost in columns and cost not in seen.genes and cost != target:
            column = _numbers(seen.cells, cost, missing=False)
            parts.append(np.array([column[rows].mean() for rows in seen.groups]))
        else:
            others = [name for name in columns if name not in seen.genes and name != target]
            known = ", ".join(dict.fromkeys([*(space.costs if space else ()), *others])) or "none"
            raise InvalidInputError(f"cost must be one of {known}; got {cost!r}")
    return Measurements(
        genes=seen.genes,
        choices=seen.choices,
        costs=tuple(costs),
        features=np.column_stack(parts),
        # A shape on both sides of a held-out split would flatter the scores.
        targets=np.array([seen.values[rows].mean() for rows in seen.groups]),
        dropped=seen.dropped,
        space=(space.name if space else str(source.get("space") or path.name.partition(".")[0])),
        fingerprint=space.fingerprint if space else "",
        source=source,
        lines=tuple(tuple(seen.cells.lines[row] for row in rows.tolist()) for rows in seen.groups),
        conditions=seen.conditions,
        repeats=seen.repeats,
        pool=candidates(space, costs),
    )


def candidates(space: SearchSpace | None, costs: Sequence[str]) -> NDArray[np.float64] | None:
    """Features of shapes drawn from a space, (n, f); None where it does not declare all costs."""
    if space is None or any(cost not in space.costs for cost in costs):
        return None
    drawn = space.canonicalize(space.sample(_DRAWN, np.random.default_rng(0)))
    return np.column_stack(
        [space.features(drawn), *(space.costs[cost].evaluate(drawn) for cost in costs)]
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


def genotypes_of(cells: Cells, space: SearchSpace) -> Genotypes:
    """The shapes of a table's rows, canonical, (n, d): a column for each gene, else one of shapes.

    Raises:
        InvalidInputError: There are neither, or a row is none of the space; names its line.
    """
    names = [gene.name for gene in space.genes]
    columns = cells.columns
    missing = [name for name in names if name not in columns]
    if not missing:
        choices = [gene.choices for gene in space.genes]
        parsed = [_parse(columns[name]) for name in names]
        return space.canonicalize(_indices(cells, names, choices, parsed))
    if SHAPE not in columns:
        raise InvalidInputError(
            f"{cells.path}: a table of {space.name} must have a column {SHAPE!r}, or "
            f"{', '.join(missing)}, got {', '.join(columns)}"
        )
    rows = []
    for row, cell in enumerate(columns[SHAPE]):
        try:
            rows.append(space.parse(str(cell)))
        except InvalidInputError as error:
            raise InvalidInputError(f"{cells.place(row)}: {error}") from error
    return space.canonicalize(np.concatenate(rows))


def check_column(cells: Cells, name: str, hint: str = "") -> None:
    """Raise InvalidInputError where there is no such column; a `hint` says how to name another."""
    if name not in cells.columns:
        raise InvalidInputError(
            f"{cells.path}: expected a column {name!r}{hint}; {nearest(name, cells.columns)}"
        )


def numbers_of(cells: Cells, name: str) -> NDArray[np.float64]:
    """A column of numbers, NaN where a cell is empty, shape (n,).

    Raises:
        InvalidInputError: A cell is no number; names its line.
    """
    return _numbers(cells, name, missing=True)


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


def _numbers(cells: Cells, name: str, *, missing: bool) -> NDArray[np.float64]:
    numbers = np.empty(len(cells.lines))
    for i, cell in enumerate(cells.columns[name]):
        empty = cell is None or (isinstance(cell, str) and not cell.strip())
        try:
            numbers[i] = np.nan if empty else float(cell)
        except (TypeError, ValueError):
            raise InvalidInputError(
                f"{cells.place(i)}: column {name!r} must hold numbers, got {cell!r}"
            ) from None
        if not missing and not np.isfinite(numbers[i]):
            raise InvalidInputError(
                f"{cells.place(i)}: column {name!r} must hold finite numbers everywhere"
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
    cells: Cells,
    genes: Sequence[str],
    choices: Sequence[tuple[Choice, ...]],
    values: Sequence[list[Choice]],
) -> Genotypes:
    genotypes = np.empty((len(values[0]), len(genes)), dtype=np.int64)
    for i, (gene, known, column) in enumerate(zip(genes, choices, values, strict=True)):
        index: dict[Choice, int] = {choice: k for k, choice in enumerate(known)}
        # Text choices of a space may look like numbers in the table.
        index |= {str(choice): k for choice, k in index.items()}
        for row, value in enumerate(column):
            cell = str(cells.columns[gene][row]).strip()
            found = index.get(value, index.get(str(value), index.get(cell)))
            if found is None:
                raise InvalidInputError(
                    f"{cells.place(row)}: {gene} must be one of {', '.join(map(str, known))}; "
                    f"got {value!r}"
                )
            genotypes[row, i] = found
    return genotypes


def feature_values(choices: Sequence[Choice]) -> NDArray[np.float64]:
    """What each choice of a gene is to a predictor: its number, else its index."""
    numeric = all(isinstance(choice, (int, float)) for choice in choices)
    return np.array(choices if numeric else range(len(choices)), dtype=np.float64)
