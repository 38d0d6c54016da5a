"""`--all`: every evaluation instead of the best, in each format."""

import csv
import io
import json

import numpy as np
import pytest

from nastool.cli.tables import plain_table
from nastool.constraint import parse_constraint
from nastool.objective import Kind
from nastool.problem import Problem
from nastool.strategies.random import RandomSearch
from nastool.study import Study
from nastool.testing import Formula, Widths


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_every_evaluation_is_listed_in_its_order(search, nastool):
    front = rows(search("--strategy", "random", "--format", "csv").stdout)
    found = rows(search("--strategy", "random", "--all", "--format", "csv").stdout)
    assert list(found[0]) == [
        "shape", "loss", "params", "feasible", "failed", "strategy", "order",
    ]  # fmt: skip
    assert len(found) == 300 > len(front)
    assert [int(row["order"]) for row in found] == list(range(1, 301))
    assert {row["shape"] for row in front} < {row["shape"] for row in found}
    assert {(row["strategy"], row["feasible"], row["failed"]) for row in found} == {
        ("random", "True", "False")
    }
    content = json.loads(search("--strategy", "random", "--all", "--format", "json").stdout)
    assert content["total"] == len(content["architectures"]) == 300
    for ours, theirs in zip(content["architectures"], found, strict=True):
        assert (ours["shape"], ours["order"]) == (theirs["shape"], int(theirs["order"]))
        assert ours["loss"] == float(theirs["loss"])
    table = search("--strategy", "random", "--all").stdout.splitlines()
    assert table[0] == "All 300 evaluations"
    assert table[2].split() == list(found[0])
    assert [line.split()[0] for line in table[3:303]] == [row["shape"] for row in found]


def test_a_limit_spreads_over_all(search):
    found = rows(search("--all", "--limit", "4", "--format", "csv").stdout)
    assert [int(row["order"]) for row in found] == [1, 101, 200, 300]


def test_show_lists_what_search_lists(search, nastool):
    found = search("--study", "mine", "--all", "--format", "csv")
    assert nastool("show", "mine", "--all", "--format", "csv").stdout == found.stdout


def test_a_comparison_lists_every_run(nastool):
    common = ("--space", "toy", "--objective", "loss", "--objective", "params", "--budget", "40")
    common += ("--seeds", "2", "--strategy", "random", "--strategy", "pareto", "--name", "both")
    found = nastool("compare", *common, "--all", "--format", "csv")
    assert found.exit_code == 0, found.output
    listed = rows(found.stdout)
    assert [(r["strategy"], r["seed"], int(r["order"])) for r in listed] == [
        (strategy, seed, order)
        for strategy in ("random", "pareto")
        for seed in "01"
        for order in range(1, 41)
    ]
    assert nastool("show", "both", "--all", "--format", "csv").stdout == found.stdout
    content = json.loads(nastool("show", "both", "--all", "--format", "json").stdout)
    assert content["total"] == 160
    assert content["architectures"][50]["seed"] == 1
    table = nastool("show", "both", "--all").stdout.splitlines()
    assert table[0] == "All 160 evaluations, run by run"
    assert len(table) == 3 + 160


def test_nothing_feasible_is_no_reason_to_show_nothing():
    space = Widths()
    loss = Formula("loss", lambda g: np.where(g[:, 0] == 0, np.nan, g.sum(axis=1)), cheap=False)
    # On a metric that is no cheap one: honoured in the ranking only.
    never = (parse_constraint("loss<=-1"),)
    result = Study(Problem(space, (loss,), never), RandomSearch).run(60)
    assert result.to_frame(everything=True)["feasible"].tolist() == [False] * 60
    result = Study(Problem(space, (loss,)), RandomSearch).run(60)
    everything = result.to_frame(everything=True)
    failed = result.evaluations.genotypes[:, 0] == 0
    assert failed.any()
    assert everything["failed"].tolist() == failed.tolist()
    assert everything["feasible"].tolist() == (~failed).tolist()
    assert everything["order"].tolist() == list(range(1, 61))
    assert everything["strategy"].unique().tolist() == ["RandomSearch"]
    text = plain_table(result.columns(everything=True), result.problem).splitlines()
    assert len(text) == 61
    assert [line.split()[1] == "-" for line in text[1:]] == failed.tolist()
    some = result.evaluations.genotypes[[5, 2]]
    assert [row["order"] for row in result.records(some, everything=True)] == [6, 3]


@pytest.mark.parametrize(("strategy", "members"), [("templates", 7), ("cigar", 22)])
@pytest.mark.parametrize("objectives", [("perplexity",), ("perplexity", "params")])
def test_families_are_listed_whole_with_their_names(nastool, strategy, members, objectives):
    wanted = [part for name in objectives for part in ("--objective", name)]
    common = (
        "search",
        "--space",
        "supershaper",
        "--strategy",
        strategy,
        *wanted,
        "--format",
        "csv",
    )
    found = rows(nastool(*common).stdout)
    assert len(found) == members == len({row["name"] for row in found})
    limited = (*common, "--max", "params=64M")
    allowed = rows(nastool(*limited).stdout)
    everything = rows(nastool(*limited, "--all").stdout)
    assert 0 < len(allowed) < members
    assert {row["name"]: row["shape"] for row in everything} == {
        row["name"]: row["shape"] for row in found
    }
    for row in everything:
        assert (row["feasible"] == "True") == (float(row["params"]) <= 64e6)
        assert bool(row["order"]) == (row["feasible"] == "True")
        assert row["failed"] == "False"
        assert row["perplexity"]
    table = nastool(*common[:-2])
    assert table.stdout.startswith(f"{members} of the {members} shapes of {strategy}")
    assert found[0]["name"] in table.stdout


def test_metrics_too_dear_for_a_list_are_left_out_of_it():
    from nastool.objective import Provenance
    from nastool_supershaper.families import TEMPLATES
    from nastool_supershaper.heuristics import TemplatesStrategy
    from nastool_supershaper.space import create

    calls = []

    def measured(genotypes):
        calls.append(len(genotypes))
        return genotypes.sum(axis=1).astype(float)

    space = create()
    dear = Formula("dear", measured, provenance=Provenance(Kind.MEASURED, "a lab"))
    problem = Problem(space, (dear,), (parse_constraint("params<=64M"),))
    records = Study(problem, TemplatesStrategy).run(10).records(everything=True)
    assert {row["name"] for row in records} == set(TEMPLATES)
    assert sum(calls) == sum(row["feasible"] for row in records) < 7
    assert all(np.isnan(row["dear"]) for row in records if not row["feasible"])


@pytest.mark.parametrize("named", [7, [["a"]], [["a", [99]]], [[1, [0] * 12]], {"a": 1}])
def test_a_damaged_list_of_names_is_one_line(nastool, named):
    import sqlite3

    common = ("--space", "supershaper", "--strategy", "templates", "--study", "mine")
    assert nastool("search", *common).exit_code == 0
    with sqlite3.connect("nastool.db") as database:
        (text,) = database.execute("select description from studies").fetchone()
        damaged = json.dumps({**json.loads(text), "named": named})
        database.execute("update studies set description = ?", (damaged,))
    database.close()
    done = nastool("show", "mine")
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert "damaged" in done.stderr
