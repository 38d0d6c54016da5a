"""What the ledger knows of a campaign's architectures, so that none of it is measured again.

A value of another evening counts only where the device still says the same. So a few of the known
architectures, the witnesses, are visited like all others, and after the first round the noise gate
judges what they say against what is known. Where they agree, the others are taken as known; where
they do not, the others are visited after all, in turns with the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.arrays import Floats
from nastool.errors import InvalidInputError
from nastool.files.reading import is_file, read_json_object
from nastool.files.writing import write_whole
from nastool_objectives.latency.quantities import DECODE, LATENCY, QUANTITIES
from nastool_objectives.latency.repeatability import NoiseGate, Repeatability, repeatability

KNOWN = "known.json"
"""File in a device's folder: a campaign that goes on must not depend on what others measured."""

WITNESSES = 20
"""Known architectures that are visited all the same."""


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of some of a campaign's architectures.

    Args:
        rows: Which of them, shape (k,); the witnesses come first.
        values: What is known, shape (k, m), in the order of `QUANTITIES`; NaN what is not.
        agrees: Whether the witnesses repeat; None before the end of the first round.
    """

    rows: NDArray[np.int64]
    values: Floats
    agrees: bool | None = None

    @property
    def skipped(self) -> list[int]:
        """The rows that need no visit where the witnesses repeat."""
        return [int(row) for row in self.rows[WITNESSES:]]

    def witnessed(self, latencies: Mapping[int, Sequence[float]]) -> Repeatability | None:
        """How the witnesses repeat what is known of them; None where none of them ran.

        Args:
            latencies: Seconds by row, one for every visit that did not fail.
        """
        known = self.values[:, QUANTITIES.index(LATENCY)].tolist()
        pairs = [
            (value, LATENCY.over(latencies[row]))
            for row, value in list(zip(self.rows.tolist(), known, strict=True))[:WITNESSES]
            if latencies.get(row)
        ]
        return repeatability(*np.array(pairs).T) if pairs else None

    def judged(self, latencies: Mapping[int, Sequence[float]], gate: NoiseGate) -> Known:
        """The same, with what the witnesses of the first round say.

        Args:
            latencies: As `witnessed` takes them.
            gate: What they must fulfil.
        """
        found = self.witnessed(latencies)
        return replace(self, agrees=found is not None and not gate.refusal(found))

    def write(self, folder: Path) -> None:
        """Put it into a device's folder.

        Raises:
            WriteError: It cannot be written.
        """
        columns = {
            quantity.column: [None if np.isnan(v) else v for v in column]
            for quantity, column in zip(QUANTITIES, self.values.T.tolist(), strict=True)
        }
        content = {"rows": self.rows.tolist(), **columns, "agrees": self.agrees}
        write_whole(folder / KNOWN, json.dumps(content, allow_nan=False) + "\n")


def read_known(folder: Path) -> Known | None:
    """What was known when a campaign began; None where that was nothing.

    Raises:
        InvalidInputError: The file was changed.
    """
    path = folder / KNOWN
    if not is_file(path):
        return None
    content: dict[str, Any] = read_json_object(path)
    try:
        rows = np.array(content["rows"], dtype=np.int64).reshape(-1)
        # Older files have nothing of what follows a pass.
        content.setdefault(DECODE.column, [None] * len(rows))
        columns = [np.array(content[quantity.column], dtype=np.float64) for quantity in QUANTITIES]
        values = np.stack(columns, axis=1).reshape(len(rows), len(QUANTITIES))
        return Known(rows, values, content["agrees"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{path}: not what was known when a campaign began: {error}"
        ) from error
