from types import SimpleNamespace

import numpy as np
import pytest

from nastool.constraint import parse_constraint
from nastool.objective import Direction, Kind, Provenance
from nastool.problem import CostObjective, Problem
from nastool.space import ChainCost, Gene, SearchSpace
from nastool.strategies.random import RandomSearch
from nastool.study import Study
from nastool.testing import Formula

WIDTHS = (8, 16, 32, 64)


class PlotSpace(SearchSpace):
    name = "plotted"

    def __init__(self, widths=WIDTHS):
        self.widths = widths

    @property
    def genes(self):
        return tuple(Gene(f"layer_{i}", self.widths, ordered=True) for i in range(1, 5))

    @property
    def costs(self):
        if not all(isinstance(width, int) for width in self.widths):
            return {}
        widths = np.array(self.widths)
        return {
            "params": ChainCost("params", 1000 * widths, (1000 * np.outer(widths, widths),) * 3)
        }


def score(
    name="loss", unit="", direction=Direction.MINIMIZE, kind=Kind.PREDICTED, proxy=""
) -> Formula:
    """Falls with the sum of the indices; the sign and the unit are the test's choice."""

    def falling(genotypes):
        return direction.sign / (1 + genotypes @ np.array([1.0, 1.1, 1.3, 1.7]))

    provenance = Provenance(kind, "a formula", "R2 0.9", proxy)
    return Formula(name, falling, direction, unit=unit, provenance=provenance)


def run(problem, budget=100, seed=0):
    return Study(problem, RandomSearch, seed=seed).run(budget)


@pytest.fixture(scope="module")
def problem():
    space = PlotSpace()
    objectives = (score(proxy="a <small> net"), CostObjective(space.costs["params"], space))
    return Problem(space, objectives, (parse_constraint("params<=6M"),))


@pytest.fixture
def result(problem):
    return run(problem)


@pytest.fixture(scope="module")
def toy():
    """What tests make problems of their own from."""
    return SimpleNamespace(Space=PlotSpace, Score=score, run=run)
