"""From objectives, predictors and problems to what the exact search understands."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nastool.constraint import Constraint, limits
from nastool.errors import InfeasibleError, InvalidInputError
from nastool.exact.boxes import BoxSum, add, from_tables, from_trees, restrict
from nastool.exact.chains import IntegerChain, integer_chain
from nastool.exact.dynamic import chain_boxes, is_programmable
from nastool.exact.separable import SeparableTask, Sum
from nastool.exact.task import LARGEST, Bound, ChainTask, JointTask, Task
from nastool.objective import Objective
from nastool.predictors.base import Predictor
from nastool.predictors.boosted_trees import BoostedTrees
from nastool.predictors.ensemble import Ensemble
from nastool.predictors.linear import Additive
from nastool.predictors.separable import Separable
from nastool.problem import CostObjective, Problem
from nastool.space import (
    Branching,
    ChainCost,
    ConditionalCost,
    Genotypes,
    SearchSpace,
    budget,
)

Predict = Callable[[Genotypes], NDArray[np.float64]]
Features = Callable[[Genotypes], NDArray[np.float64]]
Evaluate = Callable[[Genotypes], NDArray[Any]]

_CHECKS = 200
_AGREEMENT = 1e-9


@runtime_checkable
class HasBoxes(Protocol):
    """An objective that the exact search can take apart."""

    def boxes(self) -> BoxSum:
        """The objective, in its natural sign, as a sum of box functions of genotypes."""


@runtime_checkable
class HasTerms(Protocol):
    """An objective that may add up gene by gene."""

    def separable(self) -> Separable | None:
        """The objective, in its natural sign, as a sum of terms in single genes, if it is one."""


@dataclass(frozen=True)
class Form:
    """A problem in the terms of the exact search.

    Args:
        task: What is to be found, with objectives turned where they are maximised.
        sign: -1 where the objective that the certificate speaks of was turned.
        dropped: Constraints that could not be taken apart and were left out: with them the
            problem is harder, so what is proven without them is a bound.
    """

    task: Task | JointTask | ChainTask | SeparableTask
    sign: int
    dropped: tuple[Constraint, ...]


def make_form(problem: Problem, *, relax: bool = False, branch: int | None = None) -> Form:
    """Express a problem.

    Args:
        problem: One objective, two or three.
        relax: Leave out constraints that cannot be taken apart, for a bound instead of a proof.
        branch: Of a space that has branches, the one that is searched.

    Raises:
        InvalidInputError: Something that cannot be certified; the message says what.
    """
    objectives = problem.objectives
    if len(objectives) > 3:
        names = ", ".join(o.name for o in objectives)
        raise InvalidInputError(
            f"exact search certifies one objective or the front of two or three, got {names}: any "
            "three of them have a certified front, whose points are part of the front of all"
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
    for constraint in kept:
        _check_limit(problem, constraint)
    # The last cost is the axis of a front, whatever the order.
    ordered = sorted(objectives, key=lambda o: isinstance(o, CostObjective))
    if len(ordered) > 2:
        # Bounds against a cost are the best.
        ordered = [ordered[0], ordered[2], ordered[1]]
    part = _Part(problem, branch)
    return Form(_task(part, ordered, kept), ordered[0].direction.sign, dropped)


@dataclass(frozen=True)
class _Part:
    """A problem on its whole space, or on one branch of it.

    Args:
        problem: The problem.
        branch: Number of the branch; None for the whole space.
    """

    problem: Problem
    branch: int | None

    def metric(self, name: str) -> Objective:
        return self.problem.metric(name)

    @property
    def sizes(self) -> list[int]:
        """Number of choices of each gene that is free."""
        sizes: list[int] = self.problem.space.cardinalities.tolist()
        if self._branching is not None and self.branch is not None:
            return [sizes[gene] for gene in self._branching.free[self.branch]] or [1]
        return sizes

    @property
    def _branching(self) -> Branching | None:
        return self.problem.space.branching

    def chain(self, metric: CostObjective) -> IntegerChain:
        """A cost as a chain over the free genes."""
        cost = metric.cost
        if isinstance(cost, ConditionalCost):
            cost = cost.chains[self.branch or 0]
        return integer_chain(cost)

    def separable(self, metric: Objective) -> Separable | None:
        """A metric as a sum of terms in the free genes; None where it is none."""
        if isinstance(metric, CostObjective):
            cost = metric.cost
            if isinstance(cost, ConditionalCost):
                cost = cost.chains[self.branch or 0]
            return separable_cost(cost)
        function = objective_terms(metric)
        if function is None:
            return None
        if self._branching is not None and self.branch is not None:
            of = self._branching.branches[self.branch]
            return function.restrict({**of.chosen, **dict.fromkeys(of.idle, 0)})
        if self.problem.space.has_own_forms:
            _check_forms(self.problem.space, metric, function.predict)
        return function

    def boxes(self, metric: Objective, sign: float) -> BoxSum:
        """A metric as a sum of boxes of the free genes, turned round where the sign is negative."""
        if isinstance(metric, CostObjective):
            boxes = chain_boxes(self.chain(metric))
        else:
            boxes = objective_boxes(metric)
            if self._branching is not None and self.branch is not None:
                of = self._branching.branches[self.branch]
                boxes = restrict(boxes, {**of.chosen, **dict.fromkeys(of.idle, 0)})
            elif self.problem.space.has_own_forms:
                _check_forms(self.problem.space, metric, boxes.evaluate)
        return -boxes if sign < 0 else boxes


def _check_forms(space: SearchSpace, metric: Objective, evaluate: Evaluate) -> None:
    """Refuse a function that equivalent genotypes have different values of."""
    drawn = space.draw(_CHECKS, np.random.default_rng(0))
    if not np.array_equal(evaluate(drawn), evaluate(space.canonicalize(drawn))):
        raise InvalidInputError(
            f"exact search needs {space.name} to declare its branches: {metric.name} is that of "
            "canonical forms, which only `canonicalize` knows"
        )


def _task(
    part: _Part, ordered: Sequence[Objective], kept: Sequence[Constraint]
) -> Task | JointTask | ChainTask | SeparableTask:
    first, is_front, sign = ordered[0], len(ordered) == 2, ordered[0].direction.sign
    if len(ordered) > 2:
        return _joint_task(part, ordered, kept)
    metrics = [*ordered[1:], *(part.metric(c.metric) for c in kept)]
    separable = _separable_task(part, ordered, kept)
    if separable is not None:
        return separable
    if not all(isinstance(metric, CostObjective) for metric in metrics):
        return _joint_task(part, ordered, kept)
    bounds = _bounds(part, [o.name for o in ordered[1:]], kept)
    if isinstance(first, CostObjective) and is_programmable(bounds):
        return ChainTask(part.chain(first), bounds, is_front)
    return Task(part.boxes(first, sign), bounds, is_front)


def _separable_task(
    part: _Part, ordered: Sequence[Objective], kept: Sequence[Constraint]
) -> SeparableTask | None:
    """The task where everything adds up gene by gene; None where something does not.

    Where everything is an exact cost, too, the searches of chains are as good on spaces that they
    can number.
    """
    names = list(dict.fromkeys([*(o.name for o in ordered), *(c.metric for c in kept)]))
    metrics = [part.metric(name) for name in names]
    if all(isinstance(m, CostObjective) for m in metrics) and (
        math.prod(part.sizes) < LARGEST or len(metrics) == 1
    ):
        return None
    sums = []
    for name, metric in zip(names, metrics, strict=True):
        function = part.separable(metric)
        if function is None:
            return None
        is_objective = name in (o.name for o in ordered)
        sign = int(metric.direction.sign) if is_objective else 1
        lower, upper = limits(kept, name)
        sums.append(Sum(function, sign, lower, upper))
    return SeparableTask(sums[0], tuple(sums[1:]), len(ordered) == 2)


def separable_cost(cost: ChainCost) -> Separable | None:
    """A chain as a sum of terms in single genes; None where it is none."""
    terms = [np.asarray(cost.first, dtype=np.float64).copy()]
    for step in cost.steps:
        table = np.asarray(step, dtype=np.float64)
        ahead, own = table[:, 0] - table[0, 0], table[0]
        if np.abs(table - ahead[:, None] - own).max() > cost.tolerance:
            return None
        terms[-1] = terms[-1] + ahead
        terms.append(own)
    return Separable(tuple(terms))


def _certifiable(problem: Problem) -> tuple[list[Constraint], tuple[Constraint, ...]]:
    """Constraints on what can be taken apart, and the others."""
    opaque = {c: _why_opaque(problem.metric(c.metric)) for c in problem.constraints}
    return (
        [c for c, why in opaque.items() if why is None],
        tuple(c for c, why in opaque.items() if why is not None),
    )


def _check_limit(problem: Problem, constraint: Constraint) -> None:
    """Refuse a bound that rounding of a space's own costs decides.

    Raises:
        InvalidInputError: Some architecture costs as much as the bound, but for rounding.
    """
    metric = problem.metric(constraint.metric)
    if not isinstance(metric, CostObjective):
        return
    cost = metric.cost
    chains = cost.chains if isinstance(cost, ConditionalCost) else (cost,)
    quanta = [(chain, integer_chain(chain).quantum) for chain in chains]
    slack = max((len(c.terms) * q for c, q in quanta if q != c.quantum), default=0.0)
    if not slack:
        return
    try:
        near = budget(cost, constraint.bound + slack, constraint.bound - slack)
        near.sample(1, np.random.default_rng(0))
    except InfeasibleError:
        return
    raise InvalidInputError(
        f"{constraint}: some architecture of {problem.space.name} costs as much but for rounding, "
        "and exact search, which rounds otherwise, cannot tell whether it is allowed: move the "
        f"bound by {2 * slack:.2g} or more, or give the space terms from nastool.space.summable"
    )


def _why_opaque(metric: Objective) -> InvalidInputError | None:
    """Why a metric cannot be taken apart; None if it can."""
    try:
        if not isinstance(metric, CostObjective) and objective_terms(metric) is None:
            objective_boxes(metric)
    except InvalidInputError as error:
        return error
    return None


def _bounds(
    part: _Part, axes: Sequence[str], constraints: Sequence[Constraint]
) -> tuple[Bound, ...]:
    """Limits of chain costs, the axis of a front first."""
    names = dict.fromkeys([*axes, *(c.metric for c in constraints)])
    metrics = {name: part.metric(name) for name in names}
    return tuple(
        Bound(part.chain(metric), *limits(constraints, name))
        for name, metric in metrics.items()
        if isinstance(metric, CostObjective)
    )


def _joint_task(
    part: _Part, objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> JointTask:
    """Objectives first, then what else is limited; a lower limit is an upper one turned round."""
    uppers = {(o.name, int(o.direction.sign)): math.inf for o in objectives}
    for constraint in constraints:
        sign = 1 if constraint.sense == "<=" else -1
        key = constraint.metric, sign
        uppers[key] = min(uppers.get(key, math.inf), sign * constraint.bound)
    functions = [part.boxes(part.metric(name), sign) for name, sign in uppers]
    if len(functions) == 1:
        # The objective keeps a limit of its own, and nothing else does.
        functions.append(from_tables(part.sizes, ()))
        uppers["", 1] = math.inf
    n = len(objectives)
    return JointTask(tuple(functions), tuple(uppers.values()), n > 1, n > 2)


def objective_terms(objective: Objective) -> Separable | None:
    """An objective as a sum of terms in single genes; None where it is none."""
    return objective.separable() if isinstance(objective, HasTerms) else None


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
    predictor: Predictor, choices: Sequence[NDArray[np.float64]], features: Features
) -> BoxSum:
    """Take a predictor apart.

    Args:
        predictor: Fitted.
        choices: For each gene what its choices look like to the predictor.
        features: What the predictor sees of genotypes; asked where it is known to be a sum of
            terms in pairs of genes.

    Raises:
        InvalidInputError: Another kind of predictor, or trees that test more than genes.
    """
    if isinstance(predictor, BoostedTrees):
        return from_trees(predictor.ensemble, choices)
    separable = predictor.separable(choices)
    if separable is not None:
        if separable.is_log:
            raise InvalidInputError(
                "exact search takes the logarithm of additive scores together with exact costs "
                "and other additive scores only"
            )
        tables = [((gene,), terms) for gene, terms in enumerate(separable.terms)]
        return from_tables([len(c) for c in choices], tables, separable.offset)
    if isinstance(predictor, Additive):
        return pairwise_boxes(
            lambda genotypes: predictor.mean(features(genotypes)), [len(c) for c in choices]
        )
    if isinstance(predictor, Ensemble):
        members = zip(predictor.weights.tolist(), predictor.members, strict=True)
        return add([(w, predictor_boxes(m, choices, features)) for w, m in members if w])
    raise InvalidInputError(
        "exact search understands XGBoost, additive, linear and pairwise predictors and ensembles "
        f"of them, got {predictor.label}"
    )


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
        raise InvalidInputError(
            "exact search takes apart sums of terms in pairs of genes, got a predictor that is "
            "none, as where a cost of more genes is among its features"
        )
    return function
