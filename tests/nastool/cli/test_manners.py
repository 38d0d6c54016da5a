"""Help pages, completion, names that are nearly right, and how much is said."""

import json
import logging
import os
import re
import shlex

import click
import pytest
from click.shell_completion import ShellComplete

from nastool.cli.main import main


def commands():
    """Every command by its words, those within groups too."""

    def walk(command, words, ctx):
        if isinstance(command, click.Group):
            inner = click.Context(command, parent=ctx, info_name=words[-1] if words else "nastool")
            for name in command.list_commands(inner):
                yield from walk(command.get_command(inner, name), [*words, name], inner)
        else:
            yield words, command

    return {" ".join(words): command for words, command in walk(main, [], None)}


COMMANDS = commands()
TITLE = re.compile(r"^(\S[^\n]*):$", re.MULTILINE)


def typed(page):
    """The examples of a help page, each as the shell takes it."""
    lines = parts(page)[1].replace("\\\n", "")
    return re.findall(r"^    (nastool .*)$", lines, re.MULTILINE)


def parts(page):
    """A help page without its examples, and these."""
    return re.split(r"\n  Examples?:\n", page)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_required_options_first_then_groups_then_examples(name, nastool):
    done = nastool(*name.split(), "--help")
    assert done.exit_code == 0, done.output
    titles = TITLE.findall(done.output)
    required = [p for p in COMMANDS[name].params if isinstance(p, click.Option) and p.required]
    assert ("Required" in titles) == bool(required)
    if required:
        assert titles[0] == "Required"
    assert titles[-1] == "Any command"
    assert "Options" not in titles
    listed = re.findall(r"^  (?:-\w, )?(--[\w-]+)", done.output, re.MULTILINE)
    given = COMMANDS[name].get_params(click.Context(COMMANDS[name]))
    options = [param for param in given if isinstance(param, click.Option)]
    assert sorted(listed) == sorted({"--help", *(max(p.opts, key=len) for p in options)})
    examples = typed(done.output)
    assert examples
    for line in examples:
        assert line.startswith(f"nastool {name}")
        known = {opt for param in given for opt in param.opts}
        # What follows the file of `run` is for the command that the file is for.
        assert set(re.findall(r" (--[a-z0-9-]+)", line)) <= known or name == "run"


GROUPS = ["", *{" ".join(name.split()[:-1]) for name in COMMANDS if " " in name}]


