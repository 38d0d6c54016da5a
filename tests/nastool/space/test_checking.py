"""Spaces that say something else of themselves than is true are refused where they enter."""

from itertools import pairwise
from types import MappingProxyType

import numpy as np
import pytest

from nastool.errors import InvalidInputError, NastoolError
from nastool.problem import CostObjective, Problem
from nastool.space import Branch, ChainCost, ConditionalCost, Gene, check_space
from nastool.testing import Layered, Mixed, Widths


def chain(sizes, name="size"):
    steps = tuple(np.ones((a, b)) for a, b in pairwise(sizes))
    return ChainCost(name, np.ones(sizes[0]), steps)


class Named(Widths):
    """Its cost is named otherwise than it is listed."""

    costs = MappingProxyType({"weights": chain((5, 5, 5, 5))})


class Shorter(Widths):
    costs = MappingProxyType({"size": chain((5, 5, 5))})


class Narrower(Widths):
    """Knows two of five choices: bounds on it would leave the others out."""

    costs = MappingProxyType({"size": chain((2, 2, 2, 2))})


class Wider(Widths):
    costs = MappingProxyType({"size": chain((6, 6, 6, 6))})


class CostsAsATuple(Widths):
    costs = (chain((5, 5, 5, 5)),)


class CostAsAnArray(Widths):
    costs = MappingProxyType({"size": np.ones(4)})


class OtherBranches(Layered):
    """A conditional cost over one gene less."""

    @property
    def costs(self):
        branches = [Branch({0: k}) for k in range(2)]
        cost = ConditionalCost("size", [2, 3], branches, [chain((3,))] * 2)
        return {"size": cost}


class BranchesAsPairs(Widths):
    branches = ((0, 1),)


class HalfABranch(Widths):
    branches = (Branch({0: 1}, idle=(2,)),)


class ObjectivesAsText(Widths):
    objectives = "loss"


class ObjectivesAsClasses(Widths):
    objectives = (CostObjective,)


class MeasurersAsText(Widths):
    measurers = "loss"


class MeasurersAsClasses(Widths):
    measurers = MappingProxyType({"loss": CostObjective})


class GenesAsTexts(Widths):
    genes = ("a", "b")


class GenesAsAGenerator(Widths):
    genes = (Gene(f"g{i}", (1, 2)) for i in range(2))


class CanonicalSums(Mixed):
    def canonicalize(self, genotypes):
        return genotypes.sum(axis=1)


class CanonicalFloats(Mixed):
    def canonicalize(self, genotypes):
        return genotypes * 1.0


class CanonicalFirst(Mixed):
    def canonicalize(self, genotypes):
        return genotypes[:1]


class CanonicalNothing(Mixed):
    def canonicalize(self, genotypes):
        return None


class CanonicalInPlace(Mixed):
    def canonicalize(self, genotypes):
        genotypes[:, 1] = 0
        return genotypes


class FlatFeatures(Widths):
    def features(self, genotypes):
        return genotypes[:, 0] * 1.0


class TextFeatures(Widths):
    def features(self, genotypes):
        return np.array(self.texts(genotypes))[:, None]


class InfiniteFeatures(Widths):
    def features(self, genotypes):
        return np.log(genotypes * 0.0 + 1) / np.inf + np.inf


class HeuristicsAsAMethod(Widths):
    def heuristics(self):
        return {}


class HeuristicsOfOtherGenes(Widths):
    heuristics = MappingProxyType({"small": [[0, 0]]})


class HeuristicsBeyond(Widths):
    heuristics = MappingProxyType({"small": [[0, 0, 0, 0], [0, 0, 0, 9]]})


class MisfitsAsTexts(Widths):
    misfits = ("gpu",)


class FormatsToNothing(Widths):
    def format(self, genotype):
        return None


WRONG = {
    HeuristicsAsAMethod: "heuristics must be by family, got method$",
    HeuristicsOfOtherGenes: r"heuristics\['small'\]: genotypes of widths must have shape \(n, 4\)",
    HeuristicsBeyond: r"heuristics\['small'\]: gene 'layer_3' must be an index below 5, got 9$",
    MisfitsAsTexts: "misfits must be of Misfit, got 'gpu'$",
    Named: r"costs\['weights'\] must be named 'weights', got 'size'",
    Shorter: "terms for 5, 5, 5, 5 choices, those of the genes, got terms for 5, 5, 5$",
    Narrower: "got terms for 2, 2, 2, 2$",
    Wider: "got terms for 6, 6, 6, 6$",
    CostsAsATuple: "costs must be by metric, got tuple",
    CostAsAnArray: r"costs\['size'\] must be a ChainCost or a ConditionalCost, got ndarray",
    OtherBranches: "got terms for 2, 3$",
    BranchesAsPairs: r"branches must be of Branch, got \(0, 1\)",
    HalfABranch: "one branch for each of the 5 settings",
    ObjectivesAsText: "objectives must be a list, got str 'loss'",
    ObjectivesAsClasses: "each of its objectives must be a text, got ABCMeta",
    MeasurersAsText: "measurers must be by metric, got str",
    MeasurersAsClasses: "the measurer of loss must be a text, got ABCMeta",
    GenesAsTexts: "genes must be a tuple of Gene, got 'a' in it",
    GenesAsAGenerator: "genes must be a tuple of Gene, got generator",
    CanonicalSums: r"canonicalize returned something else: .* must have shape \(n, 5\), got \(2,\)",
    CanonicalFloats: "canonicalize returned something else: genotypes must be integers",
    CanonicalFirst: r"canonicalize must return \(2, 5\) for \(2, 5\), got \(1, 5\)",
    CanonicalNothing: "canonicalize returned something else",
    CanonicalInPlace: r"failed: ValueError: .* read-only \(test_checking\.py:\d+\)",
    FlatFeatures: r"features must return .* \(n, f\), .* got float64 of \(2,\) for 2 rows",
    TextFeatures: r"features must return .*, got <U\d+ of \(2, 1\)",
    InfiniteFeatures: "features must return finite .*, got NaN or infinity",
    FormatsToNothing: "what format returns must be a text, got NoneType",
}


@pytest.mark.parametrize("kind", WRONG, ids=lambda kind: kind.__name__)
def test_wrong_spaces_are_one_line(kind):
    with pytest.raises(NastoolError, match=WRONG[kind]) as caught:
        check_space(kind())
    assert "\n" not in str(caught.value)


def test_a_bound_on_a_cost_of_other_genes_is_no_problem():
    """It was counted and drawn within the choices that the cost knows: the others were lost."""
    space = Narrower()
    with pytest.raises(InvalidInputError, match="must have terms for 5, 5, 5, 5 choices"):
        Problem(space, (CostObjective(space.costs["size"], space),))


def test_ours_pass():
    for space in (Widths(), Mixed(), Layered()):
        assert check_space(space) is space
