import csv
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from nastool.discovery import load_file
from nastool.plugins import load_device, load_objective, load_space
from nastool.testing import ObjectiveConformance
from nastool_objectives.latency.campaign import Plan, read_visits
from nastool_objectives.latency.registry import device_names, find_device, read_card

pytest.importorskip("scipy")

PLUGIN = Path(__file__).with_name("device_plugin.py")
CAMPAIGN = (
    "latency", "measure", "--device", "simulated", "--space", "runnable", "--shapes", "40",
    "--rounds", "2",
)  # fmt: skip
MEASURE = (*CAMPAIGN, "--model", "linear")


@pytest.fixture
def device(begun):
    """A quiet device called toy."""
    run = begun(*MEASURE, "--name", "toy")
    assert run.exit_code == 0, run.stderr
    return run


def table(path, noise, seed, n=120):
    """A table of random architectures whose latency is their parameter count, with noise."""
    space = load_space("runnable")
    genotypes = np.unique(space.sample(4 * n, np.random.default_rng(0)), axis=0)[:n]
    rng = np.random.default_rng(seed)
    values = space.costs["params"].evaluate(genotypes) * (1 + noise * rng.standard_normal(n))
    names = ",".join(gene.name for gene in space.genes)
    rows = [
        ",".join(map(str, (*shape, abs(value))))
        for shape, value in zip(space.decode(genotypes), values, strict=True)
    ]
    path.write_text("\n".join([f"{names},latency_s", *rows]) + "\n")
    return str(path)


