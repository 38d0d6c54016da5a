"""A space of 4^5 shapes with a chain cost, and objectives on it, as a plugin file offers them."""

import os
import sys

import numpy as np

from nastool.objective import Direction, Kind, Objective, Provenance
from nastool.plugins import register_objective, register_space, register_strategy
from nastool.space import ChainCost, Gene, SearchSpace
from nastool.strategies.random import RandomSearch

WIDTHS = (8, 16, 32, 64)
LAYERS = 5


class ToySpace(SearchSpace):
    name = "toy"
    genes = tuple(Gene(f"layer_{i}", WIDTHS, ordered=True) for i in range(1, LAYERS + 1))

    @property
    def costs(self):
        widths = np.array(WIDTHS)
        step = 1000 * np.outer(widths, widths)
        return {"params": ChainCost("params", 1000 * widths, (step,) * (LAYERS - 1))}


class Loss(Objective):
    name = "loss"
    fingerprint = "toy-loss-1"
    provenance = Provenance(
        Kind.PREDICTED, "a formula", "held-out R2 0.97", proxy="loss of a <smaller> net"
    )

    def __init__(self, space):
        self.space = space

    def evaluate(self, genotypes):
        weights = np.linspace(1, 2, genotypes.shape[1])
        return 10 * np.exp(-(np.sqrt(self.space.features(genotypes)) @ weights) / 40)


class Straight(Loss):
    """A latency that falls below zero where shapes are small."""

    name = "straight"
    unit = "s"
    fingerprint = "toy-straight-1"

    def evaluate(self, genotypes):
        return 1e-3 * (genotypes.sum(axis=1) - 5)


class Throughput(Objective):
    name = "throughput"
    unit = "s"
    direction = Direction.MAXIMIZE
    fingerprint = "toy-throughput-1"
    provenance = Provenance(Kind.COMPUTED, "a formula")

    def evaluate(self, genotypes):
        return 1 / (1.0 + genotypes.sum(axis=1))


class Interrupted(Loss):
    """Presses Ctrl-C after 60 evaluations."""

    name = "interrupted"
    fingerprint = "toy-interrupted-1"
    seen = 0

    def evaluate(self, genotypes):
        Interrupted.seen += len(genotypes)
        if Interrupted.seen > 60:
            raise KeyboardInterrupt
        return super().evaluate(genotypes)


class Flaky(Loss):
    """Has no number for a quarter of the shapes while FLAKY is set."""

    name = "flaky"
    fingerprint = "toy-flaky-1"
    provenance = Provenance(Kind.MEASURED, "a formula")

    def evaluate(self, genotypes):
        values = super().evaluate(genotypes)
        if os.environ.get("FLAKY") == "exits" and (genotypes[:, 0] == 0).any():
            sys.exit(1)
        return np.where((genotypes[:, 0] == 0) & ("FLAKY" in os.environ), np.nan, values)


@register_space("toy")
def make_space(argument):
    return ToySpace()


@register_objective("loss")
def make_loss(space, argument):
    return Loss(space)


@register_objective("straight")
def make_straight(space, argument):
    return Straight(space)


@register_objective("flaky")
def make_flaky(space, argument):
    return Flaky(space)


@register_objective("throughput")
def make_throughput(space, argument):
    return Throughput()


@register_objective("interrupted")
def make_interrupted(space, argument):
    return Interrupted(space)


@register_strategy("picky")
class Picky(RandomSearch):
    """Takes settings of every type."""

    def __init__(
        self, problem, seed=0, *, share: float = 0.5, size: int | None = None, fast: bool = False
    ):
        super().__init__(problem, seed)
        self.settings = (share, size, fast)


@register_strategy("broken")
class Broken(RandomSearch):
    """Raises, in two lines."""

    def ask(self, n):
        raise RuntimeError("no\nidea")
