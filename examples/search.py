"""Search the supershaper space: from nothing to a front, as a DataFrame and as a figure.

python examples/search.py [BUDGET]
"""

import sys

from nastool import Problem, Study, load_objective, load_space, parse_constraint
from nastool.plots.front import draw_front, front_data
from nastool.strategies.pareto import ParetoSearch

budget = int(sys.argv[1]) if len(sys.argv) > 1 else 30_000

space = load_space("supershaper")
objectives = [load_objective(name, space) for name in ("perplexity", "params")]
problem = Problem(space, objectives, [parse_constraint("params<=66M")])

result = Study(problem, ParetoSearch, seed=0).run(budget)

front = result.front()
print(result.to_frame(front.genotypes))
print("lowest perplexity:", space.format(result.best("perplexity").genotypes[0]))

figure = draw_front(front_data({"pareto": result}))
figure.write_html("front.html")
