import json
import re
from pathlib import Path

import pytest

from nastool.recipes.study_recipe import StudyRecipe

PLUGIN = str(Path(__file__).with_name("toy_plugin.py"))


def test_show_repeats_what_the_search_showed(search, nastool):
    found = search("--study", "mine", "--max", "params=6M", "--format", "json")
    shown = nastool("show", "mine", "--format", "json")
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout) == json.loads(found.stdout)


def test_show_as_table_and_page(search, nastool, tmp_path):
    search("--study", "mine")
    shown = nastool("show", "mine", "--limit", "2", "--plot", "mine.html")
    assert shown.stdout.startswith("Pareto front: 2 of its")
    assert "<title>toy: mine</title>" in (tmp_path / "mine.html").read_text()


def test_unknown_study_lists_the_known(search, nastool):
    search("--study", "mine")
    result = nastool("show", "other")
    assert result.exit_code == 2
    assert "unknown study 'other'" in result.stderr
    assert "known: mine" in result.stderr


def test_missing_store_is_not_made(nastool, tmp_path):
    for command in (["show", "mine"], ["studies"]):
        result = nastool(*command)
        assert result.exit_code == 2
        assert result.stderr == "Error: there must be a store at nastool.db, got no such file\n"
    assert list(tmp_path.iterdir()) == []


def test_an_empty_store_is_named_as_it_is(search, nastool, monkeypatch):
    from nastool.store import Store

    url = "sqlite:///mine[b].db"
    search("--study", "mine", "--storage", url, budget="40")
    monkeypatch.setattr(Store, "list_studies", lambda store: [])
    assert nastool("studies", "--storage", url).stdout == f"no studies in {url}\n"


def test_study_of_a_plugin_that_is_not_loaded(search, process):
    search("--study", "mine")
    done = process("show", "mine")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "unknown search space 'toy'" in done.stderr
    assert "--plugin FILE.py" in done.stderr


def test_studies_lists_all(search, nastool):
    search("--study", "first", budget="40")
    search("--study", "second", "--max", "params=6M", budget="50")
    table = nastool("studies").stdout.splitlines()
    assert [line.split()[0] for line in table[1:]] == ["first", "second"]
    assert "params<=6M" in table[2]
    listed = json.loads(nastool("studies", "--format", "json").stdout)["studies"]
    assert [study["evaluations"] for study in listed] == [40, 50]


def test_a_study_shows_the_recipe_that_makes_it_again(search, nastool, tmp_path):
    first = search("--max", "params=6M", "--option", "population_size=20", "--seed", "3")
    assert first.exit_code == 0, first.output
    name = json.loads(nastool("studies", "--format", "json").stdout)["studies"][0]["name"]
    shown = nastool("show", name, "--recipe")
    assert shown.exit_code == 0, shown.output
    recipe = StudyRecipe.from_toml(shown.stdout)
    assert recipe.name == name
    assert recipe.study == ""
    assert (recipe.seed, recipe.budget, recipe.options) == (3, 300, {"population_size": 20})
    assert list(map(str, recipe.constraints)) == ["params<=6M"]
    assert recipe.plugins == (PLUGIN,)
    as_json = nastool("show", name, "--recipe", "--format", "json")
    assert StudyRecipe.from_json(as_json.stdout) == recipe
    assert nastool("show", name, "--recipe", "--output", "r.toml").exit_code == 0
    assert StudyRecipe.from_file(tmp_path / "r.toml") == recipe


def test_a_study_with_a_name_of_its_own_keeps_it_in_its_recipe(search, nastool):
    assert search("--study", "mine").exit_code == 0
    assert StudyRecipe.from_toml(nastool("show", "mine", "--recipe").stdout).study == "mine"
    unknown = nastool("show", "other", "--recipe")
    assert unknown.exit_code == 2
    assert "unknown study 'other'" in unknown.stderr


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        (["--recipe", "--plot", "page.html"], "--plot: expected a study, .*, got its --recipe"),
        (["--recipe", "--all"], "--all: expected a study, .*, got its --recipe"),
        (["--recipe", "--limit", "3"], "--limit: expected a study, .*, got its --recipe"),
        (["--recipe", "--output", "recipe.csv"], "csv: expected a study, .*, got its --recipe"),
        (["--recipe", "--format", "csv"], "csv: expected a study, .*, got its --recipe"),
    ],
)
def test_what_a_recipe_does_not_take_is_refused_and_not_passed_over(
    search, nastool, tmp_path, options, refused
):
    search("--study", "mine", budget="40")
    shown = nastool("show", "mine", *options)
    assert shown.exit_code == 2
    assert re.search(refused, shown.stderr)
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {"nastool.db"}
