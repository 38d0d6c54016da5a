"""``--executor`` and ``--asynchronous`` on the command line."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from nastool.cli.main import main

PLUGIN = """
from nastool.objective import Kind, Objective, Provenance
from nastool.plugins import register_objective

class Slow(Objective):
    name = fingerprint = "executed"
    provenance = Provenance(Kind.MEASURED, "a file")

    def evaluate(self, genotypes):
        return genotypes.sum(axis=1) * 1.0

@register_objective("executed")
def slow(space, argument=None):
    return Slow()
"""


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    file = tmp_path_factory.mktemp("executor") / "plugin.py"
    file.write_text(PLUGIN)

    def run(*options):
        given = ["--space", "supershaper", "--objective", "executed", "--plugin", str(file)]
        given += ["--storage", "none", "--strategy", "random", "--budget", "12", "--all"]
        return CliRunner().invoke(main, ["search", *given, "--format", "json", *options])

    run.plugin = str(file)
    return run


def test_what_measures_changes_nothing_unless_asked(search):
    here, there = (search(*options) for options in ([], ["--executor", "processes:1"]))
    assert (here.exit_code, there.exit_code) == (0, 0), there.output
    assert json.loads(here.stdout)["architectures"] == json.loads(there.stdout)["architectures"]
    told = search("--asynchronous", "3")
    assert told.exit_code == 0, told.output
    content = json.loads(told.stdout)
    assert len(content["architectures"]) == 12
    assert "depends on the machines" in content["asynchronous"]


def test_a_joined_study_is_shown_as_one_whose_order_depends_on_the_machines(search, tmp_path):
    kept = ["--storage", f"sqlite:///{tmp_path}/a.db"]
    first = search(*kept, "--join", "--study", "s")
    assert first.exit_code == 0, first.output
    again = search(*kept, "--join", "--study", "s")
    assert "nothing was evaluated" in again.stderr
    shown = CliRunner().invoke(
        main, ["show", "s", *kept, "--all", "--format", "json", "--plugin", search.plugin]
    )
    assert shown.exit_code == 0, shown.output
    said = [json.loads(found.stdout) for found in (first, again, shown)]
    assert len(said[0]["architectures"]) == 12
    for content in said:
        assert content["architectures"] == said[0]["architectures"]
        assert content["asynchronous"].startswith("several processes, told as they came")


def test_a_search_begins_with_a_table_that_another_one_has_written(search, tmp_path):
    kept = ["--storage", f"sqlite:///{tmp_path}/a.db"]
    table = tmp_path / "front.csv"
    assert search("--format", "csv", "--output", str(table)).exit_code == 0
    options = [*kept, "--seed", "1", "--from", str(table)]
    first, again = search(*options, "--study", "s"), search(*options, "--study", "s")
    assert first.exit_code == again.exit_code == 0, first.output
    assert "holds these 12 evaluations already; nothing was evaluated" in again.stderr
    other = search(*kept, "--seed", "2", "--from", "s", "--study", "t")
    shown = CliRunner().invoke(
        main, ["show", "t", *kept, "--all", "--format", "json", "--plugin", search.plugin]
    )
    assert other.exit_code == shown.exit_code == 0, other.output
    for found, n, source in ((first, 12, table), (other, 24, "study s"), (shown, 24, "study s")):
        content = json.loads(found.stdout)
        assert len(content["architectures"]) == n + 12
        assert content["known"].startswith(f"{n} evaluations from {source}")
    table.write_text("shape,executed\n1-1,3\n")
    wrong = search(*kept, "--from", str(table))
    assert wrong.exit_code == 2
    assert f"{table}, line 2: " in wrong.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--from", "s"], "got 's' and no store"),
        (["--join"], "--join: expected a --storage that others see, got none"),
        (["--join", "--storage", "sqlite://"], "a store that other processes see"),
        (["--executor", "nowhere"], "unknown executor 'nowhere'"),
        (["--executor", "processes:none"], "at least 1, such as processes:4, got 'none'"),
        (["--timeout-per-shape", "5s"], "--executor with workers"),
        (["--asynchronous", "0"], "at least 1"),
    ],
)
def test_options_are_checked(search, options, said):
    found = search(*options)
    assert found.exit_code == 2
    assert said in " ".join(found.output.split())
