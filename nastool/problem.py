"""A problem: a space, what to optimise and what is allowed."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.choices import as_array, listed
from nastool.constraint import Constraint, format_quantity, in_base, limits, violations
from nastool.errors import InfeasibleError, InvalidInputError, NastoolError, naming, nearest
from nastool.evaluations import Evaluations
from nastool.objective import (
    NO_NUMBER,
    Evaluated,
    Kind,
    Objective,
    Provenance,
    check_objective,
    evaluate,
)
from nastool.space import (
    ConditionalCost,
    Cost,
    CostBudget,
    Genotypes,
    SearchSpace,
    budget,
    check_cost,
    check_space,
)

_COLUMNS = ("shape", "feasible", "failed", "strategy", "seed", "order", "name")
"""Columns of every table beside the metrics."""

_FEW = 32
"""Draws looked at first; twice as many each time after."""

_DRAWS = 2_000
"""Rounds of drawing after which a feasible set that rejects everything counts as not found."""

_CAPACITY = 2**17
"""Shapes after which the older half is forgotten: some tens of megabytes."""

_HOPELESS = 64
"""Shapes of which one at least must not fail."""

_UNKNOWN = object()

Evaluator = Callable[[Objective, Genotypes], NDArray[np.float64]]


class CostObjective(Objective):
    """An exact cost of a space as an objective.

    Args:
        cost: The cost.
        space: The space it belongs to.

    Raises:
        InvalidInputError: The space has branches, and the cost has not got theirs.
    """

    def __init__(self, cost: Cost, space: SearchSpace) -> None:
        own = tuple(cost.branches) if isinstance(cost, ConditionalCost) else ()
        if own != tuple(space.branches):
            raise InvalidInputError(
                f"cost {cost.name!r} of {space.name} must have a chain for each branch of the space"
            )
        self.cost = cost
        self._space = space

    @property
    def name(self) -> str:
        return self.cost.name

    @property
    def unit(self) -> str:
        return self.cost.unit

    @property
    def provenance(self) -> Provenance:
        return Provenance(Kind.COMPUTED, "closed form")

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.name} {self._space.fingerprint}".encode())
        for terms in self.cost.terms:
            digest.update(np.ascontiguousarray(terms).tobytes())
        return digest.hexdigest()[:16]

    def chain(self) -> Cost:
        return self.cost

    def evaluate(self, genotypes: Genotypes) -> NDArray[np.float64]:
        return self.cost.evaluate(genotypes)


class Memory:
    """Values of a metric by genotype, as many as fit.

    Args:
        metric: What is computed.
    """

    def __init__(self, metric: Objective) -> None:
        self.metric = metric
        self._recent: dict[Any, float] = {}
        self._older: dict[Any, float] = {}
        self._messages: dict[Any, str] = {}
        self._works = False

    def __reduce__(self) -> tuple[type[Memory], tuple[Objective]]:
        # A copy in another process computes for itself.
        return Memory, (self.metric,)

    def evaluate(self, genotypes: Genotypes, keys: Sequence[Any], space: SearchSpace) -> Evaluated:
        """Look up what is known and compute the rest.

        Args:
            genotypes: Canonical, shape (n, d).
            keys: Their identities, length n.
            space: Theirs.

        Raises:
            NastoolError: The metric raised one, or failed for each of many shapes.
        """
        found = list(map(self._recent.get, keys, itertools.repeat(_UNKNOWN)))
        missing = [k for k, value in enumerate(found) if value is _UNKNOWN]
        if missing:
            self._complete(found, missing, genotypes, keys)
        values = np.array(found, dtype=np.float64)
        self._works = self._works or bool(np.isfinite(values).any())
        if not self._works:
            self._check_hope(genotypes, keys, space)
        if not self._messages:
            return Evaluated(values)
        known = self._messages
        return Evaluated(values, {k: known[key] for k, key in enumerate(keys) if key in known})

    def _complete(
        self, found: list[Any], missing: list[int], genotypes: Genotypes, keys: Sequence[Any]
    ) -> None:
        """Fill in what is not among the recent values, from the older ones or anew."""
        rows: dict[Any, int] = {}
        for k in missing:
            key = keys[k]
            if key in self._older:
                self._recent[key] = self._older[key]
            elif key not in rows:
                rows[key] = k
        if rows:
            made = evaluate(self.metric, genotypes[list(rows.values())])
            self._recent.update(zip(rows, made.values.tolist(), strict=True))
            new = list(rows)
            self._messages.update({new[k]: text for k, text in made.messages.items()})
        for k in missing:
            found[k] = self._recent[keys[k]]
        if len(self._recent) >= _CAPACITY:
            self._older, self._recent = self._recent, {}
            self._messages = {k: text for k, text in self._messages.items() if k in self._older}

    def _check_hope(self, genotypes: Genotypes, keys: Sequence[Any], space: SearchSpace) -> None:
        """Refuse to draw for ever because of a metric that always fails."""
        if len(self._recent) >= _HOPELESS and len(keys):
            reason = self._messages.get(keys[-1], NO_NUMBER)
            raise NastoolError(
                f"{self.metric.name} failed on all of the first {len(self._recent)} "
                f"architectures, {space.texts(genotypes[-1:])[0]} with {reason}"
            )


@dataclass(frozen=True)
class Problem:
    """Which architectures exist, how good they are and which are allowed.

    Constraints on cheap metrics are *hard*: `sample` and `admissible` know them, so that no
    evaluation is spent on an architecture that breaks one. The others are honoured in ranking.

    Args:
        space: The architectures.
        objectives: At least one, with distinct names.
        constraints: Bounds on any metric.
        metrics: Objectives that are only constrained; chain costs of the space need not be given.

    Raises:
        InvalidInputError: A space or an objective that says something else of itself than it
            must, no objectives, repeated names, the name of another column of tables, a
            constraint on an unknown metric or in the wrong unit.
        InfeasibleError: A constraint that provably no architecture satisfies.
    """

    space: SearchSpace
    objectives: Sequence[Objective]
    constraints: Sequence[Constraint] = ()
    metrics: Sequence[Objective] = ()

    def __repr__(self) -> str:
        return f"<Problem: {self.summary}>"

    @property
    def summary(self) -> str:
        """What is searched where under what, in a few words."""
        names = ", ".join(objective.name for objective in self.objectives)
        bounds = ", ".join(map(str, self.constraints))
        return f"{names} on {self.space.name}" + (f" under {bounds}" if bounds else "")

    def __post_init__(self) -> None:
        for part in ("objectives", "constraints", "metrics"):
            object.__setattr__(self, part, listed(part, getattr(self, part)))
        check_space(self.space)
        for objective in (*self.objectives, *self.metrics):
            check_objective(objective)
        if not self.objectives:
            raise InvalidInputError("a problem must have at least one objective, got none")
        names = [objective.name for objective in self.objectives]
        if len(set(names)) != len(names):
            raise InvalidInputError(f"objectives must have distinct names, got {', '.join(names)}")
        for metric in self._by_name.values():
            base = in_base(metric.unit)
            if (base.value, base.unit) != (1.0, metric.unit):
                raise InvalidInputError(
                    f"metric {metric.name}: values must be in {base.unit or 'plain numbers'}, got "
                    f"{metric.unit}"
                )
        for constraint in self.constraints:
            if not isinstance(constraint, Constraint):
                raise InvalidInputError(
                    "a constraint must be a Constraint, which parse_constraint makes of a text, "
                    f"got {type(constraint).__name__} {constraint!r:.80}"
                )
            metric = self.metric(constraint.metric)
            if constraint.unit and constraint.unit != metric.unit:
                raise InvalidInputError(
                    f"{constraint}: {metric.name} is measured in "
                    f"{metric.unit or 'plain numbers'}, got a bound in {constraint.unit}"
                )
        for metric in self.reported:
            if metric.name in _COLUMNS:
                raise InvalidInputError(
                    f"a metric's name must not be {', '.join(_COLUMNS[:-1])} or {_COLUMNS[-1]}, "
                    f"which tables call columns of their own, got {metric.name}"
                )
        _ = self._budgets  # proves chain constraints feasible, or raises

    @cached_property
    def _by_name(self) -> dict[str, Objective]:
        known: dict[str, Objective] = {
            name: CostObjective(cost, self.space) for name, cost in self.space.costs.items()
        }
        known.update((m.name, m) for m in (*self.metrics, *self.objectives))
        return known

    def metric(self, name: str) -> Objective:
        """The objective, constrained metric or chain cost of that name.

        Raises:
            InvalidInputError: There is none.
        """
        if name not in self._by_name:
            known = nearest(name, sorted(self._by_name))
            raise InvalidInputError(f"unknown metric {name!r}; {known}")
        return self._by_name[name]

    @cached_property
    def reported(self) -> tuple[Objective, ...]:
        """Objectives first, then every other constrained metric."""
        names = [o.name for o in self.objectives]
        others = [c.metric for c in self.constraints if c.metric not in names]
        return tuple(self.metric(name) for name in [*names, *dict.fromkeys(others)])

    @cached_property
    def hard_constraints(self) -> tuple[Constraint, ...]:
        """Constraints that are enforced before evaluation."""
        return tuple(c for c in self.constraints if self.metric(c.metric).is_cheap)

    @cached_property
    def signs(self) -> NDArray[np.float64]:
        """Factors that turn objective values into minimised ones, shape (m,)."""
        return np.array([o.direction.sign for o in self.objectives], dtype=np.float64)

    @cached_property
    def _maximised(self) -> list[int]:
        """Columns of the objectives of which more is better."""
        return np.flatnonzero(self.signs < 0).tolist()

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of everything that determines the values."""
        content = [
            self.space.fingerprint,
            [[o.name, o.direction.value, o.fingerprint] for o in self.objectives],
            [[c.metric, c.sense, c.bound] for c in self.constraints],
            [self.metric(c.metric).fingerprint for c in self.constraints],
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    @cached_property
    def _chains(self) -> dict[str, Cost]:
        """Of metrics with a hard constraint that are known as chain costs, those costs."""
        chains: dict[str, Cost] = {}
        for name in dict.fromkeys(c.metric for c in self.hard_constraints):
            with naming(name):
                cost = self.metric(name).chain()
            if cost is not None:
                check_cost(f"{name}: its chain", name, cost, self.space)
                chains[name] = cost
        return chains

    @cached_property
    def _budgets(self) -> tuple[CostBudget, ...]:
        """One budget per constrained chain cost, the most restrictive first."""
        budgets = []
        for name, cost in self._chains.items():
            metric = CostObjective(cost, self.space)
            bounds = [c for c in self.hard_constraints if c.metric == name]
            lower, upper = limits(bounds, name)
            smallest, largest = metric.cost.minimum[0], metric.cost.maximum[0]
            for c in bounds:
                impossible = smallest > c.bound if c.sense == "<=" else largest < c.bound
                if impossible:
                    end, value = ("smallest", smallest) if c.sense == "<=" else ("largest", largest)
                    raise InfeasibleError(
                        f"{c} cannot be met: the {end} architecture of {self.space.name} has "
                        f"{name} {format_quantity(value, metric.unit)} ({value:,.10g})"
                    )
            budgets.append(budget(metric.cost, upper, lower))
        return tuple(sorted(budgets, key=lambda b: b.count.high))

    @cached_property
    def _memories(self) -> dict[str, Memory]:
        """Of metrics with a bound: what they were worth, for every shape that was looked at.

        A chain cost needs none: it takes no longer than looking it up.
        """
        names = dict.fromkeys(c.metric for c in self.hard_constraints)
        return {name: Memory(self.metric(name)) for name in names if name not in self._chains}

    def compute(self, metric: Objective, genotypes: Genotypes) -> Evaluated:
        """Evaluate a cheap metric; one with a bound is computed once a shape, within reason.

        Args:
            metric: One of the problem's.
            genotypes: Shape (n, d).

        Raises:
            NastoolError: It raised one, or failed for whatever it was asked so far.
        """
        memory = self._memories.get(metric.name) if self._memories else None
        if memory is None or memory.metric is not metric:
            return evaluate(metric, genotypes)
        canonical = self.space.canonicalize(genotypes)
        return memory.evaluate(canonical, self.space.keys(canonical), self.space)

    def admissible(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        """Which genotypes (n, d) satisfy every hard constraint, shape (n,).

        A shape for which a constrained metric fails satisfies none.

        Raises:
            NastoolError: A constrained metric raised one, or failed for all shapes so far.
        """
        mask = np.ones(len(genotypes), dtype=bool)
        values: dict[str, NDArray[np.float64]] = {}
        for c in self.hard_constraints:
            if c.metric not in values:
                values[c.metric] = self.compute(self.metric(c.metric), genotypes).values
            mask &= c.holds(values[c.metric])
        return mask

    def draw(self, n: int, rng: np.random.Generator) -> Genotypes:
        """Draw n genotypes (n, d) that keep the bounds on one chain cost, whatever else holds."""
        return (self._budgets[0] if self._budgets else self.space).sample(n, rng)

    def sample(
        self,
        n: int,
        rng: np.random.Generator,
        least: int | None = None,
        rounds: int | None = None,
    ) -> Genotypes:
        """Draw n canonical genotypes, uniformly over those that satisfy the hard constraints.

        Args:
            n: How many are wanted.
            rng: Source of the draws.
            least: With how many to be content when many draws yield fewer; n by default.
            rounds: Of drawing, 256 genotypes at least in each; 2,000 by default.

        Raises:
            InfeasibleError: The constraints let too little through in many draws.
        """
        rounds = _DRAWS if rounds is None else rounds
        # A chain counts genotypes: where several are one architecture, one of them is to be kept.
        own_forms = bool(self._budgets) and self.space.has_own_forms
        names = {c.metric for c in self.hard_constraints}
        if not own_forms and names <= {b.cost.name for b in self._budgets[:1]}:
            return self.space.canonicalize(self.draw(n, rng))
        found: list[Genotypes] = []
        missing = n
        # Not all that is drawn need be looked at, where a look may take a moment.
        part = max(missing, _FEW)
        for _ in range(rounds):
            drawn = self.draw(max(2 * missing, 256), rng)
            begin = 0
            while begin < len(drawn) and missing > 0:
                looked_at = drawn[begin : begin + part]
                if own_forms:
                    canonical = self.space.canonicalize(looked_at)
                    looked_at = looked_at[(canonical == looked_at).all(axis=1)]
                looked_at = looked_at[self.admissible(looked_at)][:missing]
                found.append(looked_at)
                missing -= len(looked_at)
                begin, part = begin + part, 2 * part
            if missing <= 0:
                break
        if n - missing >= (n if least is None else least):
            return self.space.canonicalize(np.concatenate(found))
        raise InfeasibleError(
            f"{n} architectures of {self.space.name} with "
            f"{', '.join(map(str, self.hard_constraints))} were wanted, {n - missing} found in "
            f"{rounds} rounds of drawing evenly; strategies that breed are led to what is rare"
        )

    def values(
        self, genotypes: Genotypes, evaluator: Evaluator | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """Every reported metric in its natural sign and base unit, each of shape (n,).

        Args:
            genotypes: Shape (n, d).
            evaluator: How to run one objective on the batch; in this process by default.

        Raises:
            InvalidInputError: A metric returned something else than n numbers.
        """
        run = evaluator or (lambda objective, batch: evaluate(objective, batch).values)
        values = {metric.name: run(metric, genotypes) for metric in self.reported}
        for name, column in values.items():
            if np.shape(column) != (len(genotypes),):
                raise InvalidInputError(
                    f"metric {name!r} must return shape ({len(genotypes)},), got {np.shape(column)}"
                )
        return values

    def evaluate(self, genotypes: Genotypes, evaluator: Evaluator | None = None) -> Evaluations:
        """Evaluate a batch.

        Args:
            genotypes: Shape (n, d).
            evaluator: How to run one objective on the batch; in this process by default.
        """
        values = self.values(genotypes, evaluator)
        return self.evaluations(genotypes, np.stack(list(values.values()), axis=1))

    def evaluations(self, genotypes: Genotypes, values: NDArray[np.float64]) -> Evaluations:
        """A batch as strategies see it: minimised objectives, and violations.

        Args:
            genotypes: Shape (n, d).
            values: Every reported metric in its natural sign and base unit, shape (n, r); what is
                not finite has failed.

        Raises:
            InvalidInputError: They are none of the space, or no such numbers.
        """
        genotypes = self.space.validate(genotypes)
        values = self._told(values, len(genotypes))
        columns = {}
        if self.constraints:
            names = [metric.name for metric in self.reported]
            columns = dict(zip(names, values.T, strict=True))
        minimised = values[:, : len(self.objectives)].copy()
        if self._maximised:
            minimised[:, self._maximised] *= -1
        return Evaluations(
            genotypes, minimised, violations(self.constraints, columns, len(genotypes))
        )

    def _told(self, values: object, n: int) -> NDArray[np.float64]:
        """Values of n architectures as floats (n, r), NaN where they are not finite."""
        shape = n, len(self.reported)
        names = ", ".join(metric.name for metric in self.reported)
        rule = f"values must be real numbers of shape {shape}, in columns {names}"
        array = as_array(rule, values)
        if array.shape != shape or array.dtype.kind not in "biuf":
            raise InvalidInputError(f"{rule}, got {array.dtype} of shape {array.shape}")
        told: NDArray[np.float64] = np.where(np.isfinite(array), array, np.nan).astype(
            np.float64, copy=False
        )
        return told
