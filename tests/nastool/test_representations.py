"""What the last line of a notebook's cell shows."""

from __future__ import annotations

import numpy as np

from nastool.comparison import compare
from nastool.constraint import parse_constraint
from nastool.objective import Direction, Kind, Objective, Provenance
from nastool.predictors.base import create_predictor
from nastool.problem import Problem
from nastool.space import Gene, SearchSpace
from nastool.strategies.random import RandomSearch
from nastool.study import Study


class Grid(SearchSpace):
    name = "grid"
    genes = tuple(Gene(f"g{i}", (0, 1, 2, 3), ordered=True) for i in range(4))


class Total(Objective):
    name = fingerprint = "total"
    direction = Direction.MINIMIZE
    provenance = Provenance(Kind.COMPUTED, "a sum")

    def evaluate(self, genotypes):
        return genotypes.sum(axis=1).astype(float)


def test_one_line_says_what_it_is():
    problem = Problem(Grid(), (Total(),), (parse_constraint("total<=9"),))
    study = Study(problem, RandomSearch)
    result = study.run(20)
    comparison = compare(problem, {"random": RandomSearch}, range(2), 20)
    assert repr(problem) == "<Problem: total on grid under total<=9>"
    assert repr(study) == (
        "<Study: 20 evaluations of total on grid under total<=9 by "
        f"{study.description['strategy']}, seed 0>"
    )
    assert repr(result).startswith("<Result: 20 evaluations of total on grid under total<=9, ")
    assert repr(result).endswith(" s; the budget is spent>")
    assert repr(comparison) == (
        "<Comparison of random: 2 seeds, 20 evaluations each of total on grid under total<=9>"
    )
    assert repr(result.evaluations) == (
        "<Evaluations: 20 of 4 genes, 1 objectives and 1 constraints>"
    )
    assert repr(create_predictor("linear")).startswith("<Predictor linear: ")
    assert np.all(result.evaluations.objectives <= 9)
