import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.evaluations import Evaluations
from nastool.problem import Problem
from nastool.strategies.evolution import Evolution, tournament
from nastool.strategies.random import RandomSearch
from nastool.strategies.ranking import ranking
from nastool.testing import Formula, StrategyConformance, Widths, example_problems


class TestAging(StrategyConformance):
    def make(self, problem, seed):
        return Evolution(problem, seed, population_size=20)


class TestElitist(StrategyConformance):
    def make(self, problem, seed):
        return Evolution(problem, seed, population_size=20, selection="elitist", mutation="step")


class TestPaper(StrategyConformance):
    def make(self, problem, seed):
        return Evolution(problem, seed, population_size=20, argument="paper")


def best(problem, strategy, budget, batch):
    evaluations = []
    while sum(map(len, evaluations)) < budget and len(asked := strategy.ask(batch)):
        evaluations.append(problem.evaluate(asked))
        strategy.tell(evaluations[-1])
    told = Evaluations.concatenate(evaluations)
    return told.objectives[told.feasible, 0].min(), told


@pytest.mark.parametrize("selection", ["aging", "elitist"])
@pytest.mark.parametrize("name", ["single", "single-hard", "single-soft", "failing"])
def test_finds_the_optimum_of_a_small_space(name, selection):
    problem = example_problems()[name]
    everything = problem.space.enumerate()
    everything = everything[problem.admissible(everything)]
    truth = problem.evaluate(problem.space.canonicalize(everything))
    strategy = Evolution(
        problem, 0, population_size=30, selection=selection, mutation_probability=0.3
    )
    found, _ = best(problem, strategy, 450, 30)
    assert found == truth.objectives[truth.feasible, 0].min()


def test_tournament_winners_are_distributed_as_played_tournaments():
    rng = np.random.default_rng(0)
    n, size = 40_000, 3
    winners = tournament(12, size, n, rng)
    played = rng.integers(0, 12, size=(n, size)).min(axis=1)
    shares = [np.bincount(w, minlength=12) / n for w in (winners, played)]
    places = np.arange(12)
    exact = ((12 - places) / 12) ** size - ((11 - places) / 12) ** size
    assert np.abs(shares[0] - exact).max() < 0.01
    assert np.abs(shares[1] - exact).max() < 0.01


def test_tournament_of_one_is_a_uniform_draw():
    winners = tournament(5, 1, 20_000, np.random.default_rng(1))
    assert np.abs(np.bincount(winners, minlength=5) / 20_000 - 0.2).max() < 0.015


@pytest.mark.parametrize("probability", [0.2, 0.4, 1.0])
def test_every_gene_mutates_with_the_given_probability(probability):
    space = Widths(layers=30)  # so large that children are hardly ever repeated
    problem = Problem(space, (Formula("sum", lambda g: g.sum(axis=1).astype(float)),))
    strategy = Evolution(problem, 0, mutation_probability=probability, population_size=2)
    parent = np.arange(62).reshape(2, 31)[:, :30] % 5
    strategy.tell(problem.evaluate(parent[[0, 0]]))
    strategy.tell(problem.evaluate(parent[[1]]))
    strategy.tell(problem.evaluate(parent[[1]]))
    children = strategy.ask(20_000)
    changed = (children != parent[1]).mean(axis=0)
    # A fifth of the uniform draws from five choices hits the old one.
    assert np.abs(changed - probability * 4 / 5).max() < 0.015


def test_the_oldest_die():
    problem = example_problems()["single"]
    strategy = Evolution(problem, 0, population_size=10)
    told = problem.evaluate(problem.sample(25, np.random.default_rng(0)))
    for row in range(25):
        strategy.tell(told.take(slice(row, row + 1)))
    assert np.array_equal(strategy.population.genotypes, told.genotypes[15:])


def test_elitist_keeps_the_best_distinct_half():
    problem = example_problems()["single-soft"]
    strategy = Evolution(problem, 0, population_size=10, selection="elitist")
    told = problem.evaluate(np.unique(problem.sample(60, np.random.default_rng(0)), axis=0))
    strategy.tell(told)
    strategy.tell(told)
    expected = told.take(np.lexsort((told.objectives[:, 0], told.total_violation))[:5])
    assert np.array_equal(strategy.population.objectives, expected.objectives)


def test_crossover_takes_every_gene_from_a_parent():
    problem = Problem(Widths(layers=30), (Formula("sum", lambda g: g.sum(axis=1).astype(float)),))
    strategy = Evolution(problem, 0, population_size=2, selection="elitist", crossover=1.0)
    strategy.tell(problem.evaluate(np.array([[0] * 30, [4] * 30])))
    children = strategy.ask(4_000)
    assert set(np.unique(children)) == {0, 4}
    assert np.abs((children == 4).mean(axis=0) - 0.5).max() < 0.04


