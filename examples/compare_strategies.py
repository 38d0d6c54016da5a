"""Which strategy is better? Several seeds, medians with intervals, and a significance test.

python examples/compare_strategies.py [BUDGET [SEEDS]]
"""

import sys

from nastool import Problem, load_objective, load_space, parse_constraint
from nastool.comparison import compare
from nastool.strategies.evolution import Evolution
from nastool.strategies.pareto import ParetoSearch
from nastool.strategies.random import RandomSearch

budget, seeds = (list(map(int, sys.argv[1:])) + [5_000, 10][len(sys.argv) - 1 :])[:2]

space = load_space("supershaper")
objectives = [load_objective(name, space) for name in ("perplexity", "params")]
strategies = {"random": RandomSearch, "evolution": Evolution, "pareto": ParetoSearch}
bounds = [parse_constraint(f"params<={millions}M") for millions in (45, 66, 90)]

comparison = compare(Problem(space, objectives), strategies, range(seeds), budget, bounds=bounds)

for indicator in comparison.indicators:
    print(indicator.name)
    for row in comparison.summaries(indicator.name):
        print(f"  {row.strategy:10} {row.median:12.6g}   [{row.low:.6g}, {row.high:.6g}]")
for test in comparison.tests("hypervolume"):
    print(f"{test.first} and {test.second} differ with p = {test.corrected:.2g}")
