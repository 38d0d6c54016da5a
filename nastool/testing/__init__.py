"""Conformance suites for authors of plugins, with pytest.

Subclass a suite at the top level of a test file and override `make`::

    class TestMyStrategy(StrategyConformance):
        def make(self, problem, seed):
            return MyStrategy(problem, seed)
"""

from nastool.testing.devices import DeviceConformance
from nastool.testing.examples import (
    Formula,
    Layered,
    Mixed,
    Widths,
    easy_problems,
    example_problems,
)
from nastool.testing.executors import ExecutorConformance
from nastool.testing.objectives import ObjectiveConformance
from nastool.testing.predictors import PredictorConformance
from nastool.testing.spaces import SearchSpaceConformance
from nastool.testing.strategies import StrategyConformance, check_asked, stored
from nastool.testing.supernets import SupernetConformance

__all__ = [
    "DeviceConformance",
    "ExecutorConformance",
    "Formula",
    "Layered",
    "Mixed",
    "ObjectiveConformance",
    "PredictorConformance",
    "SearchSpaceConformance",
    "StrategyConformance",
    "SupernetConformance",
    "Widths",
    "check_asked",
    "easy_problems",
    "example_problems",
    "stored",
]
