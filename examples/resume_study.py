"""A study in a store: stop it at any time, even with kill; it goes on as if it never stopped.

python examples/resume_study.py [BUDGET]
"""

import sys

from nastool import Problem, Store, Study, load_objective, load_space
from nastool.strategies.evolution import Evolution

budget = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
space = load_space("supershaper")
problem = Problem(space, [load_objective(name, space) for name in ("perplexity", "params")])

# Half of the budget now; the rest by another object, which could be another process tomorrow.
Study(problem, Evolution, "sqlite:///studies.db", "resumed", seed=1).run(budget // 2)
study = Study(problem, Evolution, "sqlite:///studies.db", "resumed", seed=1)
print(f"{len(study):,} evaluations were kept")
resumed = study.run(budget)

whole = Study(problem, Evolution, seed=1).run(budget)
print("as if never stopped:", (resumed.evaluations.genotypes == whole.evaluations.genotypes).all())

with Store("sqlite:///studies.db") as store:
    for summary in store.list_studies():
        print(f"{summary.name}: {summary.evaluations:,} evaluations, {summary.seconds:.1f} s")
