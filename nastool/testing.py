"""Conformance suites for authors of spaces, objectives, strategies and devices, with pytest.

Subclass a suite in a test file and override `make`::

    class TestMyStrategy(StrategyConformance):
        def make(self, problem, seed):
            return MyStrategy(problem, seed)
"""

# ruff: noqa: S101 - a suite of tests asserts; nothing here runs outside of pytest
from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from nastool.chain import ChainCost
from nastool.constraint import Constraint, format_quantity, parse_constraint
from nastool.deployment import Deployment
from nastool.devices import Device, Timing
from nastool.errors import InvalidInputError
from nastool.objective import Direction, Kind, Objective, Provenance, check_objective, read_only
from nastool.problem import Problem
from nastool.space import Gene, Genotypes, SearchSpace, check_space
from nastool.store.encoding import decode_state, encode_state
from nastool.strategies.base import State, Strategy


class SearchSpaceConformance(ABC):
    """What every search space must fulfil."""

    @abstractmethod
    def make(self) -> SearchSpace:
        """A fresh instance of the space under test."""

    def sample(self, n: int = 200) -> Genotypes:
        """Genotypes that the tests look at, shape (n, d)."""
        return self.make().sample(n, np.random.default_rng(0))

    def test_genes_have_distinct_names(self) -> None:
        check_space(self.make())

    def test_samples_are_valid_and_follow_the_seed(self) -> None:
        space, genotypes = self.make(), self.sample()
        assert genotypes.dtype == np.int64
        assert np.array_equal(space.validate(genotypes), genotypes)
        assert np.array_equal(self.sample(), genotypes)

    def test_canonicalize_is_idempotent_and_valid(self) -> None:
        space, genotypes = self.make(), self.sample()
        once = space.canonicalize(genotypes)
        assert np.array_equal(space.validate(once), once)
        assert np.array_equal(space.canonicalize(once), once)
        assert np.array_equal(self.sample(), genotypes), "canonicalize changed its input"

    def test_decode_and_encode_are_inverse(self) -> None:
        space, genotypes = self.make(), self.sample()
        assert np.array_equal(space.encode(space.decode(genotypes)), genotypes)

    def test_format_and_parse_are_inverse(self) -> None:
        space = self.make()
        # Every choice of every gene, beside what is drawn.
        each = np.arange(int(space.cardinalities.max()))[:, None] % space.cardinalities
        genotypes = np.concatenate([self.sample(20), each[:1_000]])
        texts = space.texts(genotypes)
        assert len(set(texts)) == len(np.unique(genotypes, axis=0)), "two shapes share a name"
        for genotype, text in zip(genotypes, texts, strict=True):
            assert space.format(genotype) == text
            assert np.array_equal(space.parse(text)[0], genotype)

    def test_keys_identify_genotypes(self) -> None:
        genotypes = self.sample()
        keys = self.make().keys(genotypes)
        assert len(set(keys)) == len(np.unique(genotypes, axis=0))

    def test_features_have_a_row_for_each_genotype(self) -> None:
        genotypes = self.sample()
        features = self.make().features(genotypes)
        assert features.ndim == 2
        assert len(features) == len(genotypes)
        assert np.all(np.isfinite(features))

    def test_costs_chain_over_the_genes(self) -> None:
        space, genotypes = self.make(), self.sample()
        for name, cost in space.costs.items():
            assert cost.name == name
            sizes = [len(cost.first), *(step.shape[1] for step in cost.steps)]
            assert sizes == space.cardinalities.tolist()
            values = cost.evaluate(genotypes)
            assert np.all((values >= cost.minimum[0]) & (values <= cost.maximum[0]))
            assert np.array_equal(cost.evaluate(space.canonicalize(genotypes)), values)

    def test_fingerprint_is_stable(self) -> None:
        assert self.make().fingerprint == self.make().fingerprint

    def test_invalid_genotypes_are_rejected(self) -> None:
        space = self.make()
        with pytest.raises(InvalidInputError):
            space.validate(np.full((1, len(space.genes)), -1))
        with pytest.raises(InvalidInputError):
            space.validate(space.cardinalities[None])
        with pytest.raises(InvalidInputError):
            space.validate(np.zeros((1, len(space.genes) + 1), dtype=np.int64))


