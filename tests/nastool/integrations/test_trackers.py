"""Curves of runs, studies and comparisons in TensorBoard, W&B, MLflow and trackio."""

import json
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from nastool.cli.main import main
from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.integrations import trackers

SEARCH = "search --space supershaper --objective params --strategy random --budget 400 --seed 3"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of its own, and no key or address of any tracker."""
    monkeypatch.chdir(tmp_path)
    for keys in trackers._READY.values():
        for key in keys:
            monkeypatch.delenv(key, raising=False)
    return tmp_path


def run(command, code=0):
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code == code, result.output
    return result


def scalars(folder):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_unknown_and_missing_are_named(here, monkeypatch):
    with pytest.raises(InvalidInputError, match=r"some of tensorboard, .*, trackio, got x"):
        trackers.open_trackers(["x"], here, 0, {})
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    for name in trackers.TRACKERS:
        with pytest.raises(MissingDependencyError, match=f"pip install {name}"):
            trackers.open_trackers([name], here, 0, {})
    assert trackers.open_trackers(None, here, 0, {}) == []
    assert "pip install mlflow" in run(f"{SEARCH} --tracker mlflow", 2).output


class Wandb:
    """A stand-in that keeps what W&B keeps: nothing of a step before the last one."""

    def __init__(self, monkeypatch):
        self.settings, self.kept, self.axes = [], [], {}
        self.finish = lambda: None
        monkeypatch.setitem(sys.modules, "wandb", self)
        known = trackers.find_spec
        monkeypatch.setattr(trackers, "find_spec", lambda name: name == "wandb" or known(name))

    def init(self, **settings):
        self.settings.append(settings)
        self.last = -1
        return self

    def define_metric(self, name, step_metric=None):
        self.axes[name] = step_metric

    def log(self, values, step=None):
        step = self.last + 1 if step is None else step
        if step >= self.last:
            self.kept.append(values)
        self.last = max(step, self.last)

    def curve(self, name):
        axis = self.axes["*"]
        return {values[axis]: values[name] for values in self.kept if name in values}


def test_weights_and_biases_continues_the_run_of_a_folder(here, monkeypatch):
    wandb = Wandb(monkeypatch)
    monkeypatch.setattr(trackers, "find_spec", lambda name: name == "wandb" or None)
    assert trackers.open_trackers(None, here, 0, {}) == []  # it would ask for a key
    monkeypatch.setenv("WANDB_MODE", "offline")
    for _ in range(2):
        [tracker] = trackers.open_trackers(None, here, 0, {"steps": 3})
        tracker.log(2, {"loss/largest": 1.5})
        tracker.close()
    first, second = wandb.settings
    assert first["id"] == second["id"]
    assert first["resume"] == "allow"
    assert wandb.curve("loss/largest") == {2: 1.5}


def test_weights_and_biases_have_every_curve_whatever_order_they_come_in(here, monkeypatch):
    wandb = Wandb(monkeypatch)
    run(
        "compare --space supershaper --objective params --strategy random --strategy evolution "
        "--seeds 2 --budget 60 --tracker wandb"
    )
    curves = [wandb.curve(f"best params/{name}") for name in ("random", "evolution")]
    assert [max(curve) for curve in curves] == [60, 60]
    assert len(curves[0]) == len(curves[1]) > 10
    # Scores of tasks come shape by shape, over seeds.
    [tracker] = trackers.open_trackers(["wandb"], here, 0, {})
    for shape in ("a", "b"):
        for seed in range(3):
            tracker.log(seed, {f"rte/{shape}": seed / 10})
    assert wandb.curve("rte/a") == wandb.curve("rte/b") == {0: 0.0, 1: 0.1, 2: 0.2}


def test_tensorboard_cuts_what_a_killed_run_wrote_later(here):
    pytest.importorskip("tensorboard")
    for start, steps in ((0, (1, 2, 3)), (1, (2,))):
        [tracker] = trackers.open_trackers(["tensorboard"], here, start, {})
        for step in steps:
            tracker.log(step, {"loss/largest": step + start / 2})
        tracker.close()
    assert scalars(here) == {"loss/largest": {1: 1.0, 2: 2.5}}


def test_a_search_leaves_curves(here):
    run(f"{SEARCH} --study mine --tracker tensorboard --storage none")
    found = scalars(here / "nastool-runs" / "mine")
    assert {tag: max(steps) for tag, steps in found.items()} == dict.fromkeys(
        ["front", "failed", "best/params", "seconds"], 400
    )
    best = list(found["best/params"].values())
    assert best == sorted(best, reverse=True)
    assert len(set(best)) > 1
    assert set(found["front"].values()) == {1.0}


def test_a_tracker_that_comes_late_or_is_left_early_has_the_last_point(here):
    run(f"{SEARCH} --study mine")
    run(f"{SEARCH} --study mine --tracker tensorboard")
    assert {tag: list(steps) for tag, steps in scalars(here / "nastool-runs" / "mine").items()} == {
        tag: [400] for tag in ("front", "failed", "best/params", "seconds")
    }
    options = "--study early --batch-size 1 --patience 7 --tracker tensorboard --format json"
    early = json.loads(run(f"{SEARCH} {options}".replace("400", "4000")).stdout)
    assert early["evaluations"] % (4000 // 200)
    found = scalars(here / "nastool-runs" / "early")
    assert max(found["best/params"]) == early["evaluations"]


def test_every_study_has_curves_of_its_own_whatever_it_is_called(here):
    for name in ("a/b", "a-b", "..", "long" * 60):
        run(f"{SEARCH} --study {name} --tracker tensorboard")
    runs = [path for path in here.iterdir() if path.is_dir()]
    assert [path.name for path in runs] == ["nastool-runs"]
    assert all(max(scalars(path)["front"]) == 400 for path in runs[0].iterdir())
    assert len(list(runs[0].iterdir())) == 4


def test_a_sweep_has_a_run_for_each_limit_and_a_comparison_one(here):
    run(
        "sweep --space supershaper --objective macs --metric params --at 60M,66M --budget 50 "
        "--strategy random --tracker tensorboard"
    )
    first, second = sorted((here / "nastool-runs").iterdir())
    assert max(scalars(first)["best/macs"]) == max(scalars(second)["best/macs"]) == 50
    run(
        "compare --space supershaper --objective params --strategy random --strategy evolution "
        "--seeds 2 --budget 60 --name both --tracker tensorboard"
    )
    found = scalars(here / "nastool-runs" / "both")
    assert {"best params/random", "best params/evolution"} <= set(found)
    assert max(found["best params/evolution"]) == 60


def test_mlflow_holds_what_a_study_is_and_finds(here, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{here / 'mlruns'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    options = "--objective latency[h100] --study mine --tracker mlflow"
    run(f"{SEARCH} {options}")
    run(f"{SEARCH} {options}".replace("400", "500"))
    client = mlflow.MlflowClient()
    place = client.get_experiment_by_name("nastool").experiment_id
    [found] = client.search_runs([place])
    assert found.info.run_name == "mine"
    assert found.info.status == "FINISHED"
    assert found.data.params["strategy"] == "random"
    history = client.get_metric_history(found.info.run_id, "best/latency:h100")
    assert max(point.step for point in history) == 500
    assert found.data.metrics["front"] > 1


def test_mlflow_takes_names_as_folders_are_written():
    # As shells complete them, and as people join them.
    assert trackers._plain("best/perplexity[nets/mine/]") == "best/perplexity:nets/mine"
    assert trackers._plain("best/perplexity[nets//mine]") == "best/perplexity:nets/mine"
    assert trackers._plain("best/latency[h100].decode") == "best/latency:h100.decode"


def test_trackio_is_told_apart_by_folder_and_prints_nothing(here, monkeypatch, capsys):
    calls = []

    def init(**settings):
        calls.append(settings)
        sys.stdout.write("* a word of it")
        return SimpleNamespace(log=lambda values, step: calls.append((step, values)))

    faked = SimpleNamespace(init=init, finish=lambda: sys.stdout.write("* finished"))
    monkeypatch.setitem(sys.modules, "trackio", faked)
    monkeypatch.setattr(trackers, "find_spec", lambda name: name == "trackio" or None)
    assert trackers.open_trackers(None, here, 0, {}) == []  # it would write into the home
    monkeypatch.setenv("TRACKIO_DIR", str(here))
    for folder in (here, here, here / "other" / here.name):
        [tracker] = trackers.open_trackers(None, folder, 0, {"steps": 3})
        tracker.log(2, {"loss/largest": 1.5})
        tracker.close()
    begun = calls[::2]
    assert {(call["project"], call["resume"]) for call in begun} == {("nastool", "allow")}
    assert begun[0]["name"] == begun[1]["name"] != begun[2]["name"]
    assert calls[1] == (2, {"loss/largest": 1.5})
    assert capsys.readouterr().out == ""


def test_trackio_holds_what_a_study_is_and_finds(here, monkeypatch):
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    # Its variable is read once, when it is imported.
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", here / "trackio")
    options = "--objective macs --study mine --tracker trackio --format json"
    assert json.loads(run(f"{SEARCH} {options}").stdout)["study"] == "mine"
    run(f"{SEARCH} {options}".replace("400", "500"))
    [found] = SQLiteStorage.get_run_records("nastool")
    assert found["name"].startswith("mine-")
    logs = SQLiteStorage.get_logs("nastool", found["name"])
    assert max(line["step"] for line in logs) == 500
    assert logs[-1]["best/macs"] > 0
    assert SQLiteStorage.get_run_config("nastool", found["name"])["strategy"] == "random"


def test_what_a_tracker_raises_is_one_line(here, monkeypatch):
    class Full:
        name = "the curves"

        def log(self, step, values):
            raise OSError(28, "No space left on device")

        def close(self):
            raise RuntimeError("closed")

    monkeypatch.setattr(trackers, "open_trackers", lambda *_: [Full()])
    output = run(f"{SEARCH} --study mine --tracker tensorboard", 2).output
    assert "cannot write curves to the curves: [Errno 28] No space left on device" in output
    monkeypatch.undo()
    monkeypatch.chdir(here)
    # What was evaluated is kept.
    assert "mine" in run("studies").output
