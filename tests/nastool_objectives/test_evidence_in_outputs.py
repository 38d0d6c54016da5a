"""What the commands say of predicted values and of tables from elsewhere."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner

from nastool.cli.main import main
from nastool.plugins import load_space

pytest.importorskip("scipy")
pytestmark = pytest.mark.usefixtures("few_trees")
SPACE = "supershaper:minilm-6"


@pytest.fixture(scope="module")
def rows():
    space = load_space(SPACE)
    genotypes = np.unique(space.sample(60, np.random.default_rng(0)), axis=0)
    genotypes[:, 0] = np.maximum(genotypes[:, 0], 3)
    genotypes = np.unique(genotypes, axis=0)
    noise = np.random.default_rng(1).normal(1, 0.02, len(genotypes))
    return space.decode(genotypes), (1e6 / space.features(genotypes).sum(axis=1)) * noise


def write(path, rows, values, **columns):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"layer_{i + 1}" for i in range(6)), "y", *columns])
        cells = zip(*columns.values(), strict=True) if columns else [()] * len(values)
        writer.writerows(
            [*row, value, *more] for row, value, more in zip(rows, values, cells, strict=True)
        )
    return path


def nastool(*words, ok=True):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert (result.exit_code == 0) is ok, result.output
    return result


def test_predicted_values_carry_interval_region_and_optimism(tmp_path, rows):
    table = write(tmp_path / "t.csv", *rows)
    nastool("fit", table, "--space", SPACE, "--target", "y", "--model", "linear",
            "--output", tmp_path / "p")  # fmt: skip
    words = ("search", "--space", SPACE, "--objective", f"predicted:{tmp_path / 'p'}",
             "--objective", "params", "--budget", 300, "--storage", "none")  # fmt: skip
    content = json.loads(nastool(*words, "--format", "json").stdout)
    name = content["metrics"][0]["name"]
    assert content["metrics"][0]["optimism"] >= 0
    judged = {row["shape"]: (row[name], row["predicted"][name]) for row in content["architectures"]}
    outside = [shape for shape, (_, worth) in judged.items() if worth["outside"]]
    assert any(int(shape.split("-")[0]) < 240 for shape in outside)
    for value, worth in judged.values():
        assert worth["corrected"] >= value
        if worth["interval"]:
            assert worth["interval"][0] <= value <= worth["interval"][1]
    shown = nastool(*words, "--corrected", "--plot", tmp_path / "f.html").stdout
    assert "corrected" in shown
    assert "outside of what the predictor has seen" in " ".join(shown.split())
    assert "outside of what the predictor has seen" in (tmp_path / "f.html").read_text()


def test_an_imported_table_says_what_it_says_and_no_more(tmp_path, rows):
    shapes, values = rows
    words = ("--device", "d", "--unit", "ms", "--column", "y", "--space", SPACE,
             "--devices-dir", tmp_path, "--model", "linear")  # fmt: skip
    n = len(values)
    table = write(tmp_path / "t.csv", shapes, values, batch=[8] * n, threads=[4] * n)
    said = nastool("latency", "import", table, *words).stdout
    assert "batch size 8, sequence length unknown" in said.replace("_", " ") or (
        "batch size 8" in said and "sequence length unknown" in said
    )
    card = json.loads((tmp_path / "d" / "device.json").read_text())
    assert card["workload"] is None
    assert card["conditions"] == {"batch_size": 8, "threads": 4}
    assert "unknown" in nastool("latency", "show", "d", "--devices-dir", tmp_path).stdout
    refused = nastool("latency", "import", table, *words, "--batch-size", 1, ok=False)
    assert "expected 8, as the table says" in refused.stderr
    mixed = write(tmp_path / "m.csv", shapes, values, batch=[1, 128] * (n // 2) + [1] * (n % 2))
    assert "'batch'" in nastool("latency", "import", mixed, *words, ok=False).stderr
    nastool("latency", "import", mixed, *words, "--where", "batch=1")


@pytest.mark.parametrize("change", [lambda v: v, lambda v: v * 1e3, lambda v: v.round(1)])
def test_a_run_beside_its_copy_is_refused(tmp_path, rows, change):
    shapes, values = rows
    one = write(tmp_path / "a.csv", shapes, values)
    two = write(tmp_path / "b.csv", shapes[::-1], change(values)[::-1])
    words = ("--unit", "ms", "--column", "y", "--space", SPACE)
    devices = ("--device", "d", "--devices-dir", tmp_path / "d", "--model", "linear")
    for command in (("import", one, two, *devices), ("compare", one, two)):
        refused = nastool("latency", *command, *words, ok=False)
        assert "one run given twice" in refused.stderr
    assert not (tmp_path / "d").exists()
