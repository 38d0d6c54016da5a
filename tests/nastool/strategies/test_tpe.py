import sys
import warnings

import numpy as np
import pytest

from nastool.constraint import Constraint
from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.problem import Problem
from nastool.strategies.tpe import SAMPLERS, OptunaSampler
from nastool.testing import Formula, StrategyConformance, Widths, example_problems

optuna = pytest.importorskip("optuna")


class TestTPE(StrategyConformance):
    lessons = 60

    batch = 4
    rounds = 4

    @pytest.fixture(params=["single-hard", "single-soft", "pair", "pair-hard", "triple-failing"])
    def problem(self, request):
        return example_problems()[request.param]

    def make(self, problem, seed):
        return OptunaSampler(problem, seed)


@pytest.mark.parametrize("name", ["pair", "single-mixed"])
def test_searches_as_plain_optuna_does(name):
    problem = example_problems()[name]
    strategy = OptunaSampler(problem, 5)
    seeds = np.random.default_rng(5)
    plain = optuna.create_study(directions=["minimize"] * len(problem.objectives))
    distributions = {
        gene.name: optuna.distributions.IntDistribution(0, len(gene.choices) - 1)
        if gene.ordered
        else optuna.distributions.CategoricalDistribution(range(len(gene.choices)))
        for gene in problem.space.genes
    }
    known = set()
    for _ in range(30):
        asked = strategy.ask(1)
        strategy.tell(problem.evaluate(asked))
        with warnings.catch_warnings():
            # Before Optuna 5 the option counts as experimental.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            plain.sampler = optuna.samplers.TPESampler(
                seed=int(seeds.integers(2**31)), constant_liar=True
            )
        trial = plain.ask(distributions)
        genotype = np.array([[trial.params[gene.name] for gene in problem.space.genes]])
        genotype = problem.space.canonicalize(genotype)
        if tuple(genotype[0]) in known:
            assert tuple(asked[0]) not in known
            break
        assert np.array_equal(genotype, asked)
        known.add(tuple(asked[0]))
        # Optuna must see the canonical one, too.
        values = problem.evaluate(asked).objectives[0].tolist()
        plain.tell(trial, state=optuna.trial.TrialState.FAIL)
        names = list(distributions)
        params = dict(zip(names, asked[0].tolist(), strict=True))
        plain.add_trial(
            optuna.trial.create_trial(params=params, distributions=distributions, values=values)
        )
    assert len(known) > 10  # beyond the uniform draws that both begin with


@pytest.mark.parametrize("batch", [1, 5])
def test_no_proposal_is_wasted_on_what_is_known(batch):
    problem = Problem(Widths(2), (Formula("loss", total),))
    strategy = OptunaSampler(problem, 0)
    asked = []
    while len(found := strategy.ask(batch)):
        asked += map(tuple, found.tolist())
        strategy.tell(problem.evaluate(found))
    assert len(asked) == len(set(asked)) == problem.space.size


def total(genotypes):
    return genotypes.sum(axis=1).astype(float)


def test_learns_from_constraints_that_are_honoured_in_the_ranking():
    loss = Formula("loss", total)
    slow = Formula("sum", total, cheap=False)
    constrained = Problem(Widths(), (loss,), (Constraint("sum", ">=", 8),), metrics=(slow,))
    free = Problem(Widths(), (loss,))
    shares = []
    for problem in (constrained, free):
        strategy = OptunaSampler(problem, 0)
        genotypes = []
        for _ in range(60):
            genotypes.append(strategy.ask(1))
            strategy.tell(problem.evaluate(genotypes[-1]))
        shares.append(constrained.evaluate(np.concatenate(genotypes[20:])).feasible.mean())
    assert shares[0] > shares[1] + 0.2


def test_is_quiet(capfd):
    problem = example_problems()["pair-soft"]
    strategy = OptunaSampler(problem, 0)
    strategy.tell(problem.evaluate(strategy.ask(3)))
    assert capfd.readouterr() == ("", "")


def test_unknown_sampler_lists_the_known():
    with pytest.raises(InvalidInputError, match=f"'Best'; known: {', '.join(SAMPLERS)}"):
        OptunaSampler(example_problems()["pair"], 0, argument="Best")


def test_missing_optuna_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingDependencyError, match=r"nastool\[strategies\]"):
        OptunaSampler(example_problems()["pair"], 0)
