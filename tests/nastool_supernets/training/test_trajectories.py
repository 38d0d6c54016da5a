"""The curves are those of the log, and every run keeps its own."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from nastool.errors import InvalidInputError
from nastool_supernets.cli.trajectories import trajectories
from nastool_supernets.training.trajectories import WINDOWS, draw_trajectories, read_trajectories


def write_run(folder, steps=6, roles=("largest", "smallest", "random"), scale=1.0):
    folder.mkdir(parents=True)
    with open(folder / "log.jsonl", "w") as file:
        for step in range(1, steps + 1):
            # The head stage trains the largest net alone.
            losses = dict.fromkeys(roles if step > 2 else roles[:1], scale * (10 - step / steps))
            line = {"step": step, "tokens": step * 1000, "loss": losses}
            if step % 3 == 0:
                line["perplexity"] = {"largest": 100.0 / step, "random_1": 300.0 / step}
            file.write(json.dumps(line) + "\n")


def test_curves_are_those_of_the_log(tmp_path):
    write_run(tmp_path / "a")
    data = read_trajectories([tmp_path / "a"])
    losses = {c.name: c for c in data.losses}
    assert losses["largest"].tokens.tolist() == [1000, 2000, 3000, 4000, 5000, 6000]
    assert losses["smallest"].tokens.tolist() == [3000, 4000, 5000, 6000]
    assert losses["smallest"].values[-1] == 9
    perplexities = {c.name: c for c in data.perplexities}
    assert perplexities["random_1"].values.tolist() == [100, 50]
    assert perplexities["largest"].tokens.tolist() == [3000, 6000]


def test_long_runs_are_averaged(tmp_path):
    write_run(tmp_path / "a", steps=10 * WINDOWS)
    curve = read_trajectories([tmp_path / "a"]).losses[0]
    assert len(curve.tokens) == WINDOWS
    assert curve.tokens[0] == np.mean(np.arange(1, 11) * 1000)
    assert (np.diff(curve.values) < 0).all()


def test_figure_tells_runs_apart(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", roles=("random",), scale=0.5)
    # A run is read while it is being written.
    with open(tmp_path / "b" / "log.jsonl", "a") as file:
        file.write('{"step": 7, "tok')
    figure = draw_trajectories(read_trajectories([tmp_path / "a", tmp_path / "b"]))
    assert len(figure.data) == 3 + 2 + 1 + 2
    shown = [t.name for t in figure.data if t.showlegend]
    assert len(shown) == len(set(shown)) == len({t.name for t in figure.data})
    assert {t.line.dash for t in figure.data if t.name.startswith("a")} == {"solid"}
    assert {t.line.dash for t in figure.data if t.name.startswith("b")} == {"dash"}


def test_command(tmp_path):
    write_run(tmp_path / "x" / "net")
    write_run(tmp_path / "y" / "net")
    plot = tmp_path / "plot.html"
    runs = [str(tmp_path / "x" / "net"), str(tmp_path / "y" / "net")]
    done = CliRunner().invoke(trajectories, [*runs, "--plot", str(plot)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "random_1" in done.output
    assert "Held-out perplexity" in plot.read_text()


def test_names_with_brackets_are_shown_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    write_run(tmp_path / "net[b]")
    done = CliRunner().invoke(trajectories, [str(tmp_path / "net[b]")], catch_exceptions=False)
    assert "net[b]" in done.output


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, [], "expected the folder of a training run"),
        ("{}\n{}\n", [], "line 1: expected a JSON record"),
        ('{"tokens": 1, "loss": null}\n{}\n', [], "line 1: expected a JSON record"),
        ('{"tokens": 1, "perplexity": {"a": null}}\n{}\n', [], 'got \'{"tokens": 1, "perp'),
        ("", ["--plot", "a.gif"], "expected a file that ends with .html"),
    ],
)
def test_bad_input_is_named(tmp_path, content, arguments, message):
    if content is not None:
        (tmp_path / "log.jsonl").write_text(content)
    result = CliRunner().invoke(trajectories, [str(tmp_path), *arguments])
    assert isinstance(result.exception, InvalidInputError)
    assert message in str(result.exception)
