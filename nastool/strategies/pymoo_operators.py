"""pymoo's view of a search space: integer variation of ordered and unordered genes.

Imported only by `nastool.strategies.nsga2`, once pymoo is known to be there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.duplicate import DefaultDuplicateElimination
from pymoo.core.population import Population
from pymoo.core.problem import Problem as PymooProblem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair

from nastool.problem import Problem
from nastool.strategies.history import Seen


def make_problem(problem: Problem) -> PymooProblem:
    """The box of integers that pymoo varies in; evaluation happens elsewhere."""
    return PymooProblem(
        n_var=len(problem.space.genes),
        n_obj=len(problem.objectives),
        xl=0,
        xu=problem.space.cardinalities - 1,
        vtype=int,
    )


def make_operators(problem: Problem, failed: Seen) -> dict[str, Any]:
    """Take pymoo's stock operators for integers, and sensible ones for genes without an order.

    Args:
        problem: Knows the genes and the hard constraints.
        failed: What is not to be bred again.
    """
    unordered = np.flatnonzero([not gene.ordered for gene in problem.space.genes])
    settings = {"prob": 1.0, "eta": 3.0, "vtype": float, "repair": RoundingRepair()}
    return {
        "crossover": _Crossover(unordered, **settings) if len(unordered) else SBX(**settings),
        "mutation": _Mutation(unordered, **settings) if len(unordered) else PM(**settings),
        "eliminate_duplicates": _Filter(problem, failed),
    }


class _Crossover(SBX):  # type: ignore[misc]  # pymoo has no types
    """Simulated binary crossover, uniform crossover where indices have no order."""

    def __init__(self, unordered: NDArray[np.int64], **settings: Any) -> None:
        super().__init__(**settings)
        self._unordered = unordered

    def _do(self, problem: Any, X: Any, *args: Any, random_state: Any = None, **kw: Any) -> Any:  # noqa: N803 - pymoo's name
        children = super()._do(problem, X, *args, random_state=random_state, **kw)
        parents = X[:, :, self._unordered]
        swap = random_state.random(parents.shape[1:]) < 0.5
        children[:, :, self._unordered] = np.where(swap, parents[::-1], parents)
        return children


class _Mutation(PM):  # type: ignore[misc]  # pymoo has no types
    """Polynomial mutation, uniform resampling where indices have no order."""

    def __init__(self, unordered: NDArray[np.int64], **settings: Any) -> None:
        super().__init__(**settings)
        self._unordered = unordered

    def _do(self, problem: Any, X: Any, *args: Any, random_state: Any = None, **kw: Any) -> Any:  # noqa: N803 - pymoo's name
        mutants = super()._do(problem, X, *args, random_state=random_state, **kw)
        parents = X[:, self._unordered]
        mutate = random_state.random(parents.shape) < min(0.5, 1 / problem.n_var)
        drawn = random_state.integers(0, problem.xu[self._unordered] + 1, size=parents.shape)
        mutants[:, self._unordered] = np.where(mutate, drawn, parents)
        return mutants


class _Filter(DefaultDuplicateElimination):  # type: ignore[misc]  # pymoo has no types
    """Drops duplicates, and with them what is forbidden or has failed: pymoo breeds again."""

    def __init__(self, problem: Problem, failed: Seen) -> None:
        super().__init__()
        self._problem = problem
        self._failed = failed
        overridden = problem.space.has_own_forms or problem.space.branching is not None
        self._needed = overridden or len(problem.hard_constraints) > 0

    def do(self, pop: Population, *args: Any, **kwargs: Any) -> Population:
        if (self._needed or len(self._failed)) and len(pop):
            genotypes = self._problem.space.canonicalize(pop.get("X").astype(np.int64))
            pop.set("X", genotypes)
            known = self._failed.known(genotypes)
            pop = pop[self._problem.admissible(genotypes) & ~known]
        return super().do(pop, *args, **kwargs)
