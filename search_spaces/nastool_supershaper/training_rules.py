"""Which subnets train in a step: the sandwich rule and its alternatives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nastool.errors import InvalidInputError

Shape = tuple[int, ...]
"""Width of every layer."""


class Subnet(NamedTuple):
    """A shape and the part it plays in a step: largest, smallest or random."""

    role: str
    shape: Shape


@dataclass(frozen=True)
class TrainingRule(ABC):
    """Choose the subnets of a step; their losses are summed (paper, section 2.2)."""

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


def random_shape(widths: tuple[int, ...], n_layers: int, generator: np.random.Generator) -> Shape:
    """Draw every layer's width independently and uniformly.

    Args:
        widths: Widths a layer can have.
        n_layers: Layers of the supernet.
        generator: Source of randomness.
    """
    return tuple(widths[i] for i in generator.integers(0, len(widths), n_layers))


def _random_subnets(
    n: int, widths: tuple[int, ...], n_layers: int, generator: np.random.Generator
) -> list[Subnet]:
    return [Subnet("random", random_shape(widths, n_layers, generator)) for _ in range(n)]


@dataclass(frozen=True)
class Sandwich(TrainingRule):
    """Largest, smallest and n random subnets.

    Args:
        n_random: Random subnets a step.
    """

    n_random: int = 1

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
            *_random_subnets(self.n_random, widths, n_layers, generator),
        ]


@dataclass(frozen=True)
class RandomOnly(TrainingRule):
    """Only random subnets, the rule that the paper compares the sandwich with.

    Args:
        n_random: Random subnets a step.
    """

    n_random: int = 3

    def __post_init__(self) -> None:
        if self.n_random < 1:
            raise InvalidInputError(f"n_random must be at least 1, got {self.n_random}")

    def subnets(
        self, widths: tuple[int, ...], n_layers: int, generator: np.random.Generator
    ) -> list[Subnet]:
        """Return the random subnets."""
        return _random_subnets(self.n_random, widths, n_layers, generator)


@dataclass(frozen=True)
class LargestOnly(TrainingRule):
    """Only the largest net: plain masked language modelling, e.g. to train a new head first."""

    def subnets(
        self, widths: tuple[int, ...], n_layers: int, generator: np.random.Generator
    ) -> list[Subnet]:
        """Return the largest subnet."""
        del generator
        return [Subnet("largest", (widths[-1],) * n_layers)]
