"""Each strategy at its default settings is the algorithm that docs/strategies.md says it is."""

import hashlib

import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.objective import Direction
from nastool.pareto import non_dominated
from nastool.plugins import load_strategy
from nastool.problem import CostObjective, Problem
from nastool.strategies.evolution import Evolution
from nastool.strategies.local import neighbours
from nastool.study import Study
from nastool.testing import Formula, Widths, example_problems

LAYERS = 12


class Layers(Widths):
    """Wide enough that nothing is bred twice by chance."""

    def __init__(self):
        super().__init__(layers=LAYERS)


def single():
    """One objective with a single optimum, at all zeros."""
    weights = np.arange(1, LAYERS + 1)
    return Problem(Layers(), (Formula("loss", lambda g: (g * weights).sum(axis=1).astype(float)),))


def pair():
    space = Layers()
    loss = Formula("loss", lambda g: (100 - g.sum(axis=1)).astype(float))
    return Problem(space, (loss, CostObjective(space.costs["params"], space)))


class Spy:
    """What a study asks of a strategy and tells it, batch by batch, and the members in between."""

    def __init__(self, problem, text, budget, seed=0):
        self.strategy = load_strategy(text, problem, seed)
        self.asked, self.told, self.members = [], [], []
        ask, tell = self.strategy.ask, self.strategy.tell

        def asking(n):
            self.asked.append(ask(n))
            return self.asked[-1]

        def telling(evaluations):
            tell(evaluations)
            self.told.append(evaluations)
            if isinstance(self.strategy, Evolution):
                self.members.append(self.strategy.population)

        self.strategy.ask, self.strategy.tell = asking, telling
        self.result = Study(problem, self.strategy, seed=seed).run(budget)


def differences(genotypes, others):
    """In how many genes each of (n, d) differs from each of (m, d); shape (n, m)."""
    return (genotypes[:, None] != others[None]).sum(axis=2)


def test_evolution_ages_whatever_the_quality():
    spy = Spy(single(), "evolution", 400)
    order = spy.result.evaluations.genotypes
    assert spy.strategy.batch_size == 50  # half of the population, never all of it
    done = 0
    for told, members in zip(spy.told, spy.members, strict=True):
        done += len(told)
        # The 100 youngest live, oldest first: one dies for each that is born.
        assert np.array_equal(members.genotypes, order[max(0, done - 100) : done])
    best = int(spy.result.evaluations.objectives[:200, 0].argmin())
    assert not (spy.members[-1].genotypes == order[best]).all(axis=1).any()


def test_evolution_draws_a_hundred_then_changes_one_gene_of_a_winner():
    spy = Spy(single(), "evolution", 600)
    sizes = np.cumsum([len(batch) for batch in spy.asked])
    start = int(np.flatnonzero(sizes == 100)[0])
    places = []
    for k in range(start + 1, len(spy.asked)):
        members = spy.members[k - 1]
        apart = differences(spy.asked[k], members.genotypes)
        assert np.all(apart.min(axis=1) == 1)  # one child, one parent, one gene
        rank = members.objectives[:, 0].argsort(kind="stable").argsort()
        places += [int(rank[row == 1].min()) for row in apart]
    # The best of 25 of 100 is at place 3 on average and hardly ever beyond the 25th.
    assert np.mean(places) < 6
    assert np.mean(np.array(places) >= 25) < 0.02


def test_evolution_one_at_a_time_is_the_published_loop():
    problem, strategy = single(), load_strategy("evolution", single(), 0)
    history = []
    for _ in range(250):
        child = strategy.ask(1)
        assert len(child) == 1
        if len(history) >= 100:
            alive = np.concatenate(history[-100:])
            assert differences(child, alive).min() == 1
        strategy.tell(problem.evaluate(child))
        history.append(child)
    assert np.array_equal(strategy.population.genotypes, np.concatenate(history[-100:]))


def test_paper_keeps_a_hundred_and_breeds_a_hundred_of_either_kind():
    spy = Spy(single(), "evolution:paper", 900)
    assert [len(batch) for batch in spy.asked] == [100, 200, 200, 200, 200]
    everyone = spy.told[0]
    for k in range(1, 5):
        parents = spy.members[k - 1]
        assert len(parents) == 100
        # Of all that lived the best survive: no age kills.
        values = np.sort(everyone.objectives[:, 0])[:100]
        assert np.array_equal(np.sort(parents.objectives[:, 0]), values)
        everyone = type(everyone).concatenate([everyone, spy.told[k]])


def test_paper_mutates_each_gene_with_probability_two_fifths():
    problem = single()
    strategy = load_strategy("evolution:paper", problem, 0)
    # One parent alone: a crossover with itself is known, so that mutants are all there is.
    strategy.tell(problem.evaluate(np.tile([1] * LAYERS, (100, 1))))
    for row in problem.sample(99, np.random.default_rng(0)):
        strategy._seen.add(row[None])
    children = strategy.ask(200)
    changed = (children != 1).mean()
    choices = len(problem.space.genes[0].choices)
    assert changed == pytest.approx(0.4 * (choices - 1) / choices, abs=0.03)


