import numpy as np
import pytest

from nastool import pareto
from nastool.exact.regret import front_regret


@pytest.mark.parametrize("scale", [1e-9, 1e-4, 1e3, 1e12])
@pytest.mark.parametrize(
    ("found", "truth"),
    [
        ([[3.0, 9.0], [5.0, 6.0]], [[2.0, 8.0], [4.0, 5.0]]),
        ([[3.0, 9.0]], [[2.0, 8.0]]),
        ([[3.0, 9.0], [2.0, 11.0]], [[2.0, 8.0]]),
        ([[3.0, 9.0]], [[0.0, 8.0]]),
        ([[-3.0, 9.0]], [[-4.0, 8.0]]),
    ],
    ids=["fronts", "points", "front beside a point", "zero", "negative"],
)
def test_regret_is_the_same_in_every_unit(found, truth, scale):
    found, truth = np.array(found), np.array(truth)
    one = front_regret(found, truth)
    for units in ([scale, scale], [scale, 1.0], [1.0, scale]):
        other = front_regret(found * units, truth * units)
        assert other.gap == pytest.approx(one.gap)
        assert other.igd_plus == pytest.approx(one.igd_plus)
        assert other.additive_epsilon == pytest.approx(one.additive_epsilon)
        assert (other.hit, other.points) == (one.hit, one.points)
    assert 0 < one.gap <= 1


def test_what_found_a_single_point_has_no_regret():
    assert front_regret(np.array([[2.0, 8.0], [3.0, 9.0]]), np.array([[2.0, 8.0]])).gap == 0.0


def test_a_front_of_one_value_is_scaled_by_its_size():
    ideal, extent = pareto.scale([[2.0, 5.0], [1.0, 5.0]], [[9.0, 9.0]])
    assert ideal.tolist() == [1.0, 5.0]
    assert extent.tolist() == [1.0, 5.0]
