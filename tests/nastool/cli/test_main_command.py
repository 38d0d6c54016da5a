import json
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from nastool import __version__
from nastool.cli import main as module
from nastool.errors import StoreError

CORE = ("fit", "list", "search", "show", "space", "studies")


def test_help_names_every_command_with_one_line(nastool):
    result = nastool("--help")
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.startswith("  ")}
    for name in CORE:
        assert len(lines[name].split()) > 3, name


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from nastool.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'sqlalchemy', 'plotly', 'rich', 'numpy', 'xgboost'}\n"
        "print('loaded', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "loaded []"


@pytest.mark.parametrize("name", CORE)
def test_short_help_of_the_table_fits_the_command(name):
    command = module.main.get_command(click.Context(module.main), name)
    assert command is not None
    assert command.help
    assert command.name == name


def test_version(nastool):
    assert nastool("--version").stdout.strip() == f"nastool, version {__version__}"


def test_unknown_command_suggests_the_near_one(nastool):
    result = nastool("serch")
    assert result.exit_code == 2
    assert result.stderr == "Error: unknown command 'serch'; did you mean search?\n"


def test_unknown_command_without_a_near_one_lists_all(nastool):
    result = nastool("zzz")
    assert result.exit_code == 2
    assert "known: " in result.stderr
    assert "search" in result.stderr


def test_unknown_option_is_one_line(nastool):
    result = nastool("--nope")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1


def test_no_arguments_shows_the_help():
    assert "Commands:" in CliRunner().invoke(module.main, []).output


def group_with(callback):
    group = module.LazyGroup("nastool")
    command = click.Command("go", callback=callback)
    group.get_command = lambda ctx, name: command
    group.resolve_command = lambda ctx, args: ("go", command, args[1:])
    return group


def test_errors_of_the_library_are_one_line(nastool):
    def fail():
        raise StoreError("the store\nis gone")

    result = CliRunner().invoke(group_with(fail), ["go"])
    assert (result.exit_code, result.stderr) == (2, "Error: the store is gone\n")


def test_interruption_says_what_was_kept(nastool):
    def stop():
        raise KeyboardInterrupt("3 of 5 are kept")

    result = CliRunner().invoke(group_with(stop), ["go"])
    assert (result.exit_code, result.stderr) == (130, "Interrupted: 3 of 5 are kept\n")


@pytest.fixture
def package(tmp_path):
    """Makes an installed package of entry points; returns what starts nastool beside them."""

    def make(name, source, points):
        (tmp_path / f"{name}.py").write_text(source)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(points)

    def run(*words):
        path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.run(
            [sys.executable, "-m", "nastool", *words],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    make.run = run
    return make


COMMAND = """import click
@click.command()
def go():
    \"\"\"Go to {0}.

    More.\"\"\"
    click.echo("{0}")
"""


def test_packages_that_break_cost_only_their_own_commands(package):
    package(
        "breaks", 'raise RuntimeError("no\\ndriver")\n', "[nastool.commands]\nbad = breaks:go\n"
    )
    package("leaves", "import sys\nsys.exit(0)\n", "[nastool.commands]\nleaving = leaves:go\n")
    package("inner", "x = 1\n", "[nastool.commands]\ndeep = inner.nowhere:go\nodd = inner:x\n")
    package("garbled", "", "[nastool.commands]\nno equals sign\n")
    package("good", COMMAND.format("town"), "[nastool.commands]\ngo = good:go\n")
    shown = package.run("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Go to town" in shown.stdout
    assert {"bad", "leaving", "deep"} <= {line.strip() for line in shown.stdout.splitlines()}
    assert package.run("go").stdout == "town\n"
    for name, reason in (
        ("bad", "cannot be loaded: RuntimeError: no driver"),
        ("leaving", "cannot be loaded: sys.exit(): 0"),
        ("deep", "cannot be loaded: ModuleNotFoundError"),
        ("odd", "must be a click.Command, got int"),
    ):
        run = package.run(name)
        assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (2, "", 1)
        assert f"command '{name}' of" in run.stderr
        assert reason in run.stderr


BREAKS = """import click
@click.command()
@click.argument("how")
def go(how):
    if how == "theirs":
        {"a": 1}["b"]
    import nastool.cli.main as main
    main.click = None
    main._shortened(3)
"""


def test_what_a_package_raises_is_one_line_and_what_we_raise_is_not_hidden(package):
    package("good", BREAKS, "[nastool.commands]\ngo = good:go\n")
    run = package.run("go", "theirs")
    said = "Error: nastool go: good 1.0 failed: KeyError: 'b' (good.py:6)\n"
    assert (run.returncode, run.stdout, run.stderr) == (2, "", said)
    run = package.run("go", "ours")
    assert run.returncode == 1
    assert run.stderr.startswith("Traceback")


def test_a_command_of_two_packages_is_an_error_that_names_both(package):
    points = "[nastool.commands]\ntwice = {0}:go\nspace = {0}:go\n"
    package("alpha", COMMAND.format("alpha"), points.format("alpha"))
    package("beta", COMMAND.format("beta"), points.format("beta"))
    for name, other in (("twice", "beta 1.0"), ("space", "nastool")):
        run = package.run(name)
        assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (2, "", 1)
        assert "alpha 1.0" in run.stderr
        assert other in run.stderr
    assert package.run("--help").returncode == 0
    listed = json.loads(package.run("list", "--format", "json").stdout)
    mine = [row["origin"] for row in listed["plugins"] if row["name"] == "twice"]
    assert mine == ["alpha 1.0", "beta 1.0"]


def test_plugin_file_that_does_not_exist(nastool):
    result = nastool("--plugin", "nope.py", "list")
    assert result.exit_code == 2
    assert result.stderr == "Error: --plugin: expected a Python file, got 'nope.py'\n"


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "0", "1e300"])
def test_numbers_of_options_are_finite(nastool, text):
    result = nastool("regret", "mine", "--memory", text)
    assert result.exit_code == 2
    assert "--memory" in result.stderr
    assert len(result.stderr.splitlines()) == 1
