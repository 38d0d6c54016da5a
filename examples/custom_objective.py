"""An objective of your own beside the shipped ones: how uneven the widths are.

python examples/custom_objective.py [BUDGET]
"""

import sys

import numpy as np

from nastool import (
    Kind,
    Objective,
    Problem,
    Provenance,
    Study,
    load_objective,
    load_space,
    parse_constraint,
)
from nastool.strategies.pareto import ParetoSearch


class Roughness(Objective):
    """Sum of the differences between neighbouring widths."""

    name = "roughness"
    fingerprint = "roughness 1"  # equal fingerprints promise equal values
    provenance = Provenance(Kind.COMPUTED, "closed form")

    def __init__(self, space):
        self.space = space

    def evaluate(self, genotypes):
        return np.abs(np.diff(self.space.features(genotypes), axis=1)).sum(axis=1)


budget = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
space = load_space("supershaper")
objectives = [load_objective("perplexity", space), Roughness(space)]
problem = Problem(space, objectives, [parse_constraint("params<=66M")])
result = Study(problem, ParetoSearch).run(budget)
print(result.to_frame(result.front().genotypes).to_string(index=False))
