import json
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from nastool import discovery
from nastool.cli.list import list_plugins
from nastool.cli.space import count_feasible, space
from nastool.constraint import parse_constraint
from nastool.discovery import (
    COMMANDS,
    GROUPS,
    OBJECTIVES,
    PREDICTORS,
    SEARCH_SPACES,
    STRATEGIES,
    available,
    load_file,
)
from nastool.errors import InvalidInputError
from nastool.plugins import (
    Spec,
    load_device,
    load_objective,
    load_space,
    load_strategy,
    parse_spec,
    register_device,
    register_objective,
    register_predictor,
    register_space,
    register_strategy,
)
from nastool.predictors import create_predictor, known_predictors
from nastool.predictors.additive import AdditiveScores
from nastool.predictors.base import Prediction, means_of
from nastool.problem import CostObjective, Problem
from nastool.strategies.base import Strategy
from nastool.study import Study
from nastool.testing import Mixed, Widths

DOCUMENT = Path(__file__).parents[2] / "docs" / "plugins.md"

FILE = '''
from nastool.plugins import register_objective, register_space, register_strategy
from nastool.strategies.base import Strategy
from nastool.testing import Formula, Widths


@register_space("file-widths")
def widths(argument=None):
    """Widths from a file. More text."""
    return Widths(layers=int(argument or 4))


@register_objective("file-sum")
def total(space, argument=None):
    return Formula(f"sum-{argument}", lambda g: g.sum(axis=1) * 1.0)


@register_strategy("file-strategy")
class FileStrategy(Strategy):
    def __init__(self, problem, seed=0, *, argument="none", speed=1):
        super().__init__(problem, seed)
        self.given = (argument, speed)

    def ask(self, n):
        return self.problem.sample(n, self.rng)

    def tell(self, evaluations):
        pass
'''


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    """Every test starts without files and sees entry points afresh."""
    monkeypatch.setattr(discovery, "_registered", {})
    discovery._installed.cache_clear()
    yield
    discovery._installed.cache_clear()
    for name in [name for name in sys.modules if name.startswith("nastool_plugin_")]:
        del sys.modules[name]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


@pytest.fixture
def points(monkeypatch):
    """Entry points that replace the installed ones."""
    declared = []
    monkeypatch.setattr(
        discovery, "_entry_points", lambda group: [p for p in declared if p.group == group]
    )
    return lambda group, name, value: declared.append(EntryPoint(name, value, group))


def a_problem():
    widths = Widths()
    return Problem(widths, (CostObjective(widths.costs["params"], widths),))


def test_what_is_installed_is_looked_through_once_for_all_groups():
    discovery._declared.cache_clear()
    for group in GROUPS:
        available(group)
    assert discovery._declared.cache_info().misses == 1


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("supershaper", Spec("supershaper")),
        (" supershaper ", Spec("supershaper")),
        ("supershaper[minilm-6]", Spec("supershaper", "minilm-6")),
        ("supershaper:minilm-6", Spec("supershaper", "minilm-6")),
        ("perplexity[runs/a:b,c[0]]", Spec("perplexity", "runs/a:b,c[0]")),
        ("perplexity:runs/[0]", Spec("perplexity", "runs/[0]")),
        ("pymoo:age-moea2", Spec("pymoo", "age-moea2")),
    ],
)
def test_specs(text, spec):
    assert parse_spec(text) == spec
    assert parse_spec(str(spec)) == spec


@pytest.mark.parametrize("text", ["", "a b", "a[", "a[]", "a:", "[b]", "1a", "a]", "a[b]c"])
def test_malformed_specs(text):
    with pytest.raises(InvalidInputError, match=r"expected NAME, NAME\[ARGUMENT\] or NAME:ARG"):
        parse_spec(text)


