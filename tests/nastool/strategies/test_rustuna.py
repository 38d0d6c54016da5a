import sys

import numpy as np
import pytest

from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.strategies.rustuna import RustunaSampler
from nastool.testing import StrategyConformance, example_problems

rustuna = pytest.importorskip("rustuna")


class TestRustuna(StrategyConformance):
    lessons = 60

    batch = 4
    rounds = 4

    @pytest.fixture(params=["single-hard", "single-soft", "pair", "pair-hard", "triple-failing"])
    def problem(self, request):
        return example_problems()[request.param]

    def make(self, problem, seed):
        return RustunaSampler(problem, seed)


def test_searches_as_plain_rustuna_does():
    problem = example_problems()["pair"]
    strategy, seeds = RustunaSampler(problem, 5), np.random.default_rng(5)
    storage = rustuna.storages.InMemoryStorage()
    settings = {"study_name": "plain", "storage": storage}
    plain = rustuna.create_study(directions=["minimize"] * 2, **settings)
    for _ in range(20):
        asked = strategy.ask(1)
        strategy.tell(problem.evaluate(asked))
        sampler = rustuna.samplers.TPESampler(seed=int(seeds.integers(2**31)))
        plain = rustuna.load_study(sampler=sampler, **settings)
        trial = plain.ask()
        row = [
            trial.suggest_int(gene.name, 0, len(gene.choices) - 1) for gene in problem.space.genes
        ]
        if not np.array_equal(problem.space.canonicalize(np.array([row])), asked):
            break  # a known one became its neighbour
        plain.tell(trial.number, problem.evaluate(asked).objectives[0].tolist())
    assert len(plain.trials) > 10


def test_what_is_not_there_is_told(monkeypatch):
    problem = example_problems()["pair"]
    with pytest.raises(InvalidInputError, match=r"did you mean TPESampler\?"):
        RustunaSampler(problem, argument="GPSampler")
    with pytest.raises(InvalidInputError, match="known: TPESampler, RandomSampler"):
        RustunaSampler(problem, argument="other")
    monkeypatch.setitem(sys.modules, "rustuna", None)
    with pytest.raises(MissingDependencyError, match="pip install rustuna"):
        RustunaSampler(problem)
