"""`nastool sweep`: one search a limit; what it finds against brute force."""

import csv
import io
import json

import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.plugins import load_objective, load_space
from nastool.problem import CostObjective
from nastool.searching.sweeps import read_limits


@pytest.fixture
def sweep(nastool):
    """Runs a sweep of the toy space, every shape of it."""

    def run(*arguments, objective="loss", metric="params", strategy="random", budget="1024"):
        return nastool(
            *("sweep", "--space", "toy", "--objective", objective, "--metric", metric),
            *("--strategy", strategy, "--budget", budget, *arguments),
        )

    return run


@pytest.fixture
def everything(nastool):
    """Metrics of all shapes of the toy space, by name, and their texts."""
    nastool("list")  # loads the plugin
    space = load_space("toy")
    genotypes = space.enumerate()
    metrics = [load_objective("loss", space), load_objective("throughput", space)]
    metrics.append(CostObjective(space.costs["params"], space))
    return {m.name: m.evaluate(genotypes) for m in metrics}, space, genotypes


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_each_row_is_the_optimum_under_its_limit(sweep, everything):
    values, space, genotypes = everything
    found = rows(sweep("--from", "1M", "--to", "9M", "--step", "4M", "--format", "csv").stdout)
    assert [float(row["limit"]) for row in found] == [1e6, 5e6, 9e6]
    for row in found:
        allowed = values["params"] <= float(row["limit"])
        best = np.flatnonzero(allowed)[values["loss"][allowed].argmin()]
        assert float(row["loss"]) == values["loss"][best]
        assert row["shape"] == space.format(genotypes[best])
        assert float(row["params"]) == values["params"][best]
        assert int(row["evaluations"]) == allowed.sum()


def test_predictions_of_zero_and_less_are_told_of_the_metric_that_is_limited(sweep):
    said = "1 of 2 shapes are predicted at zero or less"
    table = sweep("--at", "-1ms,5ms", metric="straight")
    row = next(line for line in table.stdout.splitlines() if line.strip().startswith("-1ms"))
    assert " !" in row
    assert said in " ".join(table.stdout.split())
    for form in ("csv", "json"):
        assert said in sweep("--at", "-1ms,5ms", "--format", form, metric="straight").stderr


def test_a_metric_that_is_better_when_larger_is_limited_from_below(sweep, everything):
    values, _, _ = everything
    found = sweep("--at", "100ms,250ms", "--format", "json", metric="throughput")
    content = json.loads(found.stdout)
    assert content["sense"] == ">="
    for row in content["limits"]:
        allowed = values["throughput"] >= row["limit"]
        assert row["loss"] == values["loss"][allowed].min()


def test_every_other_constraint_holds_too(sweep, everything):
    values, _, _ = everything
    arguments = ("--min", "throughput=0.125", "--at", "6M", "--format", "csv")
    (row,) = rows(sweep(*arguments).stdout)
    allowed = (values["params"] <= 6e6) & (values["throughput"] >= 0.125)
    assert float(row["loss"]) == values["loss"][allowed].min()
    assert float(row["throughput"]) >= 0.125


def test_its_studies_are_those_of_search_and_are_not_made_again(sweep, search, nastool):
    first = sweep("--at", "2M,4M", "--format", "json")
    assert sweep("--at", "4M,2M", "--format", "json").stdout == first.stdout
    study = json.loads(first.stdout)["limits"][1]["study"]
    same = search(
        *("--strategy", "random", "--max", "params=4M"), objectives=("loss",), budget="1024"
    )
    assert f"Study {study} in sqlite:///nastool.db holds these" in same.stderr
    listed = json.loads(nastool("studies", "--format", "json").stdout)["studies"]
    assert len(listed) == 2
    wider = json.loads(sweep("--at", "2M,3M,4M", "--format", "json").stdout)
    assert [row["limit"] for row in wider["limits"]] == [2e6, 3e6, 4e6]
    assert wider["limits"][::2] == json.loads(first.stdout)["limits"]


def test_a_limit_that_nothing_keeps_is_a_row_without_a_shape(sweep):
    found = sweep("--at", "1,2M", "--format", "json")
    empty, full = json.loads(found.stdout)["limits"]
    assert empty["shape"] is empty["loss"] is empty["study"] is None
    assert "params<=1" in empty["note"]
    assert full["note"] is None
    table = sweep("--at", "1,2M").stdout
    assert table.startswith("Best loss at 2 limits: params at most")
    assert "params<=1 " in table
    nothing = sweep("--at", "1")
    assert nothing.exit_code == 2
    assert nothing.stderr.startswith("Error: no architecture was found under any limit: ")
    assert len(nothing.stderr.splitlines()) == 1