def test_ours_are_listed_with_origin_and_summary():
    names = {group: {p.name for p in available(group)} for group in GROUPS}
    assert "supershaper" in names[SEARCH_SPACES]
    assert {"params", "perplexity", "predicted"} <= names[OBJECTIVES]
    assert {"random", "evolution", "cigar", "templates"} <= names[STRATEGIES]
    assert "xgboost" in names[PREDICTORS]
    assert {"pretrain", "measure"} <= names[COMMANDS]
    params = next(p for p in available(OBJECTIVES) if p.name == "params")
    assert re.fullmatch(r"nastool \d+\.\d+.*", params.origin)
    assert params.summary == "Exact number of parameters of the deployed architecture"


def test_listing_imports_no_plugin():
    code = (
        "import sys\n"
        "from nastool.discovery import GROUPS, available\n"
        "summaries = [p.summary for g in GROUPS for p in available(g)]\n"
        "assert sum(map(bool, summaries)) >= 5, summaries\n"
        "loaded = [m for m in sys.modules if m.split('.')[0] in "
        "('torch', 'transformers', 'nastool_supernets', 'nastool_supershaper',"
        " 'nastool_objectives')]\n"
        "assert not loaded, loaded\n"
        "assert 'nastool.strategies.evolution' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_every_plugin_of_ours_loads():
    for group in (SEARCH_SPACES, OBJECTIVES):
        for plugin in available(group):
            assert callable(plugin.load())


def test_unknown_names_list_the_known_ones():
    with pytest.raises(
        InvalidInputError, match=r"unknown search space 'nope'; known: .*supershaper"
    ):
        load_space("nope")
    with pytest.raises(InvalidInputError, match=r"unknown objective 'nope'; known: .*params"):
        load_objective("nope", Widths())
    with pytest.raises(InvalidInputError, match=r"unknown strategy 'nope'; known: .*random"):
        load_strategy("nope", a_problem())
    with pytest.raises(InvalidInputError, match="plugin group must be one of"):
        available("nastool.nope")


def test_a_file_offers_plugins_with_the_file_as_origin(file):
    found = load_file(file)
    assert {(p.group, p.name) for p in found} == {
        (SEARCH_SPACES, "file-widths"),
        (OBJECTIVES, "file-sum"),
        (STRATEGIES, "file-strategy"),
    }
    assert {p.origin for p in found} == {str(file)}
    assert next(p for p in found if p.name == "file-widths").summary == "Widths from a file"
    made = load_space("file-widths[3]")
    assert len(made.genes) == 3
    assert load_objective("file-sum:x", made).name == "sum-x"


def test_a_file_is_run_once(file):
    assert load_file(file) == load_file(file.parent / "." / file.name)
    assert len([p for p in available(SEARCH_SPACES) if p.name == "file-widths"]) == 1


def test_files_whose_names_are_alike_are_two(tmp_path):
    for name in ("a-b", "a_b", "a b"):
        (tmp_path / f"{name}.py").write_text(FILE.replace("file-", f"{name.replace(' ', '.')}-"))
        load_file(tmp_path / f"{name}.py")
    spaces = {p.name for p in available(SEARCH_SPACES)}
    assert {"a-b-widths", "a_b-widths", "a.b-widths"} <= spaces


@pytest.mark.parametrize("code", ["0", "1", "'no'"])
def test_a_file_that_ends_in_sys_exit_is_refused(tmp_path, code):
    path = tmp_path / "mine.py"
    path.write_text(FILE + f"\nimport sys\nsys.exit({code})\n")
    with pytest.raises(InvalidInputError, match=r"mine\.py cannot be run: sys\.exit\(\)"):
        load_file(path)
    assert not [p for p in available(SEARCH_SPACES) if p.name == "file-widths"]


def test_predictors_have_one_place_too(points):
    points(PREDICTORS, "mine", "nastool.predictors.linear:linear")
    assert create_predictor("mine").kind == "linear"
    assert {"mine", "linear"} <= set(known_predictors())
    points(PREDICTORS, "xgboost", "nastool.predictors.linear:linear")
    points(PREDICTORS, "gone", "nowhere_at_all:create")
    points(PREDICTORS, "odd", "builtins:dict")
    discovery._installed.cache_clear()
    for kind, message in (
        ("xgboost", "'xgboost' must come from one place, got it from nastool"),
        ("gone", "predictor 'gone' of .* cannot be loaded: ModuleNotFoundError"),
        ("odd", "predictor 'odd' of .* must make a Predictor, got dict"),
        ("nowhere", "unknown predictor 'nowhere'; known: "),
    ):
        with pytest.raises(InvalidInputError, match=message):
            create_predictor(kind)


def test_what_a_plugin_makes_is_checked_where_it_enters(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        FILE
        + """
from nastool.space import SearchSpace
@register_space("empty")
class Empty(SearchSpace):
    name, genes = "empty", ()
    def __init__(self, argument=None): pass
@register_objective("unnamed")
def unnamed(space, argument=None):
    return Formula("", len)
"""
    )
    load_file(path)
    with pytest.raises(InvalidInputError, match="space empty must have at least one gene"):
        load_space("empty")
    with pytest.raises(InvalidInputError, match="objective Formula: the name must have"):
        load_objective("unnamed", Widths())


def test_settings_and_argument_reach_the_strategy(file):
    load_file(file)
    assert load_strategy("file-strategy", a_problem()).given == ("none", 1)
    made = load_strategy("file-strategy[fast]", a_problem(), 7, {"speed": 9})
    assert made.given == ("fast", 9)


def test_unknown_settings_list_the_known_ones(file):
    load_file(file)
    message = "strategy 'file-strategy' has no setting 'sped'; did you mean speed?"
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        load_strategy("file-strategy", a_problem(), 0, {"sped": 9})


def test_an_argument_that_a_strategy_does_not_take(points):
    points(STRATEGIES, "random", "nastool.strategies.random:RandomSearch")
    with pytest.raises(InvalidInputError, match="strategy 'random' takes no argument, got 'x'"):
        load_strategy("random[x]", a_problem())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("import nowhere_at_all", r"mine\.py cannot be run: ModuleNotFoundError: No module named"),
        ("def f(:", r"mine\.py cannot be run: SyntaxError"),
        ("1 / 0", r"mine\.py cannot be run: ZeroDivisionError: division by zero"),
        ("x = 1", "expected at least one register_space, .* register_executor or register_family"),
        (
            "from nastool.plugins import register_space\nregister_space('a b')(print)",
            "expected NAME",
        ),
        (
            "from nastool.plugins import register_space\nregister_space('a[b]')(print)",
            r"plain NAME, got 'a\[b\]'",
        ),
    ],
)
def test_broken_files_are_one_line(tmp_path, content, message):
    path = tmp_path / "mine.py"
    path.write_text(content)
    with pytest.raises(InvalidInputError, match=message) as caught:
        load_file(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_fails_registers_nothing_and_may_be_mended(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE + "\n1 / 0\n")
    with pytest.raises(InvalidInputError, match="ZeroDivisionError"):
        load_file(path)
    assert not [p for p in available(SEARCH_SPACES) if p.name == "file-widths"]
    path.write_text(FILE)
    assert len(load_file(path)) == 3


def test_missing_files_are_one_line(tmp_path):
    with pytest.raises(InvalidInputError, match="--plugin: expected a Python file, got"):
        load_file(tmp_path / "nowhere.py")
    (tmp_path / "text.txt").write_text("x = 1")
    with pytest.raises(InvalidInputError, match=r"ends in \.py"):
        load_file(tmp_path / "text.txt")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nowhere_at_all:create", "cannot be loaded: ModuleNotFoundError"),
        ("nastool.space:nothing", "cannot be loaded: AttributeError"),
        ("nastool:__version__", "must be callable, got str"),
        ("builtins:repr", "must make a SearchSpace, got str"),
        ("math:sqrt", "failed: TypeError"),
    ],
)
def test_a_broken_plugin_is_one_line_that_names_it(points, value, message):
    points(SEARCH_SPACES, "broken", value)
    with pytest.raises(InvalidInputError, match=message) as caught:
        load_space("broken")
    assert "search space 'broken' of" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_plugins_are_listed_without_failing(points):
    points(SEARCH_SPACES, "broken", "nowhere_at_all.deep:create")
    points(OBJECTIVES, "odd", "nastool.nowhere:create")
    listed = [*available(SEARCH_SPACES), *available(OBJECTIVES)]
    assert [(p.name, p.summary) for p in listed] == [("broken", ""), ("odd", "")]


