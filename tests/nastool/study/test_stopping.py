"""Ends of a run before its budget: what they count, and that going on changes nothing."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import nastool
from nastool.cli.main import main
from nastool.errors import InvalidInputError
from nastool.evaluations import Evaluations
from nastool.objective import Kind, Objective, Provenance
from nastool.problem import CostObjective, Problem
from nastool.store import open_store
from nastool.study import Patience, Proven, Study, TimeLimit, any_of, last_gain, load_result
from nastool.testing import Widths


class Counted(Objective):
    """What is measured, and no term or tree."""

    name = fingerprint = "counted"
    provenance = Provenance(Kind.MEASURED, "a count")

    def evaluate(self, genotypes):
        return genotypes.sum(axis=1) * 1.0


def evaluations(points, feasible=None):
    points = np.asarray(points, dtype=float)
    slack = np.zeros(len(points)) if feasible is None else np.where(feasible, -1.0, 1.0)
    return Evaluations(np.arange(len(points))[:, None], points, slack[:, None])


@pytest.mark.parametrize(
    ("points", "feasible", "row"),
    [
        ([[3], [2], [2], [4]], None, 1),
        ([[3], [2], [1], [4]], None, 2),
        # A point that equals an earlier one gains nothing; one that trades does.
        ([[1, 3], [3, 1], [1, 3], [4, 4]], None, 1),
        ([[1, 3], [3, 1], [2, 2]], None, 2),
        # What was on the front once counts, even where a later point dominates it.
        ([[3, 3], [2, 2], [1, 1], [5, 5]], None, 2),
        ([[3, 3], [1, 1]], [True, False], 0),
        ([[3, 3], [1, 1]], [False, False], -1),
        ([[3, np.nan], [1, np.nan]], None, -1),
    ],
)
def test_the_last_gain(points, feasible, row):
    assert last_gain(evaluations(points, feasible)) == row


def test_the_last_gain_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    for _ in range(200):
        points = rng.integers(0, 6, (rng.integers(1, 30), rng.integers(1, 4))).astype(float)
        feasible = rng.random(len(points)) < 0.7
        expected, seen = -1, []
        for i, point in enumerate(points):
            if feasible[i] and not any((other <= point).all() for other in seen):
                expected = i
                seen.append(point)
        assert last_gain(evaluations(points, feasible)) == expected


def search(**changes):
    return nastool.search("supershaper", strategy="random", budget=4000, batch_size=20, **changes)


def test_patience_ends_a_study_where_nothing_was_gained_and_again_at_once(tmp_path):
    store = f"sqlite:///{tmp_path / 'studies.db'}"
    whole = search()
    gains = np.array([last_gain(whole.first(n).evaluations) for n in range(20, 4001, 20)])
    end = 20 * (1 + int(np.argmax(np.arange(20, 4001, 20) - 1 - gains >= 60)))
    ended = search(until=Patience(60), store=store, study="patient")
    assert (len(ended), ended.stop_reason) == (end, "patience")
    assert np.array_equal(ended.evaluations.genotypes, whole.evaluations.genotypes[:end])
    again = Study.open("patient", store).run(4000, until=Patience(60))
    assert (len(again), again.stop_reason) == (end, "patience")
    # Without it the study goes on as if it had never ended.
    on = Study.open("patient", store).run(4000)
    assert np.array_equal(on.evaluations.genotypes, whole.evaluations.genotypes)
    assert on.stop_reason == "budget"


def test_a_time_ends_a_study_after_a_whole_batch():
    ended = search(until=TimeLimit(1e-9))
    assert (len(ended), ended.stop_reason) == (20, "time")
    assert "the time is over" in repr(ended)


def test_a_callback_ends_a_study_and_is_shown_it():
    ended = search(until=lambda study: len(study) >= 100)
    assert (len(ended), ended.stop_reason) == (100, "asked")
    first = search(until=any_of([lambda study: False, Patience(4000), TimeLimit(1e-9)]))
    assert first.stop_reason == "time"


@pytest.mark.parametrize("make", [lambda: TimeLimit(0), lambda: Patience(0)])
def test_ends_of_nothing_are_refused(make):
    with pytest.raises(InvalidInputError):
        make()


class TestCommand:
    def run(self, *arguments):
        command = [
            "search",
            "--space",
            "supershaper",
            "--storage",
            "none",
            "--strategy",
            "random",
            *arguments,
        ]
        return CliRunner().invoke(main, [*command, "--format", "json"], prog_name="nastool")

    def test_says_why_it_ended(self):
        done = self.run("--budget", "4000", "--patience", "200", "--batch-size", "20")
        assert done.exit_code == 0
        shown = json.loads(done.stdout)
        assert shown["stop_reason"] == "patience"
        assert shown["evaluations"] < 4000

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--time", "soon"), "--time: expected a time such as 90s, 7m or 1.5h"),
            (("--patience", "0"), "--patience"),
        ],
    )
    def test_refuses_what_is_none(self, options, message):
        done = self.run(*options)
        assert done.exit_code == 2
        assert message in done.output


def test_a_search_ends_when_what_is_proven_to_be_best_is_found():
    space = Widths()
    problem = Problem(space, [CostObjective(space.costs["params"], space)])
    study = Study(problem, "random")
    result = study.run(600, 10, until=Proven(problem))
    assert (len(result) < 600, result.stop_reason) == (True, "proven")
    assert result.best().objectives[0, 0] == space.costs["params"].minimum[0]
    # What was found before counts, and it was not there a batch earlier.
    assert Proven(problem)(study) == "proven"
    earlier = Study(problem, "random")
    earlier.run(len(study) - 10, 10)
    assert Proven(problem)(earlier) == ""


def test_what_cannot_be_proven_is_said_in_a_line():
    with pytest.raises(InvalidInputError, match="counted"):
        Proven(Problem(Widths(), [Counted()]))
    arguments = ["--space", "supershaper:minilm-6", "--until", "proven", "--refine", "2"]
    run = CliRunner().invoke(main, ["search", *arguments, "--storage", "none"])
    assert run.exit_code == 2
    assert "none of --time, --patience, --until" in run.output


@pytest.mark.parametrize("said", [np.bool_(True), 1, "enough", "asked"])
def test_whatever_is_true_ends_a_run(tmp_path, said):
    problem, url = Problem(Widths(), (Counted(),)), f"sqlite:///{tmp_path}/a.db"
    result = Study(problem, "random", url, "mine").run(
        60, 10, until=lambda study: said if len(study) > 20 else type(said)()
    )
    assert (len(result), result.stop_reason) == (30, "asked")
    with open_store(url) as store:
        again = load_result(store, "mine", problem)
    assert (len(again), again.stop_reason) == (30, "asked")
    assert "ended by the caller" in repr(again)


@pytest.mark.parametrize("made", [lambda: TimeLimit("1h"), lambda: Patience(None)])
def test_ends_that_are_no_numbers_are_refused(made):
    with pytest.raises(InvalidInputError, match=r"must be (longer|at least) .*, got ('1h'|None)$"):
        made()
