import json

import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool_objectives.latency.repeatability import NoiseGate, Repeatability, repeatability

pytest.importorskip("scipy")


def two_runs(noise, n=400, seed=0):
    """Two measurements of the same values, each with noise of a relative size."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(1.0, 1.4, n)
    return [values * (1 + noise * rng.standard_normal(n)) for _ in range(2)]


def test_equal_runs_agree_perfectly():
    values = np.array([1.0, 3.0, 2.0])
    found = repeatability(values, values)
    assert found == Repeatability(n=3, spearman=1.0, error=0.0, error_p90=0.0, shift=0.0)


def test_errors_are_relative_to_the_mean_of_both():
    found = repeatability(np.array([0.9, 0.9]), np.array([1.1, 1.1]))
    assert found.error == pytest.approx(0.2)
    assert found.shift == pytest.approx(0.2)
    assert np.isnan(found.spearman)


@pytest.mark.parametrize("noise", [0.001, 0.01])
def test_the_gate_passes_what_repeats(noise):
    assert NoiseGate().refusal(repeatability(*two_runs(noise))) == ""


def test_the_gate_refuses_ranks_that_are_noise():
    # As in a known unguarded campaign: 6% of noise on a spread of 10%.
    found = repeatability(*two_runs(0.08))
    assert 0.4 < found.spearman < 0.8
    reason = NoiseGate().refusal(found)
    assert "rank correlation between repeats must be at least 0.9" in reason
    assert "relative difference" in reason


def test_the_gate_refuses_a_shift_that_leaves_ranks_alone():
    values = np.linspace(1, 2, 50)
    reason = NoiseGate().refusal(repeatability(values, 1.2 * values))
    assert "rank" not in reason
    assert "relative difference between repeats must be at most 5%, got 18.2%" in reason


def test_what_cannot_be_ranked_does_not_pass():
    assert NoiseGate().refusal(repeatability(np.ones(5), np.ones(5)))


@pytest.mark.parametrize("gate", [{"spearman": 1.0}, {"spearman": -2.0}, {"error": 0.0}])
def test_thresholds_that_mean_nothing_are_rejected(gate):
    with pytest.raises(InvalidInputError, match="noise gate"):
        NoiseGate(**gate)


def test_different_lengths_are_rejected():
    with pytest.raises(InvalidInputError, match="two measurements of each shape"):
        repeatability(np.ones(3), np.ones(4))


def test_numbers_survive_json():
    found = repeatability(np.ones(2), np.full(2, 2.0))
    assert json.dumps(found.as_dict(), allow_nan=False)
    again = Repeatability.from_dict(json.loads(json.dumps(found.as_dict())))
    assert str(again) == str(found)
