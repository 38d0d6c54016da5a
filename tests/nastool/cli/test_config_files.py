import os
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from nastool.cli.config import configurable
from nastool.cli.main import main
from nastool.cli.options import count, number
from nastool.recipes.study_recipe import StudyRecipe

PLUGIN = str(Path(__file__).with_name("toy_plugin.py"))


def dumped(nastool, *arguments):
    result = nastool(*arguments, "--dump-config")
    assert result.exit_code == 0, result.output
    return result.stdout


def configured():
    """Every command that takes a file, by name."""
    found = {}

    def collect(group, ctx, prefix):
        for name in group.list_commands(ctx):
            command = group.get_command(ctx, name)
            if isinstance(command, click.Group):
                collect(command, click.Context(command, parent=ctx), f"{prefix}{name} ")
            elif any("--dump-config" in param.opts for param in command.params):
                found[prefix + name] = command

    collect(main, click.Context(main), "")
    return found


COMMANDS = configured()


def sample(param):
    """A value that a parameter takes, as it is written on the command line."""
    if isinstance(param.type, click.Choice):
        return param.type.choices[-1]
    if "=" in (param.metavar or ""):
        return "some=0.5"
    if ".html" in (param.metavar or ""):
        return "figures.html"
    try:
        for text in ("9", "0.25"):
            param.type.convert(text, param, None)
            return text
    except click.BadParameter:
        return "0.25"


def every_option(command):
    """Arguments that give all there is, repeatable ones twice."""
    arguments = []
    for param in command.get_params(click.Context(command)):
        if param.name in ("plugin", "help") or {
            "--config",
            "--dump-config",
            "--verbose",
            "--quiet",
            "--help",
        } & {*param.opts}:
            continue
        if isinstance(param, click.Argument):
            arguments += [sample(param)] * (2 if param.nargs == -1 else 1)
        elif param.is_flag:
            arguments.append(param.opts[0])
        else:
            arguments += [param.opts[-1], sample(param)]
            arguments += [param.opts[-1], "other=true"] if "=" in (param.metavar or "") else []
    return arguments


def test_the_commands_of_many_options_take_files():
    needed = {"search", "compare", "sweep", "pretrain", "measure", "validate", "export"}
    assert {*needed, "latency measure"} <= {*COMMANDS}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_printed_gives_itself_back(nastool, name):
    arguments = every_option(COMMANDS[name])
    text = dumped(nastool, *name.split(), *arguments)
    content = tomllib.loads(text)
    assert content["command"] == name
    Path("all.toml").write_text(text)
    assert dumped(nastool, *name.split(), "--config", "all.toml") == text
    assert dumped(nastool, "run", "all.toml") == text
    # All that was given is there, and the plugin file that the fixture gives.
    given = [part.lstrip("-") for part in arguments if part.startswith("--")]
    assert {*given} <= {*content} | {"config"}


def test_a_file_and_options_are_the_same_search(search, nastool):
    options = ["--strategy", "pareto", "--seed", "3", "--storage", "none", "--format", "csv"]
    first = search(*options, "--budget", "60", "--max", "params=6M", "--option", "jump=0.2")
    assert first.exit_code == 0, first.output
    Path("study.toml").write_text("""
space = "toy"
objectives = ["loss", "params"]
strategy = "pareto"
seed = 3
budget = 60
storage = "none"
format = "csv"
max = {params = "6M"}
options = {jump = 0.2}
""")
    again = nastool("run", "study.toml")
    assert again.exit_code == 0, again.output
    assert again.stdout == first.stdout
    assert nastool("search", "--config", "study.toml").stdout == first.stdout
    other = nastool("run", "study.toml", "--seed", "4")
    assert other.exit_code == 0
    assert other.stdout != first.stdout


def test_the_command_line_wins_over_the_environment_over_the_file(nastool, monkeypatch):
    Path("a.toml").write_text(
        'space = "toy"\nstorage = "sqlite:///file.db"\nobjective = ["loss"]\n'
    )
    read = tomllib.loads(dumped(nastool, "search", "--config", "a.toml"))
    assert (read["storage"], read["objective"]) == ("sqlite:///file.db", ["loss"])
    monkeypatch.setenv("NASTOOL_STORAGE", "sqlite:///environment.db")
    read = tomllib.loads(dumped(nastool, "search", "--config", "a.toml"))
    assert read["storage"] == "sqlite:///environment.db"
    wins = ["--storage", "none", "--objective", "params"]
    read = tomllib.loads(dumped(nastool, "search", "--config", "a.toml", *wins))
    assert (read["storage"], read["objective"]) == ("none", ["params"])