def test_a_campaign_becomes_an_objective(device, nastool, tmp_path):
    assert "noise gate: passed" in device.stdout
    assert "Spearman 1.000" in device.stdout
    card = read_card(tmp_path / "devices" / "toy")
    assert card.verdict == "passed"
    assert card.plan["shapes"] == 40
    run = nastool(
        "search", "--space", "runnable", "--strategy", "random", "--objective", "latency[toy]",
        "--objective", "params", "--constraint", "latency[toy]<=100ms", "--budget", "50",
        "--storage", "none", "--format", "json",
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    found = json.loads(run.stdout)
    metric = next(m for m in found["metrics"] if m["name"] == "latency[toy]")
    assert metric["unit"] == "s"
    assert metric["kind"] == "predicted"
    assert "repeats at Spearman 1.000" in metric["provenance"]
    for row in found["architectures"]:
        assert row["latency[toy]"] <= 0.1
        assert row["latency[toy]"] == pytest.approx(1e-3 * row["params"], rel=0.05)


def test_the_same_command_measures_nothing_again(device, nastool, tmp_path):
    visits = tmp_path / "devices" / "toy" / "visits.csv"
    before = visits.read_text()
    assert nastool(*MEASURE, "--name", "toy").exit_code == 0
    assert visits.read_text() == before
    assert nastool(*MEASURE, "--name", "toy", "--rounds", "3").exit_code == 0
    assert visits.read_text().startswith(before)
    assert len(visits.read_text()) > len(before)


def test_a_worker_measures_what_this_process_does(nastool, tmp_path):
    pytest.importorskip("loky")
    small = ("latency", "measure", "--device", "simulated", "--space", "runnable", "--shapes", "6",
             "--rounds", "2", "--storage", "none", "--force", "--model", "linear")  # fmt: skip
    run = nastool(*small, "--name", "there", "--executor", "processes:1")
    assert run.exit_code in (0, 2), run.stderr
    folder = tmp_path / "devices" / "there"
    assert read_card(folder).facts == load_device("simulated").facts
    visits = read_visits(folder / "visits.csv")
    plan, space = Plan(6, rounds=2), load_space("runnable")
    order = plan.order(*map(int, (len(plan.architectures(space)[0]), 5)))
    assert [[visit.round, visit.row] for visit in visits] == order.tolist()
    assert all(visit.timing is not None for visit in visits)
    run = nastool(*small, "--name", "two", "--executor", "processes:2")
    assert run.exit_code == 2
    assert "a device has one worker, on its own machine, such as processes:1, got 2" in run.stderr


def test_another_campaign_under_a_name_is_refused(device, nastool):
    run = nastool(*MEASURE, "--name", "toy", "--batch-size", "8")
    assert run.exit_code == 2
    assert "'toy' was begun with workload" in run.stderr


def test_a_noisy_device_is_no_objective_unless_forced(nastool, tmp_path):
    noisy = (*MEASURE, "--name", "noisy", "--option", "noise=0.6")
    run = nastool(*noisy)
    assert run.exit_code == 2
    assert "noise gate: refused" in run.stdout
    assert "too noisy to rank by: rank correlation" in run.stderr
    use = ("search", "--space", "runnable", "--objective", "latency[noisy]", "--storage", "none")
    use = (*use, "--strategy", "random", "--budget", "20")
    run = nastool(*use)
    assert run.exit_code == 2
    assert "too noisy to rank by" in run.stderr
    assert nastool("latency", "fit", "noisy").exit_code == 2
    # What is measured is let through without measuring it again.
    assert nastool("latency", "fit", "noisy", "--model", "linear", "--force").exit_code == 0
    run = nastool(*use)
    assert run.exit_code == 0, run.stderr
    assert "FORCED past the noise gate" in " ".join(run.stdout.split())


def test_two_runs_that_disagree_are_refused(nastool, tmp_path):
    first, second = (table(tmp_path / f"{k}.csv", 0.8, k) for k in (1, 2))
    run = nastool("latency", "compare", first, second, "--space", "runnable")
    assert run.exit_code == 2
    assert "too noisy to rank by" in run.stderr
    words = ("--space", "runnable", "--unit", "s", "--model", "linear")
    run = nastool("latency", "import", first, second, "--device", "cloud", *words)
    assert run.exit_code == 2
    assert read_card(tmp_path / "devices" / "cloud").verdict == "refused"


def test_a_single_run_that_nothing_can_rank_is_refused(nastool, tmp_path):
    words = ("--space", "runnable", "--unit", "s", "--model", "linear")
    noise = table(tmp_path / "noise.csv", 5.0, 1)
    run = nastool("latency", "import", noise, "--device", "cloud", *words)
    assert run.exit_code == 2
    assert "where no second run shows how well it repeats" in run.stderr
    assert read_card(tmp_path / "devices" / "cloud").verdict == "refused"


def test_two_runs_that_agree_become_a_device(nastool, tmp_path):
    first, second = (table(tmp_path / f"{k}.csv", 0.003, k) for k in (1, 2))
    assert nastool("latency", "compare", first, second, "--space", "runnable").exit_code == 0
    words = ("--space", "runnable", "--unit", "ms", "--model", "linear", "--batch-size", "128")
    run = nastool("latency", "import", first, second, "--device", "cloud", *words)
    assert run.exit_code == 0, run.stderr
    assert "noise gate: passed" in run.stdout
    assert "cloud" in nastool("latency", "list").stdout
    shown = nastool("latency", "show", "cloud").stdout
    assert "imported" in shown
    assert "128" in shown


def test_a_single_run_says_that_its_noise_is_not_known(nastool, tmp_path):
    words = ("--space", "runnable", "--unit", "s", "--model", "linear")
    path = table(tmp_path / "a.csv", 0.003, 1)
    assert nastool("latency", "import", path, "--device", "cloud", *words).exit_code == 0
    objective = load_objective("latency[cloud]", load_space("runnable"))
    assert "repeatability not known" in objective.provenance.error


def test_a_device_is_recalibrated_from_a_known_one(device, nastool, tmp_path):
    run = nastool(
        *CAMPAIGN, "--name", "small", "--batch-size", "3", "--shapes", "10",
        "--choose", "informative", "--like", "toy", "--option", "noise=0.001",
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    assert "Recalibrated" in run.stdout
    space = load_space("runnable")
    genotypes = space.sample(100, np.random.default_rng(5))
    values = load_objective("latency[small]", space).evaluate(genotypes)
    np.testing.assert_allclose(values, 3e-3 * space.costs["params"].evaluate(genotypes), rtol=0.1)


IMPORT = ("latency", "import", "--space", "runnable", "--unit", "s", "--device", "cloud")


@pytest.fixture
def single(nastool, tmp_path):
    """A table measured once, in which the linear model cannot rank and the pairwise one can."""
    space = load_space("runnable")
    genotypes = np.unique(space.sample(400, np.random.default_rng(0)), axis=0)[:120]
    # A Latin square of the first two widths: neither of them says anything alone.
    values = 1 + (2 * genotypes[:, 0] + genotypes[:, 1]) % 5
    names = ",".join(gene.name for gene in space.genes)
    rows = [
        ",".join(map(str, (*shape, value)))
        for shape, value in zip(space.decode(genotypes), values, strict=True)
    ]
    path = tmp_path / "single.csv"
    path.write_text("\n".join([f"{names},latency_s", *rows]) + "\n")
    return str(path)


def test_a_better_predictor_or_force_undoes_a_refusal(nastool, tmp_path, single):
    cloud = tmp_path / "devices" / "cloud"
    run = nastool(*IMPORT, single, "--model", "linear")
    assert run.exit_code == 2
    assert "rank correlation of predictions on held-out shapes" in run.stderr
    assert read_card(cloud).verdict == "refused"
    assert nastool("latency", "fit", "cloud", "--model", "linear", "--force").exit_code == 0
    assert read_card(cloud).verdict == "forced"
    run = nastool("latency", "fit", "cloud", "--model", "pairwise")
    assert run.exit_code == 0, run.stderr
    assert (read_card(cloud).verdict, read_card(cloud).reason) == ("unknown", "")
    # A predictor that is refused leaves the one that ranks.
    assert nastool("latency", "fit", "cloud", "--model", "linear").exit_code == 2
    assert read_card(cloud).verdict == "unknown"
    assert "Pairwise" in nastool("latency", "show", "cloud").stdout


def test_a_new_table_leaves_no_predictor_of_the_old_one(nastool, tmp_path):
    predictor = tmp_path / "devices" / "cloud" / "predictor"
    first, second = (table(tmp_path / f"{k}.csv", 0.001, k) for k in (1, 2))
    assert nastool(*IMPORT, first, "--model", "linear").exit_code == 0
    assert predictor.is_dir()
    few = table(tmp_path / "few.csv", 0.001, 3, n=2)
    assert nastool(*IMPORT, few).exit_code == 2
    assert not predictor.exists()
    assert nastool(*IMPORT, second, "--model", "linear").exit_code == 0
    assert predictor.is_dir()


def written(tmp_path):
    """Every file of every device, with what it holds."""
    return {p: p.read_bytes() for p in (tmp_path / "devices").rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "xgbost"), "a predictor must be auto or one of"),
        (("--like", "nobody"), "unknown device 'nobody'"),
        (("--like", "toy", "--model", "linear"), "--like: expected no --model, got 'linear'"),
        (("--like", "other"), "what is recalibrated must have the features layer_0,"),
    ],
)
def test_what_to_fit_is_checked_before_anything_is_written(
    device, nastool, tmp_path, arguments, message
):
    other = nastool(
        "latency", "measure", "--device", "simulated", "--space", "runnable:3", "--shapes", "12",
        "--rounds", "2", "--model", "linear", "--name", "other",
    )  # fmt: skip
    assert other.exit_code == 0, other.stderr
    before = written(tmp_path)
    path = table(tmp_path / "t.csv", 0.001, 1)
    commands = (
        (*CAMPAIGN, "--name", "new"),
        (*CAMPAIGN, "--name", "toy", "--rounds", "3"),
        (*IMPORT, path),
        ("latency", "fit", "toy"),
    )
    for command in commands:
        run = nastool(*command, *arguments)
        assert run.exit_code == 2
        assert message in run.stderr
        assert len(run.stderr.splitlines()) == 1
    assert written(tmp_path) == before


