"""Which subnets train in a step, how shapes are drawn, and what a subnet learns from.

Each is a small object of its own: a rule (the sandwich and its alternatives), a sampling, and a
distillation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError

Shape = tuple[int, ...]
"""Width of every layer."""


class Subnet(NamedTuple):
    """A shape and the part it plays in a step: largest, smallest or random."""

    role: str
    shape: Shape


def random_shape(widths: tuple[int, ...], n_layers: int, generator: np.random.Generator) -> Shape:
    """Draw every layer's width independently and uniformly.

    Args:
        widths: Widths a layer can have.
        n_layers: Layers of the supernet.
        generator: Source of randomness.
    """
    return tuple(widths[i] for i in generator.integers(0, len(widths), n_layers))


@dataclass(frozen=True)
class Sampling(ABC):
    """Draw shapes for training."""

    @abstractmethod
    def draw(self, widths: tuple[int, ...], n_layers: int, generator: np.random.Generator) -> Shape:
        """Return one shape.

        Args:
            widths: Widths a layer can have, ascending.
            n_layers: Layers of the supernet.
            generator: Source of randomness.
        """


@dataclass(frozen=True)
class Uniform(Sampling):
    """Every layer's width independently and uniformly (paper, section 2.2)."""

    def draw(self, widths: tuple[int, ...], n_layers: int, generator: np.random.Generator) -> Shape:
        return random_shape(widths, n_layers, generator)


@dataclass(frozen=True)
class SizeAware(Sampling):
    """Small and large subnets as often as medium ones, which uniform widths all but never leave.

    The mean width is drawn uniformly between the ends; then every layer's width independently,
    with probabilities proportional to exp(tilt * width) such that this mean is expected.
    """

    def draw(self, widths: tuple[int, ...], n_layers: int, generator: np.random.Generator) -> Shape:
        mean = generator.uniform(widths[0], widths[-1])
        chosen = generator.choice(len(widths), n_layers, p=_tilted(widths, mean))
        return tuple(widths[i] for i in chosen)


def _tilted(widths: tuple[int, ...], mean: float) -> NDArray[np.float64]:
    """Return the probabilities of largest entropy over widths with a given mean."""
    scaled = np.asarray(widths, np.float64) / widths[-1]
    # The mean grows with the tilt; past these ends it has reached the outermost widths.
    low, high = -1e3, 1e3
    for _ in range(60):
        tilt = (low + high) / 2
        weights = np.exp(tilt * scaled - (tilt * scaled).max())
        probabilities: NDArray[np.float64] = weights / weights.sum()
        if probabilities @ scaled * widths[-1] < mean:
            low = tilt
        else:
            high = tilt
    return probabilities


@dataclass(frozen=True)
class Distillation:
    """In-place distillation: the largest subnet's predictions teach the others of the same step.

    At masked positions a smaller subnet minimises (1 - mix) * cross-entropy + mix * temperature^2 *
    KL(teacher || student), both distributions softened by the temperature. The teacher is the pass
    that trains the largest subnet anyway; no gradient flows into it (Yu and Huang, 2019).

    Args:
        mix: Share of the teacher in the loss, in (0, 1].
        temperature: Divides the logits of both.

    Raises:
        InvalidInputError: If a value is out of range.
    """

    mix: float = 0.5
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.mix <= 1:
            raise InvalidInputError(f"distillation's mix must be in (0, 1], got {self.mix}")
        if not 0 < self.temperature < float("inf"):
            raise InvalidInputError(
                f"distillation's temperature must be positive, got {self.temperature}"
            )


@dataclass(frozen=True)
class TrainingRule(ABC):
    """Choose the subnets of a step; their losses are summed (paper, section 2.2)."""

    trains_largest: ClassVar[bool] = True
    """Whether the largest subnet is in every step; it is then the first."""

    @abstractmethod
    def subnets(
        self, widths: tuple[int, ...], n_layers: int, generator: np.random.Generator
    ) -> list[Subnet]:
        """Return the subnets of one step.

        Args:
            widths: Widths a layer can have, ascending.
            n_layers: Layers of the supernet.
            generator: The step's own generator.
        """

    def describe(self) -> dict[str, Any]:
        """Return the rule as JSON-compatible values."""
        described = {"name": type(self).__name__, **asdict(self)}
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, Sampling):
                described[part.name] = {"name": type(value).__name__, **asdict(value)}
        return described


def _random_subnets(
    n: int,
    sampling: Sampling,
    widths: tuple[int, ...],
    n_layers: int,
    generator: np.random.Generator,
) -> list[Subnet]:
    return [Subnet("random", sampling.draw(widths, n_layers, generator)) for _ in range(n)]


@dataclass(frozen=True)
class Sandwich(TrainingRule):
    """Largest, smallest and n random subnets.

    Args:
        n_random: Random subnets a step.
        sampling: How they are drawn.
    """

    n_random: int = 1
    sampling: Sampling = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        if self.n_random < 0:
            raise InvalidInputError(f"n_random must be at least 0, got {self.n_random}")

    def subnets(
        self, widths: tuple[int, ...], n_layers: int, generator: np.random.Generator
    ) -> list[Subnet]:
        """Return largest, smallest and the random subnets."""
        return [
            Subnet("largest", (widths[-1],) * n_layers),
            Subnet("smallest", (widths[0],) * n_layers),
            *_random_subnets(self.n_random, self.sampling, widths, n_layers, generator),
        ]


@dataclass(frozen=True)
class RandomOnly(TrainingRule):
    """Only random subnets, the rule that the paper compares the sandwich with.

    Args:
        n_random: Random subnets a step.
        sampling: How they are drawn.
    """

    trains_largest: ClassVar[bool] = False
    n_random: int = 3
    sampling: Sampling = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        if self.n_random < 1:
            raise InvalidInputError(f"n_random must be at least 1, got {self.n_random}")

    def subnets(
        self, widths: tuple[int, ...], n_layers: int, generator: np.random.Generator
    ) -> list[Subnet]:
        """Return the random subnets."""
        return _random_subnets(self.n_random, self.sampling, widths, n_layers, generator)


@dataclass(frozen=True)
class LargestOnly(TrainingRule):
    """Only the largest net: plain masked language modelling, e.g. to train a new head first."""

    def subnets(
        self, widths: tuple[int, ...], n_layers: int, generator: np.random.Generator
    ) -> list[Subnet]:
        """Return the largest subnet."""
        del generator
        return [Subnet("largest", (widths[-1],) * n_layers)]


@dataclass(frozen=True)
class OneShape(TrainingRule):
    """One shape alone: pre-training of a single subnet.

    Args:
        shape: Width of every layer.
    """

    trains_largest: ClassVar[bool] = False
    shape: Shape = ()

    def subnets(
        self, widths: tuple[int, ...], n_layers: int, generator: np.random.Generator
    ) -> list[Subnet]:
        """Return the one shape."""
        del widths, n_layers, generator
        return [Subnet("subnet", self.shape)]

    def describe(self) -> dict[str, Any]:
        """Return the shape with the rule's name."""
        return {"name": type(self).__name__, "shape": list(self.shape)}
