import numpy as np
import pytest

from nastool.constraint import parse_constraint
from nastool.errors import InvalidInputError
from nastool.objective import Kind
from nastool.plots.shapes import draw_shapes, shapes_data
from nastool.problem import Problem


def test_columns_are_the_front_from_small_to_large(problem, result):
    data = shapes_data(result)
    front = result.front()
    assert data.total == len(front) == len(data.labels)
    params = problem.metric("params").evaluate(data.genotypes)
    assert np.all(np.diff(params) > 0)
    assert sorted(map(tuple, data.genotypes)) == sorted(map(tuple, front.genotypes))
    assert np.array_equal(data.values, problem.space.features(data.genotypes).T)
    assert data.choices[0][0] == str(int(data.values[0, 0]))
    assert data.metric == "params"
    assert data.labels[-1] in data.summaries[-1]


def test_long_front_is_thinned_with_both_ends(result):
    data, whole = shapes_data(result, limit=3), shapes_data(result)
    assert data.values.shape == (4, 3)
    assert data.labels[0] == whole.labels[0]
    assert data.labels[-1] == whole.labels[-1]
    assert "3 of" in draw_shapes(data).layout.title.subtitle.text


def test_choices_that_are_no_numbers_are_drawn_by_index(toy):
    found = toy.run(Problem(toy.Space(("a", "b", "c")), (toy.Score(),)), budget=30)
    data = shapes_data(found)
    assert not data.numeric
    assert set(data.values.ravel()) <= {0.0, 1.0, 2.0}
    assert set(np.ravel(data.choices)) <= {"a", "b", "c"}


def test_figure_holds_the_data(result):
    data = shapes_data(result)
    (heat,) = draw_shapes(data).data
    assert np.array_equal(heat.z, data.values)
    assert list(heat.y) == ["layer_1", "layer_2", "layer_3", "layer_4"]
    assert data.summaries[0] in heat.text[0][0]


def test_empty_front_and_bad_limit_are_refused(result, problem, toy):
    with pytest.raises(InvalidInputError, match="at least 1, got 0"):
        shapes_data(result, limit=0)
    measured = toy.Score("speed", kind=Kind.MEASURED)
    bound = parse_constraint("speed<=0")
    found = toy.run(Problem(problem.space, problem.objectives, (bound,), (measured,)))
    with pytest.raises(InvalidInputError, match="front is empty"):
        shapes_data(found)