def test_a_device_is_not_recalibrated_from_its_own_measurements(device, nastool, tmp_path):
    for command in (("latency", "fit", "toy"), (*CAMPAIGN, "--name", "toy", "--rounds", "3")):
        run = nastool(*command, "--like", "toy")
        assert run.exit_code == 2
        assert "--like: expected another device, got 'toy' itself" in run.stderr
    shutil.copytree(tmp_path / "devices" / "toy", tmp_path / "devices" / "copy")
    run = nastool("latency", "fit", "toy", "--like", "copy")
    assert run.exit_code == 2
    assert "must be fitted on other measurements, got 45 of the 45 rows" in run.stderr


def test_a_sent_folder_is_a_device(device, nastool, tmp_path):
    shutil.move(tmp_path / "devices" / "toy", tmp_path / "sent")
    assert device_names() == []
    space = load_space("runnable")
    objective = load_objective(f"latency[{tmp_path / 'sent'}]", space)
    assert objective.evaluate(space.cardinalities[None] - 1)[0] > 0
    shutil.move(tmp_path / "sent", tmp_path / "devices" / "theirs")
    assert find_device("theirs") == tmp_path / "devices" / "theirs"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "nothing"), "unknown device 'nothing'; known: none"),
        (("measure", "--device", "toaster"), "unknown device 'toaster'"),
        (("measure", "--name", "a/b", "--device", "simulated"), "a device's name must be"),
        (("measure", "--device", "simulated", "--rounds", "1"), "rounds must be at least 2"),
        (("measure", "--device", "command"), "needs an executable"),
        (("measure", "--device", "command[./no-such-file]"), "expected an executable"),
        (("import", "no.csv", "--device", "x", "--unit", "s"), "cannot read"),
        (("import", "no.csv", "--device", "x", "--unit", "h"), "unit must be one of"),
    ],
)
def test_wrong_input_is_one_line(nastool, arguments, message):
    run = nastool("latency", *arguments)
    assert run.exit_code == 2
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_a_campaign_without_a_visit_is_no_device(nastool, tmp_path):
    words = ("latency", "measure", "--device", "simulated", "--name", "toy")
    for space, shapes, message in (
        ("immobile", "3", "space immobile must define `deploy` to be run on a device"),
        ("runnable:1", "300", "300 architectures to measure were wanted"),
    ):
        run = nastool(*words, "--space", space, "--shapes", shapes)
        assert run.exit_code == 2
        assert run.stderr.startswith(f"Error: {message}")
        assert len(run.stderr.splitlines()) == 1
        assert list((tmp_path / "devices").iterdir()) == []


