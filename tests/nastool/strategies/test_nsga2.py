import sys

import numpy as np
import pytest

from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.evaluations import Evaluations
from nastool.strategies.nsga2 import ALGORITHMS, Pymoo
from nastool.testing import StrategyConformance, Widths, example_problems

pytest.importorskip("pymoo")


class TestNSGA2(StrategyConformance):
    def make(self, problem, seed):
        return Pymoo(problem, seed, population_size=16)


class TestGeneticAlgorithm(StrategyConformance):
    """Its survival is another; how genes vary is the same as above."""

    @pytest.fixture(params=["single-hard", "single-soft", "failing"])
    def problem(self, request):
        return example_problems()[request.param]

    def make(self, problem, seed):
        return Pymoo(problem, seed, argument="ga", population_size=16)


@pytest.mark.parametrize("algorithm", ["age-moea", "age-moea2", "sms-emoa"])
class TestOthers:
    """One run of each; all of the suite would take minutes."""

    def test_resuming_equals_never_having_stopped(self, algorithm):
        class Suite(StrategyConformance):
            rounds = 3

            def make(self, problem, seed):
                return Pymoo(problem, seed, argument=algorithm, population_size=10)

        Suite().test_resuming_equals_never_having_stopped(example_problems()["pair-soft"])


def run(strategy, problem, generations, size):
    told = []
    for _ in range(generations):
        asked = strategy.ask(size)
        told.append(problem.evaluate(asked))
        strategy.tell(told[-1])
    return Evaluations.concatenate(told)


@pytest.mark.parametrize("name", ["pair", "single"])
def test_searches_as_plain_pymoo_does(name):
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as PlainProblem
    from pymoo.core.termination import NoTermination
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair

    problem = example_problems()[name]

    class Plain(PlainProblem):
        def __init__(self):
            super().__init__(n_var=4, n_obj=len(problem.objectives), xl=0, xu=4, vtype=int)

        def _evaluate(self, x, out, *args, **kwargs):
            out["F"] = problem.evaluate(x.astype(np.int64)).objectives

    strategy = Pymoo(problem, 7, population_size=20)
    first = strategy.ask(20)
    settings = {"prob": 1.0, "eta": 3.0, "vtype": float, "repair": RoundingRepair()}
    plain = NSGA2(20, sampling=first, crossover=SBX(**settings), mutation=PM(**settings))
    plain.setup(Plain(), termination=NoTermination())
    plain.random_state = np.random.default_rng(0)
    plain.random_state.bit_generator.state = strategy.rng.bit_generator.state
    strategy.tell(problem.evaluate(first))
    for generation in range(8):
        infills = plain.ask()
        plain.evaluator.eval(plain.problem, infills)
        if generation:
            asked = strategy.ask(20)
            assert np.array_equal(asked, infills.get("X"))
            strategy.tell(problem.evaluate(asked))
        plain.tell(infills=infills)


def test_half_a_generation_can_be_asked_for():
    problem = example_problems()["pair"]
    whole = run(Pymoo(problem, 3, population_size=20), problem, 6, 20)
    halves = run(Pymoo(problem, 3, population_size=20), problem, 12, 10)
    assert np.array_equal(whole.genotypes, halves.genotypes)


def test_warm_start_takes_part_in_the_first_survival():
    problem = example_problems()["pair"]
    strategy = Pymoo(problem, 0, population_size=12)
    strategy.tell(problem.evaluate(np.array([[0, 0, 0, 0], [4, 4, 4, 4]])))
    asked = strategy.ask(12)
    assert len(asked) == 10
    strategy.tell(problem.evaluate(asked))
    strategy.ask(12)
    members = strategy.state_dict()["members"]["X"].tolist()
    assert [0, 0, 0, 0] in members
    assert [4, 4, 4, 4] in members


@pytest.mark.parametrize("name", ["single", "single-hard", "single-mixed"])
def test_finds_the_optimum_of_a_small_space(name):

    problem = example_problems()[name]
    everything = problem.space.enumerate()
    everything = problem.space.canonicalize(everything)
    truth = problem.evaluate(everything[problem.admissible(everything)])
    told = run(Pymoo(problem, 1, population_size=30), problem, 20, 30)
    assert told.objectives[told.feasible].min() == truth.objectives[truth.feasible].min()


def test_unknown_algorithms_and_wrong_numbers_of_objectives_are_named():
    problems = example_problems()
    with pytest.raises(InvalidInputError, match=r"'nsga9'; did you mean nsga2\?"):
        Pymoo(problems["pair"], 0, argument="nsga9")
    with pytest.raises(InvalidInputError, match=f"'other'; known: {', '.join(ALGORITHMS)}"):
        Pymoo(problems["pair"], 0, argument="other")
    with pytest.raises(InvalidInputError, match="ga takes one objective, got 2"):
        Pymoo(problems["pair"], 0, argument="ga")
    with pytest.raises(InvalidInputError, match="sms-emoa takes several objectives, got one"):
        Pymoo(problems["single"], 0, argument="sms-emoa")
    with pytest.raises(InvalidInputError, match="at least 2, got 1"):
        Pymoo(problems["pair"], 0, population_size=1)


def test_missing_pymoo_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymoo.core.termination", None)
    with pytest.raises(MissingDependencyError, match=r"nastool\[strategies\]"):
        Pymoo(example_problems()["pair"], 0)


def test_space_with_one_architecture_is_exhausted():
    from nastool.problem import Problem

    space = Widths(layers=2, widths=(3,))
    problem = Problem(space, (Problem(space, example_problems()["single"].objectives).objectives))
    strategy = Pymoo(problem, 0)
    asked = strategy.ask(5)
    assert asked.tolist() == [[0, 0]]
    strategy.tell(problem.evaluate(asked))
    assert len(strategy.ask(5)) == 0


def test_a_population_is_a_hundred_by_default():
    problem = example_problems()["pair"]
    assert Pymoo(problem, 0)._algorithm.pop_size == 100
