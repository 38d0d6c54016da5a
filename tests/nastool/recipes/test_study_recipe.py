import json
import re
from pathlib import Path

import numpy as np
import pytest

import nastool
from nastool.comparison import compare
from nastool.constraint import Constraint
from nastool.discovery import load_file
from nastool.errors import InvalidInputError, NastoolError
from nastool.files.documents import parse_document, toml_text
from nastool.plugins import load_objective, load_space
from nastool.recipes.study_recipe import StudyRecipe, shared_recipe
from nastool.searching.sweeps import Sweep, read_limits
from nastool.store import open_store
from nastool.strategies.random import RandomSearch
from nastool.study import Study
from nastool.verification.measurers import measurers

PLUGIN = Path(__file__).parents[1] / "cli" / "toy_plugin.py"


@pytest.fixture(autouse=True)
def _toy():
    load_file(PLUGIN)


FULL = StudyRecipe(
    "toy",
    ("loss", "params"),
    ("params<=6M", "loss>=0.1"),
    "evolution:paper",
    {"population_size": 20, "tournament": "8"},
    500,
    7,
    16,
    {"loss": 'a "folder"\\with = signs'},
    "mine, ünïcode",
    ("a.py",),
)


@pytest.mark.parametrize("recipe", [FULL, StudyRecipe("toy")])
def test_recipes_come_back_from_toml_and_json(recipe):
    assert StudyRecipe.from_toml(recipe.to_toml()) == recipe
    assert StudyRecipe.from_json(recipe.to_json()) == recipe
    assert StudyRecipe.from_dict(recipe.as_dict()) == recipe
    again = StudyRecipe.from_toml(recipe.to_toml())
    assert again.to_toml() == recipe.to_toml()


def test_constraints_are_read_from_every_form():
    text = """
space = "toy"
constraints = ["loss<=3", "params<=6M"]
max = {params = "6M", "latency[a b]" = 0.02}
[min]
params = 40_000
"""
    found = StudyRecipe.from_toml(text).constraints
    assert found == (
        Constraint("loss", "<=", 3.0),
        Constraint("params", "<=", 6e6),
        Constraint("latency[a b]", "<=", 0.02),
        Constraint("params", ">=", 40_000.0),
    )


