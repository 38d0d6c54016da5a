"""Constraints that drawing hardly ever satisfies."""

import numpy as np
import pytest

from nastool.constraint import Constraint
from nastool.errors import InfeasibleError
from nastool.objective import Kind, Objective, Provenance
from nastool.problem import Problem
from nastool.strategies.evolution import Evolution
from nastool.strategies.history import Seen
from nastool.strategies.pareto import ParetoSearch
from nastool.strategies.random import RandomSearch
from nastool.study import Study
from nastool.testing import Widths


class Total(Objective):
    """Sum of the indices; cheap, so that a bound on it is enforced beforehand."""

    name = "total"
    fingerprint = "total"
    provenance = Provenance(Kind.PREDICTED, "a sum")

    def evaluate(self, genotypes):
        return genotypes.sum(axis=1)


def rare(bound):
    """More shapes than are enumerated; under a total of 9, one draw in 119 is allowed."""
    space = Widths(layers=10)
    return Problem(space, (Total(),), (Constraint("total", "<=", bound),))


@pytest.fixture(autouse=True)
def _four_rounds_of_drawing(monkeypatch):
    monkeypatch.setattr("nastool.problem._DRAWS", 4)
    monkeypatch.setattr("nastool.strategies.descent._ROUNDS", (4, 4))


@pytest.mark.parametrize("strategy", [Evolution, ParetoSearch])
def test_breeding_goes_on_from_the_few_that_were_found(strategy):
    problem = rare(9)
    drawn = strategy(problem, 0).ask(100)
    assert 1 <= len(drawn) <= 100
    assert problem.admissible(drawn).all()
    result = Study(problem, strategy).run(400)
    assert len(result) == 400
    assert result.evaluations.feasible.all()


def test_few_draws_are_a_small_batch():
    problem = rare(9)
    sizes = []
    strategy = RandomSearch(problem, 0)
    for _ in range(3):
        asked = strategy.ask(100)
        assert problem.admissible(asked).all()
        sizes.append(len(asked))
        strategy.tell(problem.evaluate(asked))
    assert all(1 <= size < 50 for size in sizes)


def test_nothing_drawn_is_an_error_only_at_the_beginning():
    problem = rare(-1)
    rng = np.random.default_rng(0)
    seen = Seen(problem.space)
    message = (
        "total<=-1 were wanted, 0 found; the nearest that draws were led to has total 0: 'exact'"
    )
    with pytest.raises(InfeasibleError, match=message):
        seen.sample_unseen(problem, 100, rng)
    seen.add(np.zeros((1, 10), dtype=np.int64))
    assert len(seen.sample_unseen(problem, 100, rng)) == 0


@pytest.mark.parametrize("strategy", [Evolution, ParetoSearch])
def test_what_drawing_cannot_find_is_bred_from_what_was_told(strategy):
    problem = rare(2)
    told = strategy(problem, 0)
    told.tell(problem.evaluate(np.zeros((1, 10), dtype=np.int64)))
    bred = told.ask(20)
    assert 1 <= len(bred) <= 20
    assert problem.admissible(bred).all()


class Counted(Problem):
    """A problem that keeps how many draws it was asked for."""

    def sample(self, n, rng, least=None, rounds=None):
        self.__dict__.setdefault("asked", []).append(n)
        return super().sample(n, rng, least=least, rounds=rounds)


def test_what_is_drawn_first_is_what_is_wanted_then_a_batch():
    problem = Counted(Widths(layers=2, widths=(1, 2, 3)), (Total(),))
    seen = Seen(problem.space)
    seen.add(problem.space.enumerate()[:-1])
    assert seen.sample_unseen(problem, 1, np.random.default_rng(1)).tolist() == [[2, 2]]
    large = Counted(Widths(layers=10), (Total(),))
    drawn = Seen(large.space).sample_unseen(large, 300, np.random.default_rng(0))
    assert len(np.unique(drawn, axis=0)) == 300
    assert large.asked[0] == 300


def test_a_large_space_is_drawn_from_in_batches_of_256_until_nothing_new_comes():
    """Of 9.7 million shapes one remains: no draw finds it, and the drawing ends."""
    problem = Counted(Widths(layers=10), (Total(),))
    seen = Seen(problem.space)
    rng = np.random.default_rng(0)
    known = problem.sample(256, np.random.default_rng(5))
    seen.add(known)
    problem.asked.clear()
    problem.space.sample = lambda n, rng: np.resize(known, (n, 10))
    assert len(seen.sample_unseen(problem, 3, rng)) == 0
    assert problem.asked == [3] + [256] * 31


@pytest.mark.parametrize(
    ("useful", "expected"),
    [
        (1.0, [8]),  # all of use: one round
        (0.5, [8, 10, 6]),  # 4 * 16 // (4 + 2), then 2 * 26 // (6 + 2)
        (0.0, [8, 32, 32, 32]),  # nothing new four times: drawn instead
    ],
)
def test_more_are_bred_the_fewer_are_of_use(useful, expected):
    """(missing) * (bred + n) // (found + n // 8 + 1), at most four times as many as wanted."""
    problem = Counted(Widths(layers=10), (Total(),))
    seen = Seen(problem.space)
    known = np.zeros((1, 10), dtype=np.int64)
    seen.add(known)
    rounds, fresh = [], iter(range(1, 10**6))

    def breed(k):
        rounds.append(k)
        good = 0 if useful == 0 else 4 if useful == 0.5 and len(rounds) == 1 else 2
        good = k if useful == 1 else good
        new = [list(np.base_repr(next(fresh), 5).zfill(10)) for _ in range(good)]
        new = np.array(new).astype(np.int64).reshape(-1, 10)
        return np.concatenate([new, np.repeat(known, k - good, axis=0)])

    found = seen.breed_unseen(problem, breed, 8, np.random.default_rng(0))
    assert len(np.unique(found, axis=0)) == 8
    assert rounds == expected


def test_children_to_spare_save_a_round():
    """Of ten children two are known: with two more at first, what is wanted is there at once."""
    problem = rare(40)
    seen = Seen(problem.space)
    known = np.zeros((1, 10), dtype=np.int64)
    seen.add(known)
    rounds = []

    def breed(k):
        rounds.append(k)
        new = np.eye(10, dtype=np.int64)[: k - 2] * len(rounds)
        return np.concatenate([known, known, new])

    found = seen.breed_unseen(problem, breed, 8, np.random.default_rng(0), spare=2)
    assert rounds == [10]
    assert found.tolist() == np.eye(10, dtype=np.int64)[:8].tolist()


def test_what_is_told_again_is_kept_once_and_in_order():
    seen = Seen(Widths(layers=3))
    rows = np.array([[3, 0, 1], [0, 0, 2], [3, 0, 1], [4, 4, 4]])
    assert seen.add(rows[:2]) == 2
    assert seen.add(rows) == 1
    assert seen.add(rows[1:]) == 0
    assert len(seen) == 3
    for _ in range(2):
        assert seen.genotypes.tolist() == [[3, 0, 1], [0, 0, 2], [4, 4, 4]]
    assert seen.add(np.array([[1, 1, 1], [3, 0, 1]])) == 1
    again = Seen(Widths(layers=3))
    again.restore(seen.state())
    assert again.genotypes.tolist() == [[3, 0, 1], [0, 0, 2], [4, 4, 4], [1, 1, 1]]
    assert again.novel(np.array([[2, 2, 2], [4, 4, 4], [2, 2, 2]])).tolist() == [True, False, False]