@pytest.mark.parametrize("name", [*COMMANDS, *GROUPS])
def test_every_help_is_read_in_80_columns_and_cuts_nothing_off(name, nastool, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    output = nastool(*name.split(), "--help").output
    assert max(map(len, output.splitlines())) <= 80
    assert name in COMMANDS or " ...\n" not in output
    # Bounds that there are not.
    assert "None]" not in output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_in_words_what_it_is_and_what_holds_without_it(name):
    command = COMMANDS[name]
    ctx = click.Context(command)
    for option in command.get_params(ctx):
        if not isinstance(option, click.Option):
            continue
        text = option.help or ""
        assert re.match(r"(?!Default)\W?\w", text), option.opts
        numeric = option.type.name in ("integer", "number", "float", "integer range")
        if numeric and not (option.required or option.is_flag or option.count):
            shown = option.show_default or "efault" in text
            # What ends or limits something is nothing without.
            assert shown or option.metavar, option.opts


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_no_option_that_its_command_has_not(name, nastool):
    page = nastool(*name.split(), "--help").output
    prose, _ = parts(page)
    known = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)(?: / (--[\w-]+))?", prose, re.MULTILINE))
    known = {option for pair in known for option in pair if option}
    # Of other programs, and of other commands that are named with them.
    prose = re.sub(r"torchrun\s+--[\w-]+|'nastool[^']*'|`nastool[^`]*`", "", prose)
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", prose)) <= known or name == "run"


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "run"])
def test_examples_are_taken_as_they_stand(name, nastool, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for line in typed(nastool(*name.split(), "--help").output):
        words = shlex.split(line.partition(" > ")[0])[1 + len(name.split()) :]
        with COMMANDS[name].make_context(name, words):
            pass


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_has_many_options_without_a_group(name, nastool):
    more = nastool(*name.split(), "--help").output.partition("\nMore:\n")[2].partition("\n\n")[0]
    assert len(re.findall(r"^  -", more, re.MULTILINE)) <= 8


def complete(words, incomplete):
    found = ShellComplete(main, {}, "nastool", "_NASTOOL_COMPLETE").get_completions(
        words, incomplete
    )
    return [item.value for item in found]


def test_shells_are_offered_the_names_there_are(search):
    assert search("--study", "mine", budget="20").exit_code == 0
    assert complete(["search", "--space"], "super") == ["supershaper"]
    assert complete(["search", "--strategy"], "evo") == ["evolution"]
    assert complete(["search", "--objective"], "perp") == ["perplexity"]
    assert complete(["search", "--space", "supershaper", "--max"], "pa") == ["params="]
    assert complete(["space", "supershaper", "--constraint"], "mac") == ["macs<="]
    assert complete(["show"], "") == ["mine"]
    assert complete(["search", "--study"], "mi") == ["mine"]
    assert complete(["export", "mine", "--shape"], "k") == ["knee"]
    assert "cpu" in complete(["latency", "measure", "--device"], "")
    assert complete(["fit", "table.csv", "--model"], "lin") == ["linear"]
    assert "search" in complete([], "se")


def test_what_cannot_be_looked_up_is_not_offered(nastool):
    assert nastool("list").exit_code == 0
    assert complete(["show"], "") == []  # there is no store here, and none is made
    assert os.listdir() == []
    with open("nastool.db", "w", encoding="utf-8") as file:
        file.write("no database")
    assert complete(["show"], "") == []


def test_shells_are_told_how(process):
    import subprocess
    import sys

    script = "from nastool.cli.main import main; main(prog_name='nastool')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "_NASTOOL_COMPLETE": "bash_source"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "complete -o nosort -F _nastool_completion nastool" in done.stdout


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["search", "--space", "supershapr"], "supershaper"),
        (["search", "--space", "toy", "--objective", "loss",
          "--strategy", "evolutoin"], "evolution"),
        (["search", "--space", "toy", "--objective", "los"], "loss"),
        (["search", "--space", "toy", "--objective", "loss", "--max", "param=3"], "params"),
        (["search", "--space", "toy", "--objective", "loss", "--option", "population_sizes=3"],
         "population_size"),
        (["search", "--spac", "toy"], "--space"),
        (["serch"], "search"),
        (["show", "frist"], "first"),
        (["latency", "show", "cpu-1-thrad"], "known"),
        (["latency", "mesure"], "measure"),
        (["space", "supershaper:layer=3"], "layers"),
        (["search", "--space", "toy", "--objective", "loss",
          "--strategy", "pymoo:unsga33"], "unsga3"),
        (["search", "--space", "toy", "--objective", "loss",
          "--strategy", "optuna:TPESampl"], "TPESampler"),
    ],
)  # fmt: skip
def test_names_that_are_nearly_right_are_recognised(words, meant, nastool, search):
    if words[0] == "show":
        assert search("--study", "first", budget="20").exit_code == 0
    done = nastool(*words)
    assert done.exit_code == 2
    line = done.stderr.strip().splitlines()[-1]
    assert meant in line
    assert "id you mean" in line or meant == "known"


def test_quiet_says_nothing_but_results_and_errors(nastool, search):
    plain = search("--format", "csv", "--study", "first", budget="40")
    quiet = search("--format", "csv", "--study", "second", "-q", budget="40")
    assert plain.stderr
    assert (quiet.stderr, quiet.stdout) == ("", plain.stdout)
    wrong = nastool("show", "nothing", "--quiet")
    assert wrong.exit_code == 2
    assert len(wrong.stderr.splitlines()) == 1


def test_verbose_says_what_is_done_and_only_then(search):
    silent = search("--study", "first", budget="40")
    assert "evaluations in" not in silent.stderr
    said = search("--study", "second", "-v", budget="40")
    assert "nastool.study: 40 evaluations in" in said.stderr
    assert "opened" not in said.stderr
    more = search("--study", "third", "-vv", budget="40")
    assert "nastool.store.database: opened sqlite:///nastool.db" in more.stderr
    assert said.stdout.count("\n") == silent.stdout.count("\n")
    logger = logging.getLogger("nastool")
    assert (logger.handlers, logger.level) == ([], logging.NOTSET)


def test_talking_does_not_change_json(search):
    done = search("--format", "json", "-vv", budget="40")
    assert json.loads(done.stdout)["evaluations"] == 40