def test_files_may_call_fields_as_the_options_are_called():
    text = 'space = "toy"\nobjective = ["loss"]\nbatch-size = 8\nbudget = "2k"\n'
    assert StudyRecipe.from_toml(text) == StudyRecipe("toy", ("loss",), budget=2000, batch_size=8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'space = "toy"\n\nbuget = 3\n',
            "r.toml, line 3: buget: unknown key; did you mean budg",
        ),
        ('space = "toy"\nzzz = 3\n', "line 2: zzz: unknown key; known: space, "),
        ('space = "toy"\nbudget = "lots"', "line 2: budget: expected a whole number of at least 1"),
        ('space = "toy"\nbudget = true', "line 2: budget: expected a whole number"),
        ('space = "toy"\nseed = -1', "line 2: seed: expected a whole number of at least 0"),
        ("space = 3", "line 1: space: expected a text, got a whole number (3)"),
        ('space = "toy"\nobjectives = "loss"', "line 2: objectives: expected a list of texts"),
        ('space = "toy"\nobjectives = [\n "loss",\n 3]', "line 2: objectives: expected a list"),
        ('space = "toy"\noptions = ["a=1"]', "line 2: options: expected a table, got a list"),
        ('space = "toy"\nconstraints = ["params<6"]', "line 2: constraints: expected METRIC<="),
        ('space = "toy"\n[max]\n# a bound\nparams = true', "line 4: max.params: expected a number"),
        ('space = "toy"\n[max]\nparams = "6Q"', "line 3: max.params: unknown unit 'Q'"),
        ('space = "toy"\nmax = 3', "line 2: max: expected a table of bounds"),
        ('space = "toy"\nobjective = []\nobjectives = []', "line 3: objectives: expected once"),
        ("budget = 3", "r.toml: expected a space, got none"),
        ('space = "toy', "r.toml: no TOML: "),
    ],
)
def test_what_is_wrong_is_named_with_key_and_line(text, message):
    with pytest.raises(InvalidInputError) as caught:
        StudyRecipe.from_toml(text, "r.toml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_of_json_are_named_with_their_line():
    with pytest.raises(InvalidInputError, match=r"r.json, line 3: buget: unknown key; did you"):
        StudyRecipe.from_json('{\n"space": "toy",\n"buget": 3}', "r.json")


def test_a_key_that_json_gives_twice_is_refused_however_deep():
    text = '{"space": "toy", "options": {"size": 1, "size": 2}, "max": {"size": 1}}'
    with pytest.raises(
        InvalidInputError, match=r"^r.json: no JSON: key 'size' stands twice in one"
    ):
        StudyRecipe.from_json(text, "r.json")
    once = StudyRecipe.from_json(text.replace(', "size": 2', ""), "r.json")
    assert once.options == {"size": 1}


def test_settings_are_of_the_types_that_the_strategy_takes():
    texts = StudyRecipe("toy", ("loss",), options={"population-size": "2k"})
    values = StudyRecipe("toy", ("loss",), options={"population_size": 2000})
    assert texts.settings == values.settings == {"population_size": 2000}
    assert texts.name == values.name
    for wrong in ({"population_size": 1.5}, {"population_size": "x"}, {"size": 3}):
        with pytest.raises(InvalidInputError, match="options"):
            _ = StudyRecipe("toy", ("loss",), options=wrong).settings


def test_a_stored_study_gives_its_recipe_back(tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    recipe = StudyRecipe(
        "toy", ("loss",), ("params<=6M",), options={"population_size": 20}, budget=60, batch_size=9
    )
    made = Study.of(recipe, url)
    assert made.name == recipe.name
    first = made.run(40, 9)
    opened = Study.open(recipe.name, url)
    assert opened.result().to_json() == first.to_json()
    assert opened.result().stop_reason == "budget"
    assert opened.recipe == made.recipe
    with open_store(url) as store:
        assert shared_recipe(store.load(recipe.name).summary) == recipe
    whole = opened.run(60)
    once = Study.of(recipe).run(60, 9)
    np.testing.assert_array_equal(whole.metrics, once.metrics)
    with pytest.raises(InvalidInputError, match="unknown study 'other'"):
        Study.open("other", url)


def test_a_study_of_objects_says_that_no_name_makes_it(tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    problem = StudyRecipe("toy", ("loss",)).problem()
    Study(problem, RandomSearch, url, "mine").run(5)
    with pytest.raises(InvalidInputError, match="unknown strategy 'RandomSearch'"):
        Study.open("mine", url)


def test_studies_take_strategies_by_name():
    problem = StudyRecipe("toy", ("loss",)).problem()
    named, made = Study(problem, "random", seed=3), Study(problem, RandomSearch, seed=3)
    np.testing.assert_array_equal(named.run(20).metrics, made.run(20).metrics)
    assert named.recipe.strategy == "random"
    with pytest.raises(InvalidInputError, match="unknown strategy 'nope'"):
        Study(problem, "nope")


def test_search_takes_names_and_objects(tmp_path):
    space = load_space("toy")
    loss = load_objective("loss", space)
    by_name = nastool.search(
        "toy", ["loss", "params"], max={"params": "6M"}, strategy="pareto", budget=200
    )
    by_object = nastool.search(
        space, [loss, "params"], constraints=["params<=6M"], strategy="pareto", budget=200
    )
    assert by_name.to_csv() == by_object.to_csv()
    assert (by_name.values(by_name.evaluations.genotypes)["params"] <= 6e6).all()
    url = f"sqlite:///{tmp_path}/store.db"
    kept = nastool.search("toy", ["loss"], budget=30, seed=2, store=url)
    assert Study.open(kept.name, url).recipe.seed == 2
    own = nastool.search("toy", ["loss"], strategy=RandomSearch, budget=10)
    assert len(own) == 10
    with pytest.raises(InvalidInputError, match=r"search: max.params: expected a number"):
        nastool.search("toy", ["loss"], max={"params": None})
    with pytest.raises(NastoolError, match="unknown metric 'los'; did you mean loss"):
        nastool.search("toy", ["los"])


def test_texts_of_every_kind_come_back_from_toml():
    content = {
        "a b": "quotes \" ' \\ and \x7f \x00 \n 🙂",
        "flag": True,
        "numbers": [1, 2.5, 1e300, -0.0],
        "table": {"ü.x": "y", "k": [False, "t"]},
    }
    text = toml_text(content)
    assert parse_document(text, "x").content == content
    with pytest.raises(InvalidInputError, match="UTF-8"):
        toml_text({"a": "\udcff"})


def test_comparisons_take_strategies_by_name():
    problem = StudyRecipe("toy", ("loss",)).problem()
    named = compare(problem, ["random", "evolution:paper"], range(2), 20)
    made = compare(problem, {"random": RandomSearch, "other": "evolution:paper"}, range(2), 20)
    for first, second in (("random", "random"), ("evolution:paper", "other")):
        for one, other in zip(named.results[first], made.results[second], strict=True):
            np.testing.assert_array_equal(one.metrics, other.metrics)
    with pytest.raises(InvalidInputError, match="unknown strategy 'nope'"):
        compare(problem, ["nope"], range(2), 20)


def test_a_sweep_searches_once_for_each_limit():
    recipe = StudyRecipe("toy", ("loss",), strategy="random", budget=300)
    sweep = Sweep(recipe, "params", read_limits("2M", "6M", "2M", ()))
    asked = []

    def run(recipe, label):
        asked.append(label)
        return Study.of(recipe).run(recipe.budget), None

    found = sweep.run(run)
    assert asked == ["params<=2M", "params<=4M", "params<=6M"]
    best = [row.values["loss"] for row in found]
    assert best == sorted(best, reverse=True)
    assert all(row.values["params"] <= row.limit.bound for row in found)
    with pytest.raises(NastoolError, match="no architecture was found under any limit"):
        Sweep(recipe, "params", read_limits(None, None, None, ["1"])).run(run)
    with pytest.raises(InvalidInputError, match="must be another than what is optimised"):
        Sweep(recipe, "loss", sweep.limits)


def test_what_measures_a_metric_is_found_by_its_name():
    problem = StudyRecipe("toy", ("loss", "params")).problem()
    with pytest.raises(InvalidInputError, match="no predicted metric can be measured"):
        measurers(problem)
    with pytest.raises(InvalidInputError, match=r"METRIC one of loss, got 'params=x'"):
        measurers(problem, given={"params": "x"})
    measured, skipped = measurers(problem, given={"loss": "throughput"})
    assert (measured["loss"].name, skipped) == ("throughput", {})


def test_the_json_of_a_recipe_holds_to_its_schema(checked_json):
    recipe = StudyRecipe(
        "supershaper", constraints=("params<=66M",), options={"population_size": 50}, batch_size=7
    )
    content = checked_json(recipe.to_json())
    assert content["constraints"] == ["params<=66M"]
    assert StudyRecipe.from_json(recipe.to_json()) == recipe
    foreign = json.dumps({**content, "schema": "nastool/front"})
    with pytest.raises(InvalidInputError, match="schema: expected nastool/recipe, got"):
        StudyRecipe.from_json(foreign)


def test_numbers_of_numpy_are_taken_as_pythons_own():
    given = {"budget": np.int64(30), "seed": np.uint8(3), "batch_size": np.int32(10)}
    options = {"initial": np.int64(5), "jump": np.float64(0.5)}
    recipe = StudyRecipe("supershaper", strategy="pareto", options=options, **given)
    plain = {"budget": 30, "seed": 3, "batch_size": 10, "options": {"initial": 5, "jump": 0.5}}
    assert recipe == StudyRecipe("supershaper", strategy="pareto", **plain)
    assert (
        StudyRecipe.from_json(recipe.to_json()) == recipe == StudyRecipe.from_toml(recipe.to_toml())
    )
    bounds = {"max": {"params": np.float32(66_000_000)}, "min": {"params": np.int64(40_000_000)}}
    bounded = StudyRecipe.from_dict({"space": "supershaper", **bounds})
    assert list(map(str, bounded.constraints)) == ["params<=66M", "params>=40M"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"objectives": "params"}, "objectives must be a list, got str 'params'"),
        ({"constraints": "params<=66M"}, "constraints must be a list, got str 'params<=66M'"),
        ({"objectives": [len]}, "an objective must derive from nastool.objective.Objective"),
        ({"space": 3}, "a search space must derive from nastool.space.SearchSpace, got int"),
        ({"constraints": [3]}, "constraints: expected a list of texts, got a whole number"),
    ],
)
def test_what_a_search_in_one_call_cannot_take_is_one_line(given, message):
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        nastool.search(**{"space": "supershaper", "objectives": ["params"], **given}, budget=5)
