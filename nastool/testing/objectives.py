"""What every objective must fulfil."""

# ruff: noqa: S101 - a suite of tests asserts; nothing here runs outside of pytest
from __future__ import annotations

from abc import ABC, abstractmethod
from multiprocessing import reduction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.constraint import format_quantity, in_base, parse_constraint
from nastool.errors import NastoolError
from nastool.objective import Objective, check_objective, read_only
from nastool.problem import Problem
from nastool.space import Genotypes, SearchSpace
from nastool.testing.surroundings import check_fingerprint_elsewhere, global_generators_kept


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

    may_fail = False
    """Whether it may raise for some architectures, as where memory runs out: these have failed."""

    def _genotypes(self) -> Genotypes:
        space = self.space()
        return space.canonicalize(space.sample(self.batch, np.random.default_rng(0)))

    def _agree(self, values: NDArray[Any], others: NDArray[Any], message: str) -> None:
        np.testing.assert_allclose(values, others, rtol=self.tolerance, err_msg=message)

    def _values(self, objective: Objective, genotypes: Genotypes) -> NDArray[Any]:
        """What it returns; NaN for what raises alone, where that is allowed."""
        try:
            return objective.evaluate(genotypes)
        except (Exception, SystemExit) as error:
            if not self.may_fail:
                error.add_note("may_fail = True tells this suite that some architectures do fail")
                raise
            if isinstance(error, NastoolError) or not len(genotypes):
                raise
            if len(genotypes) == 1:
                return np.array([np.nan])
            values = np.concatenate([self._values(objective, row[None]) for row in genotypes])
            if np.isnan(values).all():
                raise
            return values

    def test_evaluate_returns_one_value_for_each_genotype(self) -> None:
        genotypes = self._genotypes()
        before = genotypes.copy()
        values = self._values(self.make(), read_only(genotypes))
        assert values.shape == (len(genotypes),)
        assert values.dtype == np.float64
        assert not np.all(np.isnan(values))
        assert np.array_equal(genotypes, before), "evaluate changed its input"

    def test_empty_batch(self) -> None:
        assert self.make().evaluate(self._genotypes()[:0]).shape == (0,)

    def test_values_do_not_depend_on_the_batch(self) -> None:
        objective, genotypes = self.make(), self._genotypes()
        together = self._values(objective, genotypes)
        kept = together.copy()
        alone = np.concatenate([self._values(objective, row[None]) for row in genotypes[::5]])
        self._agree(alone, kept[::5], "the values depend on the batch")
        reverse = self._values(objective, read_only(genotypes[::-1]))[::-1]
        self._agree(reverse, kept, "the values depend on the order of the batch")
        assert np.array_equal(together, kept, equal_nan=True), "values changed after their return"

    def test_values_repeat(self) -> None:
        objective, genotypes = self.make(), self._genotypes()
        values = self._values(objective, genotypes)
        other = self._values(self.make(), genotypes)
        self._agree(other, values, "another instance, other values")
        again = self._values(objective, genotypes)
        self._agree(again, values, "asked again, other values")

    def test_equivalent_genotypes_have_equal_values(self) -> None:
        """Genotypes with one canonical form are one network."""
        space, objective = self.space(), self.make()
        drawn = space.draw(max(200, self.batch), np.random.default_rng(1))
        canonical = space.canonicalize(drawn)
        other = np.flatnonzero(np.any(drawn != canonical, axis=1))[: self.batch]
        if len(other):
            self._agree(
                self._values(objective, read_only(drawn[other])),
                self._values(objective, read_only(canonical[other])),
                "equivalent genotypes have different values",
            )

    def test_the_rest_of_the_program_is_left_alone(self) -> None:
        with global_generators_kept():
            self._values(self.make(), self._genotypes())

    def test_it_can_be_sent_to_worker_processes(self) -> None:
        objective, genotypes = self.make(), self._genotypes()
        sent = reduction.ForkingPickler.loads(reduction.ForkingPickler.dumps(objective))
        assert (sent.name, sent.fingerprint) == (objective.name, objective.fingerprint)
        here = self._values(objective, genotypes)
        self._agree(self._values(sent, genotypes), here, "other values once sent")

    def test_constraints_can_name_it(self) -> None:
        objective = self.make()
        constraint = parse_constraint(f"{objective.name}<=1")
        assert constraint.metric == objective.name
        assert format_quantity(1.0, objective.unit)

    def test_a_problem_can_have_it(self) -> None:
        """Its name is none of a table's own columns."""
        Problem(self.space(), (self.make(),))

    def test_values_are_in_a_base_unit(self) -> None:
        unit = self.make().unit
        base = in_base(unit)
        assert (base.value, base.unit) == (1.0, unit), (
            f"values must be in {base.unit or 'plain numbers'}, got {unit}"
        )

    def test_its_chain_has_its_values(self) -> None:
        """Where it is known as a chain cost, shapes within a bound are drawn by that."""
        objective, genotypes = self.make(), self._genotypes()
        chain = objective.chain()
        if chain is not None:
            assert chain.name == objective.name
            np.testing.assert_array_equal(
                chain.evaluate(genotypes), self._values(objective, genotypes)
            )

    def test_description_is_complete_and_stable(self) -> None:
        one, other = self.make(), self.make()
        check_objective(one)
        assert one.provenance.by
        described = [(o.name, o.unit, o.direction, o.is_cheap, o.fingerprint) for o in (one, other)]
        self._values(one, self._genotypes())
        described.append((one.name, one.unit, one.direction, one.is_cheap, one.fingerprint))
        assert described[0] == described[1] == described[2]

    def test_fingerprint_is_the_same_in_another_process(self) -> None:
        check_fingerprint_elsewhere(self, self.make())
