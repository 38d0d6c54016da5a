"""What is said to those who mistype: one line, that names what was meant or must hold."""

import shlex

import pytest
from click.testing import CliRunner

from nastool.cli.main import main

FILES = {
    "broken.toml": 'space = "supershaper"\nbudgett = 3\n',
    "notoml.toml": "space = supershaper\n",
    "empty.csv": "",
}
MISTAKES = {
    "serach --space supershaper": "unknown command 'serach'; did you mean search?",
    "search": "Missing option '--space'. (see 'nastool search --help')",
    "search --space supershapr": "unknown search space 'supershapr'; did you mean supershaper?",
    "search --space supershaper --objective perplexty": (
        "unknown metric 'perplexty'; did you mean perplexity or int8_perplexity?"
    ),
    "search --space supershaper --strategy evolutoin": (
        "unknown strategy 'evolutoin'; did you mean evolution?"
    ),
    "search --space supershaper --bugdet 10": (
        "No such option '--bugdet'. (Did you mean one of: '--budget', '--quiet'?) (see 'nastool "
        "search --help')"
    ),
    "search --space supershaper --budget 0": (
        "Invalid value for '--budget': expected a whole number of at least 1, such as 30000 or "
        "30k, got '0' (see 'nastool search --help')"
    ),
    "search --space supershaper --max params": (
        "--max: expected METRIC=NUMBER, got 'params': a shell takes what follows < or > for a "
        "file; --max params=66M for at most, --min params=66M for at least need no quotes"
    ),
    "search --space supershaper --max params=66MB": (
        "params<=66MB: params is measured in plain numbers, got a bound in B"
    ),
    "search --space supershaper --max parms=66M": "unknown metric 'parms'; did you mean params?",
    "search --space supershaper --max params=10M": (
        "params<=10M cannot be met: the smallest architecture of supershaper has params 33.19M "
        "(33,190,656)"
    ),
    "search --space supershaper --constraint 'params=<66M'": (
        "--constraint: expected METRIC<=NUMBER or METRIC>=NUMBER, got 'params=<66M': --max "
        "params=66M for at most, --min params=66M for at least"
    ),
    "search --space supershaper --constraint 'latency<=20ms'": (
        "latency needs a device: latency[DEVICE]"
    ),
    "search --space supershaper --option population=10": (
        "options: strategy evolution has no setting 'population'; did you mean population_size "
        "or mutation?"
    ),
    "search --space supershaper --option population_size=one": (
        "options population_size: expected int, got 'one'"
    ),
    "search --space supershaper --strategy evolution --option mutation=big": (
        "options mutation: must be one of uniform, step, got 'big'"
    ),
    "search --space supershaper --strategy exact --objective perplexity:nowhere": (
        "nowhere must be a folder with a predictor, got no card.json there"
    ),
    "search --space supershaper --storage nowhere/nastool.db": (
        "a store must be a URL such as sqlite:///nastool.db or "
        "postgresql://USER:PASSWORD@HOST/NAME (@ in a password written as %40), got "
        "'nowhere/nastool.db'"
    ),
    "search --space supershaper --plot front.png": "--plot: must end in .html, got 'front.png'",
    "search --space supershaper --output missing/front.json": (
        "--output: folder 'missing' must exist"
    ),
    "search --space supershaper --time soon": (
        "--time: expected a time such as 90s, 7m or 1.5h, longer than none, got 'soon'"
    ),
    "search --space supershaper --seed -1": (
        "Invalid value for '--seed': expected a whole number of at least 0, such as 30000 or "
        "30k, got '-1' (see 'nastool search --help')"
    ),
    "search --space supershaper --study both": (
        "--study: expected a name of its own, got 'both', a comparison in sqlite:///nastool.db"
    ),
    "search --space supershaper --predictor perplexity": (
        "--predictor: expected KEY=VALUE, got 'perplexity'"
    ),
    "search --space supershaper --predictor perplexity=folder": (
        "folder must be a folder with a predictor, got no card.json there"
    ),
    "search --space supershaper --executor slrum": "unknown executor 'slrum'; did you mean slurm?",
    "search --space supershaper --tracker mlfow": (
        "Invalid value for '--tracker': 'mlfow' is not one of 'tensorboard', 'wandb', 'mlflow', "
        "'trackio', 'none'. (see 'nastool search --help')"
    ),
    "search --space supershaper --plugin missing.py": (
        "--plugin: expected a Python file, got 'missing.py'"
    ),
    "search --config broken.toml": (
        "broken.toml, line 2: budgett: unknown key; did you mean budget?"
    ),
    "search --config notoml.toml": "notoml.toml: no TOML: Invalid value (at line 1, column 9)",
    "search --config missing.toml": "cannot read missing.toml: No such file or directory",
    "compare --space supershaper --strategy random --strategy random": (
        "--strategy: each must be given once, got random twice"
    ),
    "compare --space supershaper --strategy pareto,intial=5": (
        "--strategy pareto,intial=5: settings: strategy pareto has no setting 'intial'; did you "
        "mean initial?"
    ),
    "compare --space supershaper --jobs 2 --storage none": (
        "--jobs: several runs at a time need a --storage, got 'none'"
    ),
    "sweep --space supershaper --metric params": (
        "a sweep takes --from, --to and --step, or --at; got none of them"
    ),
    "sweep --space supershaper --metric params --from 60M --to 40M --step 5M": (
        "--step must be above 0 and --to at least --from, got --from 60M --to 40M --step 5M"
    ),
    "sweep --space supershaper --metric perplexity --at 3": (
        "--metric must be another than what is optimised, got perplexity twice"
    ),
    "show mien": "unknown study 'mien' in sqlite:///nastool.db; did you mean mine?",
    "regret nobody": "unknown study 'nobody' in sqlite:///nastool.db; known: mine, both",
    "verify mine": (
        "no predicted metric can be measured, and --measure METRIC=OBJECTIVE names no other way: "
        "perplexity: measured_perplexity needs the folder of a supernet: "
        "measured_perplexity[SUPERNET]"
    ),
    "push": "Missing argument 'WHAT'. (see 'nastool push --help')",
    "latency show h1000": (
        "unknown device 'h1000'; did you mean h100? ('nastool latency measure' and 'nastool "
        "latency import' add one)"
    ),
    "studies --storage sqlite:///other.db": "there must be a store at other.db, got no such file",
    "fit missing.csv --output p": "cannot read missing.csv: No such file or directory",
    "fit empty.csv --output p": (
        "empty.csv: expected a header and at least one row, the file is empty"
    ),
    "space supershaper:nowhere": (
        "supershaper: expected a preset (supershaper, minilm-6, aligned), the folder of a "
        "supernet or sizes such as 'layers=6,widths=120/240', got 'nowhere'"
    ),
    "search --space decoder --budget 10": (
        "decoder: expected decoder[DIR], the folder of a supernet that 'nastool pretrain decoder "
        "--from CHECKPOINT' wrote"
    ),
    "search --space supershaper --retry-failed --storage none": (
        "--retry-failed: expected a study in a store, got --storage none"
    ),
    "regret mine --memory 0": (
        "Invalid value for '--memory': 0.0 is not in the range 0<x<=1048576. (see 'nastool "
        "regret --help')"
    ),
    "show mine both": "Got unexpected extra argument (both) (see 'nastool show --help')",
    "latency measure phone --device gpu": (
        "Got unexpected extra argument (phone) (see 'nastool latency measure --help')"
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Some files, a study and a comparison."""
    place = tmp_path_factory.mktemp("mistakes")
    for name, text in FILES.items():
        (place / name).write_text(text)
    (place / "folder").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.delenv("NASTOOL_STORAGE", raising=False)
        for command in (
            "search --space supershaper --budget 20 --study mine",
            "compare --space supershaper --strategy random --seeds 1 --budget 20 --name both",
        ):
            assert CliRunner().invoke(main, command.split()).exit_code == 0
    return place


def kept(folder):
    """What lies there, without the journals of an open store."""
    return sorted(file.name for file in folder.iterdir() if file.suffix[:4] != ".db-")


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_answered_in_one_line(command, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("NASTOOL_STORAGE", raising=False)
    before = kept(folder)
    result = CliRunner().invoke(main, shlex.split(command), prog_name="nastool")
    assert result.output == f"Error: {MISTAKES[command]}\n"
    assert result.exit_code == 2
    assert kept(folder) == before


@pytest.mark.parametrize(
    "words",
    [["--space", "{}"], ["--space", "supershaper", "--max", "{}=1"], ["--{}"], ["--budget", "{}"]],
)
def test_what_was_pasted_by_mistake_does_not_bury_what_is_wrong(words):
    result = CliRunner().invoke(main, ["search", *(w.format("p" * 100_000) for w in words)])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "pppp...pppp" in result.stderr
    assert len(result.stderr) < 1_000
