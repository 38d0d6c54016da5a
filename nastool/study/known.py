"""Evaluations that a study begins with: told to its strategy, and not paid for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.objective import Kind
from nastool.predictors.tables import SUFFIXES, check_column, genotypes_of, numbers_of, read_cells
from nastool.problem import Problem
from nastool.space import Genotypes

if TYPE_CHECKING:
    from nastool.store import Store, StoredStudy


@dataclass(frozen=True, eq=False)
class Known:
    """Evaluations that are known before a study begins.

    Args:
        genotypes: Canonical and distinct, shape (n, d).
        values: Every reported metric in its natural sign and base unit, finite, shape (n, r).
        source: Where they are from, for people.
        left_out: How many more there were, with no value of a metric that is slow to evaluate.
    """

    genotypes: Genotypes
    values: NDArray[np.float64]
    source: str = ""
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.genotypes)

    @property
    def digest(self) -> str:
        """Of what is known, wherever it is from."""
        content = hashlib.sha256(self.genotypes.astype("<i8").tobytes())
        content.update(self.values.astype("<f8").tobytes())
        return content.hexdigest()[:16]

    @property
    def summary(self) -> str:
        """How many are from where."""
        left = f", {self.left_out:,} without a value left out" if self.left_out else ""
        return f"{len(self):,} evaluations from {self.source}{left}"


def as_known(given: object, problem: Problem, store: Store | None) -> Known | None:
    """What a study was told to begin with; None for nothing.

    Args:
        given: Evaluations, or what `find_known` finds them by.
        problem: Of the study.
        store: Where other studies are; None without one.

    Raises:
        InvalidInputError: Neither, or see `find_known`.
    """
    if isinstance(given, str):
        return find_known(given, problem, store)
    if given is not None and not isinstance(given, Known):
        raise InvalidInputError(
            "known evaluations must be the name of a table or of a study, or Known, got "
            f"{type(given).__name__}"
        )
    return given


def find_known(text: str, problem: Problem, store: Store | None = None) -> Known:
    """What a table or another study knows of a problem.

    Args:
        text: A file, see `known_table`, or the name of a study, see `known_study`.
        problem: Of the study that begins with it.
        store: Where the other study is.

    Raises:
        InvalidInputError: There is no such file or study, or it does not fit the problem.
    """
    if text.lower().endswith(SUFFIXES):
        return known_table(Path(text), problem)
    if store is None:
        raise InvalidInputError(
            f"known evaluations must be a table that ends in {', '.join(SUFFIXES)}, or a study of "
            f"the store, got {text!r} and no store"
        )
    return known_study(store.load(text), problem)


def known_table(path: Path, problem: Problem) -> Known:
    """What a table knows of a problem.

    It has a column for each gene, or one of shapes, as a search writes it. A metric is read from
    its column, unless it is exact, which is computed; one without a column, or with an empty cell,
    must be computable. Rows of the same shape are averaged.

    Args:
        path: A .csv, .csv.gz or .parquet file.
        problem: Of the study that begins with it.

    Raises:
        InvalidInputError: A row is none of the space or no number, by its line; a column is
            missing; or no row has a value of each metric.
    """
    cells = read_cells(path)
    genotypes = genotypes_of(cells, problem.space)
    read: dict[str, NDArray[np.float64]] = {}
    for metric in problem.reported:
        if metric.provenance.kind is Kind.COMPUTED and metric.is_cheap:
            continue
        if metric.name in cells.columns:
            read[metric.name] = numbers_of(cells, metric.name)
        elif not metric.is_cheap:
            check_column(cells, metric.name, ", which is measured")
    return _known(problem, genotypes, read, str(path))


def known_study(stored: StoredStudy, problem: Problem) -> Known:
    """What another study knows of a problem: of metrics that both evaluate in the same way.

    Args:
        stored: The other one.
        problem: Of the study that begins with it.

    Raises:
        InvalidInputError: It is of another space, or evaluates a metric in another way or not.
        StoreError: It is damaged.
    """
    name, space = stored.summary.name, problem.space
    said = stored.summary.identity.get("space")
    if said != [space.name, space.fingerprint]:
        other = said[0] if isinstance(said, list) and said else said
        raise InvalidInputError(f"study {name!r} must be one of {space.name}, got {other}")
    columns = _columns_of(stored)
    read: dict[str, NDArray[np.float64]] = {}
    for metric in problem.reported:
        if metric.is_cheap:
            continue
        if metric.name not in columns:
            raise InvalidInputError(
                f"study {name!r} must have evaluated {metric.name}, which is measured, got "
                f"{', '.join(columns)}"
            )
        column, fingerprint = columns[metric.name]
        if fingerprint != metric.fingerprint:
            raise InvalidInputError(
                f"study {name!r} must have evaluated {metric.name} as it is now, got another "
                "instrument, model or setting of it"
            )
        read[metric.name] = stored.batch.values[:, column]
    genotypes = stored.batch.genotypes.reshape(-1, len(space.genes))
    return _known(problem, space.validate(genotypes), read, f"study {name}")


def _columns_of(stored: StoredStudy) -> dict[str, tuple[int, Any]]:
    """Column and fingerprint of each metric that a study has evaluated, by name."""
    identity = stored.summary.identity
    try:
        found = {name: mark for name, _, mark in identity["objectives"]}
        for name, _, _, mark in identity["constraints"]:
            found.setdefault(name, mark)
    except (KeyError, TypeError, ValueError) as error:
        raise stored.summary.damaged("objectives", "name metrics", identity) from error
    return {name: (column, mark) for column, (name, mark) in enumerate(found.items())}


def _known(
    problem: Problem,
    genotypes: Genotypes,
    read: Mapping[str, NDArray[np.float64]],
    source: str,
) -> Known:
    """What rows are worth: what is read, and what can be computed."""
    genotypes, inverse = _distinct(problem, genotypes)
    values = np.empty((len(genotypes), len(problem.reported)))
    for column, metric in enumerate(problem.reported):
        values[:, column] = _averaged(read.get(metric.name), inverse, len(genotypes))
        missing = np.flatnonzero(~np.isfinite(values[:, column]))
        if metric.is_cheap and len(missing):
            values[missing, column] = problem.compute(metric, genotypes[missing]).values
    whole = np.isfinite(values).all(axis=1)
    if not whole.any():
        names = ", ".join(metric.name for metric in problem.reported)
        raise InvalidInputError(f"{source}: no row has a value of {names}")
    return Known(genotypes[whole], values[whole], source, int((~whole).sum()))


def _distinct(problem: Problem, genotypes: Genotypes) -> tuple[Genotypes, NDArray[np.int64]]:
    """Each shape once, in order of appearance, and for every row which of them it is."""
    places: dict[Any, int] = {}
    inverse = [places.setdefault(key, len(places)) for key in problem.space.keys(genotypes)]
    first = np.unique(inverse, return_index=True)[1] if inverse else np.empty(0, dtype=np.int64)
    return genotypes[first], np.array(inverse, dtype=np.int64)


def _averaged(
    values: NDArray[np.float64] | None, inverse: NDArray[np.int64], n: int
) -> NDArray[np.float64]:
    """Mean of the finite values of each shape, shape (n,), NaN where there is none."""
    if values is None:
        return np.full(n, np.nan)
    finite = np.isfinite(values)
    counts = np.bincount(inverse[finite], minlength=n)
    sums = np.bincount(inverse[finite], weights=values[finite], minlength=n)
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(n, np.nan), where=counts > 0)
    return means
