import csv
import io
import json
import sys

import pytest

from nastool.discovery import load_file


@pytest.fixture
def compare(nastool):
    """Compares two strategies on the toy space: loss against params, 3 seeds of 80 evaluations."""
    pytest.importorskip("scipy")

    def run(*arguments, strategies=("random", "pareto"), budget="80", seeds="3"):
        chosen = [part for name in strategies for part in ("--strategy", name)]
        wanted = ["--objective", "loss", "--objective", "params", "--space", "toy"]
        sizes = ["--budget", budget, "--seeds", seeds]
        return nastool("compare", *wanted, *chosen, *sizes, *arguments)

    return run


def rows(result):
    return list(csv.DictReader(io.StringIO(result.stdout)))


def test_table_says_what_the_numbers_are(compare):
    result = compare("--bound", "params=3M", "--max", "params=9M")
    assert result.exit_code == 0, result.output
    for words in (
        "2 strategies, 3 seeds, 80 evaluations a run, params<=9M",
        "hypervolume",
        "IGD+",
        "under params<=3M",
        "predicted: a formula",
        "PROXY: loss of a <smaller> net",
        "holds the median of all seeds with 75% only",
        "Holm",
        "3 seeds cannot show a difference between 2 strategies",
    ):
        assert words in result.stdout, words


def test_json_and_csv_hold_every_run(compare):
    content = json.loads(compare("--format", "json").stdout)
    table = rows(compare("--format", "csv"))
    assert [(row["strategy"], row["seed"]) for row in table[:3]] == [
        (content["strategies"][0]["strategy"], str(seed)) for seed in range(3)
    ]
    first = content["strategies"][0]["indicators"]["hypervolume"]
    assert [float(row["hypervolume"]) for row in table[:3]] == first["values"]
    assert first["low"] <= first["median"] <= first["high"]
    assert {test["indicator"] for test in content["tests"]} >= {"hypervolume", "igd_plus"}
    kinds = {metric["name"]: metric["kind"] for metric in content["metrics"]}
    assert kinds == {"loss": "predicted", "params": "computed"}


def test_same_command_evaluates_nothing_again_and_a_larger_one_goes_on(compare):
    first, again = compare("--format", "csv"), compare("--format", "csv")
    assert "nothing was evaluated" in again.stderr
    assert again.stdout == first.stdout
    larger = compare("--format", "csv", seeds="4", strategies=("random", "pareto", "evolution"))
    assert "went on after 6 of 12 runs (480 of 960 evaluations)" in larger.stderr
    assert len(rows(larger)) == 12


def test_settings_and_a_budget_of_its_own(compare):
    strategies = ("random", "evolution,selection=elitist,population-size=20@40")
    result = compare("--format", "json", strategies=strategies)
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    found = {row["strategy"]: row["evaluations"] for row in content["strategies"]}
    assert found == {
        "random": [80] * 3,
        "evolution,selection=elitist,population-size=20": [40] * 3,
    }
    assert any("Fewer evaluations" in note for note in content["notes"])


def test_several_runs_at_a_time_find_the_same(compare, tmp_path):
    def scores(result):
        assert result.exit_code == 0, result.output
        return [{k: v for k, v in row.items() if k != "seconds"} for row in rows(result)]

    alone = scores(compare("--format", "csv", "--storage", "none", seeds="2"))
    together = scores(compare("--format", "csv", "--jobs", "2", seeds="2"))
    assert together == alone