def test_an_exact_sweep_is_proven(nastool):
    pytest.importorskip("numba")
    found = nastool(
        *("sweep", "--space", "supershaper:minilm-6", "--metric", "params", "--strategy", "exact"),
        *("--at", "14M,18M", "--format", "json"),
    )
    content = json.loads(found.stdout)
    assert [(row["proven"], row["regret"]) for row in content["limits"]] == [(True, 0.0)] * 2
    assert all(row["certificate"]["front"] == 1 for row in content["limits"])
    assert all(row["interval"] > 0 for row in content["limits"])
    table = nastool(
        *("sweep", "--space", "supershaper:minilm-6", "--metric", "params", "--strategy", "exact"),
        *("--at", "14M,18M"),
    ).stdout
    assert table.count(" proven") == 2
    assert sum("±" in line and "proven" in line for line in table.splitlines()) == 2


def test_an_interrupted_sweep_says_how_far_it_came(sweep):
    found = sweep("--at", "3M,4M", objective="interrupted", budget="200")
    assert found.exit_code == 130
    assert "Interrupted: 0 of 2 limits are done; the same command goes on" in found.stderr


def measured(tmp_path, everything, name="lab.csv"):
    values, space, genotypes = everything
    lines = [",".join([*(gene.name for gene in space.genes), "loss"])]
    for genotype, loss in zip(genotypes[::100], values["loss"][::100] + 1, strict=True):
        lines.append(",".join([*map(str, space.decode(genotype[None])[0]), repr(float(loss))]))
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    return str(tmp_path / name)


def figure(page):
    start = page.index('<script type="application/json" id="page-data">')
    start = page.index(">", start) + 1
    return json.loads(page[start : page.index("</script>", start)])["figures"][0]["figure"]


def test_the_page_draws_the_best_over_the_measured_cloud(
    sweep, search, nastool, tmp_path, everything
):
    table = measured(tmp_path, everything)
    done = sweep("--at", "2M,4M,6M", "--plot", "sweep.html", "--cloud", table)
    assert done.exit_code == 0, done.output
    traces = {
        trace["name"]: trace for trace in figure((tmp_path / "sweep.html").read_text())["data"]
    }
    cloud = traces["measured: lab (11)"]
    values, _, _ = everything
    assert sorted(cloud["x"]) == sorted(values["params"][::100])
    assert sorted(cloud["y"]) == pytest.approx(sorted(values["loss"][::100] + 1))
    assert len(traces["Pareto front (3)"]["x"]) == 3
    search("--study", "mine", "--plot", "search.html", "--cloud", table)
    nastool("show", "mine", "--plot", "show.html", "--cloud", table)
    for page in ("search.html", "show.html"):
        names = [trace["name"] for trace in figure((tmp_path / page).read_text())["data"]]
        assert "measured: lab (11)" in names


def test_shapes_that_have_a_name_are_marked(nastool, tmp_path):
    done = nastool(
        *("sweep", "--space", "supershaper", "--metric", "params", "--at", "50M,70M"),
        *("--budget", "300", "--plot", "sweep.html"),
    )
    assert done.exit_code == 0, done.output
    traces = {
        trace["name"]: trace for trace in figure((tmp_path / "sweep.html").read_text())["data"]
    }
    assert len(traces["templates"]["x"]) == 7
    assert len(traces["cigar"]["x"]) == 22


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--from, --to and --step, or --at; got none of them"),
        (("--from", "1M", "--to", "2M"), "got --from, --to"),
        (("--from", "1M", "--to", "2M", "--step", "1M", "--at", "3M"), "got --from, --to, --step"),
        (("--from", "3M", "--to", "2M", "--step", "1M"), "--to at least --from"),
        (("--from", "1M", "--to", "2M", "--step", "0"), "--step must be above 0"),
        (("--from", "0", "--to", "2M", "--step", "1"), "at most 1,000 limits, got 2,000,001"),
        (("--at", "many"), "--at: expected a number"),
        (("--at", "2M,,3M"), "--at: expected a number"),
        (("--at", "2ms"), "params is measured in plain numbers, got a limit in s"),
        (("--at", "2M", "--cloud", "x.csv"), "needs --plot"),
        (("--at", "2M", "--cloud", "x.csv", "--plot", "p.html"), "x.csv"),
        (("--at", "2M", "--option", "x=1"), "has no setting 'x'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(sweep, tmp_path, arguments, words):
    done = sweep(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr
    assert not (tmp_path / "nastool.db").exists()


@pytest.mark.parametrize(
    ("metric", "words"), [("loss", "another than what"), ("x", "unknown metric")]
)
def test_bad_metrics_are_named(sweep, metric, words):
    done = sweep("--at", "2M", metric=metric)
    assert done.exit_code == 2
    assert words in done.stderr


def test_limits_are_read_to_the_last_one():
    found = read_limits("0.1", "0.7", "0.1", ())
    assert [q.value for q in found] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert [q.value for q in read_limits("40M", "66M", "10M", ())] == [40e6, 50e6, 60e6]
    assert [(q.value, q.unit) for q in read_limits(None, None, None, ("20ms,10ms", "20ms"))] == [
        (0.01, "s"),
        (0.02, "s"),
    ]
    with pytest.raises(InvalidInputError, match="in one unit"):
        read_limits("1ms", "2MB", "1ms", ())
