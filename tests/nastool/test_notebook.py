"""What notebooks show: numbers of the object, nothing that runs, nothing that fails."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from nastool import notebook
from nastool.constraint import parse_constraint
from nastool.devices import Device
from nastool.predictors.base import load_predictor
from nastool.predictors.gaussian_process import GaussianProcess
from nastool.problem import Problem
from nastool.space import Gene, SearchSpace
from nastool.strategies.random import RandomSearch
from nastool.study import Study
from nastool.testing import Formula


class Small(SearchSpace):
    name = "small <b>"
    genes = tuple(Gene(f"layer_{i}", (8, 16, 32), ordered=True) for i in range(1, 4))


def formula(name, weights, unit=""):
    return Formula(name, lambda genotypes: 1.0 + genotypes @ np.array(weights), unit=unit)


LOSS = formula("loss", [-0.1, -0.2, -0.05])
SIZE = formula("size", [1e6, 2e6, 3e6], "B")
TIME = formula("time", [0.1, 0.1, 0.1], "s")


def study(*objectives, budget=20, constraints=()):
    problem = Problem(Small(), objectives, constraints)
    made = Study(problem, RandomSearch, seed=0)
    made.run(budget)
    return made


def tree(html):
    """The HTML as a tree: it is well formed, and holds nothing that runs or is fetched."""
    parsed = ET.fromstring(html)
    tags = {element.tag for element in parsed.iter()}
    assert not tags & {"script", "img", "link", "iframe", "style"}
    return parsed


def rows(parsed, number):
    return [
        ["".join(cell.itertext()) for cell in row]
        for row in parsed.findall(".//table")[number].iter("tr")
    ]


def test_a_result_shows_facts_its_front_and_some_members():
    result = study(LOSS, SIZE).result()
    parsed = tree(result._repr_html_())
    facts = dict(rows(parsed, 0))
    assert facts["space"] == "small <b>"
    assert facts["evaluations"].startswith("20 in ")
    head, *members = rows(parsed, 1)
    assert head == ["shape", "loss", "size"]
    front = result.problem.space.texts(result.front().genotypes)
    assert members[0][0] == front[0]
    assert {member[0] for member in members} <= set(front)
    circles = [c for c in parsed.iter("circle") if c.find("title") is not None]
    assert len(circles) == len(front)
    assert circles[0].find("title").text.startswith(f"{front[0]}: loss ")
    assert len(result._repr_html_()) < 20_000
    assert "\n" not in repr(result)


def test_a_study_shows_what_it_has_found_and_by_what():
    made = study(LOSS, SIZE)
    facts = dict(rows(tree(made._repr_html_()), 0))
    assert facts["strategy"] == "RandomSearch"
    assert made._repr_html_().count("<circle") == made.result()._repr_html_().count("<circle")
    fresh = Study(made.problem, RandomSearch)
    assert "<svg" not in fresh._repr_html_()
    assert dict(rows(tree(fresh._repr_html_()), 0))["evaluations"] == "0 in 0.0 s"


def test_one_objective_has_a_table_alone_and_three_are_a_projection():
    one = study(LOSS).result()
    parsed = tree(one._repr_html_())
    assert parsed.find(".//svg") is None
    best = one.problem.space.texts(one.best().genotypes)[0]
    assert rows(parsed, 1)[1][0] == best
    assert len(rows(parsed, 1)) == 1 + notebook.ROWS
    assert "a projection of 3 objectives onto two" in study(LOSS, SIZE, TIME)._repr_html_()


def test_nothing_allowed_is_no_error():
    # Measured, so that no draw can know what is allowed.
    dear = Formula("dear", lambda genotypes: 1.0 + genotypes.sum(axis=1), cheap=False)
    strict = study(dear, constraints=(parse_constraint("dear<=0.5"),))
    assert len(tree(strict._repr_html_()).findall(".//table")) == 1


def test_what_is_infinite_has_no_place_in_the_picture():
    endless = Formula("endless", lambda g: np.where(g[:, 0] == 0, np.inf, 1.0 + g.sum(axis=1)))
    parsed = tree(study(endless, SIZE)._repr_html_())
    places = [float(c.get(axis)) for c in parsed.iter("circle") for axis in ("cx", "cy")]
    assert places
    assert np.isfinite(places).all()


def test_predictors_and_cards_say_what_they_are():
    process = GaussianProcess(rows=70)
    assert repr(process) == f"<Predictor gaussian-process: {process.label}>"
    assert dict(rows(tree(process._repr_html_()), 0)) == {"rows": "70", "seed": "0"}
    folder = Path(__file__).parents[2] / "search_spaces/nastool_supershaper/reference/minilm-6"
    _, card = load_predictor(folder / "perplexity")
    facts = dict(rows(tree(card._repr_html_()), 0))
    assert facts["by"] == card.by
    assert facts["held out"].startswith(str(card.scores))


class Clock(Device):
    @property
    def facts(self):
        return {"processor": "<imaginary>", "threads": 2, "runtime": "none", "more": 1}

    def measure(self, deployment, warmup, repeats):
        raise NotImplementedError


class Absent(Clock):
    @property
    def facts(self):
        raise RuntimeError("unplugged")


def test_devices_say_what_their_numbers_depend_on_if_they_can():
    assert repr(Clock()) == "<Device Clock: <imaginary>, 2, none>"
    assert dict(rows(tree(Clock()._repr_html_()), 0))["processor"] == "<imaginary>"
    assert repr(Absent()) == "<Device Absent>"
    assert tree(Absent()._repr_html_()).find(".//table") is None


@pytest.mark.parametrize("value", [3.0, 0.0])
def test_a_picture_of_one_point_is_no_division_by_zero(value):
    picture = notebook.scatter([(value, value, "it")], [], ("x", "y"), (("a", "b"), ("c", "d")))
    (circle,) = ET.fromstring(picture).iter("circle")
    assert np.isfinite([float(circle.get("cx")), float(circle.get("cy"))]).all()