def test_of_two_files_the_later_one_wins(nastool):
    Path("a.toml").write_text('space = "toy"\nseed = 1\nbudget = "2k"\n')
    Path("b.json").write_text('{"seed": 2}')
    text = dumped(nastool, "search", "--config", "a.toml", "--config", "b.json")
    read = tomllib.loads(text)
    assert (read["seed"], read["budget"]) == (2, 2000)


@pytest.mark.parametrize(("form", "file"), [("table", "r.toml"), ("json", "r.json")])
def test_the_recipe_of_a_study_runs(search, nastool, form, file):
    Path("known.csv").write_text(search("--seed", "7", "--format", "csv").stdout)
    first = search("--max", "params=6M", "--option", "population_size=20", "--from", "known.csv")
    name = next(line.split()[1] for line in first.stdout.splitlines() if line.startswith("study"))
    Path(file).write_text(nastool("show", name, "--recipe", "--format", form).stdout)
    again = CliRunner().invoke(main, ["run", file])
    assert again.exit_code == 0, again.output
    assert "holds these 300 evaluations already; nothing was evaluated" in again.stderr
    recipe = StudyRecipe.from_file(file)
    assert (recipe.known, recipe.budget) == ("known.csv", 300)


def test_json_of_another_schema_is_no_file_of_options(nastool):
    for schema, command in (("front", "search"), ("recipe", "sweep")):
        Path("a.json").write_text(f'{{"command": "{command}",\n"schema": "nastool/{schema}"}}')
        result = CliRunner().invoke(main, ["run", "a.json"])
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert "a.json, line 2: schema: " in result.stderr


@pytest.mark.parametrize("words", [["run"], ["search", "--config"]])
def test_a_pipe_gives_options_as_a_file_does(nastool, words):
    text = dumped(nastool, "search", "--plugin", PLUGIN, "--space", "toy", "--budget", "30")
    end, begin = os.pipe()
    os.write(begin, text.encode())
    os.close(begin)
    Path("pipe.toml").symlink_to(f"/dev/fd/{end}")
    result = CliRunner().invoke(main, [*words, "pipe.toml", "--format", "csv"])
    os.close(end)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("shape,")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('space = "toy"\nbuget = 3', "line 2: buget: unknown key; did you mean budget?"),
        ('space = "toy"\nxyz = 3', "line 2: xyz: unknown key; known: space, objective, "),
        ("budget = 1.5", "line 1: budget: expected a whole number, got a number (1.5)"),
        ("seed = -1", "line 1: seed: expected a whole number of at least 0"),
        ('\nbudget = "lots"', "line 2: budget: expected a whole number of at least 1"),
        ('all = "yes"', "line 1: all: expected true or false, got a text"),
        ("space = [1]", "line 1: space: expected a text, got a list"),
        ("space = true", "line 1: space: expected a text, got true or false"),
        ('format = "xml"', "line 1: format: 'xml' is not one of 'table', 'json', 'csv'"),
        ("[max]\nparams = []", "line 2: max.params: expected a text or a number, got a list"),
        ("objective = [3]", "line 1: objective: expected a text, got a whole number"),
        ("objective = []\nobjectives = []", "line 2: objectives: expected once"),
        ("seed = 1979-05-27", "line 1: seed: expected a whole number, got a date"),
        ('command = "compare"', "line 1: command: expected 'search', got 'compare'"),
        ("seed = = 3", "a.toml: no TOML: "),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(nastool, text, message):
    Path("a.toml").write_text(text)
    result = nastool("search", "--config", "a.toml")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("nastool.db").exists()


@pytest.mark.parametrize("command", ['"nope"', '"list"', '"latency"', "3", '""'])
def test_a_file_for_no_command_is_refused(nastool, command):
    Path("a.toml").write_text(f"command = {command}\n")
    result = nastool("run", "a.toml")
    assert result.exit_code == 2
    assert "a.toml, line 1: command: expected a command that takes a file" in result.stderr


@pytest.mark.parametrize(
    ("command", "near"),
    [("serach", "search"), ("latency measur", "measure"), ("pretrian", "pretrain")],
)
def test_a_misspelt_command_of_a_file_has_a_near_one(nastool, command, near):
    Path("a.toml").write_text(f'command = "{command}"\n')
    result = nastool("run", "a.toml")
    assert result.exit_code == 2
    assert f"got {command!r}; did you mean {near}?" in result.stderr


