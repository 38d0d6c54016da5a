"""The table of a campaign: what was measured of which shape, in which round."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nastool.errors import InvalidInputError
from nastool.files.reading import is_file, read_table
from nastool.files.tables import csv_text
from nastool.files.writing import write_whole
from nastool.space import SearchSpace
from nastool_supernets.genotypes import Genotype, row

TABLE = "measured.csv"
_COLUMNS = ("round", "shape", "predicted", "loss")


@dataclass(frozen=True)
class Row:
    """A measured shape.

    Args:
        round: That measured it.
        predicted: Its loss as predicted before, NaN where it was not.
        loss: Its loss.
    """

    round: int
    predicted: float
    loss: float


def read_rows(file: Path, space: SearchSpace) -> dict[Genotype, Row]:
    """Read the table of a campaign; nothing where there is none.

    Raises:
        InvalidInputError: It is damaged, or of another space.
    """
    if not is_file(file):
        return {}
    found = {}
    for line in read_table(file):
        cells = line.cells
        try:
            genotype = row(space.parse(cells["shape"])[0])
            # What is not a number is written as nothing.
            numbers = [float(cells[name] or "nan") for name in ("predicted", "loss")]
            found[genotype] = Row(int(cells["round"]), *numbers)
        except (KeyError, TypeError, ValueError, InvalidInputError) as error:
            raise InvalidInputError(f"{file}, line {line.line}: {error}") from error
    return found


def write_rows(file: Path, space: SearchSpace, known: dict[Genotype, Row]) -> None:
    """Write the table of a campaign, whole."""
    texts = space.texts(np.array(list(known), dtype=np.int64))
    rows = (
        [its.round, text, its.predicted, its.loss]
        for text, its in zip(texts, known.values(), strict=True)
    )
    write_whole(file, csv_text(_COLUMNS, rows))
