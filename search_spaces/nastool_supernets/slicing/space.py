"""Spaces of sliced checkpoints: for every layer how much attention, and how much feed-forward."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from nastool.devices import Deployment, Workload
from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.files.hub import fetched
from nastool.files.reading import is_file, is_folder, read_json_object
from nastool.numbers import is_whole
from nastool.space import Architecture, ChainCost, Gene, SearchSpace
from nastool_supernets.sizes import read_sizes, shown

SEQUENCE_LENGTH = 128
"""Tokens of the pass that `macs` and `flops` count."""

_MOST = 10_000_000
_MOST_LAYERS = 1_000
_MOST_CHOICES = 256
"""Beyond every model there is: a slip of the keyboard, or a damaged file, is refused at once."""


class Part(NamedTuple):
    """A part of every layer that can be smaller, or not run at all.

    Args:
        gene: What its genes, its option and its levels are named by.
        choices: Name of the sizes that it can take.
        most: Name of the size of a whole layer.
        what: What its sizes are of, for people.
    """

    gene: str
    choices: str
    most: str
    what: str

    @property
    def option(self) -> str:
        """The option that asks for its sizes, by its name in Python."""
        return f"{self.gene}_choices"

    @property
    def flag(self) -> str:
        """The option as people write it."""
        return f"--{self.gene}-choices"

    @property
    def levels(self) -> str:
        """What a configuration calls the pieces that are kept."""
        return f"{self.gene}_levels"


FFN = Part("ffn", "ffns", "ffn", "Feed-forward sizes")


@dataclass(frozen=True)
class SlicedSpace(SearchSpace):
    """Every choice of two sizes for each layer: that of attention, and of the feed-forward block.

    A layer with 0 for both is left out. All other sizes are those of the checkpoint.

    Args:
        layers: Number of layers, two genes each.
        hidden: Size of the embeddings and between layers.
    """

    family: ClassVar[str]
    """``model_type`` of its supernets, which begins its names."""

    parts: ClassVar[tuple[Part, Part]]
    """Attention, then the feed-forward block."""

    flags: ClassVar[tuple[str, ...]] = ()
    """Names of sizes that are 0 or 1; the first of those that have a default."""

    running: ClassVar[tuple[str, ...]] = ()
    """What a net is run with, which its folder does not say."""

    layers: int
    hidden: int

    def __post_init__(self) -> None:
        for size in self._fields():
            if size.name in self._choices():
                continue
            value = getattr(self, size.name)
            least = 1 if size.default is MISSING else size.default
            flag, many = size.name in self.flags, size.name == "layers"
            most = 1 if flag else _MOST_LAYERS if many else _MOST
            if not is_whole(value, least) or value > most:
                raise InvalidInputError(
                    f"{size.name} must be a whole number from {least} to {most:,}, "
                    f"got {shown(value)}"
                )
        self._check()
        for part in self.parts:
            chosen = _checked(part.choices, self.of(part), getattr(self, part.most))
            object.__setattr__(self, part.choices, chosen)
        if not self.name:
            object.__setattr__(self, "name", self._derived_name())

    @abstractmethod
    def _check(self) -> None:
        """Check what sizes have to do with each other."""

    @abstractmethod
    def _macs(
        self, length: int, predicted: int
    ) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
        """Multiplications outside of layers, of attention and of the feed-forward, by choice."""

    @abstractmethod
    def _deployed(self, shape: Architecture, workload: Workload) -> Deployment:
        """A shape with random weights, as it ships."""

    @property
    def objectives(self) -> tuple[str, ...]:
        """Quality against size."""
        return ("perplexity", "params")

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """Attention and feed-forward of the first layer, then of the next: as they run."""
        return tuple(
            Gene(f"{part.gene}_{i}", self.of(part), ordered=True)
            for i in range(1, self.layers + 1)
            for part in self.parts
        )

    def of(self, part: Part) -> tuple[int, ...]:
        """The sizes that a part can take."""
        sizes: tuple[int, ...] = getattr(self, part.choices)
        return sizes

    def macs(self, genotype: Sequence[int], length: int, predicted: int) -> int:
        """Multiplications of one pass over a text.

        Args:
            genotype: The subnet, (d,).
            length: Tokens of the text.
            predicted: Tokens of the text that the head is computed for.
        """
        outside, attention, feed = self._macs(length, predicted)
        return int(
            outside + attention[list(genotype[::2])].sum() + feed[list(genotype[1::2])].sum()
        )

    def deploy(self, genotype: NDArray[np.int64], workload: Workload) -> Deployment:
        """Build a subnet with random weights, as it ships."""
        try:
            return self._deployed(self.decode(self.validate(genotype[None]))[0], workload)
        except ImportError as error:
            raise MissingDependencyError(
                f"running a shape needs {error.name or 'torch'}: pip install 'nastool[train]'"
            ) from error

    @classmethod
    def create(cls, argument: str | None) -> Self:
        """Read a space.

        Args:
            argument: The folder of a supernet, or sizes such as those that the name of a space
                lists; what a net is run with may follow a folder, with commas between.

        Raises:
            InvalidInputError: None of these.
        """
        family = cls.family
        if argument is None:
            raise InvalidInputError(
                f"{family}: expected {family}[DIR], the folder of a supernet that 'nastool "
                f"pretrain {family} --from CHECKPOINT' wrote"
            )
        folder, comma, running = argument, "", ""
        while not is_folder(Path(folder)) and "," in folder:
            folder, comma, last = folder.rpartition(",")
            running = f"{last}{',' if running else ''}{running}"
        path = fetched(folder)
        if is_folder(path):
            sizes = cls._of_folder(path)
            if comma:
                sizes |= read_sizes(family, running, cls.running, cls._choices())
            return cls(**sizes)
        if "=" not in argument:
            raise InvalidInputError(
                f"{family}: expected the folder of a supernet, or sizes, got {argument!r:.200}"
            )
        named = {size.name: size for size in cls._fields()}
        sizes = read_sizes(family, argument, tuple(named), cls._choices())
        if missing := [name for name in cls._needed() if name not in sizes]:
            raise InvalidInputError(
                f"{family}: expected all sizes, got none for {', '.join(missing)}"
            )
        return cls(**sizes)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Make the space of a supernet from its configuration.

        Args:
            config: What ``config.json`` of a supernet holds.

        Raises:
            InvalidInputError: Another kind of model, or sizes that none has.
        """
        return cls(**cls._of_config(config))

    @classmethod
    def _of_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        if config.get("model_type") != cls.family:
            raise InvalidInputError(
                f"expected the configuration of a supernet (model_type {cls.family!r}), got "
                f"model_type {config.get('model_type')!r}: 'nastool pretrain {cls.family} --from "
                "DIR' makes one of a checkpoint"
            )
        sizes = config.get("sizes")
        known = {size.name for size in cls._fields()} - {*cls.running}
        if not isinstance(sizes, dict) or not {*cls._needed()} <= sizes.keys() <= known:
            raise InvalidInputError("the configuration of a supernet must hold its sizes")
        for name in cls._choices():
            if not isinstance(sizes[name], list | tuple):
                raise InvalidInputError(f"{name} must be a list, got {sizes[name]!r:.60}")
        return {**sizes, **{name: tuple(sizes[name]) for name in cls._choices()}}

    @classmethod
    def _of_folder(cls, folder: Path) -> dict[str, Any]:
        path = folder / "config.json"
        if not is_file(path):
            raise InvalidInputError(f"expected the folder of a supernet, but {path} does not exist")
        try:
            return cls._of_config(read_json_object(path))
        except InvalidInputError as error:
            raise InvalidInputError(f"{path}: {error}") from error

    @classmethod
    def _fields(cls) -> list[Any]:
        return [size for size in fields(cls) if size.name != "name"]

    @classmethod
    def _needed(cls) -> list[str]:
        """Names of sizes that have no default."""
        return [size.name for size in cls._fields() if size.default is MISSING]

    @classmethod
    def _choices(cls) -> tuple[str, ...]:
        return tuple(part.choices for part in cls.parts)

    def _numbers(self, part: Part) -> NDArray[np.int64]:
        return np.array(self.of(part), dtype=np.int64)

    def _sum(
        self,
        name: str,
        outside: int,
        attention: NDArray[np.int64],
        feed: NDArray[np.int64],
        unit: str = "",
        layer: NDArray[np.int64] | int = 0,
    ) -> ChainCost:
        """A cost as a sum over layers.

        Args:
            name: Metric name.
            outside: What all shapes have.
            attention: By choice, (k,).
            feed: By choice, (m,).
            unit: Base unit.
            layer: What a layer has beside them, by both choices, (k, m).
        """
        within = np.broadcast_to(feed, (len(attention), len(feed))) + layer
        between = np.broadcast_to(attention, (len(feed), len(attention)))
        steps = [step for step, _ in zip(cycle((within, between)), self.genes[1:], strict=False)]
        return ChainCost(name, outside + attention, tuple(steps), unit)

    def _derived_name(self) -> str:
        texts = []
        for size in self._fields():
            value = getattr(self, size.name)
            if value != size.default:
                text = "/".join(map(str, value)) if isinstance(value, tuple) else str(value)
                texts.append(f"{size.name}={text}")
        return f"{self.family}[{','.join(texts)}]"


def _checked(name: str, choices: Sequence[object], most: int) -> tuple[int, ...]:
    numbers = [n for n in choices if is_whole(n)]
    if (
        not 1 <= len(choices) <= _MOST_CHOICES
        or len(numbers) < len(choices)
        or numbers != sorted(set(numbers))
        or numbers[0] < 0
        or numbers[-1] != most
    ):
        raise InvalidInputError(
            f"{name} must be at most {_MOST_CHOICES} ascending whole numbers, the last of them "
            f"{shown(most)}, got {'/'.join(map(shown, choices[:20])) or 'none'}"
        )
    return tuple(numbers)