def test_paper_ends_after_three_hundred_iterations():
    assert load_strategy("evolution:paper", single())._most == 100 + 300 * 200
    strategy = Evolution(single(), 0, argument="paper", population_size=10, iterations=3)
    result = Study(single(), strategy).run(1000)
    assert len(result) == 10 + 3 * 20
    assert result.stop_reason == "exhausted"


def test_elitist_keeps_the_best_half_and_breeds_a_hundred():
    problem = single()
    strategy = Evolution(problem, 0, selection="elitist")
    assert strategy.batch_size == 100
    told = problem.evaluate(strategy.ask(100))
    strategy.tell(told)
    best = np.sort(told.objectives[:, 0])[:50]
    assert np.array_equal(strategy.population.objectives[:, 0], best)


def test_pareto_keeps_every_point_of_the_front():
    spy = Spy(pair(), "pareto", 600)
    kept = {tuple(row) for row in spy.strategy.parents.genotypes.tolist()}
    # The budget cut the last batch short, which is told once it is whole.
    told = np.concatenate([evaluations.objectives for evaluations in spy.told])
    assert 500 < len(told) < 600
    front = {tuple(row) for row in told[non_dominated(told)].tolist()}
    assert {tuple(row) for row in spy.strategy.parents.objectives.tolist()} >= front
    assert len(kept) == len(spy.strategy.parents) >= 50


def test_local_breeds_neighbours_of_its_front_only():
    problem = example_problems()["pair"]
    strategy = load_strategy("local", problem, 0)
    strategy.tell(problem.evaluate(first := strategy.ask(strategy.batch_size)))
    assert len(first) == 20
    for _ in range(4):
        front = strategy.front.genotypes
        near = {
            tuple(row) for row in problem.space.canonicalize(neighbours(problem.space, front)[0])
        }
        asked = strategy.ask(strategy.batch_size)
        assert {tuple(row) for row in asked} <= near
        strategy.tell(problem.evaluate(asked))


def test_nsga2_breeds_as_many_as_live_and_the_best_of_both_survive():
    pytest.importorskip("pymoo")
    spy = Spy(pair(), "nsga2", 400)
    assert [len(batch) for batch in spy.asked] == [100, 100, 100, 100]
    spy.strategy.ask(1)  # the survival happens when the next generation is wanted
    members = spy.strategy._algorithm.pop
    assert len(members) == 100


def test_tpe_learns_from_each_one():
    pytest.importorskip("optuna")
    assert load_strategy("tpe", single(), 0).batch_size == 1


def test_random_draws_evenly_and_never_twice():
    spy = Spy(single(), "random", 4000)
    genotypes = spy.result.evaluations.genotypes
    assert len(np.unique(genotypes, axis=0)) == 4000
    choices = len(single().space.genes[0].choices)
    shares = np.stack([np.bincount(g, minlength=choices) for g in genotypes.T]) / 4000
    assert np.abs(shares - 1 / choices).max() < 0.03


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("evolution", "aea469ac477a2360"),
        ("evolution:paper", "720aa677dc8fc5ce"),
        ("pareto", "3c07a58b669e28f8"),
        ("local", "000e8319be97352e"),
        ("random", "1f909f30142167cb"),
    ],
)
def test_what_a_seed_draws_stays_what_it_is(text, expected):
    """Studies go on under later versions: another stream would be another revision."""
    found = Study(pair(), text, seed=3).run(600).evaluations.genotypes
    digest = hashlib.sha256(found.astype(np.uint8).tobytes()).hexdigest()
    assert digest[:16] == expected


def test_states_of_an_earlier_revision_are_refused_in_one_line():
    strategy = Evolution(single(), 0)
    old = {key: value for key, value in strategy.state_dict().items() if key != "revision"}
    with pytest.raises(InvalidInputError, match="must be of revision 3, got 1"):
        strategy.load_state_dict(old)
    elitist = Evolution(single(), 0, selection="elitist")
    assert "revision" not in elitist.state_dict()


def test_studies_of_an_earlier_revision_are_not_continued(tmp_path, monkeypatch):
    store = f"sqlite:///{tmp_path}/a.db"
    with monkeypatch.context() as earlier:
        earlier.setattr(Evolution, "revision", 1)
        Study(single(), Evolution, store, "mine").run(200)
    with pytest.raises(InvalidInputError, match=r"'mine' .* another version\): take another name"):
        Study(single(), Evolution, store, "mine")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"argument": "2017"}, "takes 'paper' or no argument, got '2017'"),
        ({"argument": "paper", "selection": "aging"}, "evolution:paper is elitist"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
    ],
)
def test_what_does_not_belong_together_is_named(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        Evolution(single(), 0, **settings)


def test_both_kinds_follow_the_direction_of_the_objective():
    space = Layers()
    gain = Formula("gain", lambda g: g.sum(axis=1).astype(float), direction=Direction.MAXIMIZE)
    problem = Problem(space, (gain,))
    top = float((space.cardinalities - 1).sum())
    for text in ("evolution", "evolution:paper"):
        found = Study(problem, load_strategy(text, problem, 0)).run(3000).best()
        assert -found.objectives[0, 0] >= top - 2