def test_an_output_never_replaces_the_file_it_was_read_from(nastool):
    Path("a.toml").write_text('space = "toy"\nobjective = ["loss"]\noutput = "a.toml"\n')
    result = nastool("search", "--config", "a.toml")
    assert result.exit_code == 2
    assert "which --config names, too" in result.stderr
    assert "space" in Path("a.toml").read_text()


def test_passwords_are_not_printed(nastool):
    url = "postgresql://me:secret@host/name"
    text = dumped(nastool, "search", "--space", "toy", "--storage", url)
    assert "secret" not in text
    assert "has a password" in text


def test_a_command_with_a_config_of_its_own_keeps_it(tmp_path, monkeypatch):
    @click.command()
    @click.option("--size", "--config", "size")
    @click.option("--number", type=number)
    @click.option("--count", type=count)
    @click.option("--on/--off", default=True)
    @click.option("--text", multiple=True)
    @click.option("--other")
    def command(size, number, count, on, text, other):
        click.echo(repr((size, number, count, on, text, other)))

    made = configurable(command)
    assert configurable(made) is made
    monkeypatch.chdir(tmp_path)
    Path("a.TOML").write_text('size = "a"\nnumber = 2\ncount = 3\non = false\ntexts = ["t"]\n')
    for arguments, expected in (
        (["--config", "tiny"], ("tiny", None, None, True, (), None)),
        (["--config", "a.TOML"], ("a", 2.0, 3, False, ("t",), None)),
        (["--config", "b.json", "--config", "a.TOML"], ("b.json", 2.0, 3, False, ("t",), None)),
        (["--config", "a.TOML", "--size", "c", "--on"], ("c", 2.0, 3, True, ("t",), None)),
    ):
        result = CliRunner().invoke(made, arguments)
        assert result.output == f"{expected!r}\n", arguments


def test_what_json_calls_null_is_a_setting_of_nothing(nastool):
    Path("a.json").write_text('{"space": "toy", "options": {"tournament_size": null}}')
    text = dumped(nastool, "search", "--config", "a.json")
    assert tomllib.loads(text)["option"] == {"tournament_size": "none"}


@pytest.mark.parametrize("command", ["run", "search"])
def test_what_a_command_finds_wrong_in_a_file_is_said_of_its_line(nastool, tmp_path, command):
    path = tmp_path / "wide.toml"
    path.write_text('space = "supershaper"\nbudget = 10\nmax = {params = nan}\n')
    arguments = [str(path)] if command == "run" else ["--config", str(path)]
    result = nastool(command, *arguments, "--storage", "none")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {path}, line 3: max: expected a number with")
    assert "Traceback" not in result.stderr
    # What the command line gives instead is the option's.
    result = nastool(command, *arguments, "--max", "params=inf", "--storage", "none")
    assert result.stderr.startswith("Error: --max: expected a number with")


@pytest.mark.parametrize("name", ["", " ", "\t"])
@pytest.mark.parametrize(
    "arguments",
    [("search", "--study"), ("compare", "--name"), ("to-optuna", "some", "--name")],
)
def test_blank_names_are_refused(nastool, tmp_path, arguments, name):
    space = () if arguments[0] == "to-optuna" else ("--space", "supershaper")
    result = nastool(*arguments, name, *space, "--storage", f"sqlite:///{tmp_path / 'x.db'}")
    assert result.exit_code == 2
    assert f"expected a name that is not blank, got {name!r}" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('space = "nope"', "space: unknown search space 'nope'"),
        ('space = "supershaper[nope]"', "space: supershaper: expected a preset"),
        ('objectives = ["params", "nope"]', "objectives: unknown metric 'nope'"),
        ('strategy = "nope"', "strategy: unknown strategy 'nope'"),
        ("options = {nope = 1}", "options: strategy evolution has no setting 'nope'"),
        ("max = {nope = 1}", "max: unknown metric 'nope'"),
        ('executor = "nope"', "executor: unknown executor 'nope'"),
        ('command = "compare"\nstrategies = ["nope"]', "strategies: unknown strategy 'nope'"),
    ],
)
def test_what_a_file_names_and_nobody_knows_is_said_of_its_line(nastool, line, said):
    space = "" if line.startswith("space") else 'space = "supershaper"\n'
    Path("a.toml").write_text(f"budget = 10\n{space}{line}\n")
    result = nastool("run", "a.toml", "--storage", "none")
    assert result.exit_code == 2
    number = len(f"{space}{line}".splitlines()) + 1
    assert result.stderr.startswith(f"Error: a.toml, line {number}: {said}")
    # What the file does not say is nothing of its.
    result = nastool("run", "a.toml", "--storage", "none", "--space", "elsewhere")
    assert "Error: unknown search space 'elsewhere'" in result.stderr
