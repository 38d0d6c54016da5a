"""What is said about an exported model: in its card, on the screen, as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nastool.constraint import format_quantity
from nastool.space import Architecture
from nastool_supernets.finetuning.scores import Evaluation


@dataclass(frozen=True)
class Metric:
    """A number that is known of the exported shape.

    Args:
        name: The metric.
        value: In its natural sign, for people.
        provenance: Whether it was computed, measured or predicted, by what and how well.
    """

    name: str
    value: str
    provenance: str


@dataclass(frozen=True)
class Origin:
    """Where an exported model comes from.

    Args:
        source: In a few words, e.g. ``cut out of supernet minilm-6``.
        study: Name of the study that found the shape; empty without one.
        metrics: What is known of the shape.
        trained_head: Whether the head was trained; a head for a task that was just added was not.
        licence: Identifier of the licence of the weights; empty where it was not said.
        evaluations: What was measured of this very model before.
    """

    source: str
    study: str = ""
    metrics: tuple[Metric, ...] = ()
    trained_head: bool = True
    licence: str = ""
    evaluations: tuple[Evaluation, ...] = ()


@dataclass(frozen=True)
class Difference:
    """How far the outputs of two forms of a model lie apart, on the same inputs.

    Outputs are logits, or the hidden states of a model without head.

    Args:
        largest: Largest absolute difference.
        mean: Mean absolute difference.
        sizes: Batch size and length of each batch compared.
        spread: Standard deviation of the outputs of the reference, what differences count against.
    """

    largest: float
    mean: float
    sizes: tuple[tuple[int, int], ...]
    spread: float = 1.0


@dataclass(frozen=True)
class FormReport:
    """What is known about one form of an exported model.

    Args:
        form: ``torch`` or a key of `FILES`.
        file: Where it lies in the folder.
        bytes: Size on disk.
        difference: Of its logits from PyTorch's; None for PyTorch.
        quality: Metrics by name; empty where none was measured.
        padding: What its layers are padded to.
    """

    form: str
    file: str
    bytes: int
    difference: Difference | None = None
    quality: Mapping[str, float] = field(default_factory=dict)
    padding: str = "none"


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and how its forms agree.

    Args:
        shape: Its choices, gene by gene.
        parameters: Weights, those of the head included.
        merging: Difference between the merged subnet and the supernet it was cut from, or None.
        measured_on: What the quality was measured on; empty where it was not measured.
        rows: One for each form.
    """

    shape: Architecture
    parameters: int
    merging: Difference | None
    measured_on: str
    rows: tuple[FormReport, ...]

    @property
    def metrics(self) -> list[str]:
        """Names of what was measured of any form."""
        return list(dict.fromkeys(name for row in self.rows for name in row.quality))

    @property
    def header(self) -> list[str]:
        """Names of the columns of `cells`."""
        names = [name.replace("_", " ") for name in self.metrics]
        return ["form", "file", "size", "largest diff.", "mean diff.", *names]

    @property
    def measured(self) -> str:
        """What was measured on what, for people; empty where nothing was."""
        names = ", ".join(name.replace("_", " ") for name in self.metrics)
        return f"{names} on {self.measured_on}" if names else ""

    @property
    def cells(self) -> list[list[str]]:
        """A row of a table for each form, for people."""
        return [
            [
                row.form if row.padding == "none" else f"{row.form}, padded to {row.padding}",
                row.file,
                format_quantity(row.bytes, "B"),
                "" if row.difference is None else f"{row.difference.largest:.2g}",
                "" if row.difference is None else f"{row.difference.mean:.2g}",
                *(f"{row.quality[name]:.4g}" if row.quality else "" for name in self.metrics),
            ]
            for row in self.rows
        ]

    def as_dict(self) -> dict[str, Any]:
        """JSON values; null for a quality that is not finite."""
        content = asdict(self)
        for row in content["rows"]:
            row["quality"] = {
                name: value if math.isfinite(value) else None
                for name, value in row["quality"].items()
            }
        return content