class ObjectiveConformance(ABC):
    """What every objective must fulfil."""

    @abstractmethod
    def make(self) -> Objective:
        """A fresh instance of the objective under test."""

    @abstractmethod
    def space(self) -> SearchSpace:
        """A space that the objective is for."""

    tolerance = 1e-9
    """Relative difference allowed between two evaluations; widen it for measured values."""

    batch = 16
    """Genotypes evaluated at once in the tests; lower it for slow objectives."""

    def _genotypes(self) -> Genotypes:
        space = self.space()
        return space.canonicalize(space.sample(self.batch, np.random.default_rng(0)))

    def test_evaluate_returns_one_value_for_each_genotype(self) -> None:
        genotypes = self._genotypes()
        before = genotypes.copy()
        values = self.make().evaluate(read_only(genotypes))
        assert values.shape == (len(genotypes),)
        assert values.dtype == np.float64
        assert not np.all(np.isnan(values))
        assert np.array_equal(genotypes, before), "evaluate changed its input"

    def test_empty_batch(self) -> None:
        assert self.make().evaluate(self._genotypes()[:0]).shape == (0,)

    def test_values_do_not_depend_on_the_batch(self) -> None:
        objective, genotypes = self.make(), self._genotypes()
        together = objective.evaluate(genotypes)
        alone = np.concatenate([objective.evaluate(row[None]) for row in genotypes[::5]])
        np.testing.assert_allclose(alone, together[::5], rtol=self.tolerance)

    def test_values_repeat(self) -> None:
        genotypes = self._genotypes()
        np.testing.assert_allclose(
            self.make().evaluate(genotypes), self.make().evaluate(genotypes), rtol=self.tolerance
        )

    def test_constraints_can_name_it(self) -> None:
        objective = self.make()
        constraint = parse_constraint(f"{objective.name}<=1")
        assert constraint.metric == objective.name
        assert format_quantity(1.0, objective.unit)

    def test_description_is_complete_and_stable(self) -> None:
        one, other = self.make(), self.make()
        check_objective(one)
        assert one.provenance.by
        assert (one.name, one.unit, one.fingerprint) == (other.name, other.unit, other.fingerprint)


class DeviceConformance(ABC):
    """What every device must fulfil."""

    @abstractmethod
    def make(self) -> Device:
        """A fresh instance of the device under test."""

    @abstractmethod
    def deployment(self) -> Deployment:
        """A small architecture that the device can run, and its inputs."""

    def test_measure_returns_a_timing(self) -> None:
        timing = self.make().measure(self.deployment(), 1, 3)
        assert isinstance(timing, Timing)
        assert len(timing.seconds) >= 1
        assert timing.memory is None or timing.memory > 0
        assert timing.energy is None or timing.energy >= 0

    def test_no_warmup_and_a_single_repeat_are_enough(self) -> None:
        assert len(self.make().measure(self.deployment(), 0, 1).seconds) >= 1

    def test_an_architecture_can_be_measured_again(self) -> None:
        device, deployment = self.make(), self.deployment()
        for _ in range(2):
            assert np.all(device.measure(deployment, 0, 1).seconds > 0)

    def test_facts_are_json_and_stable(self) -> None:
        facts = dict(self.make().facts)
        assert facts
        assert all(isinstance(key, str) for key in facts)
        assert json.loads(json.dumps(facts)) == facts
        assert dict(self.make().facts) == facts


