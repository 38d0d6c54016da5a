"""A search space of your own, with a parameter count that bounds can be proven against.

python examples/custom_space.py [BUDGET]
"""

import sys

import numpy as np

from nastool import ChainCost, CostObjective, Gene, Problem, SearchSpace, Study, parse_constraint
from nastool.strategies.evolution import Evolution

CHANNELS = np.array([16, 32, 64, 128])


class Stages(SearchSpace):
    """Six stages of 3x3 convolutions; every stage halves the image, of 64 x 64 at first."""

    name = "stages"
    genes = tuple(Gene(f"stage_{i}", tuple(CHANNELS.tolist()), ordered=True) for i in range(6))

    @property
    def costs(self):
        step = 9 * np.multiply.outer(CHANNELS, CHANNELS)
        areas = [4096 // 4**i for i in range(6)]
        # Negated: the more activations, the better the network, or so this example says.
        signal = tuple(np.broadcast_to(-area * CHANNELS, (4, 4)) for area in areas[1:])
        return {
            "params": ChainCost("params", 27 * CHANNELS, (step,) * 5),
            "signal": ChainCost("signal", -areas[0] * CHANNELS, signal),
        }


space = Stages()
objectives = [CostObjective(cost, space) for cost in space.costs.values()]
problem = Problem(space, objectives, [parse_constraint("params<=100k")])  # or InfeasibleError
result = Study(problem, Evolution).run(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
print(result.to_frame(result.front().genotypes).to_string(index=False))
