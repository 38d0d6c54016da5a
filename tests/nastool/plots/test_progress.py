import json
import re
from dataclasses import replace

import numpy as np
import pytest

from nastool import pareto
from nastool.constraint import parse_constraint
from nastool.objective import Direction
from nastool.plots.progress import (
    draw_gain,
    draw_pace,
    gains,
    pending,
    progress_panels,
    watched_study,
)
from nastool.problem import Problem
from nastool.store import open_store
from nastool.store.sharing import Lease
from nastool.strategies.random import RandomSearch
from nastool.study import Study, load_result
from nastool.testing import Formula


def look(study, store):
    stored = store.load(study.name)
    return watched_study(load_result(store, study.name, study.problem), stored)


def content(text):
    data = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', text)
    return json.loads(data[1])


@pytest.fixture
def kept(tmp_path, problem):
    """A study of 40 evaluations in a store."""
    store = open_store(f"sqlite:///{tmp_path / 'nastool.db'}")
    study = Study(problem, RandomSearch, store, "mine", description={"budget": 60})
    study.run(40)
    yield study, store
    store.close()


def test_gains_end_at_what_is_known_and_never_fall(result):
    volume, loss, params = gains(result)
    assert [volume.name, loss.name, params.name] == ["hypervolume", "loss", "params"]
    assert volume.values[-1] == pytest.approx(1)
    assert volume.x[0] == 1
    assert volume.x[-1] == len(result)
    known = volume.values[np.isfinite(volume.values)]
    assert (np.diff(known) >= 0).all()
    allowed = result.evaluations.feasible
    assert loss.values[-1] == result.metrics[allowed, 0].min()
    # Halfway it is the best of the first half.
    place = len(loss.x) // 2
    half = slice(int(loss.x[place]))
    assert loss.values[place] == result.metrics[half][allowed[half], 0].min()


def test_a_share_of_the_hypervolume_is_what_pareto_says(result):
    (volume, *_) = gains(result)
    now = result.front().objectives
    offset, extent = pareto.scale(now, result.evaluations.objectives[result.evaluations.feasible])
    corner = (now.max(axis=0) + 0.1 * extent - offset) / extent
    early = result.first(int(volume.x[5])).front().objectives
    share = pareto.hypervolume((early - offset) / extent, corner)
    share /= pareto.hypervolume((now - offset) / extent, corner)
    assert volume.values[5] == pytest.approx(share)


def test_what_is_maximised_rises_and_one_objective_has_no_hypervolume(problem, toy):
    score = toy.Score("score", direction=Direction.MAXIMIZE)
    result = toy.run(Problem(problem.space, (score,)))
    (gain,) = gains(result)
    assert gain.name == "score"
    assert gain.values[-1] == result.metrics.max()
    assert (np.diff(gain.values) >= 0).all()
    assert draw_gain(gain).layout.title.text == "Best score"


def test_pace_counts_evaluations_and_failures(result):
    figure = draw_pace(result)
    (line,) = figure.data
    assert line.y[-1] == len(result)
    assert line.x[-1] == result.elapsed[-1]
    assert len(progress_panels(result)) == 4
    assert progress_panels(result.first(1))


def test_a_page_says_how_far_a_run_is_and_looks_again(kept):
    seen = look(*kept)
    assert seen.ended
    assert "40 evaluations" in seen.said
    assert "the budget is spent" in seen.said
    text = seen.page()
    assert "<b>state</b> the budget is spent" in text
    assert content(text)["refresh"] == 0
    assert content(seen.page(5))["refresh"] == 5
    names = [figure["id"] for figure in content(text)["figures"]]
    assert names == ["gain-0", "gain-1", "gain-2", "pace", "front", "shapes"]


def test_a_run_that_goes_on_shows_its_budget_and_what_is_under_way(kept):
    study, store = kept
    waiting = np.array([[0, 1, 2, 3], [3, 2, 1, 0]])
    running = replace(store.load("mine"), state={"pending": waiting})
    result = load_result(store, "mine", study.problem)
    seen = watched_study(replace(result, stop_reason=""), running)
    assert not seen.ended
    assert seen.said.startswith("40 of 60 evaluations")
    text = seen.page(5)
    assert "<b>under way</b> 2" in text
    # Of processes that share a study, what one that died has left is under way no more.
    others = [
        Lease("a", np.array([[0, 1, 2, 3], [1, 1, 1, 1]]), is_live=True),
        Lease("b", np.array([[2, 2, 2, 2]]), is_live=False),
    ]
    assert not watched_study(result, running, others).ended
    assert watched_study(result, running, others[1:]).ended
    assert pending(running, result.problem.space, others).tolist() == [
        [0, 1, 2, 3],
        [3, 2, 1, 0],
        [1, 1, 1, 1],
    ]
    assert 'data-value="8-16-32-64"' in text


def test_failures_are_counted_and_told(tmp_path, problem):
    def broken(genotypes):
        if (genotypes[:, 0] == 0).any():
            raise RuntimeError("out\nof <memory>")
        return genotypes.sum(axis=1).astype(float)

    dear = Formula("dear", broken, cheap=False)
    every = Problem(problem.space, (dear, problem.objectives[1]))
    with open_store(f"sqlite:///{tmp_path / 'nastool.db'}") as store:
        study = Study(every, RandomSearch, store, "broken")
        result = study.run(30)
        seen = look(study, store)
    failed = int((result.evaluations.genotypes[:, 0] == 0).sum())
    assert 0 < failed < 30
    assert f"{failed} failed" in seen.said
    assert "RuntimeError: out of &lt;memory&gt;" in seen.page()
    assert draw_pace(result).data[1].y[-1] == failed


def test_that_nothing_is_allowed_is_said(tmp_path, problem):
    # Measured, so that no draw can know what is allowed.
    dear = Formula("dear", lambda genotypes: 1.0 + genotypes.sum(axis=1), cheap=False)
    strict = Problem(problem.space, (dear,), (parse_constraint("dear<=0.5"),))
    with open_store(f"sqlite:///{tmp_path / 'nastool.db'}") as store:
        study = Study(strict, RandomSearch, store, "strict")
        study.run(10)
        seen = look(study, store)
    assert "keeps every constraint" in seen.page()
    assert [figure["id"] for figure in content(seen.page())["figures"]] == ["pace"]