class StrategyConformance(ABC):
    """What every strategy must fulfil, on spaces of every kind.

    The fixture `problem` may be overridden by a strategy made for particular problems.
    """

    @abstractmethod
    def make(self, problem: Problem, seed: int) -> Strategy:
        """A fresh instance of the strategy under test."""

    batch = 20
    """Genotypes asked for at once."""

    rounds = 6
    """Batches in a run."""

    @pytest.fixture(params=[
        "single", "single-mixed", "single-hard", "single-soft", "failing",
        "pair", "pair-hard", "pair-soft", "triple-failing",
    ])  # fmt: skip
    def problem(self, request: pytest.FixtureRequest) -> Problem:
        """Every kind of problem in turn."""
        return example_problems()[request.param]

    def test_asked_genotypes_are_canonical_and_admissible(self, problem: Problem) -> None:
        strategy = self.make(problem, 0)
        for n in (1, self.batch, 3, strategy.batch_size, self.batch, 7):
            asked = strategy.ask(n)
            assert len(asked) <= n
            check_asked(problem, asked)
            strategy.tell(problem.evaluate(asked))

    def test_search_follows_the_seed(self, problem: Problem) -> None:
        first = self._run(self.make(problem, 3), problem)
        assert np.array_equal(self._run(self.make(problem, 3), problem), first)

    def test_resuming_equals_never_having_stopped(self, problem: Problem) -> None:
        strategy = self.make(problem, 1)
        state = stored(strategy.state_dict())
        for _ in range(self.rounds):
            resumed = self.make(problem, 99)
            resumed.load_state_dict(state)
            asked = strategy.ask(self.batch)
            assert np.array_equal(resumed.ask(self.batch), asked)
            evaluations = problem.evaluate(asked)
            strategy.tell(evaluations)
            resumed.tell(evaluations)
            # One goes on unbroken; the other is stopped after every batch.
            state = stored(resumed.state_dict())

    def test_state_is_a_snapshot(self, problem: Problem) -> None:
        strategy = self.make(problem, 5)
        self._run(strategy, problem)
        state = strategy.state_dict()
        before = encode_state(state)
        self._run(strategy, problem)
        assert encode_state(state) == before

    def test_unasked_evaluations_are_welcome(self, problem: Problem) -> None:
        rng = np.random.default_rng(4)
        strategy = self.make(problem, 2)
        for _ in range(3):
            strategy.tell(problem.evaluate(problem.sample(self.batch, rng)))
            asked = strategy.ask(self.batch)
            check_asked(problem, asked)
            strategy.tell(problem.evaluate(asked))

    def test_evaluations_may_come_late_and_in_parts(self, problem: Problem) -> None:
        strategy = self.make(problem, 6)
        late = strategy.ask(self.batch)
        for _ in range(self.rounds):
            asked = strategy.ask(self.batch)
            check_asked(problem, asked)
            evaluated = problem.evaluate(np.concatenate([late, asked]))
            half = len(evaluated) // 2
            strategy.tell(evaluated.take(slice(half, None)))
            strategy.tell(evaluated.take(slice(0, half // 2)))
            late = evaluated.genotypes[half // 2 : half]

    def failing(self) -> Problem:
        """A problem of which a quarter fails; override it for a strategy that cannot solve it."""
        return example_problems()["quarter-failing"]

    def test_what_has_failed_is_not_proposed_again(self) -> None:
        """A study skips what it knows, and ends where nothing else is proposed for long."""
        problem = self.failing()
        space = problem.space
        try:
            strategy = self.make(problem, 0)
        except InvalidInputError as error:
            pytest.skip(f"override `failing`: {error}")
        failed: set[object] = set()
        known: set[object] = set()
        for _ in range(40):
            asked = strategy.ask(self.batch)
            keys = space.keys(asked)
            assert failed.isdisjoint(keys), "a shape that has failed is proposed again"
            known |= set(keys)
            if len(known) >= 100 or not len(asked):
                break
            evaluations = problem.evaluate(asked)
            lost = np.flatnonzero(np.any(np.isnan(evaluations.objectives), axis=1))
            failed |= {keys[row] for row in lost.tolist()}
            strategy.tell(evaluations)
        assert len(known) >= 100 or not len(asked), f"only {len(known)} different shapes proposed"

    def _run(self, strategy: Strategy, problem: Problem) -> Genotypes:
        asked = []
        for _ in range(self.rounds):
            asked.append(strategy.ask(self.batch))
            strategy.tell(problem.evaluate(asked[-1]))
        return np.concatenate(asked)


def check_asked(problem: Problem, asked: Genotypes) -> None:
    """Fail unless genotypes (k, d) are valid, canonical and admissible."""
    assert asked.dtype == np.int64
    assert np.array_equal(problem.space.validate(asked), asked)
    assert np.array_equal(problem.space.canonicalize(asked), asked)
    assert np.all(problem.admissible(asked))


def stored(state: State) -> State:
    """What is left of a state after a store wrote and read it: JSON values and arrays."""
    return decode_state(encode_state(state))


class Widths(SearchSpace):
    """Ordered genes with a chain cost ``params``.

    Args:
        layers: Number of genes.
        widths: Choices of each.
    """

    def __init__(self, layers: int = 4, widths: tuple[int, ...] = (1, 2, 3, 5, 8)) -> None:
        self._genes = tuple(Gene(f"layer_{i}", widths, ordered=True) for i in range(layers))
        w = np.array(widths)
        step = np.multiply.outer(w, w) + w
        self._costs = {"params": ChainCost("params", 10 + w, (step,) * (layers - 1))}

    @property
    def name(self) -> str:
        return "widths"

    @property
    def genes(self) -> tuple[Gene, ...]:
        return self._genes

    @property
    def costs(self) -> Mapping[str, ChainCost]:
        return self._costs


class Mixed(SearchSpace):
    """Ordered, unordered and constant genes of different cardinalities; no chain cost.

    Where the operator is ``skip`` the kernel means nothing and is canonicalised away.
    """

    @property
    def name(self) -> str:
        return "mixed"

    @property
    def genes(self) -> tuple[Gene, ...]:
        return (
            Gene("operator", ("conv", "attention", "skip")),
            Gene("kernel", (1, 3, 5, 7), ordered=True),
            Gene("depth", (2, 4, 6, 8, 10, 12), ordered=True),
            Gene("stem", ("plain",)),
            Gene("pool", ("mean", "max")),
        )

    def canonicalize(self, genotypes: Genotypes) -> Genotypes:
        kernel = np.where(genotypes[:, 0] == 2, 0, genotypes[:, 1])
        return np.column_stack([genotypes[:, 0], kernel, genotypes[:, 2:]])


_CLOSED_FORM = Provenance(Kind.COMPUTED, "closed form")


class Formula(Objective):
    """A function of the genotypes, in closed form.

    Args:
        name: The metric's name.
        function: From genotypes (n, d) to values (n,).
        direction: Which way is better.
        cheap: Whether a constraint on it is enforced beforehand; by default unless it says of
            itself that it is measured.
        unit: Of the values.
        provenance: What it says of itself.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[Genotypes], NDArray[np.float64]],
        direction: Direction = Direction.MINIMIZE,
        cheap: bool | None = None,
        unit: str = "",
        provenance: Provenance = _CLOSED_FORM,
    ) -> None:
        self._name = name
        self._function = function
        self._direction = direction
        self._cheap = cheap
        self._unit = unit
        self._provenance = provenance

    @property
    def name(self) -> str:
        return self._name

    @property
    def direction(self) -> Direction:
        return self._direction

    @property
    def unit(self) -> str:
        return self._unit

    @property
    def provenance(self) -> Provenance:
        return self._provenance

    @property
    def is_cheap(self) -> bool:
        return super().is_cheap if self._cheap is None else self._cheap

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._name.encode()).hexdigest()[:16]

    def evaluate(self, genotypes: Genotypes) -> NDArray[np.float64]:
        return self._function(genotypes)


def _rugged(genotypes: Genotypes) -> NDArray[np.float64]:
    g = genotypes.astype(np.float64)
    weights = 1.0 + np.arange(g.shape[1]) % 3
    interaction: NDArray[np.float64] = np.sin(2.3 * g[:, :-1] + 1.7 * g[:, 1:]).sum(axis=1)
    distance: NDArray[np.float64] = (weights * (g - 2.2) ** 2).sum(axis=1)
    return distance + 0.9 * interaction


def _quality(genotypes: Genotypes) -> NDArray[np.float64]:
    g = genotypes.astype(np.float64)
    weights = 1.0 + 0.37 * np.arange(g.shape[1])
    falling: NDArray[np.float64] = (weights / (1.0 + g)).sum(axis=1)
    wave: NDArray[np.float64] = np.sin(3.0 * g.sum(axis=1))
    return falling + 0.2 * wave


def _flaky(genotypes: Genotypes) -> NDArray[np.float64]:
    values: NDArray[np.float64] = _rugged(genotypes)
    values[genotypes.sum(axis=1) % 7 == 3] = np.nan
    return values


def _narrow_fails(genotypes: Genotypes) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.where(genotypes[:, 0] == 0, np.nan, _total(genotypes))
    return values


def _total(genotypes: Genotypes) -> NDArray[np.float64]:
    indices: NDArray[np.int64] = genotypes.sum(axis=1)
    return indices.astype(np.float64)


def example_problems() -> dict[str, Problem]:
    """Small problems of every kind.

    One to three objectives in both directions, constraints that are hard and that are honoured in
    the ranking, evaluations that fail, spaces with and without a chain cost.
    """
    widths, mixed = Widths(), Mixed()
    loss = Formula("loss", _rugged)
    score = Formula("score", lambda genotypes: -_quality(genotypes), Direction.MAXIMIZE)
    params = Problem(widths, (loss,)).metric("params")
    known = Formula("sum", _total)
    slow = Formula("sum", _total, cheap=False)
    return {
        "single": Problem(widths, (loss,)),
        "single-mixed": Problem(mixed, (loss,)),
        "single-hard": Problem(widths, (loss,), (Constraint("params", "<=", 60),)),
        "single-soft": Problem(mixed, (loss,), (Constraint("sum", ">=", 6),), metrics=(slow,)),
        "failing": Problem(widths, (Formula("loss", _flaky),)),
        "quarter-failing": Problem(Widths(4, (1, 2, 3, 5)), (Formula("loss", _narrow_fails),)),
        "pair": Problem(widths, (score, params)),
        "pair-hard": Problem(
            widths,
            (score, params),
            (Constraint("params", "<=", 90), Constraint("sum", ">=", 5)),
            metrics=(known,),
        ),
        "pair-soft": Problem(mixed, (loss, score), (Constraint("sum", "<=", 7),), metrics=(slow,)),
        "triple-failing": Problem(mixed, (score, Formula("flaky", _flaky), known)),
    }