def test_a_name_from_two_places_is_ambiguous(points, file):
    points(SEARCH_SPACES, "file-widths", "nastool.testing:Widths")
    load_file(file)
    message = "'file-widths' must come from one place, got it from"
    with pytest.raises(InvalidInputError, match=message):
        load_space("file-widths")


def test_the_same_entry_point_twice_is_one_plugin(points):
    for _ in range(2):
        points(SEARCH_SPACES, "mixed", "nastool.testing:Mixed")
    assert len(available(SEARCH_SPACES)) == 1


# The command line


def run(command, *arguments):
    result = CliRunner().invoke(command, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_list_shows_everything(file):
    output = run(list_plugins, "--plugin", str(file))
    assert "supershaper" in output
    assert "file-strategy" in output
    rows = json.loads(run(list_plugins, "--format", "json", "--plugin", str(file)))["plugins"]
    mine = next(row for row in rows if row["name"] == "file-widths")
    assert mine == {
        "kind": "search space",
        "name": "file-widths",
        "origin": str(file),
        "summary": "Widths from a file",
    }


def test_space_counts_what_a_budget_allows():
    output = run(space, "supershaper", "--max", "params=45M")
    assert "12 genes, 13,841,287,201 architectures" in output
    assert "120 240 360 480 540 600 768" in output
    assert "layer_1 … layer_12" in output
    assert "params<=45M: 1,637,796 of 13,841,287,201 feasible (0.0118%, 1 in 8,451)" in output


def test_space_as_json():
    text = run(space, "supershaper:minilm-6", "--constraint", "params<=18M", "--format", "json")
    content = json.loads(text)
    assert content["size"] == 7**6
    assert [gene["name"] for gene in content["genes"]] == [f"layer_{i}" for i in range(1, 7)]
    assert content["costs"]["memory"]["unit"] == "B"
    assert content["constraints"] == ["params<=18M"]
    assert content["feasible"]["exact"] is True
    assert 0 < content["feasible"]["low"] < 7**6
    assert "feasible" not in json.loads(run(space, "supershaper:minilm-6", "--format", "json"))


def test_bounds_on_several_costs_are_counted_together():
    made = load_space("supershaper:minilm-6")
    bounds = ("params<=19M", "memory>=68MB", "macs<=800M", "params>=15M")
    feasible = count_feasible(made, tuple(map(parse_constraint, bounds)))
    every = every_genotype(made)
    expected = sum(all_hold(made, every, bounds))
    assert expected > 1000
    assert abs(feasible.count.high - expected) < 6 * feasible.deviation
    for name in ("params", "memory", "macs"):
        own = [b for b in bounds if b.startswith(name)]
        assert feasible.by_cost[name].high == sum(all_hold(made, every, own))


def every_genotype(made):
    return np.indices(tuple(made.cardinalities)).reshape(len(made.genes), -1).T


def all_hold(made, genotypes, bounds):
    constraints = map(parse_constraint, bounds)
    return np.all(
        [c.violation(made.costs[c.metric].evaluate(genotypes)) <= 0 for c in constraints], axis=0
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("supershaper", "--max", "params=20M"), r"smallest architecture .* 33\.19M"),
        (("supershaper", "--max", "perplexity=7"), "exact cost of supershaper .params"),
        (("supershaper", "--max", "params=20ms"), "plain numbers"),
        (("supershaper", "--max", "params<20M"), "--max: expected METRIC=NUMBER"),
        (("supershaper", "--constraint", "params=<20M"), "--constraint: expected METRIC<=NUMBER"),
        (("nope",), "unknown search space 'nope'"),
    ],
)
def test_bad_input_of_space_is_one_line(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        run(space, *arguments)


# The page for plugin authors


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)


