import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from nastool.cli.main import main
from nastool.discovery import OBJECTIVES, find, load_file
from nastool.plugins import load_space
from nastool.verification import Agreement

pytest.importorskip("scipy")
pytest.importorskip("xgboost")

pytestmark = pytest.mark.usefixtures("few_trees")

PLUGIN = str(Path(__file__).with_name("refine_plugin.py"))


@pytest.fixture
def nastool(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NASTOOL_STORAGE", raising=False)
    monkeypatch.setenv("COLUMNS", "300")

    def run(*arguments):
        return CliRunner().invoke(main, ["--plugin", PLUGIN, *arguments], prog_name="nastool")

    return run


@pytest.fixture(scope="module")
def fitted(few_trees, tmp_path_factory):
    """Folder of a predictor of 60 uniform shapes."""
    load_file(PLUGIN)
    folder = tmp_path_factory.mktemp("fitted")
    space = load_space("refined")
    shapes = np.unique(space.sample(60, np.random.default_rng(0)), axis=0)
    values = find(OBJECTIVES, "measured_predicted").load()(space).evaluate(shapes)
    rows = [
        ",".join(map(str, [*architecture, value]))
        for architecture, value in zip(space.decode(shapes), values.tolist(), strict=True)
    ]
    header = ",".join([*(gene.name for gene in space.genes), "loss"])
    (folder / "t.csv").write_text("\n".join([header, *rows]) + "\n")
    fit = ["fit", str(folder / "t.csv"), "--space", "refined", "--target", "loss"]
    run = CliRunner().invoke(main, [*fit, "--model", "linear", "--output", str(folder / "p")])
    assert run.exit_code == 0, run.stderr
    return folder / "p"


@pytest.fixture
def truth(nastool, fitted):
    """The measuring objective's class, with the predictor in folder p."""
    shutil.copytree(fitted, "p")
    cls = find(OBJECTIVES, "measured_predicted").load()
    cls.asked, cls.limit, cls.shapes = 0, None, []
    return cls


def search(nastool, *arguments):
    return nastool(
        "search", "--space", "refined", "--strategy", "pareto", "--objective", "predicted:p",
        "--max", "params=90", "--budget", "1500", *arguments,
    )  # fmt: skip


def best(truth, run):
    """The truth about the shape that a search calls the best, relative to the optimum."""
    space = load_space("refined")
    every = np.stack(np.meshgrid(*[np.arange(5)] * 6, indexing="ij"), axis=-1).reshape(-1, 6)
    allowed = every[space.costs["params"].evaluate(every) <= 90]
    optimum = truth(space).evaluate(allowed).min()
    shape = json.loads(run.stdout)["architectures"][0]["shape"]
    return truth(space).evaluate(space.parse(shape))[0] / optimum - 1


def test_refining_comes_closer_to_the_true_optimum(nastool, truth):
    before = search(nastool, "--format", "json")
    after = search(nastool, "--format", "json", "--refine", "3", "--refine-shapes", "12")
    assert after.exit_code == 0, after.stderr
    assert best(truth, before) > 0.05
    assert best(truth, after) < 0.8 * best(truth, before)
    rounds = [line for line in after.stderr.splitlines() if line.startswith("round ")]
    assert [line.partition(":")[0] for line in rounds] == ["round 1", "round 2", "round 3"]
    assert "12 shapes, Spearman" in rounds[0]


def test_the_same_command_again_measures_nothing_and_says_the_same(nastool, truth):
    first = search(nastool, "--refine", "2", "--format", "json")
    asked = truth.asked
    assert 32 <= asked <= 33  # Two rounds, and the final shape where it is a new one.
    again = search(nastool, "--refine", "2", "--format", "json")
    assert json.loads(again.stdout)["architectures"] == json.loads(first.stdout)["architectures"]
    assert truth.asked == asked
    # One round more goes on where these ended.
    assert search(nastool, "--refine", "3").exit_code == 0
    assert truth.asked <= asked + 17


def test_what_any_command_has_measured_no_other_measures_again(nastool, truth):
    plain = ("search", "--space", "refined", "--objective", "measured_predicted")
    commands = (
        (*plain, "--objective", "params", "--strategy", "evolution", "--budget", "60"),
        ("refine",),
        ("verify", "mine"),
        ("compare", *plain[1:], "--strategy", "random", "--strategy", "local", "--budget", "30",
         "--seeds", "2", "--name", "duel"),
    )  # fmt: skip

    def run(command):
        if command == ("refine",):
            more = ("--objective", "params", "--refine", "1", "--study", "mine")
            return search(nastool, *more, "--refined", "new")
        return nastool(*command)

    for command in (*commands, (*commands[-1], "--dry-run"), *commands[::-1]):
        done = run(command)
        assert done.exit_code == 0, done.stderr
        assert len(truth.shapes) == len(set(truth.shapes)), command
    assert len(truth.shapes) > 100
    # All that a study measured is there for the others, and for the same one under another name.
    before = len(truth.shapes)
    assert run((*commands[0], "--study", "another")).exit_code == 0
    assert len(truth.shapes) == before


def test_a_stop_while_measuring_loses_nothing(nastool, truth):
    whole = search(nastool, "--refine", "2", "--format", "json", "--storage", "sqlite:///a.db")
    shutil.rmtree(next(Path().glob("refined-*")))
    truth.asked, truth.limit = 0, 20
    assert search(nastool, "--refine", "2").exit_code == 130
    truth.limit = None
    resumed = search(nastool, "--refine", "2", "--format", "json")
    assert json.loads(resumed.stdout)["architectures"] == json.loads(whole.stdout)["architectures"]
    # The one that was stopped is asked for once more.
    assert truth.asked <= 34


def test_the_study_can_be_shown_and_is_verified(nastool, truth):
    run = search(nastool, "--objective", "params", "--refine", "1", "--study", "mine",
                 "--refined", "new")  # fmt: skip
    assert run.exit_code == 0, run.stderr
    assert "verified on " in run.stdout
    assert "with 16 measured shapes each" in run.stdout
    shown = json.loads(nastool("show", "mine", "--format", "json").stdout)
    assert shown["verified"].startswith("verified on ")
    found = json.loads(nastool("verify", "mine", "--limit", "16", "--format", "json").stdout)
    # Shapes that the predictor was fitted on tell nothing of what it is worth.
    lines = next(Path("new").glob("round-1/*/measurements.csv")).read_text().splitlines()
    learned = {"-".join(line.split(",")[:6]) for line in lines[1:]}
    new = [row for row in found["architectures"] if row["shape"] not in learned]
    assert 0 < len(new) < found["shapes"]
    [metric] = found["metrics"]
    assert metric["n"] == len(new)
    off = [abs(row["measured predicted[p]"] - row["predicted[p]"]) for row in new]
    assert metric["hits"] == sum(value <= metric["interval"] for value in off)
    # What came of it is a predictor like any other.
    [folder] = Path("new").glob("round-1/*")
    run = nastool("search", "--space", "refined", "--objective", f"predicted:{folder}",
                  "--budget", "200")  # fmt: skip
    assert run.exit_code == 0, run.stderr


def test_a_front_of_known_shapes_says_nothing_of_the_predictor(nastool, truth):
    known = Agreement("predicted[p]", "the truth", 0, None, None, None, interval=1.0, hits=0)
    assert str(known) == "predicted[p]: no shape that it was not fitted on"
    run = search(nastool, "--refine", "4", "--refine-shapes", "8")
    assert run.exit_code == 0, run.stderr
    assert f"; {known}" in " ".join(run.stdout.split())


def test_searches_do_not_share_refitted_predictors(nastool, truth):
    for strategy in ("pareto", "random"):
        run = search(nastool, "--refine", "1", "--strategy", strategy)
        assert run.exit_code == 0, run.stderr
    assert len(list(Path().glob("refined-*"))) == 2
    assert search(nastool, "--refine", "1", "--refined", "new", "--study", "a").exit_code == 0
    asked = truth.asked
    other = search(nastool, "--refine", "1", "--refined", "new", "--seed", "1")
    assert other.exit_code == 2
    assert "got new, which keeps the predictors of another one" in other.stderr.splitlines()[-1]
    assert truth.asked == asked
    assert nastool("show", "a").exit_code == 0


def test_nothing_is_kept_without_storage(nastool, truth):
    run = search(nastool, "--refine", "1", "--storage", "none", "--refined", "new")
    assert run.exit_code == 0, run.stderr
    assert "verified on " in run.stdout
    assert not Path("nastool.db").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--refine-shapes", "5"), "need --refine N"),
        (("--refine", "1", "--refine-shapes", "2"), "at least 1 round of 3 shapes, got 1 of 2"),
        (("--refine", "1", "--measure", "params=params"), "with METRIC one of predicted[p]"),
        (("--refine", "1", "--refined", "t"), "must be a new folder or one with a predictor"),
    ],
)
def test_wrong_input_is_one_line(nastool, truth, arguments, message):
    Path("t/round-1/predicted-p").mkdir(parents=True)
    Path("t/round-1/predicted-p/other").touch()
    run = search(nastool, *arguments)
    assert run.exit_code == 2
    assert message in run.stderr.splitlines()[-1]


def test_what_is_not_predicted_cannot_be_refined(nastool, truth):
    run = nastool("search", "--space", "refined", "--objective", "params", "--refine", "1")
    assert run.exit_code == 2
    assert "predicts nothing" in run.stderr


def test_a_refined_study_shows_the_recipe_that_makes_it_again(nastool, truth):
    refined = search(nastool, "--format", "json", "--refine", "1", "--refine-shapes", "6")
    assert refined.exit_code == 0, refined.stderr
    name = json.loads(refined.stdout)["study"]
    shown = nastool("show", name, "--recipe")
    assert shown.exit_code == 0, shown.stderr
    assert "[predictors]" in shown.stdout
    Path("r.toml").write_text(shown.stdout)
    again = nastool("run", "r.toml", "--format", "json")
    assert again.exit_code == 0, again.stderr
    assert "nothing was evaluated" in again.stderr
    assert json.loads(again.stdout)["architectures"] == json.loads(refined.stdout)["architectures"]
