"""What runs where a model is used: one architecture, deployed, with inputs to run it on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nastool.errors import InvalidInputError
from nastool.numbers import is_whole


@dataclass(frozen=True)
class Workload:
    """How much a device is given at once.

    Args:
        batch_size: Inputs of one pass.
        sequence_length: Tokens of each input; means nothing to spaces without sequences.

    Raises:
        InvalidInputError: A number below 1.
    """

    batch_size: int = 1
    sequence_length: int = 128

    def __post_init__(self) -> None:
        values: dict[str, object] = asdict(self)
        for name, value in values.items():
            if not is_whole(value, 1):
                text = name.replace("_", " ")
                raise InvalidInputError(f"the {text} must be an integer >= 1, got {value!r}")

    def as_dict(self) -> dict[str, int]:
        """Its numbers by name."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Deployment:
    """One architecture as it is deployed.

    Args:
        module: A `torch.nn.Module` on the CPU, in evaluation mode.
        inputs: Tensors of one pass by name, in the order of the module's parameters.
        workload: What the inputs were made for.
        file: The same architecture as a file, where there is one; devices that run files take it
            instead of making one from the module.
        padded: Makes the same module in layers whose sizes are multiples of a number, which fast
            kernels may need; None where there is none. Its outputs differ by rounding only, it
            takes more memory, and its additional weights are no parameters.
        following: What runs once this pass is over, such as one more token with what the pass has
            kept; None where nothing does.
        exported: What the file that ships is made of, and given, where that is another module: of
            a decoder one that takes what it has read before; None where it is this one.
    """

    module: Any
    inputs: Mapping[str, Any]
    workload: Workload
    file: Path | None = None
    padded: Callable[[int], Any] | None = None
    following: Deployment | None = None
    exported: Deployment | None = None