@pytest.fixture
def documented(tmp_path):
    """The files of the page, as a reader would save them."""
    # The last one is of a supernet, whose own tests hold it.
    depth, test, stages, encoders, uniform, nearest, _ = blocks("python")
    for name, content in (
        ("depth.py", depth),
        ("test_depth.py", test),
        ("stages.py", stages),
        ("encoders.py", encoders),
        ("uniform.py", uniform),
        ("nearest.py", nearest),
    ):
        (tmp_path / name).write_text(content)
    return tmp_path


def test_the_first_plugin_of_the_page_has_at_most_thirty_lines():
    assert len(blocks("python")[0].splitlines()) <= 30


def test_the_objective_of_the_page_works(documented):
    load_file(documented / "depth.py")
    made = load_space("supershaper")
    objective = load_objective("roughness", made)
    shapes = made.encode([(120,) * 12, (120, 768) * 6])
    assert objective.evaluate(shapes).tolist() == [0, 11 * 648]
    problem = Problem(made, (objective,), (parse_constraint("roughness<=648"),))
    assert np.array_equal(problem.admissible(shapes), [True, False])


OTHERS = """
from nearest import Nearest
from uniform import Uniform

from nastool.testing import PredictorConformance, StrategyConformance


class TestUniform(StrategyConformance):
    def make(self, problem, seed):
        return Uniform(problem, seed)


class TestNearest(PredictorConformance):
    def make(self):
        return Nearest()
"""


