import numpy as np
import pytest

from nastool.devices import Device, Timing
from nastool.errors import InvalidInputError, MissingDependencyError, NastoolError
from nastool.executors import Serial, evaluated
from nastool.verification.verification import measure
from nastool_objectives.latency.objective import Measured
from nastool_objectives.latency.registry import DeviceCard

GENOTYPES = np.array([[0, 0, 0, 0], [4, 4, 4, 4], [2, 2, 2, 2]])


class Flaky(Device):
    """Takes the seconds that the model says; some visits, counted from 0, raise an error."""

    def __init__(self, failing, error=None):
        self.failing = failing
        self.error = error or NastoolError("ssh: connection reset")
        self.calls = -1

    @property
    def facts(self):
        return {}

    def measure(self, deployment, warmup, repeats):
        self.calls += 1
        if self.calls in self.failing:
            raise self.error
        return Timing(np.full(repeats, deployment.module))


@pytest.fixture
def objective(space, workload):
    card = DeviceCard("board", "flaky", {}, {}, workload, "runnable", space.fingerprint)

    def make(failing, error=None):
        return Measured(space, Flaky(failing, error), card, "measured_latency[board]")

    return make


def seconds(space, rows):
    return 2e-3 * space.costs["params"].evaluate(rows)


@pytest.mark.parametrize("failing", [[], [0], [0, 4], [8]])
def test_visits_that_fail_leave_the_others_of_the_shape(space, objective, failing):
    values = objective(failing).evaluate(GENOTYPES)
    np.testing.assert_allclose(values, seconds(space, GENOTYPES))


def test_a_shape_that_never_runs_is_one_that_failed(space, objective):
    # One shape at a time, three visits each: the second shape is never measured.
    values = measure(space, objective({3, 4, 5}), GENOTYPES)
    np.testing.assert_allclose(values[[0, 2]], seconds(space, GENOTYPES[[0, 2]]))
    assert np.isnan(values[1])
    rng = np.random.default_rng(0)
    order = np.concatenate([rng.permutation(3) for _ in range(3)])
    together = objective(np.flatnonzero(order == 1)).evaluate(GENOTYPES)
    np.testing.assert_array_equal(together, values)


def test_the_device_says_why_nothing_was_measured(space, objective):
    [chunk] = evaluated(Serial(), objective(range(100)), GENOTYPES)
    assert np.isnan(chunk.values).all()
    (message,) = set(chunk.messages.values())
    assert message.startswith("RuntimeError: ssh: connection reset")
    with pytest.raises(NastoolError, match=r"none of the shapes: .*ssh: connection reset"):
        measure(space, objective(range(100)), GENOTYPES)


@pytest.mark.parametrize("error", [InvalidInputError, MissingDependencyError])
def test_what_only_a_user_can_mend_is_raised(objective, error):
    with pytest.raises(error, match="no such setting"):
        objective([1], error("no such setting")).evaluate(GENOTYPES)
