import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from nastool.cli.main import main

pytest.importorskip("scipy")

PLUGIN = str(Path(__file__).with_name("verify_plugin.py"))


@pytest.fixture
def nastool(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NASTOOL_STORAGE", raising=False)
    monkeypatch.setenv("COLUMNS", "300")

    def run(*arguments):
        return CliRunner().invoke(main, ["--plugin", PLUGIN, *arguments], prog_name="nastool")

    return run


def search(nastool, *arguments, objectives=("gap", "params"), budget=200):
    wanted = [part for name in objectives for part in ("--objective", name)]
    run = nastool(
        "search", "--space", "verified", "--strategy", "random", *wanted, "--study", "mine",
        "--budget", str(budget), *arguments,
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    return run


def shown(nastool):
    return json.loads(nastool("show", "mine", "--format", "json").stdout)["verified"]


def test_a_front_says_whether_it_is_verified(nastool):
    assert "not verified: gap predicted, not measured" in search(nastool).stdout
    run = nastool("verify", "mine")
    assert run.exit_code == 0, run.stderr
    assert "Spearman 1.000, median difference 10.0%" in run.stdout
    assert "a slow formula" in run.stdout
    assert shown(nastool).startswith("verified on ")
    numbers = json.loads(nastool("show", "mine", "--format", "json").stdout)["verification"]
    assert (numbers["metrics"][0]["metric"], numbers["shapes"]) == ("gap", numbers["front"])
    assert numbers["metrics"][0]["spearman"] == pytest.approx(1.0)
    # Going on with the same budget finds the same front, and says so.
    assert "verified on " in search(nastool).stdout
    assert "not verified: the front has changed" in search(nastool, budget=600).stdout
    assert json.loads(nastool("show", "mine", "--format", "json").stdout)["verification"] is None


def test_the_numbers_are_those_of_both_objectives(nastool, checked_json):
    search(nastool)
    found = checked_json(nastool("verify", "mine", "--format", "json").stdout)
    rows = found["architectures"]
    assert found["shapes"] == found["front"] == len(rows)
    for row in rows:
        assert row["measured gap"] == pytest.approx(1.1 * row["gap"])
    [metric] = found["metrics"]
    off = [abs(row["measured gap"] - row["gap"]) for row in rows]
    assert metric["hits"] == sum(value <= 1.0 for value in off)
    assert 0 < metric["hits"] < len(rows)
    assert metric["bias"] == pytest.approx(0.1)
    assert metric["interval"] == 1.0


def test_shapes_that_break_a_bound_as_measured_are_not_on_the_front(nastool):
    search(nastool, "--max", "gap=12")
    found = json.loads(nastool("verify", "mine", "--format", "json").stdout)
    rows = found["architectures"]
    good = [(row["measured gap"], row["params"]) for row in rows if row["measured gap"] <= 12]
    assert 0 < found["satisfying"] == len(good) < len(rows)
    assert found["kept"] == sum(
        not any(a <= gap and b <= params and (a, b) != (gap, params) for a, b in good)
        for gap, params in good
    )
    assert f"; {len(good)} satisfy the constraints; " in shown(nastool)
    run = nastool("verify", "mine")
    assert f"{len(good)} of {len(rows)} shapes still satisfy gap<=12" in run.stdout
    # The truth is out of bounds throughout.
    run = nastool("verify", "mine", "--supernet", "20")
    assert f"0 of {len(rows)} shapes still satisfy gap<=12" in run.stdout
    assert f"0 of {len(rows)} shapes are on the front" in run.stdout


def test_bounds_on_what_is_not_measured_are_not_counted(nastool):
    search(nastool, "--max", "params=100")
    run = nastool("verify", "mine")
    assert run.exit_code == 0, run.stderr
    assert "satisfy" not in run.stdout + shown(nastool)


def test_settings_reach_what_measures(nastool):
    search(nastool)
    found = json.loads(nastool("verify", "mine", "--supernet", "7", "--format", "json").stdout)
    for row in found["architectures"]:
        assert row["measured gap"] == pytest.approx(1.1 * row["gap"] + 7)


def test_part_of_a_front_is_part_of_the_status(nastool):
    search(nastool)
    assert nastool("verify", "mine", "--limit", "3").exit_code == 0
    assert shown(nastool).startswith("verified on 3 of ")


def test_ranks_that_do_not_agree_show(nastool):
    search(nastool)
    run = nastool("verify", "mine", "--measure", "gap=noise", "--format", "json")
    assert run.exit_code == 0, run.stderr
    found = json.loads(run.stdout)
    assert abs(found["metrics"][0]["spearman"]) < 0.7
    assert found["kept"] < found["shapes"]


def test_measurements_are_kept_and_not_repeated(nastool, monkeypatch):
    search(nastool)
    assert nastool("verify", "mine").exit_code == 0
    from nastool.discovery import OBJECTIVES, find

    monkeypatch.setattr(find(OBJECTIVES, "measured_gap").load(), "evaluate", None)
    assert nastool("verify", "mine").exit_code == 0


def test_what_cannot_be_measured_is_named(nastool):
    search(nastool, objectives=("gap", "speed"))
    run = nastool("verify", "mine")
    assert run.exit_code == 0, run.stderr
    assert "speed is not measured: unknown objective 'measured_speed'" in run.stderr
    assert "speed: not verified" in shown(nastool)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("yours",), "unknown study 'yours'"),
        (("mine", "--measure", "gap"), "expected METRIC=OBJECTIVE with METRIC one of gap"),
        (("mine", "--measure", "params=gap"), "expected METRIC=OBJECTIVE"),
        (("mine", "--measure", "gap=nothing"), "unknown objective 'nothing'"),
        (
            ("mine", "--measure", "gap=stopwatch"),
            "gap is, got stopwatch, which is in s and better when larger",
        ),
        (("mine", "--measure", "gap=broken"), "could measure none of the shapes: "),
        (
            ("mine", "--text", "x", "--supernet", "7"),
            "Error: --text: what measures must have such a setting, got measured_gap, which",
        ),
    ],
)
def test_wrong_input_is_one_line(nastool, arguments, message):
    search(nastool)
    run = nastool("verify", *arguments)
    assert run.exit_code == 2
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert "not verified" in shown(nastool)


