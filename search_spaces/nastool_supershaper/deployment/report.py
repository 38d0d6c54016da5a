"""What is said about an exported model: in its card, on the screen, as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from nastool.constraint import format_quantity


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
    """

    source: str
    study: str = ""
    metrics: tuple[Metric, ...] = ()
    trained_head: bool = True
    licence: str = ""


@dataclass(frozen=True)
class Difference:
    """How far the logits of two forms of a model lie apart, on the same inputs.

    Args:
        largest: Largest absolute difference.
        mean: Mean absolute difference.
        sizes: Batch size and length of each batch compared.
    """

    largest: float
    mean: float
    sizes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class FormReport:
    """What is known about one form of an exported model.

    Args:
        form: ``torch`` or a key of `FILES`.
        file: Where it lies in the folder.
        bytes: Size on disk.
        difference: Of its logits from PyTorch's; None for PyTorch.
        quality: Value of the metric that was asked for, or None.
    """

    form: str
    file: str
    bytes: int
    difference: Difference | None = None
    quality: float | None = None

    @property
    def cells(self) -> list[str]:
        """For a table under `ExportReport.header`."""
        difference = self.difference
        return [
            self.form,
            self.file,
            format_quantity(self.bytes, "B"),
            "" if difference is None else f"{difference.largest:.2g}",
            "" if difference is None else f"{difference.mean:.2g}",
            "" if self.quality is None else f"{self.quality:.4g}",
        ]


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and how its forms agree.

    Args:
        shape: Width of every layer.
        parameters: Weights, those of the head included.
        merging: Difference between the merged subnet and the supernet it was cut from, or None.
        metric: Name of the quality and what it was measured on, or None.
        rows: One for each form.
    """

    shape: tuple[int, ...]
    parameters: int
    merging: Difference | None
    metric: tuple[str, str] | None
    rows: tuple[FormReport, ...]

    @property
    def header(self) -> list[str]:
        """Names of the columns of `FormReport.cells`; the last one only where it was measured."""
        names = ["form", "file", "size", "largest diff.", "mean diff."]
        return [*names, self.metric[0]] if self.metric else names

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)
