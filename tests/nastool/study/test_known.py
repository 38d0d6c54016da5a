"""Studies that begin with what is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import nastool
from nastool.errors import InvalidInputError
from nastool.objective import Kind, Objective, Provenance
from nastool.problem import CostObjective, Problem
from nastool.recipes.study_recipe import StudyRecipe, stored_recipe
from nastool.store import open_store
from nastool.study import Patience, Study
from nastool.study.known import Known, find_known, known_table
from nastool.testing import Layered, Widths

SPACE = Widths()
PARAMS = CostObjective(SPACE.costs["params"], SPACE)


class Measured(Objective):
    provenance = Provenance(Kind.MEASURED, "a count")

    def __init__(self, name="measured", stop_after=None, mark=""):
        self.name, self.fingerprint = name, name + mark
        self.asked, self.stop_after = [], stop_after

    def evaluate(self, genotypes):
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked += map(tuple, genotypes.tolist())
        return genotypes.sum(axis=1) * 1.0


def table(path, n=12, seed=3, shapes=False, **columns):
    """A table of distinct shapes and the genotypes in it."""
    genotypes = SPACE.sample(200, np.random.default_rng(seed))
    genotypes = genotypes[np.sort(np.unique(SPACE.keys(genotypes), return_index=True)[1])][:n]
    columns = {name: make(genotypes) for name, make in columns.items()}
    names = ["shape"] if shapes else [gene.name for gene in SPACE.genes]
    lines = [",".join([*names, *columns])]
    for row, choices in enumerate(SPACE.decode(genotypes)):
        cells = ["-".join(map(str, choices))] if shapes else choices
        lines.append(",".join(map(str, [*cells, *(column[row] for column in columns.values())])))
    path.write_text("\n".join(lines) + "\n")
    return genotypes


def minus(genotypes):
    """Values that nothing here computes."""
    return -1.0 * genotypes.sum(axis=1)


@pytest.mark.parametrize("shapes", [False, True])
@pytest.mark.parametrize("strategy", ["random", "evolution", "pareto", "nsga2"])
def test_what_is_known_is_told_and_not_paid_for(tmp_path, strategy, shapes):
    file = tmp_path / "known.csv"
    genotypes = table(file, shapes=shapes, measured=minus)
    objective = Measured()
    study = Study(Problem(SPACE, (objective, PARAMS)), strategy, known=str(file))
    told, tell = [], study.strategy.tell
    study.strategy.tell = lambda evaluations: (told.append(evaluations), tell(evaluations))
    result = study.run(20)
    np.testing.assert_array_equal(told[0].genotypes, genotypes)
    np.testing.assert_array_equal(told[0].objectives[:, 0], minus(genotypes))
    np.testing.assert_array_equal(told[0].objectives[:, 1], PARAMS.evaluate(genotypes))
    assert len(result) == 12 + 20
    assert len(objective.asked) == len(set(objective.asked)) == 20
    assert not set(objective.asked) & set(map(tuple, genotypes.tolist()))
    np.testing.assert_array_equal(result.evaluations.genotypes[:12], genotypes)
    np.testing.assert_array_equal(result.metrics[:12, 0], minus(genotypes))
    assert (study.known, len(study)) == (12, 32)


@pytest.mark.parametrize("settings", [{}, {"pending": 3}, {"join": True}])
def test_an_interrupted_study_goes_on_and_pays_for_none_twice(tmp_path, settings):
    file, url = tmp_path / "known.csv", f"sqlite:///{tmp_path}/a.db"
    genotypes = table(file, measured=minus)
    whole = Study(Problem(SPACE, (Measured(),)), "evolution", known=str(file)).run(20, 5)
    first, second = Measured(stop_after=7), Measured()
    with open_store(url) as store:
        study = Study(Problem(SPACE, (first,)), "evolution", store, "a", known=str(file))
        assert study.run(20, 5, **settings).stop_reason == "interrupted"
        again = Study(Problem(SPACE, (second,)), "evolution", store, "a")
        assert again.known == 12 <= len(again)
        result = again.run(20, 5, **settings)
        stored = store.load("a").summary
    assert len(result) == 32
    assert stored_recipe(stored).budget == 20
    assert stored.description["known"] == {"evaluations": 12, "source": str(file)}
    asked = [*first.asked, *second.asked]
    assert not set(asked) & set(map(tuple, genotypes.tolist()))
    np.testing.assert_array_equal(result.evaluations.genotypes[:12], genotypes)
    if not settings:
        assert len(asked) == len(set(asked)) == 20
        np.testing.assert_array_equal(result.evaluations.genotypes, whole.evaluations.genotypes)
        np.testing.assert_array_equal(result.metrics, whole.metrics)


def test_a_study_knows_for_another_one_what_both_measure_alike(tmp_path):
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        problem = Problem(SPACE, (Measured(), PARAMS))
        first = Study(problem, "random", store, "first").run(15)
        objective = Measured()
        other = Problem(SPACE, (PARAMS, objective))
        result = Study(other, "evolution", store, "second", known="first").run(10)
        assert (len(result), len(objective.asked)) == (25, 10)
        np.testing.assert_array_equal(result.metrics[:15, ::-1], first.metrics)
        for metric, message in (
            (Measured(mark="2"), "study 'first' must have evaluated measured as it is now"),
            (Measured("other"), "study 'first' must have evaluated other"),
        ):
            with pytest.raises(InvalidInputError, match=message):
                find_known("first", Problem(SPACE, (metric,)), store)
        with pytest.raises(InvalidInputError, match="must be one of layered, got widths"):
            find_known("first", Problem(Layered(), (Measured(),)), store)
        with pytest.raises(InvalidInputError, match="unknown study 'none'"):
            find_known("none", problem, store)


def test_another_table_is_another_study(tmp_path):
    file = tmp_path / "known.csv"
    table(file, measured=minus)
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        problem = Problem(SPACE, (Measured(),))
        Study(problem, "random", store, "a", known=str(file)).run(5)
        Study(problem, "random", store, "a", known=str(file)).run(6)
        table(file, n=13, measured=minus)
        with pytest.raises(InvalidInputError, match="study 'a' was made with known"):
            Study(problem, "random", store, "a", known=str(file))


def test_rows_of_one_shape_are_averaged_and_those_without_a_value_left_out(tmp_path):
    file = tmp_path / "known.csv"
    file.write_text("shape,measured\n1-1-1-1,2\n1-1-1-1,4\n1-1-1-1,\n2-1-1-1,\n3-1-1-1,7\n")
    known = known_table(file, Problem(SPACE, (Measured(), PARAMS)))
    assert known.genotypes.tolist() == [[0, 0, 0, 0], [2, 0, 0, 0]]
    assert known.values[:, 0].tolist() == [3.0, 7.0]
    np.testing.assert_array_equal(known.values[:, 1], PARAMS.evaluate(known.genotypes))
    assert known.summary == f"2 evaluations from {file}, 1 without a value left out"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shape,measured\n1-1-1-1,2\n1-1-1-4,2\n", r"line 3: layer_3 must be one of 1, 2, 3, 5, 8"),
        ("shape,measured\n1-1-1,2\n", r"line 2: an architecture of widths must have 4 choices"),
        ("shape,measured\n1-1-1-1,x\n", r"line 2: column 'measured' must hold numbers, got 'x'"),
        ("shape,measured\n1-1-1-1,\n", r"no row has a value of measured"),
        ("shape,params\n1-1-1-1,3\n", r"expected a column 'measured', which is measured"),
        ("layer_0,measured\n1,2\n", r"a column 'shape', or layer_1, layer_2, layer_3"),
        (
            "layer_0,layer_1,layer_2,layer_3,measured\n1,1,1,1,2\n\n1,9,1,1,2\n",
            r"line 4: layer_1 must be one of 1, 2, 3, 5, 8; got 9",
        ),
        ("shape,measured\n", r"at least one row"),
    ],
)
def test_what_breaks_the_space_is_refused_with_its_line(tmp_path, text, message):
    file = tmp_path / "known.csv"
    file.write_text(text)
    with pytest.raises(InvalidInputError, match=message) as raised:
        known_table(file, Problem(SPACE, (Measured(),)))
    assert str(file) in str(raised.value)


def test_known_values_may_be_given_as_they_are():
    genotypes = np.array([[0, 0, 0, 0], [1, 1, 1, 1]])
    known = Known(genotypes, np.array([[5.0], [6.0]]), "notes")
    problem = Problem(SPACE, (Measured(),))
    result = Study(problem, "random", known=known).run(3)
    assert result.metrics[:2, 0].tolist() == [5.0, 6.0]
    assert len(result) == 5
    # They were there before the first second.
    assert result.elapsed[:2].tolist() == [0.0, 0.0]


def test_what_is_given_takes_the_place_of_what_a_recipe_knows(tmp_path):
    (tmp_path / "known.csv").write_text("shape,params\n60-60,1\n60-120,2\n")
    recipe = StudyRecipe(
        "supershaper:layers=2,widths=60/120", ("params",), known=str(tmp_path / "known.csv")
    )
    given = Known(np.array([[0, 0]]), np.array([[5.0]]), "notes")
    lengths = [len(Study.of(recipe, known=known).run(1)) for known in (None, given)]
    assert lengths == [3, 2]
    recipe = replace(recipe, known="")
    lengths = [len(Study.of(recipe, known=known).run(1)) for known in (None, given)]
    assert lengths == [1, 2]


def test_one_call_takes_what_is_known(tmp_path):
    file = tmp_path / "known.csv"
    genotypes = table(file, measured=minus)
    objective = Measured()
    result = nastool.search(SPACE, [objective], strategy="random", budget=4, known=str(file))
    assert (len(result), len(objective.asked)) == (16, 4)
    np.testing.assert_array_equal(result.evaluations.genotypes[:12], genotypes)
    with pytest.raises(InvalidInputError, match="got 'first' and no store"):
        nastool.search(SPACE, [objective], strategy="random", budget=4, known="first")


def test_patience_counts_from_what_was_known_on(tmp_path):
    # The best of the known ones is the first: sixty without a gain were not paid for.
    genotypes = SPACE.enumerate()[:61]
    known = Known(genotypes, genotypes.sum(axis=1)[:, None] * 1.0, "notes")
    study = Study(Problem(SPACE, (Measured(),)), "random", known=known)
    result = study.run(100, 10, until=Patience(50))
    assert (len(result) - len(known), result.stop_reason) == (50, "patience")