def test_the_conformance_suite_of_the_page_passes_as_its_other_plugins_do(documented):
    (documented / "test_others.py").write_text(OTHERS)
    files = "test_depth.py", "test_others.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    result = subprocess.run(
        command, cwd=documented, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"\d+ passed", result.stdout)


def test_the_space_of_the_page_works(documented):
    path = str(documented / "stages.py")
    output = run(space, "stages", "--plugin", path, "--max", "params=50k")
    assert "stages: 4 genes, 256 architectures" in output
    assert re.search(r"params<=50k: \d+ of 256 feasible", output)


def test_the_space_with_branches_of_the_page_works(documented):
    path = str(documented / "encoders.py")
    output = run(space, "encoders", "--plugin", path, "--max", "params=200k")
    assert "encoders: 6 genes, 240 architectures (of 648 genotypes)" in output
    load_file(documented / "encoders.py")
    made = load_space("encoders")
    everything = np.unique(made.canonicalize(made.enumerate()), axis=0)
    feasible = np.count_nonzero(made.costs["params"].evaluate(everything) <= 200e3)
    assert f"params<=200k: {feasible} of 240 feasible" in output


def test_the_strategy_of_the_page_works(documented):
    load_file(documented / "uniform.py")
    problem = a_problem()
    strategy = load_strategy("uniform", problem, 1)
    asked = strategy.ask(5)
    assert asked.shape == (5, 4)
    strategy.tell(problem.evaluate(asked))


HEAD = "from nastool.plugins import register_objective, register_space, register_strategy\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "@register_objective\nclass Mine: pass",
            "Mine: the decorator must be called with the name of the objective, got none",
        ),
        (
            "for _ in range(2):\n    def a(argument): pass\n    register_space('s')(a)",
            r"search space 's' of .*mine\.py must be one, got two of that name",
        ),
    ],
)
def test_files_that_register_wrongly_are_one_line(tmp_path, content, message):
    path = tmp_path / "mine.py"
    path.write_text(HEAD + content)
    with pytest.raises(InvalidInputError, match=message):
        load_file(path)
    assert not [p for p in available(SEARCH_SPACES) if p.origin == str(path)]


def test_a_notebook_may_register_a_name_again():
    for factory in (Widths, Mixed):
        kind = type("Mine", (factory,), {"__module__": "a_notebook", "__init__": lambda s, a: None})
        register_space("mine")(kind)
    assert isinstance(load_space("mine"), Mixed)


def a_strategy(name):
    return load_strategy(name, a_problem())


