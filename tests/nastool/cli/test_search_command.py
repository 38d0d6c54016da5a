import csv
import io
import json

import numpy as np
import pytest

from nastool.discovery import load_file
from nastool.plugins import load_space


def shapes(result):
    return [row["shape"] for row in json.loads(result.stdout)["architectures"]]


def test_front_is_the_true_one_where_everything_is_evaluated(search, nastool):
    result = search("--format", "json", "--strategy", "random", budget="2k")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["stop_reason"] == "exhausted"
    space = load_space("toy")
    every = np.stack(np.unravel_index(np.arange(4**5), (4,) * 5), axis=1)
    from nastool.plugins import load_objective

    values = np.stack(
        [load_objective("loss", space).evaluate(every), space.costs["params"].evaluate(every)], 1
    )
    no_worse = np.all(values[:, None] <= values[None], axis=2)
    better = np.any(values[:, None] < values[None], axis=2)
    front = every[~np.any(no_worse & better, axis=0)]
    assert set(shapes(result)) == {space.format(genotype) for genotype in front}
    assert content["total"] == len(front)


def test_table_says_where_every_number_comes_from(search):
    result = search("--max", "params=6M")
    assert result.exit_code == 0, result.output
    for words in (
        "predicted: a formula, held-out R2 0.97",
        "PROXY: loss of a <smaller> net",
        "computed: closed form",
        "300 evaluations",
        "params<=6M",
        "evolution",
        "seed",
        "▁",
    ):
        assert words in result.stdout, words


def test_table_shows_a_spread_of_a_long_front(search):
    result = search("--limit", "3", "--strategy", "random", budget="1024")
    rows = [line for line in result.stdout.splitlines() if line[:1].isdigit()]
    assert len(rows) == 3
    assert rows[0].startswith("64-64-64-64-64")
    assert rows[-1].startswith("8-8-8-8-8")
    assert "3 of its" in result.stdout.splitlines()[0]


def test_json_and_csv_hold_the_same_and_nothing_else(search):
    as_json = search("--format", "json")
    as_csv = search("--format", "csv")
    rows = list(csv.DictReader(io.StringIO(as_csv.stdout)))
    records = json.loads(as_json.stdout)["architectures"]
    assert [row["shape"] for row in rows] == [record["shape"] for record in records]
    assert [float(row["loss"]) for row in rows] == [record["loss"] for record in records]
    assert [float(row["params"]) for row in rows] == [record["params"] for record in records]
    assert "loss is a PROXY: loss of a <smaller> net" in as_csv.stderr


def test_single_objective_shows_the_best_in_order(search):
    result = search("--format", "json", objectives=["loss"])
    losses = [row["loss"] for row in json.loads(result.stdout)["architectures"]]
    assert len(losses) == 10
    assert losses == sorted(losses)


def test_maximised_objective_is_shown_in_its_own_sign(search):
    result = search("--format", "json", objectives=["throughput"])
    values = [row["throughput"] for row in json.loads(result.stdout)["architectures"]]
    assert values[0] == 1.0
    assert values == sorted(values, reverse=True)
    table = search(objectives=["throughput"]).stdout
    assert "500ms" in table


def test_max_means_the_same_as_constraint(search):
    quoted = search("--constraint", "params<=6M", "--format", "json")
    plain = search("--max", "params=6M", "--format", "json")
    content = json.loads(quoted.stdout)
    assert all(row["params"] <= 6e6 for row in content["architectures"])
    assert content["architectures"] == json.loads(plain.stdout)["architectures"]
    # One name, so the second command found the first one's evaluations.
    assert "holds these 300 evaluations already" in plain.stderr


def test_min_bounds_from_below(search):
    rows = json.loads(search("--min", "params=6M", "--format", "json").stdout)["architectures"]
    assert min(row["params"] for row in rows) >= 6e6


def test_same_command_twice_gives_the_same_at_once(search):
    first = search("--format", "json")
    second = search("--format", "json")
    one, two = (json.loads(run.stdout) for run in (first, second))
    assert one | {"seconds": 0} == two | {"seconds": 0}
    assert "already" not in first.stderr
    assert "holds these 300 evaluations already; nothing was evaluated." in second.stderr


def test_larger_budget_goes_on_and_equals_never_having_stopped(search):
    search(budget="120")
    resumed = search("--format", "json", budget="300")
    assert "went on after 120 evaluations" in resumed.stderr
    whole = search("--format", "json", "--storage", "none", budget="300")
    assert shapes(resumed) == shapes(whole)


def test_smaller_budget_shows_what_was_found_by_then(search):
    small = search("--format", "json", "--storage", "none", budget="100")
    search(budget="300")
    again = search("--format", "json", budget="100")
    assert shapes(again) == shapes(small)
    assert json.loads(again.stdout)["evaluations"] == 100


