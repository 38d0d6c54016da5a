"""What a strategy remembers of the past, in a form that its state can carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.arrays import narrow
from nastool.evaluations import Evaluations
from nastool.problem import Problem
from nastool.space import Genotypes, SearchSpace
from nastool.strategies.descent import seeds

Draw = Callable[[Problem, int, np.random.Generator, int], Genotypes]
"""Finds so many genotypes, or so many at least, that satisfy the hard constraints."""

_ENUMERABLE = 2**18
"""Spaces up to this size are enumerated once drawing finds nothing new."""

_BROODS = 20
"""How often children that break a constraint or are known are bred again."""

_IDLE = 4
"""Rounds of breeding in which nothing new may come before uniform draws take over."""

_ROUNDS = 32
"""Rounds of drawing in which nothing new may come before a space counts as exhausted."""


def canonical(problem: Problem, evaluations: Evaluations) -> Evaluations:
    """The same evaluations with their genotypes validated and canonicalised."""
    genotypes = problem.space.canonicalize(problem.space.validate(evaluations.genotypes))
    if genotypes is evaluations.genotypes:
        return evaluations
    return Evaluations(genotypes, evaluations.objectives, evaluations.violations)


def pack(evaluations: Evaluations) -> dict[str, Any]:
    """Evaluations as part of a state."""
    return {
        "genotypes": narrow(evaluations.genotypes),
        "objectives": evaluations.objectives.copy(),
        "violations": evaluations.violations.copy(),
    }


def unpack(state: Mapping[str, Any]) -> Evaluations:
    """What `pack` turned into a state."""
    return Evaluations(
        np.array(state["genotypes"], dtype=np.int64),
        np.array(state["objectives"], dtype=np.float64),
        np.array(state["violations"], dtype=np.float64),
    )


def nothing(problem: Problem) -> Evaluations:
    """No evaluations, with the widths of a problem."""
    return Evaluations(
        np.empty((0, len(problem.space.genes)), dtype=np.int64),
        np.empty((0, len(problem.objectives))),
        np.empty((0, len(problem.constraints))),
    )


class Seen:
    """The set of genotypes that need not be proposed any more.

    Args:
        space: Gives every genotype its identity.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._keys: set[Any] = set()
        self._batches: list[NDArray[np.integer[Any]]] = []
        # Many are kept.
        self._narrow = np.min_scalar_type(int(space.cardinalities.max()) - 1)

    def __len__(self) -> int:
        return len(self._keys)

    def novel(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        """Which canonical genotypes (n, d) are neither seen nor earlier in the batch, (n,)."""
        mask = np.zeros(len(genotypes), dtype=bool)
        mask[self._new(self._space.keys(genotypes), set())] = True
        return mask

    def _new(self, keys: list[Any], taken: set[Any]) -> NDArray[np.int64]:
        """Where keys come first that are neither seen nor taken; all of them are taken then."""
        taken |= self._keys.intersection(keys)
        return _first(keys, taken)

    def known(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        """Which canonical genotypes (n, d) are seen, shape (n,)."""
        keys = self._space.keys(genotypes)
        return np.fromiter(map(self._keys.__contains__, keys), dtype=bool, count=len(keys))

    def add(self, genotypes: Genotypes) -> int:
        """Remember canonical genotypes (n, d); returns how many were new."""
        before = len(self._keys)
        self._keys.update(self._space.keys(genotypes))
        self._batches.append(genotypes.astype(self._narrow))
        return len(self._keys) - before

    def unlearned(self, evaluations: Evaluations, held: Evaluations) -> Evaluations:
        """Remember evaluations with canonical genotypes; what is left is to be learned from.

        What is told again, such as an evaluation that failed and was tried once more, counts
        unless it is held already.

        Args:
            evaluations: What is told.
            held: What the strategy still has of what it was told before.
        """
        if self.add(evaluations.genotypes) == len(evaluations):
            return evaluations
        known = Seen(self._space)
        known.add(held.genotypes)
        return evaluations.take(known.novel(evaluations.genotypes))

    @property
    def genotypes(self) -> Genotypes:
        """All that were seen, in the order of when first, shape (n, d)."""
        if not self._batches:
            return np.empty((0, len(self._space.genes)), dtype=np.int64)
        found = np.concatenate(self._batches).astype(np.int64)
        if len(found) > len(self._keys):
            found = found[_first(self._space.keys(found), set())]
            self._batches = [found.astype(self._narrow)]
        return found

    def state(self) -> NDArray[np.integer[Any]]:
        """Everything, as an array."""
        return narrow(self.genotypes)

    def restore(self, state: NDArray[np.integer[Any]]) -> None:
        """Replace the contents by what `state` returned."""
        self._keys = set()
        self._batches = []
        self.add(np.array(state, dtype=np.int64).reshape(-1, len(self._space.genes)))

    def sample_unseen(
        self, problem: Problem, n: int, rng: np.random.Generator, *, draw: Draw = seeds
    ) -> Genotypes:
        """Draw up to n distinct unseen genotypes, uniformly over the admissible ones.

        Args:
            problem: Knows the hard constraints.
            n: How many are wanted.
            rng: Source of the draws.
            draw: Finds admissible genotypes; by default, draws are led where few are.

        Returns:
            Shape (k, d) with k <= n; fewer than n only when (nearly) all have been seen, or when
            the hard constraints let too little through.

        Raises:
            InfeasibleError: Nothing is seen yet and no draw satisfies the hard constraints.
        """
        found = np.empty((0, len(problem.space.genes)), dtype=np.int64)
        idle = 0
        while len(found) < n and idle < _ROUNDS:
            wanted = n if idle == 0 else max(n, 256)
            # One to begin with is enough: what is near it can be bred.
            drawn = draw(problem, wanted, rng, 0 if len(self) or len(found) else 1)
            merged = np.concatenate([found, drawn])
            merged = merged[self.novel(merged)][:n]
            idle = 0 if len(merged) > len(found) else idle + 1
            found = merged
            if idle and problem.space.size <= _ENUMERABLE:
                return self._enumerate_unseen(problem, n, rng)
            if len(drawn) < wanted:
                break
        return found

    def breed_unseen(
        self,
        problem: Problem,
        breed: Callable[[int], Genotypes],
        n: int,
        rng: np.random.Generator,
        spare: int = 0,
    ) -> Genotypes:
        """Breed up to n distinct, unseen, admissible children, in bounded time.

        Args:
            problem: Knows the hard constraints.
            breed: Called with a number k, returns k children (k, d) in random order.
            n: How many are wanted.
            rng: Source of the uniform draws that fill up what breeding did not yield.
            spare: How many more are bred at first, for those that are of no use.

        Returns:
            Canonical genotypes of shape (k, d); k < n only where `sample_unseen` returns fewer.
        """
        parts: list[Genotypes] = []
        taken: set[Any] = set()
        found = bred = idle = 0
        for _ in range(_BROODS):
            # As many as the share that was of use so far suggests, within reason.
            wanted = (n - found) * (bred + n) // (found + n // 8 + 1) if bred else n + spare
            children = problem.space.canonicalize(breed(min(wanted, 4 * n)))
            bred += len(children)
            if problem.hard_constraints:
                children = children.take(problem.admissible(children).nonzero()[0], axis=0)
            new = self._new(self._space.keys(children), taken)
            idle = 0 if len(new) else idle + 1
            parts.append(children.take(new[: n - found], axis=0))
            found += len(parts[-1])
            if found >= n:
                return parts[0] if len(parts) == 1 else np.concatenate(parts)
            if idle == _IDLE:
                break
        merged = np.concatenate([*parts, self.sample_unseen(problem, n, rng)])
        return merged[self.novel(merged)][:n]

    def _enumerate_unseen(self, problem: Problem, n: int, rng: np.random.Generator) -> Genotypes:
        everything = problem.space.enumerate()
        everything = problem.space.canonicalize(everything[problem.admissible(everything)])
        unseen = everything[self.novel(everything)]
        return unseen[rng.permutation(len(unseen))[:n]]


def _first(keys: Sequence[Any], taken: set[Any]) -> NDArray[np.int64]:
    """Where keys come first that are not taken, ascending; they are taken then."""
    rows = []
    for row, key in enumerate(keys):
        if key not in taken:
            taken.add(key)
            rows.append(row)
    return np.array(rows, dtype=np.int64)
