"""Optuna's own suite for samplers, whole."""

import pytest

optuna = pytest.importorskip("optuna")
suite = pytest.importorskip("optuna.testing.pytest_samplers")
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

from nastool.integrations.optuna import NastoolSampler  # noqa: E402


@pytest.fixture(autouse=True)
def quiet():
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(verbosity)


class TestPareto(
    suite.BasicSamplerTestCase, suite.RelativeSamplerTestCase, suite.MultiObjectiveSamplerTestCase
):
    @pytest.fixture
    def sampler(self):
        return lambda: NastoolSampler("pareto", 0)


class TestEvolution(TestPareto):
    @pytest.fixture
    def sampler(self):
        return lambda: NastoolSampler("evolution", 0, settings={"population_size": 4})


class TestLocal(TestPareto):
    @pytest.fixture
    def sampler(self):
        return lambda: NastoolSampler("local", 0)