def test_where_nothing_measures_the_option_that_names_it_is_said(nastool):
    search(nastool, objectives=("speed", "params"))
    run = nastool("verify", "mine")
    assert run.exit_code == 2
    assert "--measure METRIC=OBJECTIVE" in run.stderr
    assert "speed: unknown objective 'measured_speed'" in run.stderr


def test_nothing_predicted_is_nothing_to_verify(nastool):
    search(nastool, objectives=("params",))
    run = nastool("verify", "mine")
    assert run.exit_code == 2
    assert "predicts nothing" in run.stderr
    assert "verified" not in nastool("show", "mine", "--format", "json").stdout.replace(
        '"space": "verified"', ""
    ).replace("widths", "")


def tasting(nastool, *arguments):
    common = ("--space", "tasting", "--strategy", "random", "--budget", "200", "--study", "mine")
    run = nastool("search", *common, *arguments)
    assert run.exit_code == 0, run.stderr
    return run


def test_a_space_says_what_is_optimised_and_what_measures_it(nastool):
    tasting(nastool)
    run = nastool("verify", "mine", "--format", "json")
    found = json.loads(run.stdout)
    assert [metric["metric"] for metric in found["metrics"]] == ["taste"]
    assert found["metrics"][0]["by"] == "measured (people)"
    assert found["architectures"]
    for row in found["architectures"]:
        assert row["measured taste"] == pytest.approx(row["taste"])


def test_what_measures_has_settings_of_its_own_names(nastool):
    tasting(nastool)
    run = nastool("verify", "mine", "--measuring", "grains-of-salt=3", "--format", "json")
    for row in json.loads(run.stdout)["architectures"]:
        assert row["measured taste"] == pytest.approx(row["taste"] + 6)
    wrong = nastool("verify", "mine", "--measuring", "grains_of_salt=many")
    assert wrong.exit_code == 2
    assert "--measuring grains_of_salt" in wrong.stderr
    unknown = nastool("verify", "mine", "--measuring", "sugar=1")
    assert unknown.exit_code == 2
    assert "what measures must have such a setting, got panel" in unknown.stderr


def test_what_a_metric_is_measured_by_can_be_said_anyway(nastool):
    tasting(nastool)
    run = nastool("verify", "mine", "--measure", "taste=measured_gap", "--format", "json")
    assert json.loads(run.stdout)["metrics"][0]["by"] == "measured (a slow formula)"
