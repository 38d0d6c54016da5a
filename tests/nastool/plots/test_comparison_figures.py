import json
import re

import numpy as np
import pytest

from nastool.comparison import compare
from nastool.errors import InvalidInputError
from nastool.pareto.indicators import Indicator, PairTest, p_value
from nastool.plots.anytime import anytime_data, draw_anytime
from nastool.plots.attainment import attainment_data, draw_attainment
from nastool.plots.comparison import comparison_page, pooled
from nastool.plots.standings import LEVEL, format_value, letters, seeds_needed, standings
from nastool.problem import Problem
from nastool.strategies.pareto import ParetoSearch
from nastool.strategies.random import RandomSearch

STRATEGIES = {"random": RandomSearch, "pareto": ParetoSearch}


def content(text):
    data = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', text)
    return json.loads(data[1])


@pytest.fixture
def comparison(problem):
    return compare(problem, STRATEGIES, range(4), 60, budgets={"random": 30})


def test_a_gap_to_the_truth_is_never_rounded_to_nothing():
    gap = Indicator("gap")
    shown = [format_value(value, gap) for value in (0.0, 3e-9, 0.00123, 0.5, np.nan)]
    assert shown == ["0%", "<0.001%", "0.12%", "50%", "none"]


def test_letters_join_exactly_the_strategies_that_do_not_differ():
    rng = np.random.default_rng(0)
    names = list("ABCDE")
    for _ in range(50):
        corrected = {
            (a, b): rng.choice([0.001, 0.5]) for k, a in enumerate(names) for b in names[k + 1 :]
        }
        tests = [PairTest(a, b, p, p, 0.5) for (a, b), p in corrected.items()]
        found = letters(names, tests)
        assert found["A"].startswith("a")
        for (a, b), p in corrected.items():
            assert bool(set(found[a]) & set(found[b])) == (p >= LEVEL)


@pytest.mark.parametrize("strategies", [2, 3, 4, 6])
def test_seeds_needed_is_the_smallest_number_that_can_show_a_difference(strategies):
    pairs = strategies * (strategies - 1) / 2

    def smallest(seeds):
        return p_value(np.arange(seeds) * 1.0, np.arange(seeds) + 100.0) * pairs

    needed = seeds_needed(strategies)
    assert smallest(needed) < LEVEL <= smallest(needed - 1)


def test_standings_are_the_comparisons_own_numbers(comparison):
    found = standings(comparison)
    assert [row.strategy for row in found.rows] == [
        row.strategy for row in comparison.summaries("hypervolume")
    ]
    for row in found.rows:
        values = comparison.scores("igd_plus")[row.strategy]
        assert row.verdicts[1].summary.median == np.median(values)
    assert {row.strategy: row.evaluations for row in found.rows} == {"random": 30, "pareto": 60}
    assert any("random 30" in note for note in found.notes)
    assert "predicted" in found.notes[0]
    assert "computed" in found.notes[0]


def test_single_objective_is_judged_by_its_best_value(toy):
    single = compare(Problem(toy.Space(), (toy.Score(),)), STRATEGIES, range(2), 40)
    assert [i.name for i in standings(single).indicators] == ["best loss"]
    assert "anytime-evaluations" in comparison_page(single, {})


def test_anytime_lines_are_medians_and_end_with_their_budget(comparison):
    data = anytime_data(comparison)
    lines = {line.strategy: line for line in data.lines}
    assert lines["random"].x[-1] <= 30 < lines["pareto"].x[-1] == 60
    assert lines["pareto"].median[-1] == np.median(comparison.scores("hypervolume")["pareto"])
    for line in data.lines:
        assert np.all(line.low <= line.median)
        assert np.all(line.median <= line.high)
        assert np.all(np.diff(line.median) >= 0)


def test_anytime_draws_the_missing_hypervolume(comparison):
    data = anytime_data(comparison)
    figure = draw_anytime(data)
    line = data.lines[1]
    (drawn,) = [trace for trace in figure.data if trace.name == "pareto"]
    assert np.allclose(drawn.y, np.maximum(1 - line.median, 1e-5))
    assert [row[0] for row in drawn.customdata] == line.median.tolist()
    seconds = draw_anytime(anytime_data(comparison, "igd_plus", "seconds"))
    assert seconds.layout.xaxis.title.text == "seconds of a run"


def test_attainment_corners_lie_on_the_surface(comparison):
    data = attainment_data(comparison)
    assert (data.x.name, data.y.name) == ("params", "loss")
    for strategy in data.strategies:
        surface = comparison.attainment(strategy.strategy, [0.5])
        reached = dict(zip(surface.x, surface.y[0], strict=True))
        boundary = strategy.boundaries[1]
        assert np.all(np.diff(boundary.x) <= 0)
        assert np.all(np.diff(boundary.y) >= 0)
        # Half of the corners are where the surface arrives, the others where it leaves.
        assert all(reached[y] == x for x, y in zip(boundary.x[1::2], boundary.y[1::2], strict=True))
        steps = np.diff(np.stack([boundary.x, boundary.y]))
        assert np.all((steps == 0).any(axis=0))


def test_attainment_is_drawn_with_a_band_and_a_line_each(comparison, toy, problem):
    figure = draw_attainment(attainment_data(comparison))
    assert [trace.name for trace in figure.data if trace.name] == list(STRATEGIES)
    assert sum(trace.fill == "toself" for trace in figure.data) == 2
    third = Problem(problem.space, (*problem.objectives, toy.Score("speed", "s")))
    of_three = compare(third, STRATEGIES, [0], 20)
    with pytest.raises(InvalidInputError, match="two objectives"):
        attainment_data(of_three)
    assert "attainment" not in [f["id"] for f in content(comparison_page(of_three, {}))["figures"]]


def test_pooled_runs_hold_every_architecture_once(comparison):
    runs = comparison.results["pareto"]
    every = pooled(runs)
    keys = every.problem.space.keys(every.evaluations.genotypes)
    assert len(set(keys)) == len(keys)
    assert len(keys) <= sum(map(len, runs))
    best = min(run.best("loss").objectives[0, 0] for run in runs)
    assert every.best("loss").objectives[0, 0] == best


def test_page_holds_everything_and_stays_small(comparison):
    text = comparison_page(comparison, {"storage": "<here>"})
    page = content(text)
    assert [figure["id"] for figure in page["figures"]] == [
        "front",
        "anytime-evaluations",
        "anytime-seconds",
        "attainment",
        "shapes",
    ]
    assert "<b>Proxy.</b>" in text
    assert "&lt;here&gt;" in text
    assert "Standings" in text
    finders = {line for member in page["members"] for line in member["lines"]}
    assert any(line.startswith("found by") for line in finders)
    assert len(json.dumps(page)) < 500_000
