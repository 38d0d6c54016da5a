import subprocess
import sys
from importlib.metadata import EntryPoint

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


def test_plugin_command_is_summarised_without_being_imported(tmp_path, monkeypatch):
    (tmp_path / "toy_command.py").write_text(
        'raise RuntimeError("imported")\n\ndef go():\n    """Go somewhere.\n\n    More."""\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("go", "toy_command:go", "nastool.commands")
    assert module._summary(point) == "Go somewhere."
    assert "toy_command" not in sys.modules


def test_broken_plugin_command_is_one_line(nastool, monkeypatch):
    point = EntryPoint("go", "no_such_module:go", "nastool.commands")
    monkeypatch.setitem(vars(module.main), "_plugins", {"go": point})
    result = nastool("go")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "no_such_module" in result.stderr


def test_plugin_file_that_does_not_exist(nastool):
    result = nastool("--plugin", "nope.py", "list")
    assert result.exit_code == 2
    assert result.stderr == "Error: --plugin: expected a Python file, got 'nope.py'\n"
