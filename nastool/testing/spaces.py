"""What every search space must fulfil."""

# ruff: noqa: S101 - a suite of tests asserts; nothing here runs outside of pytest
from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nastool.choices import check_name
from nastool.constraint import Constraint
from nastool.errors import InvalidInputError
from nastool.objective import read_only
from nastool.problem import CostObjective, Problem
from nastool.space import ChainCost, Genotypes, SearchSpace, budget, check_space
from nastool.testing.surroundings import check_fingerprint_elsewhere, global_generators_kept

_DRAWS = 4_000
_ENUMERABLE = 2**16
_GROUPS = 8
"""Into which the choices of a gene are put, to compare how often they are drawn."""


class SearchSpaceConformance(ABC):
    """What every search space must fulfil."""

    @abstractmethod
    def make(self) -> SearchSpace:
        """A fresh instance of the space under test."""

    uniform = True
    """Whether every genotype is drawn as often; False where a space means to draw otherwise."""

    def sample(self, n: int = 200) -> Genotypes:
        """Genotypes that the tests look at, shape (n, d)."""
        return self.make().sample(n, np.random.default_rng(0))

    def _anything(self) -> Genotypes:
        """What is sampled, and genotypes that are not their own canonical form."""
        return np.concatenate([self.sample(), self.make().draw(200, np.random.default_rng(4))])

    def test_genes_have_distinct_names(self) -> None:
        check_space(self.make())

    def test_samples_are_valid_and_follow_the_seed(self) -> None:
        space, genotypes = self.make(), self.sample()
        assert genotypes.dtype == np.int64
        assert np.array_equal(space.validate(genotypes), genotypes)
        assert np.array_equal(self.sample(), genotypes)

    def test_samples_are_as_many_as_asked_for(self) -> None:
        space, rng = self.make(), np.random.default_rng(0)
        for n in (0, 1, 7, 1_000):
            assert space.sample(n, rng).shape == (n, len(space.genes))

    def test_samples_come_from_the_generator(self) -> None:
        space, rng = self.make(), np.random.default_rng(1)
        with global_generators_kept():
            draws = [space.sample(200, rng), space.sample(200, rng), self.sample()]
        if space.size > 1:
            different = {draw.tobytes() for draw in draws}
            assert len(different) == len(draws), "other random numbers made the same draws"

    def test_samples_are_independent_and_uniform(self) -> None:
        space = self.make()
        genotypes = space.sample(_DRAWS, np.random.default_rng(2))
        counts = [np.bincount(g, minlength=k) for g, k in _by_gene(space, genotypes)]
        for gene, count in zip(space.genes, counts, strict=True):
            # Of a shallow net there may be few.
            if len(count) <= _DRAWS // 20 and not len(space.branches):
                assert np.all(count > 0), f"{gene.name} is never {_missing(gene.choices, count)}"
        if not self.uniform or len(space.branches) or space.has_own_forms:
            return  # genotypes are not: see what follows
        groups = [np.minimum(g, g * _GROUPS // k) for g, k in _by_gene(space, genotypes)]
        shares = [_shares(k) for k in space.cardinalities.tolist()]
        for i, gene in enumerate(space.genes):
            assert _fits(groups[i], shares[i]), f"choices of {gene.name} are not equally likely"
            # Beside the gene that follows, the last beside the first.
            j = (i + 1) % len(groups)
            both = groups[i] * len(shares[j]) + groups[j]
            expected = np.multiply.outer(shares[i], shares[j]).ravel()
            assert i == j or _fits(both, expected), (
                f"{gene.name} and {space.genes[j].name} are not drawn independently"
            )

    def test_architectures_are_counted_once(self) -> None:
        space = self.make()
        if space.size <= _ENUMERABLE:
            canonical = space.canonicalize(space.enumerate())
            assert space.count.is_exact
            assert space.count.low == len(np.unique(canonical, axis=0))
        assert 1 <= space.count.low <= space.count.high <= space.size

    def test_architectures_are_equally_likely(self) -> None:
        """However many genotypes each of them has, under bounds on an exact cost too."""
        space = self.make()
        if not self.uniform or not space.count.is_exact:
            return
        rng = np.random.default_rng(3)
        assert _even(space, space.sample(_DRAWS, rng), None), "of all architectures"
        if space.size > _ENUMERABLE:
            return
        everything = np.unique(space.canonicalize(space.enumerate()), axis=0)
        for name, cost in space.costs.items():
            values = cost.evaluate(everything)
            bound = float(np.median(values))
            problem = Problem(
                space, (CostObjective(cost, space),), (Constraint(name, "<=", bound),)
            )
            drawn = problem.sample(_DRAWS, rng)
            assert np.all(cost.evaluate(drawn) <= bound)
            assert _even(space, drawn, everything[values <= bound]), f"with {name} <= {bound}"
            if space.has_own_forms:
                continue
            assert budget(cost, bound).count.low <= np.count_nonzero(values <= bound)
            assert budget(cost, bound).count.high >= np.count_nonzero(values <= bound)

    def test_canonicalize_is_idempotent_and_valid(self) -> None:
        space, genotypes = self.make(), self._anything()
        before = genotypes.copy()
        once = space.canonicalize(read_only(genotypes))
        assert once.dtype == np.int64
        assert np.array_equal(space.validate(once), once)
        assert np.array_equal(space.canonicalize(read_only(once)), once)
        assert np.array_equal(genotypes, before), "canonicalize changed its input"

    def test_rows_do_not_depend_on_the_batch(self) -> None:
        """Nor on their order: alone, among others and reversed each row gives the same."""
        space, genotypes = self.make(), self.sample(60)
        functions: dict[str, Callable[[Genotypes], NDArray[Any]]] = {
            "canonicalize": space.canonicalize,
            "features": space.features,
            "keys": lambda rows: np.array([str(key) for key in space.keys(rows)], dtype=object),
            **{f"cost {name}": cost.evaluate for name, cost in space.costs.items()},
        }
        for name, function in functions.items():
            together = function(genotypes)
            alone = np.concatenate([function(row[None]) for row in genotypes])
            assert np.array_equal(alone, together), f"{name} depends on the batch"
            assert np.array_equal(function(genotypes[::-1])[::-1], together), (
                f"{name} depends on the order of the batch"
            )

    def test_empty_batches(self) -> None:
        space = self.make()
        none = np.empty((0, len(space.genes)), dtype=np.int64)
        assert space.canonicalize(none).shape == none.shape
        assert space.encode(space.decode(none)).shape == none.shape
        assert space.features(none).shape == (0, space.features(self.sample(1)).shape[1])
        assert list(space.keys(none)) == list(space.texts(none)) == []
        for cost in space.costs.values():
            assert cost.evaluate(none).shape == (0,)

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
            assert np.array_equal(space.parse(text), genotype[None])

    def test_keys_identify_genotypes(self) -> None:
        genotypes = self.sample()
        keys = self.make().keys(genotypes)
        assert len(set(keys)) == len(np.unique(genotypes, axis=0))
        assert self.make().keys(genotypes) == keys

    def test_features_have_a_row_for_each_genotype(self) -> None:
        genotypes = self.sample()
        features = self.make().features(read_only(genotypes))
        assert features.ndim == 2
        assert features.dtype == np.float64
        assert len(features) == len(genotypes)
        assert np.all(np.isfinite(features))
        assert np.array_equal(self.make().features(genotypes), features)

    def test_heuristics_lie_in_the_space(self) -> None:
        space = self.make()
        again = self.make().heuristics
        assert list(again) == list(space.heuristics)
        for name, family in space.heuristics.items():
            check_name("the name of a family", name)
            assert np.array_equal(space.validate(family), family)
            assert len(family) > 0, f"family {name} has no members"
            assert np.array_equal(again[name], family)

    def test_costs_chain_over_the_genes(self) -> None:
        space, genotypes = self.make(), self._anything()
        for name, cost in space.costs.items():
            assert cost.name == name
            assert CostObjective(cost, space).name == name, "its branches are not the space's"
            if isinstance(cost, ChainCost):
                assert list(cost.cardinalities) == space.cardinalities.tolist()
            values = cost.evaluate(genotypes)
            assert np.all((values >= cost.minimum[0]) & (values <= cost.maximum[0]))
            assert np.array_equal(cost.evaluate(space.canonicalize(genotypes)), values)

    def test_fingerprint_is_stable(self) -> None:
        fingerprint = self.make().fingerprint
        assert isinstance(fingerprint, str)
        assert fingerprint
        space = self.make()
        space.keys(space.sample(3, np.random.default_rng(0)))
        assert space.fingerprint == fingerprint

    def test_fingerprint_is_the_same_in_another_process(self) -> None:
        check_fingerprint_elsewhere(self, self.make())

    def test_invalid_genotypes_are_rejected(self) -> None:
        space = self.make()
        with pytest.raises(InvalidInputError):
            space.validate(np.full((1, len(space.genes)), -1))
        with pytest.raises(InvalidInputError):
            space.validate(space.cardinalities[None])
        with pytest.raises(InvalidInputError):
            space.validate(np.zeros((1, len(space.genes) + 1), dtype=np.int64))


def _even(space: SearchSpace, drawn: Genotypes, of: Genotypes | None) -> bool:
    """Whether draws are spread evenly over architectures: all of a space, or those given (k, d)."""
    keys = space.keys(space.canonicalize(drawn))
    if of is None and space.branching is not None:
        branching = space.branching
        shares = np.array(branching.sizes) / branching.size
        if not _fits(branching.of(drawn), shares):
            return False
    if of is None and space.count.high > _DRAWS // 4:
        return True
    known = space.canonicalize(space.enumerate()) if of is None else of
    places = {key: place for place, key in enumerate(dict.fromkeys(space.keys(known)))}
    # Rare ones together: a test of many that are expected once each would see nothing.
    found = np.array([places[key] for key in keys])
    groups = min(len(places), _DRAWS // 20)
    sizes = np.bincount(np.arange(len(places)) * groups // len(places))
    return _fits(found * groups // len(places), sizes / len(places))


def _by_gene(space: SearchSpace, genotypes: Genotypes) -> list[tuple[NDArray[np.int64], int]]:
    return list(zip(genotypes.T, space.cardinalities.tolist(), strict=True))


def _missing(choices: tuple[object, ...], count: NDArray[np.int64]) -> object:
    return choices[int(count.argmin())]


def _shares(choices: int) -> NDArray[np.float64]:
    """Which share of the draws each group of choices should have."""
    index = np.arange(choices)
    return np.bincount(np.minimum(index, index * _GROUPS // choices)) / choices


def _fits(found: NDArray[np.int64], shares: NDArray[np.float64]) -> bool:
    """Whether numbers of groups (n,) are drawn with the shares (k,): Pearson's chi-squared.

    The bound lies so far out that no space that is right meets it by chance.
    """
    expected = shares * len(found)
    counts = np.bincount(found, minlength=len(shares))
    statistic = float(((counts - expected) ** 2 / expected).sum())
    freedom = len(shares) - 1
    return statistic <= freedom + 8 * math.sqrt(2 * freedom) + 16