@pytest.mark.parametrize(
    ("arguments", "strategies", "message"),
    [
        ([], ("nonsense",), "--strategy nonsense: unknown strategy 'nonsense'"),
        ([], ("random@many",), "--strategy random@many: expected a whole number"),
        ([], ("evolution,size=3",), "has no setting 'size'"),
        ([], ("random", "random"), "each must be given once, got random twice"),
        (["--bound", "speed=3"], ("random",), "unknown metric 'speed'"),
        (["--bound", "params"], ("random",), "--bound: expected METRIC=NUMBER"),
        (["--jobs", "2", "--storage", "none"], ("random",), "need a --storage"),
        (["--plot", "page.txt"], ("random",), "must end in .html"),
    ],
)
def test_bad_input_is_one_line_before_anything_runs(
    compare, tmp_path, arguments, strategies, message
):
    result = compare(*arguments, strategies=strategies)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_missing_scipy_shows_before_anything_runs(compare, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    result = compare()
    assert result.exit_code != 0
    assert "needs scipy" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_front_that_cannot_be_proven_is_said_before_anything_runs(compare, tmp_path):
    result = compare("--true-front")
    assert result.exit_code == 2
    assert "--true-front: exact search needs an objective predicted by trees" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_interruption_keeps_the_runs_and_the_same_command_ends_alike(nastool):
    (interrupted,) = {p.load() for p in load_file(_plugin()) if p.name == "interrupted"}
    objective = interrupted(None, None).__class__
    command = ["compare", "--space", "toy", "--objective", "interrupted", "--objective", "params"]
    command += ["--strategy", "random", "--seeds", "2", "--budget", "50", "--format", "csv"]
    objective.seen = -1000
    whole = nastool(*command, "--storage", "none")
    objective.seen = 0
    stopped = nastool(*command)
    assert stopped.exit_code == 130
    assert "1 of 2 runs" in stopped.stderr
    assert "the same command goes on" in stopped.stderr
    objective.seen = -1000
    ended = nastool(*command)
    assert "went on after 1 of 2 runs" in ended.stderr
    assert [r["hypervolume"] for r in rows(ended)] == [r["hypervolume"] for r in rows(whole)]


def _plugin():
    from pathlib import Path

    return Path(__file__).with_name("toy_plugin.py")


def test_show_and_studies_know_a_comparison(compare, nastool):
    made = compare("--name", "mine", "--bound", "params=3M", "--format", "json")
    shown = nastool("show", "mine", "--format", "json")
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout) == json.loads(made.stdout)
    lines = [line for line in nastool("studies").stdout.splitlines() if line.startswith("mine")]
    assert len(lines) == 1
    assert "480" in lines[0]


def test_show_knows_the_bounds_that_were_asked_for_last(compare, nastool):
    for bounds in (("--bound", "params=3M"), ("--bound", "params=5M"), ()):
        made = compare("--name", "mine", *bounds, "--format", "json", seeds="2")
        shown = nastool("show", "mine", "--format", "json")
        assert json.loads(shown.stdout) == json.loads(made.stdout)


def test_title_and_page_say_how_many_evaluations_the_runs_have(compare, nastool, tmp_path):
    compare("--name", "mine", seeds="2")
    compare("--name", "mine", seeds="2", strategies=("pareto",), budget="1k")
    shown = nastool("show", "mine", "--plot", "page.html")
    assert shown.stdout.startswith("2 strategies, 2 seeds, 80 to 1,000 evaluations a run\n")
    assert "80 to 1,000" in (tmp_path / "page.html").read_text("utf-8")


def one_line(result):
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


def test_show_does_not_ignore_a_limit(compare, nastool):
    compare("--name", "mine", seeds="2")
    assert "--limit: expected a study" in one_line(nastool("show", "mine", "--limit", "1"))


def test_a_name_belongs_to_a_study_or_to_a_comparison(compare, search, nastool):
    assert search("--study", "single", budget="40").exit_code == 0
    assert compare("--name", "several", seeds="2").exit_code == 0
    assert "got 'single', a study in" in one_line(compare("--name", "single", seeds="2"))
    assert "got 'several', a comparison in" in one_line(search("--study", "several"))
    lines = nastool("studies").stdout.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["single", "several"]
    assert search("--study", "single", budget="60").exit_code == 0


def test_studies_tells_a_study_from_a_comparison_of_its_name(compare, search, nastool, monkeypatch):
    compare("--name", "mine", seeds="2")
    monkeypatch.setattr("nastool.cli.plan._check_name", lambda storage, name: None)
    search("--study", "mine", budget="40")
    lines = [line for line in nastool("studies").stdout.splitlines() if line.startswith("mine")]
    assert [line.split()[-2] for line in lines] == ["320", "40"]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_comparison_keeps_its_problem(compare, nastool, jobs):
    compare("--name", "mine", "--max", "params=9M", seeds="2", strategies=("random",))
    other = ("--name", "mine", "--max", "params=8M", "--jobs", jobs)
    message = one_line(compare(*other, seeds="2", strategies=("pareto",)))
    assert "'mine/random/0' was made with constraints" in message
    shown = nastool("show", "mine")
    assert "2 seeds, 80 evaluations a run, params<=9M" in shown.stdout


def test_page_is_written(compare, tmp_path):
    result = compare("--plot", "page.html", "--output", "table.csv")
    assert result.exit_code == 0, result.output
    assert "Standings" in (tmp_path / "page.html").read_text("utf-8")
    assert (tmp_path / "table.csv").read_text().startswith("strategy,seed")