def test_beats_random_search_on_several_objectives():
    pareto = pytest.importorskip("nastool.pareto")
    problem = example_problems()["pair"]
    volumes = {}
    for kind in (Evolution, RandomSearch):
        settings = {"population_size": 20, "mutation": "step"} if kind is Evolution else {}
        told = best(problem, kind(problem, 0, **settings), 200, 20)[1]
        volumes[kind] = pareto.hypervolume(told.objectives, np.array([10.0, 300.0]))
    assert volumes[Evolution] > volumes[RandomSearch]


def test_ranking_puts_feasible_before_infeasible_before_failed():
    evaluations = Evaluations(
        np.zeros((5, 1), dtype=np.int64),
        np.array([[3.0], [1.0], [2.0], [np.nan], [0.0]]),
        np.array([[0.0], [-1.0], [0.5], [-1.0], [0.1]]),
    )
    assert ranking(evaluations).tolist() == [1, 0, 3, 4, 2]


def test_ranking_of_several_objectives_prefers_the_front_and_its_ends():
    points = np.array([[0.0, 4.0], [1.0, 2.9], [1.1, 2.8], [4.0, 0.0], [4.0, 4.0], [2.0, 1.9]])
    evaluations = Evaluations(np.zeros((6, 1), dtype=np.int64), points, np.zeros((6, 0)))
    places = ranking(evaluations)
    assert set(places[[0, 3]]) == {0, 1}
    assert places[4] == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population_size": 1}, "population_size must be at least 2, got 1"),
        ({"population_size": 2_000_000}, "population_size must be at most 1,000,000"),
        ({"mutation_probability": 0.0}, "mutation_probability must be above 0"),
        ({"selection": "roulette"}, "selection must be aging or elitist, got 'roulette'"),
        ({"mutation": "gauss"}, "mutation must be uniform or step, got 'gauss'"),
        ({"tournament_size": 101}, "between 1 and the population size 100, got 101"),
        ({"crossover": 1.5}, "crossover must be between 0 and 1, got 1.5"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        Evolution(example_problems()["single"], 0, **settings)


@pytest.mark.parametrize(("population", "size", "batch"), [(100, 25, 50), (3, 2, 1), (10, 2, 5)])
def test_sizes_follow_the_population(population, size, batch):
    strategy = Evolution(example_problems()["single"], population_size=population)
    assert (strategy._tournament_size, strategy.batch_size) == (size, batch)


@pytest.mark.parametrize("mutation", ["uniform", "step"])
@pytest.mark.parametrize("probability", [None, 0.5])
def test_a_step_changes_by_one_and_a_draw_by_any(mutation, probability):
    space = Widths(layers=20)
    problem = Problem(space, (Formula("sum", lambda g: g.sum(axis=1).astype(float)),))
    strategy = Evolution(
        problem, 0, population_size=2, mutation=mutation, mutation_probability=probability
    )
    parents = np.array([[0] * 20, [0] * 19 + [1]])
    strategy.tell(problem.evaluate(parents))
    children = strategy.ask(25)
    assert set(np.unique(children[:, :19])) == ({0, 1} if mutation == "step" else set(range(5)))


@pytest.mark.parametrize("size", [1, 2, 7])
def test_no_parents_are_chosen_where_none_are_wanted(size):
    problem = example_problems()["single"]
    strategy = Evolution(problem, 0, population_size=size + 1)
    strategy.tell(problem.evaluate(problem.sample(size + 1, np.random.default_rng(0))))
    assert strategy.ask(0).shape == (0, 4)


@pytest.mark.parametrize("tournament_size", [1, 2, 5])
def test_parents_are_those_of_the_tournament(tournament_size):
    """Whatever few of the best are looked at, the k-th best is a parent as often as it must be."""
    space = Widths(layers=12)
    problem = Problem(space, (Formula("sum", lambda g: g.sum(axis=1).astype(float)),))
    strategy = Evolution(problem, 0, population_size=8, tournament_size=tournament_size)
    steps = np.arange(12) < np.arange(8)[:, None]
    strategy.tell(problem.evaluate(steps.astype(np.int64)[::-1]))
    chosen = [strategy._choose_parents(n) for n in (0, 1, 3_000, 2, 3_000)]
    assert [len(rows) for rows in chosen] == [0, 1, 3_000, 2, 3_000]
    shares = np.bincount(7 - np.concatenate(chosen), minlength=8) / 6_003
    places = np.arange(8)
    exact = ((8 - places) / 8) ** tournament_size - ((7 - places) / 8) ** tournament_size
    assert np.abs(shares - exact).max() < 0.03