@pytest.mark.parametrize(
    ("load", "register", "takes", "rule"),
    [
        (load_space, register_space, "()", "(argument)"),
        (lambda n: load_objective(n, Widths()), register_objective, "(space)", "(space, argument)"),
        (a_strategy, register_strategy, "(problem)", "(problem, seed)"),
        (a_strategy, register_strategy, "(problem, seed, size)", "(problem, seed)"),
        (load_device, register_device, "(*, clock=1)", "(argument)"),
        (create_predictor, register_predictor, "(depth)", "()"),
    ],
)
def test_what_takes_something_else_than_its_group_is_one_line(load, register, takes, rule):
    factory = eval(f"lambda {takes[1:-1]}: None")
    register("mine")(factory)
    message = f"must take {rule}, got one that takes {takes}"
    with pytest.raises(InvalidInputError, match=f"{re.escape(message)}$"):
        load("mine")


def test_a_file_offers_a_predictor(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from nastool.plugins import register_predictor\n"
        "from nastool.predictors.additive import AdditiveScores\n"
        "members = {'__module__': __name__, 'kind': 'mine'}\n"
        "register_predictor('mine')(type('Mine', (AdditiveScores,), members))\n"
    )
    load_file(path)
    assert type(create_predictor("mine")).__name__ == "Mine"


class Line(AdditiveScores):
    kind, label = "mine", "a line"


class OfAnotherKind(Line):
    kind = "other"


class WithoutALabel(Line):
    label = None


class WithoutGenes(Line):
    def fit(self, features, targets):
        super().fit(features, targets)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        # Its folders would be written and never be read again.
        (OfAnotherKind, "must have kind = 'mine', got 'other'$"),
        (WithoutALabel, "its label must be a text, got NoneType"),
        (WithoutGenes, r"fit must take \(features, targets, \*, genes\), got one that takes"),
    ],
)
def test_predictors_that_could_not_be_kept_or_fitted_are_one_line(factory, message):
    register_predictor("mine")(factory)
    with pytest.raises(InvalidInputError, match=f"predictor 'mine' of .*{message}"):
        create_predictor("mine")


@pytest.mark.parametrize(
    ("returns", "got"),
    [
        (lambda rows: rows[:, 0], "got ndarray"),
        (lambda rows: Prediction(rows[:, :1]), r"got shape \(3, 1\)"),
        (lambda rows: None, "got NoneType"),
    ],
)
def test_what_a_predictor_returns_is_checked_where_it_is_scored(returns, got):
    class Mine(Line):
        def predict(self, features):
            return returns(features)

    with pytest.raises(InvalidInputError, match=rf"means of shape \(3,\), {got}$"):
        means_of(Mine(), np.zeros((3, 2)))


def test_a_strategy_that_was_not_begun_is_one_line():
    class Mine(Strategy):
        def __init__(self, problem, seed=0):
            self.best = None

        def ask(self, n):
            return self.problem.sample(n, self.rng)

        def tell(self, evaluations):
            pass

    register_strategy("mine")(Mine)
    message = r"strategy Mine must call super\(\)\.__init__\(problem, seed\)"
    for make in (lambda: load_strategy("mine", a_problem()), lambda: Study(a_problem(), Mine)):
        with pytest.raises(InvalidInputError, match=message):
            make()


def test_whose_plugin_raised(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from nastool.plugins import load_space, register_space\n"
        "@register_space('mine')\n"
        "def mine(argument): pass\n"
        "def call(function): return function()\n"
        "def divide(): return 1 / 0\n"
    )
    load_file(path)
    module = next(m for name, m in sys.modules.items() if name.startswith("nastool_plugin_"))
    with pytest.raises(ZeroDivisionError) as theirs:
        module.divide()
    assert discovery.raised_by(theirs.value) == str(path)
    # What nastool raises when it is called from there is its own.
    with pytest.raises(InvalidInputError) as ours:
        module.call(lambda: load_space("nowhere"))
    assert discovery.raised_by(ours.value) == ""


def test_a_plugin_that_says_nothing_of_itself_is_not_said_to_be_what_it_derives_from(tmp_path):
    (tmp_path / "silent.py").write_text(
        "from nastool.plugins import register_space\n"
        "from nastool.space import SearchSpace\n"
        "@register_space('silent')\n"
        "class Silent(SearchSpace):\n"
        "    name = 'silent'\n"
    )
    (plugin,) = load_file(tmp_path / "silent.py")
    assert plugin.summary == ""
