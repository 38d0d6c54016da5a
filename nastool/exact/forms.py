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
from nastool.exact.dynamic import chain_boxes, is_programmable
from nastool.exact.task import Bound, ChainTask, JointTask, Task
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
        task: What is to be found, with objectives turned where they are maximised.
        sign: -1 where the objective that the certificate speaks of was turned.
        dropped: Constraints that could not be taken apart and were left out: with them the
            problem is harder, so what is proven without them is a bound.
    """

    task: Task | JointTask | ChainTask
    sign: int
    dropped: tuple[Constraint, ...]


def make_form(problem: Problem, *, relax: bool = False) -> Form:
    """Express a problem.

    Args:
        problem: One objective or two.
        relax: Leave out constraints that cannot be taken apart, for a bound instead of a proof.

    Raises:
        InvalidInputError: Something that cannot be certified; the message says what.
    """
    objectives = problem.objectives
    if len(objectives) > 2:
        names = ", ".join(o.name for o in objectives)
        raise InvalidInputError(
            f"exact search certifies one objective or the front of two, got {names}: any two of "
            "them have a certified front, whose points are part of the front of all"
        )
    kept, dropped = _certifiable(problem)
    if dropped and not relax:
        raise InvalidInputError(
            "exact search certifies bounds on exact costs "
            f"({', '.join(problem.space.costs) or 'this space has none'}) and on what is predicted "
            "by trees or by a sum of terms in pairs of genes, got "
            f"{', '.join(map(str, dropped))}"
        )
    opaque = next(filter(None, map(_why_opaque, objectives)), None)
    if opaque is not None:
        rest = ", ".join(o.name for o in objectives if _why_opaque(o) is None)
        raise InvalidInputError(
            str(opaque) + (f"; {rest} alone has a certified optimum, a bound" if rest else "")
        )
    # The last cost is the axis of a front, whatever the order.
    ordered = sorted(objectives, key=lambda o: isinstance(o, CostObjective))
    first, is_front, sign = ordered[0], len(ordered) == 2, ordered[0].direction.sign
    metrics = [*ordered[1:], *(problem.metric(c.metric) for c in kept)]
    if not all(isinstance(metric, CostObjective) for metric in metrics):
        return Form(_joint_task(problem, ordered, kept), sign, dropped)
    bounds = _bounds(problem, [o.name for o in ordered[1:]], kept)
    if isinstance(first, CostObjective):
        chain = integer_chain(first.cost)
        if is_programmable(bounds):
            return Form(ChainTask(chain, bounds, is_front), sign, dropped)
        return Form(Task(chain_boxes(chain), bounds, is_front), sign, dropped)
    return Form(Task(_signed_boxes(first, sign), bounds, is_front), sign, dropped)


def _certifiable(problem: Problem) -> tuple[list[Constraint], tuple[Constraint, ...]]:
    """Constraints on what can be taken apart, and the others."""
    opaque = {c: _why_opaque(problem.metric(c.metric)) for c in problem.constraints}
    return (
        [c for c, why in opaque.items() if why is None],
        tuple(c for c, why in opaque.items() if why is not None),
    )


def _why_opaque(metric: Objective) -> InvalidInputError | None:
    """Why a metric cannot be taken apart; None if it can."""
    try:
        if not isinstance(metric, CostObjective):
            objective_boxes(metric)
    except InvalidInputError as error:
        return error
    return None


def _bounds(
    problem: Problem, axes: Sequence[str], constraints: Sequence[Constraint]
) -> tuple[Bound, ...]:
    """Limits of chain costs, the axis of a front first."""
    limits = {name: [-math.inf, math.inf] for name in axes}
    for constraint in constraints:
        limit = limits.setdefault(constraint.metric, [-math.inf, math.inf])
        if constraint.sense == "<=":
            limit[1] = min(limit[1], constraint.bound)
        else:
            limit[0] = max(limit[0], constraint.bound)
    return tuple(
        Bound(_chain(problem.metric(name)), lower, upper) for name, (lower, upper) in limits.items()
    )


def _joint_task(
    problem: Problem, objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> JointTask:
    """Objectives first, then what else is limited; a lower limit is an upper one turned round."""
    limits = {(o.name, int(o.direction.sign)): math.inf for o in objectives}
    for constraint in constraints:
        sign = 1 if constraint.sense == "<=" else -1
        key = constraint.metric, sign
        limits[key] = min(limits.get(key, math.inf), sign * constraint.bound)
    functions = [_signed_boxes(problem.metric(name), sign) for name, sign in limits]
    if len(functions) == 1:
        # The objective keeps a limit of its own, and nothing else does.
        functions.append(from_tables(problem.space.cardinalities, ()))
        limits["", 1] = math.inf
    return JointTask(tuple(functions), tuple(limits.values()), len(objectives) == 2)


def _signed_boxes(metric: Objective, sign: float) -> BoxSum:
    """A metric as a sum of boxes, turned round where the sign is negative."""
    boxes = (
        chain_boxes(integer_chain(metric.cost))
        if isinstance(metric, CostObjective)
        else objective_boxes(metric)
    )
    return -boxes if sign < 0 else boxes


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
