"""Every JSON output names its schema and keeps it; whole numbers are whole."""

import json
from pathlib import Path

import numpy as np
import pytest

from nastool.files.documents import json_document

OUTPUTS = {
    "front": ["show", "first"],
    "all": ["show", "first", "--all"],
    "studies": ["studies"],
    "space": ["space", "toy", "--max", "params=6M"],
    "plain space": ["space", "toy"],
    "plugins": ["list"],
    "comparison": ["compare", "--space", "toy", "--objective", "loss", "--objective", "params",
                   "--strategy", "random", "--strategy", "local", "--seeds", "2",
                   "--budget", "30"],
    "sweep": ["sweep", "--space", "toy", "--objective", "loss", "--metric", "params",
              "--at", "5M,6M", "--budget", "30"],
}  # fmt: skip


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_keep_their_schemas(name, nastool, search, checked_json):
    assert search("--study", "first", budget="40").exit_code == 0
    done = nastool(*OUTPUTS[name], "--format", "json")
    assert done.exit_code == 0, done.output
    content = checked_json(done.stdout)
    assert content["schema"].startswith("nastool/")
    if name in ("front", "all"):
        assert content["architectures"]
        assert all(type(row["params"]) is int for row in content["architectures"])


def test_all_evaluations_of_a_comparison_and_a_front_in_a_file_do(nastool, search, checked_json):
    done = nastool(*OUTPUTS["comparison"], "--all", "--format", "json")
    assert checked_json(done.stdout)["schema"] == "nastool/evaluations"
    assert search("--output", "front.json", budget="40").exit_code == 0
    with open("front.json", encoding="utf-8") as file:
        assert checked_json(file.read())["schema"] == "nastool/front"


def test_what_a_fitted_predictor_is_worth_is_json(nastool, tmp_path, checked_json):
    pytest.importorskip("scipy")
    rng = np.random.default_rng(0)
    genes = rng.integers(1, 5, (60, 3))
    times = genes.sum(axis=1) + rng.normal(0, 0.3, 60)
    rows = [",".join(map(str, (*g, t))) for g, t in zip(genes.tolist(), times, strict=True)]
    Path("times.csv").write_text("\n".join(["layer_1,layer_2,layer_3,ms", *rows, "1,1,1,"]))
    command = ("fit", "times.csv", "--target", "ms", "--unit", "ms", "--model", "linear")
    done = nastool(*command, "--output", "linear", "--format", "json")
    assert done.exit_code == 0, done.output
    content = checked_json(done.stdout)
    card = json.loads(Path("linear/card.json").read_text())
    assert content["held_out"] == card["scores"]
    assert (content["kind"], content["unit"], content["dropped"]) == ("linear", "s", 1)
    assert (content["interval"], content["shapes"]) == (card["interval"], card["shapes"])
    assert content["widths"] == card["widths"]
    assert content["widths"] is not None
    assert content["ranking"] == []
    said = nastool(*command, "--output", "again").stdout
    assert f"{content['held_out']['spearman']:.4f}" in said


def test_numbers_are_written_as_what_they_are():
    content = {
        "whole": 3.0,
        "part": 0.5,
        "huge": 1e300,
        "none": float("nan"),
        "far": [float("inf")],
    }
    text = json_document("test", {**content, "inner": [{"flag": True, "text": "3.0"}]})
    assert '"whole": 3,' in text
    read = json.loads(text)
    assert (read["part"], read["huge"], read["none"], read["far"]) == (0.5, 1e300, None, [None])
    assert type(read["huge"]) is float
    assert read["inner"] == [{"flag": True, "text": "3.0"}]
    assert list(read)[:2] == ["schema", "version"]