def test_a_finished_search_has_nothing_to_go_on_with(search):
    search("--strategy", "random", budget="2k")
    again = search("--strategy", "random", budget="2k")
    assert "holds these 1,024 evaluations already; nothing was evaluated." in again.stderr


def test_seed_and_settings_make_another_study(search):
    names = {
        json.loads(search("--format", "json", *more).stdout)["study"]
        for more in ([], ["--seed", "1"], ["--option", "population_size=20"], ["--batch-size", "7"])
    }
    assert len(names) == 4


def test_study_name_of_another_problem_is_refused(search):
    assert search("--study", "mine").exit_code == 0
    result = search("--study", "mine", "--max", "params=6M")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "'mine' was made with constraints" in result.stderr


def test_memory_leaves_no_file(search, tmp_path):
    assert search("--storage", "none").exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_output_goes_to_a_file(search, tmp_path):
    result = search("--output", "front.json")
    assert result.stdout == ""
    assert json.loads((tmp_path / "front.json").read_text())["space"] == "toy"
    assert search("--output", "front.txt").exit_code == 0
    text = (tmp_path / "front.txt").read_text()
    assert text.startswith("Pareto front")
    assert "\x1b" not in text


@pytest.mark.parametrize("bound", ["8.2M", "8.2e6", "8200000", "8200000.5"])
def test_a_study_is_opened_however_its_bound_was_written(search, nastool, bound):
    found = search("--study", "mine", "--max", f"params={bound}", "--format", "json", budget="40")
    shown = nastool("show", "mine", "--format", "json")
    assert shown.exit_code == 0, shown.stderr
    assert json.loads(shown.stdout) == json.loads(found.stdout)


def test_plot_is_a_page(search, tmp_path):
    assert search("--plot", "front.html").exit_code == 0
    page = (tmp_path / "front.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "loss of a &lt;smaller&gt; net" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max", "params=20"], "params<=20 cannot be met: the smallest architecture of toy"),
        (["--max", "params=20"], "264k (264,000)"),
        (["--constraint", "params<5M"], "--constraint: expected METRIC<=NUMBER"),
        (["--constraint", "params=<5M"], "'params=<5M'"),
        (["--max", "params<=5M"], "--max: expected METRIC=NUMBER"),
        (["--max", "params=5Q"], "unknown unit 'Q'"),
        (["--max", "params=5ms"], "params is measured in plain numbers"),
        (["--max", "nope=5"], "unknown metric 'nope'; known: "),
        (["--objective", "nope"], "unknown metric 'nope'; known: "),
        (["--strategy", "nope"], "unknown strategy 'nope'; known: "),
        (["--strategy", "broken"], "strategy broken failed: RuntimeError: no idea"),
        (["--strategy", "broken", "--storage", "none"], "strategy broken failed: "),
        (["--max", "nope:x=5"], "unknown metric 'nope'; known: "),
        (["--option", "nope=1"], "has no setting 'nope'; known: population_size"),
        (["--option", "nope"], "expected KEY=VALUE, got 'nope'"),
        (["--option", "population_size=x"], "expected int, got 'x'"),
        (["--option", "mutation_probability=20ms"], "expected float or none, got '20ms'"),
        (["--option", "selection=x"], "must be one of aging, elitist, got 'x'"),
        (["--budget", "many"], "'--budget': expected a whole number of at least 1"),
        (["--budget", "0"], "'--budget': expected a whole number of at least 1"),
        (["--budget", "1.5"], "'--budget': expected a whole number of at least 1"),
        (["--budget", "5ms"], "'--budget': expected a whole number of at least 1"),
        (["--limit", "0"], "'--limit': expected a whole number of at least 1"),
        (["--seed", "-1"], "--seed"),
        (["--storage", "nonsense"], "a store must be a URL"),
        (["--storage", "sqlite:////no/such/folder/x.db"], "existing folder"),
        (["--format", "xml"], "'xml' is not one of"),
        (["--plot", "front.png"], "--plot: must end in .html"),
        (["--output", "no/such/folder/x"], "--output: folder 'no/such/folder' must exist"),
        (["--plot", "a.html", "--output", "./a.html"], "'a.html', which --output names, too"),
        (["--batch-size", "10G"], "batch_size must be at most 1,000,000, got 10,000,000,000"),
        (["--option", "population_size=10G"], "population_size must be at most 1,000,000"),
        (["--plugin", "nope.py"], "--plugin: expected a Python file"),
    ],
)
def test_bad_input_is_one_line(search, arguments, words):
    result = search(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
    assert words in result.stderr


def test_unknown_space_is_one_line(nastool):
    result = nastool("search", "--space", "nope")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: unknown search space 'nope'; known: ")


def test_settings_are_typed_by_the_signature(search):
    options = ["share=1", "size=2k", "fast=yes"]
    result = search(
        "--strategy", "picky", *(part for o in options for part in ("--option", o)), budget="5"
    )
    assert result.exit_code == 0, result.output
    assert "picky, share=1, size=2k, fast=yes" in result.stdout


def test_interruption_keeps_and_tells(search):
    # Its own objective counts its calls, and presses Ctrl-C in the third batch.
    arguments = ("--batch-size", "25", "--format", "json")
    result = search(*arguments, objectives=["interrupted"], budget="200")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].startswith(
        "Interrupted: 50 of 200 evaluations are done, kept in study toy-evolution-"
    )
    assert json.loads(result.stdout)["evaluations"] == 50