def test_an_imported_device_names_its_tables_in_words(nastool, tmp_path):
    path = table(tmp_path / "a.csv", 0, 0)
    words = ("--device", "toy", "--unit", "s", "--space", "runnable", "--model", "linear")
    run = nastool("latency", "import", path, *words)
    assert run.exit_code == 0, run.stderr
    # The half-width as everywhere else: 1.5ms, never 0.0015 s.
    assert not re.search(r"90% within ±[\d.e-]+ ", run.stdout)
    shown = nastool("latency", "show", "toy").stdout
    assert re.search(r"^tables +a.csv *$", shown, re.MULTILINE)
    assert "about" not in shown


def test_a_card_that_is_no_text_is_one_line(nastool, tmp_path):
    card = tmp_path / "devices" / "toy" / "device.json"
    card.parent.mkdir(parents=True)
    card.write_bytes(b"\xff\xfe{}")
    run = nastool("latency", "list")
    assert run.exit_code == 2
    assert run.stderr.startswith(f"Error: {card.parent}: ")
    assert len(run.stderr.splitlines()) == 1


def test_the_hint_names_what_objectives_find(device, nastool, tmp_path):
    assert "--objective 'latency[toy]'" in device.stdout
    run = nastool(*MEASURE, "--name", "other", "--devices-dir", "here")
    assert run.exit_code == 0, run.stderr
    text = f"latency[{tmp_path / 'here' / 'other'}]"
    assert f"--objective '{text}'" in run.stdout
    assert load_objective(text, load_space("runnable")).name == text


