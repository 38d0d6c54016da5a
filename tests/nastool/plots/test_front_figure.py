import numpy as np
import pytest

from nastool.constraint import parse_constraint
from nastool.errors import InvalidInputError
from nastool.objective import Direction, Kind
from nastool.plots import front as module
from nastool.plots.front import draw_front, front_data
from nastool.problem import CostObjective, Problem


def test_front_and_cloud_are_the_study_s(problem, result):
    data = front_data({"mine": result})
    (series,) = data.series
    assert (data.x.name, data.y.name) == ("params", "loss")
    assert series.evaluations == 100
    assert len(series.front.x) == len(result.front())
    assert len(series.front.x) + len(series.cloud.x) == 100
    assert np.all(np.diff(series.front.x) > 0)
    assert np.all(np.diff(series.front.y) < 0)
    expected = problem.metric("params").evaluate(series.cloud.genotypes)
    assert np.array_equal(series.cloud.x, expected)
    # Nothing that is shown as cloud dominates a member of the front.
    for x, y in zip(series.front.x, series.front.y, strict=True):
        assert not np.any((series.cloud.x <= x) & (series.cloud.y <= y))


def test_points_carry_their_shapes(problem, result):
    (series,) = front_data({"mine": result}).series
    for text, genotype in zip(series.front.texts, series.front.genotypes, strict=True):
        assert np.array_equal(problem.space.parse(text)[0], genotype)


def test_axes_and_notes_say_where_numbers_come_from(result):
    data = front_data({"mine": result})
    assert data.x.label == "params (computed)"
    assert data.y.label == "loss (predicted)"
    assert data.notes == (
        "loss: predicted (a formula, R2 0.9); PROXY: a <small> net",
        "params: computed (closed form)",
    )


def test_constraints_on_an_axis_are_bounds(result):
    (bound,) = front_data({"mine": result}).bounds
    assert (bound.axis, bound.value, bound.text) == ("x", 6e6, "params<=6M")


def test_large_cloud_is_thinned_the_same_way_every_time(result, monkeypatch):
    monkeypatch.setattr(module, "CLOUD", 20)
    first, second = (front_data({"mine": result}).series[0].cloud for _ in range(2))
    assert len(first.x) == 20
    assert first.texts == second.texts


def test_infeasible_points_stay_out(problem, toy):
    measured = toy.Score("speed", kind=Kind.MEASURED)
    bound = parse_constraint("speed<=0.2")
    found = toy.run(Problem(problem.space, problem.objectives, (bound,), (measured,)))
    feasible = found.evaluations.feasible.sum()
    assert 0 < feasible < 100
    (series,) = front_data({"mine": found}).series
    assert len(series.front.x) + len(series.cloud.x) == feasible


def test_maximised_objective_keeps_its_sign_and_staircase(toy):
    space = toy.Space()
    speed = toy.Score("speed", "s", Direction.MAXIMIZE)
    found = toy.run(Problem(space, (CostObjective(space.costs["params"], space), speed)))
    data = front_data({"mine": found}, x="speed", y="params")
    assert data.x.label == "speed (s, predicted)"
    assert np.all(data.series[0].front.x < 0)
    assert draw_front(data).data[-1].line.shape == "vh"


def test_single_objective_without_a_cost_is_drawn_over_evaluations(toy):
    found = toy.run(Problem(toy.Space(("a", "b", "c")), (toy.Score(),)), budget=30)
    data = front_data({"mine": found})
    assert data.x.name == "evaluation"
    (series,) = data.series
    assert series.front.y.min() <= series.cloud.y.min()
    assert set(series.cloud.x) | set(series.front.x) == set(range(1, 31))
    assert draw_front(data).data[-1].mode == "markers"


def test_single_objective_takes_a_cost_of_the_space_along(toy):
    assert front_data({"mine": toy.run(Problem(toy.Space(), (toy.Score(),)))}).x.name == "params"


def test_third_objective_is_in_the_hover(problem, toy):
    third = Problem(problem.space, (*problem.objectives, toy.Score("speed", "s")))
    data = front_data({"mine": toy.run(third)})
    figure = draw_front(data)
    front = figure.data[-1]
    assert front.mode == "markers"
    assert "speed" in front.customdata[0][1]
    # Two of three are a projection, and the page can show the others.
    assert figure.layout.title.text == "Pareto front: a projection of 3 metrics onto two"
    assert [axis.name for axis in data.choice] == ["loss", "params", "speed"]
    assert front.meta["params"] == list(front.x)
    assert len(front.meta["speed"]) == len(front.x)
    assert not front_data({"mine": toy.run(problem)}).choice


def test_several_studies_share_axes(problem, result, toy):
    data = front_data({"one": result, "two": toy.run(problem, seed=1)})
    figure = draw_front(data, "Two")
    assert [series.name for series in data.series] == ["one", "two"]
    assert len(figure.data) == 4
    assert len({trace.legendgroup for trace in figure.data}) == 2
    assert figure.data[2].line.color != figure.data[3].line.color
    assert len(data.bounds) == 1


def test_figure_holds_the_data(result):
    data = front_data({"mine": result})
    figure = draw_front(data)
    cloud, front = figure.data
    assert list(front.x) == data.series[0].front.x.tolist()
    assert len(cloud.x) == len(data.series[0].cloud.x)
    assert front.customdata[0][1].startswith("<br>loss")
    assert "(predicted)<br>params" in front.customdata[0][1]
    assert "PROXY" in figure.layout.title.subtitle.text
    assert figure.layout.shapes[0].x0 == 6e6


def test_no_results_and_mixed_spaces_are_refused(result, toy):
    with pytest.raises(InvalidInputError, match="at least one result"):
        front_data({})
    other = toy.run(Problem(toy.Space((1, 2, 3)), (toy.Score(),)))
    with pytest.raises(InvalidInputError, match="one space"):
        front_data({"one": result, "two": other})
