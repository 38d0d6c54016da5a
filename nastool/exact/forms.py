"""From objectives, predictors and problems to what the exact search understands."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nastool.constraint import Constraint
from nastool.errors import InvalidInputError
from nastool.exact.boxes import BoxSum, add, from_tables, from_trees
from nastool.exact.chains import IntegerChain, integer_chain
from nastool.exact.task import Bound
from nastool.objective import Objective
from nastool.predictors.base import Predictor
from nastool.predictors.boosted_trees import BoostedTrees
from nastool.predictors.ensemble import Ensemble
from nastool.predictors.linear import Additive
from nastool.problem import CostObjective, Problem
from nastool.space import Genotypes

Predict = Callable[[Genotypes], NDArray[np.float64]]

_CHECKS = 200
_AGREEMENT = 1e-9


@runtime_checkable
class HasBoxes(Protocol):
    """An objective that the exact search can take apart."""

    def boxes(self) -> BoxSum:
        """The objective, in its natural sign, as a sum of box functions of genotypes."""


@dataclass(frozen=True)
class Form:
    """A problem in the terms of the exact search.

    Args:
        function: What is minimised, with its sign turned where the objective is maximised.
        sign: -1 where it was turned.
        column: Which objective of the problem it is.
        bounds: Chain costs and their limits; the second objective first.
        is_front: Whether there are two objectives.
        dropped: Constraints that are not chain costs and were left out: with them the problem is
            harder, so what is proven without them is a bound.
    """

    function: BoxSum | IntegerChain
    sign: int
    column: int
    bounds: tuple[Bound, ...]
    is_front: bool
    dropped: tuple[Constraint, ...]


def make_form(problem: Problem, *, relax: bool = False) -> Form:
    """Express a problem.

    Args:
        problem: One objective, or two of which one is a chain cost.
        relax: Leave out constraints that are not on chain costs, for a bound instead of a proof.

    Raises:
        InvalidInputError: Something that cannot be certified; the message says what.
    """
    objectives = problem.objectives
    costs = [i for i, o in enumerate(objectives) if isinstance(o, CostObjective)]
    if len(objectives) > 2 or (len(objectives) == 2 and not costs):
        names = " and ".join(o.name for o in objectives)
        raise InvalidInputError(
            "exact search certifies one objective, or the front of one against an exact cost "
            f"({', '.join(problem.space.costs) or 'this space has none'}); got {names}: searched "
            "alone, each has a certified optimum, which bounds their front"
        )
    column = next((i for i in range(len(objectives)) if i not in costs[-1:]), 0)
    if len(objectives) == 1:
        column = 0
    objective = objectives[column]
    limits: dict[str, list[float]] = {}
    axis = next((o for i, o in enumerate(objectives) if i != column), None)
    if axis is not None:
        limits[axis.name] = [-math.inf, math.inf]
    dropped = []
    for constraint in problem.constraints:
        if not isinstance(problem.metric(constraint.metric), CostObjective):
            dropped.append(constraint)
            continue
        limit = limits.setdefault(constraint.metric, [-math.inf, math.inf])
        if constraint.sense == "<=":
            limit[1] = min(limit[1], constraint.bound)
        else:
            limit[0] = max(limit[0], constraint.bound)
    if dropped and not relax:
        raise InvalidInputError(
            "exact search certifies bounds on exact costs "
            f"({', '.join(problem.space.costs) or 'this space has none'}), got "
            f"{', '.join(map(str, dropped))}"
        )
    bounds = tuple(
        Bound(_chain(problem.metric(name)), lower, upper) for name, (lower, upper) in limits.items()
    )
    sign = objective.direction.sign
    function: BoxSum | IntegerChain
    if isinstance(objective, CostObjective):
        function = integer_chain(objective.cost)
    else:
        boxes = objective_boxes(objective)
        function = boxes if sign == 1 else -boxes
    return Form(function, sign, column, bounds, axis is not None, tuple(dropped))


def objective_boxes(objective: Objective) -> BoxSum:
    """Take an objective apart.

    Raises:
        InvalidInputError: It does not say how.
    """
    if not isinstance(objective, HasBoxes):
        raise InvalidInputError(
            "exact search needs an objective predicted by trees or by a sum of terms in pairs of "
            f"genes, got {objective.name} ({objective.provenance})"
        )
    return objective.boxes()


def predictor_boxes(
    predictor: Predictor, choices: Sequence[NDArray[np.float64]], predict: Predict
) -> BoxSum:
    """Take a predictor apart.

    Args:
        predictor: Fitted.
        choices: For each gene what its choices look like to the predictor.
        predict: The predictor's mean as a function of genotypes; used where it is known to be a
            sum of terms in pairs of genes.

    Raises:
        InvalidInputError: Another kind of predictor, or trees that test more than genes.
    """
    if isinstance(predictor, BoostedTrees):
        return from_trees(predictor.ensemble, choices)
    if isinstance(predictor, Additive):
        return pairwise_boxes(predict, [len(c) for c in choices])
    if isinstance(predictor, Ensemble):
        parts = []
        for weight, member in zip(predictor.weights.tolist(), predictor.members, strict=True):
            if weight:
                own = _member_predict(member, choices)
                parts.append((weight, predictor_boxes(member, choices, own)))
        return add(parts)
    raise InvalidInputError(
        "exact search understands XGBoost, linear and pairwise-additive predictors and ensembles "
        f"of them, got {predictor.label}"
    )


def _member_predict(member: Predictor, choices: Sequence[NDArray[np.float64]]) -> Predict:
    def predict(genotypes: Genotypes) -> NDArray[np.float64]:
        columns = [values[genotypes[:, i]] for i, values in enumerate(choices)]
        return member.predict(np.stack(columns, axis=1)).mean

    return predict


def pairwise_boxes(predict: Predict, sizes: Sequence[int]) -> BoxSum:
    """Take a sum of terms in pairs of genes apart by asking it.

    Args:
        predict: Such a function of genotypes (n, d).
        sizes: Number of choices of each gene.

    Raises:
        InvalidInputError: The function is no such sum.
    """
    d = len(sizes)

    def ask(genes: tuple[int, ...]) -> NDArray[np.float64]:
        """Values over some genes, the first choice elsewhere."""
        shape = tuple(sizes[gene] for gene in genes)
        rows = np.zeros((math.prod(shape), d), dtype=np.int64)
        for gene, choice in zip(genes, np.indices(shape), strict=True):
            rows[:, gene] = choice.ravel()
        return predict(rows).reshape(shape)

    origin = float(ask(()))
    single = [ask((gene,)) - origin for gene in range(d)]
    tables: list[tuple[tuple[int, ...], NDArray[np.float64]]] = [
        ((gene,), terms) for gene, terms in enumerate(single)
    ]
    for i, j in combinations(range(d), 2):
        terms = ask((i, j)) - origin - single[i][:, None] - single[j]
        scale = max(abs(origin), *(float(np.abs(s).max()) for s in single))
        if np.abs(terms).max() > 1e-13 * scale:
            tables.append(((i, j), terms))
    function = from_tables(sizes, tables, origin)
    drawn = np.random.default_rng(0).integers(0, sizes, size=(_CHECKS, d))
    expected = predict(drawn)
    if not np.allclose(
        function.to_float(function.evaluate(drawn)), expected, rtol=_AGREEMENT, atol=0
    ):
        raise InvalidInputError("the function must be a sum of terms in pairs of genes")
    return function


def _chain(metric: Objective) -> IntegerChain:
    if not isinstance(metric, CostObjective):
        raise InvalidInputError(f"{metric.name} must be an exact cost")
    return integer_chain(metric.cost)