def test_an_empty_registry_says_where_it_looked(nastool, tmp_path):
    assert str(tmp_path / "devices") in nastool("latency", "list").stdout


class TestLatencyObjective(ObjectiveConformance):
    @pytest.fixture(autouse=True)
    def _measured(self, device):
        pass

    def space(self):
        load_file(PLUGIN)
        return load_space("runnable")

    def make(self):
        return load_objective("latency[toy]", self.space())


class TestMeasuredLatency(ObjectiveConformance):
    @pytest.fixture(autouse=True)
    def _measured(self, device):
        pass

    def space(self):
        load_file(PLUGIN)
        return load_space("runnable")

    def make(self):
        return load_objective("measured_latency[toy]", self.space())


def test_plugin_files_can_offer_devices(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from nastool.plugins import register_device\n\n"
        "@register_device('mine')\ndef make(argument):\n    return 3\n"
    )
    assert [plugin.name for plugin in load_file(file)] == ["mine"]


def test_where_fitting_extras_are_missing_a_linear_model_is_fitted(nastool, tmp_path, monkeypatch):
    for name in ("xgboost", "scipy", "sklearn", "sklearn.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    words = ("--device", "simulated", "--name", "bare", "--space", "runnable", "--rounds", "2")
    run = nastool("latency", "measure", *words, "--shapes", "20")
    assert run.exit_code == 0, run.stderr
    told = " ".join(run.stdout.split())
    assert "xgboost is left out: growing trees needs xgboost: pip install" in told
    card = json.loads((tmp_path / "devices" / "bare" / "predictor" / "card.json").read_text())
    assert card["kind"] in ("linear", "pairwise")
    assert card["scores"]["kendall"] is None


def test_devices_ship_and_are_found_by_name_until_a_user_has_one_of_that_name(
    nastool, tmp_path, checked_json
):
    listed = nastool("latency", "list", "--shipped")
    assert listed.exit_code == 0
    assert "h100" in listed.stdout
    assert "h100" not in nastool("latency", "list").stdout.replace("--shipped", "")
    devices = checked_json(nastool("latency", "list", "--shipped", "--format", "json").stdout)
    of_name = {device["name"]: device for device in devices["devices"]}
    fitted = of_name["h100"]["predictors"]["latency"]
    assert f"R2 {fitted['held_out']['r2']:.2f}" in listed.stdout
    assert (of_name["h100"]["noise_gate"], fitted["kind"]) == ("passed", "linear")
    assert checked_json(nastool("latency", "list", "--format", "json").stdout)["devices"] == []
    card = read_card(find_device("h100"))
    assert (card.date, card.verdict, card.facts["dtype"]) == ("2026-11-26", "passed", "bfloat16")
    space = load_space("supershaper")
    objective = load_objective("latency[h100]", space)
    smallest, largest = np.zeros((1, 12), dtype=int), np.full((1, 12), 6)
    # What is known of it: the smallest is slower than the largest.
    assert objective.evaluate(smallest)[0] > objective.evaluate(largest)[0] > 0.007
    run = nastool("latency", "fit", "h100")
    assert run.exit_code == 2
    assert "ships with nastool and stays as it is" in run.stderr
    shutil.copytree(find_device("h100"), tmp_path / "devices" / "h100")
    assert find_device("h100") == tmp_path / "devices" / "h100"


def test_what_is_known_of_a_device_is_json(device, nastool, tmp_path, checked_json):
    known = checked_json(nastool("latency", "show", "xeon", "--format", "json").stdout)
    folder = find_device("xeon")
    card = json.loads((folder / "device.json").read_text())
    for name in ("name", "device", "date", "space", "settings", "facts", "plan", "remarks"):
        assert known[name] == card[name]
    assert known["repeats"] == {"shapes": card["shapes"], "anchors": card["anchors"]}
    assert (known["noise_gate"], known["reason"]) == (card["verdict"], card["reason"])
    load = {"batch_size": known["batch_size"], "sequence_length": known["sequence_length"]}
    assert (load, known["conditions"]) == (card["workload"], {})
    assert known["folder"] == str(folder)
    for name, unit, place in (("latency", "s", "predictor"), ("memory", "B", "memory")):
        fitted = json.loads((folder / place / "card.json").read_text())
        told = known["predictors"][name]
        assert (told["unit"], told["held_out"]) == (unit, fitted["scores"])
        assert (told["shapes"], told["interval"]) == (fitted["shapes"], fitted["interval"])
    assert list(known["predictors"]) == ["latency", "memory"]
    listed = checked_json(nastool("latency", "list", "--shipped", "--format", "json").stdout)
    (brief,) = (each for each in listed["devices"] if each["name"] == "xeon")
    assert brief.items() <= known.items()
    own = checked_json(nastool("latency", "show", "toy", "--format", "json").stdout)
    assert (own["facts"], own["plan"]["shapes"]) == ({"noise": 0.0, "threads": 1}, 40)
    assert own["repeats"]["shapes"]["spearman"] == 1
    one = table(tmp_path / "one.csv", 0.01, 1)
    words = ("--device", "cloud", "--unit", "s", "--space", "runnable", "--model", "linear")
    run = nastool("latency", "import", one, *words, "--batch-size", "8")
    assert run.exit_code == 0, run.stderr
    imported = checked_json(nastool("latency", "show", "cloud", "--format", "json").stdout)
    assert (imported["batch_size"], imported["sequence_length"]) == (8, None)
    assert (imported["noise_gate"], imported["repeats"]["shapes"]) == ("unknown", None)


def test_each_shipped_device_says_what_its_own_table_says(nastool):
    space = load_space("supershaper")
    ends = np.stack([np.zeros(12, dtype=int), np.full(12, 6)])
    found = {}
    for name in ("xeon", "xeon-bf16", "xeon-int8"):
        folder = find_device(name)
        card = read_card(folder)
        assert (card.date, card.verdict, card.facts["system"]) == ("2026-11-28", "passed", "Linux")
        with (folder / "table.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        shapes = np.array([[int(row[gene.name]) for gene in space.genes] for row in rows])
        genotypes = np.searchsorted(space.widths, shapes)
        measured = np.array([float(row["latency_s"]) for row in rows])
        objective = load_objective(f"latency[{name}]", space)
        predicted = objective.evaluate(genotypes)
        assert np.median(np.abs(predicted / measured - 1)) < 0.03
        found[name] = objective.evaluate(ends)
    # Fewer bits are faster, of the smallest shape as of the largest.
    assert (found["xeon"] > 1.5 * found["xeon-bf16"]).all()
    assert (found["xeon-bf16"] > 1.1 * found["xeon-int8"]).all()


def test_a_campaign_is_dated_by_the_day_it_began(device, nastool, tmp_path):
    file = tmp_path / "devices" / "toy" / "device.json"
    content = json.loads(file.read_text())
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", content["date"])
    file.write_text(json.dumps({**content, "date": "2020-01-02"}))
    assert nastool(*MEASURE, "--name", "toy").exit_code == 0
    assert read_card(file.parent).date == "2020-01-02"


def test_a_campaign_says_beforehand_what_it_will_do_and_does_nothing(nastool, tmp_path):
    words = ("--device", "simulated", "--name", "later", "--space", "runnable", "--rounds", "2")
    run = nastool("latency", "measure", *words, "--shapes", "20", "--dry-run")
    assert run.exit_code == 0, run.stderr
    assert re.search(r"Measuring \d+ shapes on later, \d+ visits: about .+ here\n", run.stderr)
    assert not (tmp_path / "devices" / "later").exists()
