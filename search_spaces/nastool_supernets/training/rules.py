"""Which subnets train in a step, how they are drawn, and what a subnet learns from.

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
from nastool.space import Architecture, SearchSpace
from nastool_supernets.genotypes import Genotype, row


class Subnet(NamedTuple):
    """A genotype and the part it plays in a step: largest, smallest or random."""

    role: str
    genotype: Genotype


@dataclass(frozen=True)
class Sampling(ABC):
    """Draw genotypes for training."""

    @abstractmethod
    def draw(self, space: SearchSpace, generator: np.random.Generator) -> Genotype:
        """Return one genotype.

        Args:
            space: Whose genotypes the supernet's subnets are.
            generator: Source of randomness.
        """


@dataclass(frozen=True)
class Uniform(Sampling):
    """As the space draws: every gene independently and uniformly (paper, section 2.2)."""

    def draw(self, space: SearchSpace, generator: np.random.Generator) -> Genotype:
        return row(space.sample(1, generator)[0])


@dataclass(frozen=True)
class SizeAware(Sampling):
    """Small and large subnets as often as medium ones, which uniform draws all but never leave.

    How large the choices are on average is drawn uniformly between the ends; then every gene
    independently, with probabilities proportional to exp(tilt * choice) such that this mean is
    expected. Choices count as the space's features.
    """

    def draw(self, space: SearchSpace, generator: np.random.Generator) -> Genotype:
        share = generator.random()
        drawn = generator.random(len(space.genes))
        tables: dict[tuple[float, ...], NDArray[np.float64]] = {}
        genotype = []
        for index, uniform in enumerate(drawn):
            sizes = _sizes(space, index)
            if sizes not in tables:
                mean = sizes[0] + (sizes[-1] - sizes[0]) * share
                cumulated = _tilted(sizes, mean).cumsum()
                tables[sizes] = cumulated / cumulated[-1]
            genotype.append(int(tables[sizes].searchsorted(uniform, side="right")))
        return tuple(genotype)


@dataclass(frozen=True)
class Runs(Sampling):
    """Neighbours in depth alike as often as not: uniform and blockwise shapes beside mixed ones.

    Independent draws all but never give these, and fronts are made of them. How likely a gene
    repeats the one before it with the same choices is drawn uniformly for each genotype; else it is
    drawn uniformly itself. So every choice of every gene is as frequent as in uniform draws.
    """

    def draw(self, space: SearchSpace, generator: np.random.Generator) -> Genotype:
        repeats = generator.random(len(space.genes)) < generator.random()
        fresh = row(space.sample(1, generator)[0])
        last: dict[tuple[Any, ...], int] = {}
        genotype = []
        for gene, repeat, index in zip(space.genes, repeats, fresh, strict=True):
            choices = tuple(gene.choices)
            genotype.append(last.get(choices, index) if repeat else index)
            last[choices] = genotype[-1]
        return tuple(genotype)


def _sizes(space: SearchSpace, index: int) -> tuple[float, ...]:
    """Sizes of a gene's choices, ascending where the space has them so."""
    gene = space.genes[index]
    if gene.is_numeric:
        return tuple(float(choice) for choice in gene.choices)
    return tuple(float(place) for place in range(len(gene.choices)))


def _tilted(sizes: tuple[float, ...], mean: float) -> NDArray[np.float64]:
    """Return the probabilities of largest entropy over sizes with a given mean."""
    largest = sizes[-1] or 1.0
    scaled = np.asarray(sizes, np.float64) / largest
    # The mean grows with the tilt; past these ends it has reached the outermost sizes.
    low, high = -1e3, 1e3
    for _ in range(60):
        tilt = (low + high) / 2
        weights = np.exp(tilt * scaled - (tilt * scaled).max())
        probabilities: NDArray[np.float64] = weights / weights.sum()
        if probabilities @ scaled * largest < mean:
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
    def subnets(self, space: SearchSpace, generator: np.random.Generator) -> list[Subnet]:
        """Return the subnets of one step.

        Args:
            space: Whose genotypes the supernet's subnets are.
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
    n: int, sampling: Sampling, space: SearchSpace, generator: np.random.Generator
) -> list[Subnet]:
    return [Subnet("random", sampling.draw(space, generator)) for _ in range(n)]


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

    def subnets(self, space: SearchSpace, generator: np.random.Generator) -> list[Subnet]:
        """Return largest, smallest and the random subnets."""
        return [
            Subnet("largest", row(space.largest)),
            Subnet("smallest", row(space.smallest)),
            *_random_subnets(self.n_random, self.sampling, space, generator),
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

    def subnets(self, space: SearchSpace, generator: np.random.Generator) -> list[Subnet]:
        """Return the random subnets."""
        return _random_subnets(self.n_random, self.sampling, space, generator)


@dataclass(frozen=True)
class LargestOnly(TrainingRule):
    """Only the largest net: plain language modelling, e.g. to train a new head first."""

    def subnets(self, space: SearchSpace, generator: np.random.Generator) -> list[Subnet]:
        """Return the largest subnet."""
        del generator
        return [Subnet("largest", row(space.largest))]


@dataclass(frozen=True)
class OneShape(TrainingRule):
    """One shape alone: pre-training of a single subnet.

    Args:
        shape: Its choices, gene by gene.
    """

    trains_largest: ClassVar[bool] = False
    shape: Architecture = ()

    def subnets(self, space: SearchSpace, generator: np.random.Generator) -> list[Subnet]:
        """Return the one shape."""
        del generator
        return [Subnet("subnet", row(space.encode([self.shape])[0]))]

    def describe(self) -> dict[str, Any]:
        """Return the shape with the rule's name."""
        return {"name": type(self).__name__, "shape": list(self.shape)}
