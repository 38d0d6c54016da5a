"""NSGA-II and more of pymoo's evolutionary algorithms, behind ask and tell."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from nastool.errors import InvalidInputError, MissingDependencyError, nearest
from nastool.evaluations import Evaluations
from nastool.problem import Problem
from nastool.space import Genotypes
from nastool.strategies.base import State, Strategy, check_size
from nastool.strategies.history import Seen, canonical, nothing, pack, unpack

ALGORITHMS = {
    "nsga2": "pymoo.algorithms.moo.nsga2:NSGA2",
    "age-moea": "pymoo.algorithms.moo.age:AGEMOEA",
    "age-moea2": "pymoo.algorithms.moo.age2:AGEMOEA2",
    "ga": "pymoo.algorithms.soo.nonconvex.ga:GA",
    "sms-emoa": "pymoo.algorithms.moo.sms:SMSEMOA",
}
"""Those whose whole memory is their population, so that their state can be written down."""

_MATINGS = 20
_SINGLE = ("ga", "nsga2")
_WORST = 1e30
"""Violation of a failed evaluation: pymoo adds violations up, so it must be finite."""


class Pymoo(Strategy):
    """NSGA-II (Deb et al., 2002), or by name another of pymoo's evolutionary algorithms.

    Ordered genes are varied by simulated binary crossover and polynomial mutation, rounded;
    others by uniform crossover and resampling. Children that break a hard constraint are bred
    again; other constraints are honoured in the survival. A generation ends when all of it has
    been asked for: what is told by then takes part in the survival.

    Args:
        problem: What to optimise.
        seed: Fixes every draw, pymoo's included.
        argument: Name of the algorithm, a key of `ALGORITHMS`.
        population_size: Members of the population and children of a generation.

    Raises:
        InvalidInputError: An unknown algorithm, or one for another number of objectives.
        MissingDependencyError: pymoo is not installed.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int = 0,
        *,
        argument: str = "nsga2",
        population_size: int = 100,
    ) -> None:
        super().__init__(problem, seed)
        if argument not in ALGORITHMS:
            raise InvalidInputError(
                f"unknown pymoo algorithm {argument!r}; {nearest(argument, ALGORITHMS)}"
            )
        several = len(problem.objectives) > 1
        if argument == "ga" and several:
            raise InvalidInputError(
                f"pymoo's ga takes one objective, got {len(problem.objectives)}"
            )
        if argument not in _SINGLE and not several:
            raise InvalidInputError(f"pymoo's {argument} takes several objectives, got one")
        check_size("population_size", population_size, 2)
        self._population_size = population_size
        self._seen = Seen(problem.space)
        self._failed = Seen(problem.space)
        self._algorithm = self._make(argument)
        self._queue = problem.space.sample(0, self.rng)
        self._bred: tuple[Any, Genotypes] | None = None
        self._told = nothing(problem)

    def _make(self, name: str) -> Any:
        try:
            from pymoo.core.termination import NoTermination

            from nastool.strategies.pymoo_operators import make_operators, make_problem

            module, _, attribute = ALGORITHMS[name].partition(":")
            kind = getattr(import_module(module), attribute)
        except ImportError as error:
            raise MissingDependencyError(
                f"pymoo is needed for this strategy: pip install 'nastool[strategies]' ({error})"
            ) from error
        operators = make_operators(self.problem, self._failed)
        algorithm = kind(pop_size=self._population_size, **operators)
        algorithm.setup(make_problem(self.problem), termination=NoTermination())
        # Where nearly all of a space is in the population, a hundred rounds of mating find nothing.
        algorithm.mating.n_max_iterations = _MATINGS
        algorithm.random_state = self.rng  # one generator, so that one state tells all
        algorithm._set_optimum = _no_optimum  # noqa: SLF001 - found every generation, never used
        return algorithm

    @property
    def batch_size(self) -> int:
        return self._population_size

    def ask(self, n: int) -> Genotypes:
        if len(self._queue) == 0:
            self._queue = self._next_generation()
        batch, self._queue = self._queue[:n], self._queue[n:]
        return batch

    def _next_generation(self) -> Genotypes:
        algorithm, size = self._algorithm, self._population_size
        initial = not algorithm.is_initialized
        if initial and len(self._seen) < size:
            drawn = self._seen.sample_unseen(self.problem, size - len(self._seen), self.rng)
            if len(drawn):
                return drawn
        if len(self._told):
            algorithm.advance(infills=self._population_of(self._told))
            self._told = nothing(self.problem)
        if not algorithm.is_initialized:
            return self._seen.sample_unseen(self.problem, size, self.rng)
        children = algorithm.infill()
        if children is None or len(children) == 0:
            return self._seen.sample_unseen(self.problem, size, self.rng)
        bred: Genotypes = children.get("X").astype(np.int64)
        self._bred = children, bred
        return bred

    def _population_of(self, evaluations: Evaluations) -> Any:
        from pymoo.core.population import Population

        if self._bred and np.array_equal(self._bred[1], evaluations.genotypes):
            members = self._bred[0]
        else:
            members = Population.new(X=evaluations.genotypes)
        violation = np.minimum(evaluations.total_violation, _WORST)
        # Infeasible members are compared by violation alone; NaN would poison the others.
        failed = np.isnan(evaluations.objectives).any(axis=1, keepdims=True)
        objectives = np.where(failed, 0.0, evaluations.objectives)
        # Not with `set`, which first computes the violation that it is to overwrite.
        for member, values, amount in zip(members, objectives, violation, strict=True):
            member.F, member.CV = values.copy(), np.array([amount])
        if violation.any():
            self._mind_violations()
        return members

    def _mind_violations(self) -> None:
        """From here on survival tells feasible members from others, which takes it a while."""
        self._algorithm.problem.n_ieq_constr = 1

    def tell(self, evaluations: Evaluations) -> None:
        told = canonical(self.problem, evaluations)
        self._seen.add(told.genotypes)
        failed = np.isinf(told.total_violation)
        if failed.any():
            self._failed.add(told.genotypes[failed])
        self._told = Evaluations.concatenate([self._told, told])

    def state_dict(self) -> State:
        algorithm = self._algorithm
        members = algorithm.pop if algorithm.is_initialized else []
        names = sorted({name for member in members for name in member.data})
        return {
            **super().state_dict(),
            "seen": self._seen.state(),
            **({"failed": self._failed.state()} if len(self._failed) else {}),
            "queue": self._queue.copy(),
            "told": pack(self._told),
            "generation": algorithm.n_iter,
            "members": {
                name: np.array([getattr(member, name) for member in members])
                for name in ("X", "F", "CV")
            },
            # What survival found out: rank, crowding and the like; NaN where it did not.
            "marks": {
                name: np.array(
                    [np.nan if (m := member.get(name)) is None else m for member in members],
                    dtype=np.float64,
                )
                for name in names
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        from pymoo.core.population import Population

        super().load_state_dict(state)
        self._seen.restore(state["seen"])
        self._failed.restore(state.get("failed", self._seen.state()[:0]))
        self._queue = np.array(state["queue"], dtype=np.int64)
        self._told = unpack(state["told"])
        self._bred = None
        algorithm = self._algorithm
        algorithm.n_iter = state["generation"]
        algorithm.is_initialized = len(state["members"]["X"]) > 0
        if not algorithm.is_initialized:
            algorithm.pop = None
            return
        algorithm.pop = Population.new(
            **{name: np.array(values) for name, values in state["members"].items()}
        )
        if np.any(state["members"]["CV"]):
            self._mind_violations()
        for name, values in state["marks"].items():
            for member, value in zip(algorithm.pop, values, strict=True):
                if not np.isnan(value):
                    member.set(name, float(value))


def _no_optimum(**_: Any) -> None:
    """Stand in for pymoo's search for the best of the population."""