def test_whole_command_as_a_process(process):
    from pathlib import Path

    plugin = Path(__file__).with_name("toy_plugin.py")
    done = process(
        "search", "--plugin", str(plugin), "--space", "toy", "--objective", "loss",
        "--objective", "params", "--budget", "100", "--format", "csv",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("shape,loss,params,feasible\n")
    load_file(plugin)
    space = load_space("toy")
    assert len(space.parse(done.stdout.splitlines()[1].partition(",")[0])) == 1


def test_narrow_terminal_loses_the_bars_before_it_breaks_a_row(search):
    from rich.console import Console

    from nastool.cli.tables import as_table, front_view
    from nastool.plugins import load_objective
    from nastool.problem import Problem
    from nastool.strategies.random import RandomSearch
    from nastool.study import Study

    assert search().exit_code == 0  # loads the plugin
    space = load_space("toy")
    problem = Problem(space, (load_objective("loss", space),))
    view = front_view(Study(problem, RandomSearch).run(20), 3, {})

    def lines(width):
        console = Console(width=width)
        with console.capture() as capture:
            console.print(as_table(view, width))
        return [line for line in capture.get().splitlines() if line[:1].isdigit()]

    wide, narrow = lines(60), lines(24)
    assert len(wide) == len(narrow) == 3
    assert all("▁" in line or "█" in line or "▂" in line for line in wide)
    assert not any("▁" in line or "█" in line or "▂" in line for line in narrow)


@pytest.mark.parametrize("way", ["nan", "exits"])
def test_failed_evaluations_are_counted_and_tried_again(nastool, monkeypatch, way):
    command = ("search", "--space", "toy", "--objective", "flaky", "--strategy", "random")
    command += ("--budget", "80")
    monkeypatch.setenv("FLAKY", way)
    first = nastool(*command)
    assert first.exit_code == 0, first.output
    content = json.loads(nastool(*command, "--format", "json").stdout)
    count, shape = content["failed"], content["first_failure"]["architecture"]
    assert 0 < count < 80
    assert shape.startswith("8-")
    said = " ".join(first.stdout.split())
    reason = "no finite number)" if way == "nan" else "sys.exit(): 1 (toy_plugin.py:"
    assert f"{count} failed, the first {shape} (flaky: {reason}" in said
    again = nastool(*command, "--retry-failed")
    assert f"of {count} failed evaluations, 0 have a value now" in again.stderr
    monkeypatch.delenv("FLAKY")
    mended = nastool(*command, "--retry-failed")
    assert mended.exit_code == 0, mended.output
    assert f"of {count} failed evaluations, {count} have a value now" in mended.stderr
    assert "failed" not in mended.stdout
    content = json.loads(nastool(*command, "--format", "json").stdout)
    assert (content["failed"], content["first_failure"], content["evaluations"]) == (0, None, 80)


def test_nothing_can_be_tried_again_without_a_store(nastool):
    result = nastool(
        "search", "--space", "toy", "--objective", "loss", "--storage", "none", "--retry-failed"
    )
    assert result.exit_code == 2
    assert "--retry-failed: expected a study in a store" in result.stderr


def test_without_objectives_the_first_cost_of_the_space_is_optimised(nastool):
    result = nastool("search", "--space", "toy", "--budget", "50", "--format", "json")
    assert result.exit_code == 0
    content = json.loads(result.stdout)
    assert [metric["name"] for metric in content["metrics"]] == ["params"]


DECLARING = """
from nastool.plugins import register_space
from nastool.testing import Widths

@register_space("declaring")
class Declaring(Widths):
    name = "declaring"
    objectives = ("loss", "params")

    def __init__(self, argument=None):
        super().__init__()

@register_space("silent")
class Silent(Declaring):
    name = "silent"
    objectives = ()
    costs = {}
"""


def test_a_space_says_what_is_optimised_by_default(nastool, tmp_path):
    path = tmp_path / "declaring.py"
    path.write_text(DECLARING)
    for command in (("search",), ("compare", "--seeds", "2", "--strategy", "random")):
        common = ("--plugin", str(path), "--budget", "20", "--space")
        result = nastool(*command, *common, "declaring")
        assert result.exit_code == 0, result.output
        assert "loss" in result.output
        assert "params" in result.output
        result = nastool(*command, *common, "silent")
        assert result.exit_code == 2
        assert "silent declares no objectives: say what is optimised" in result.output
