import numpy as np
import pytest
from click.testing import CliRunner

from nastool.cli.main import main
from nastool.plots.predictor import draw_agreement, draw_importances
from nastool.predictors.selection import on_held_out

pytest.importorskip("plotly")
pytest.importorskip("scipy")


def test_agreement_shows_both_values_and_the_interval():
    targets = np.arange(20.0)
    held = on_held_out(targets, targets + 0.5)
    figure = draw_agreement(held, "latency[x]", "s")
    band, equal, points = figure.data
    assert (band.name, band.mode) == ("90% interval", "lines")
    assert band.x[0] == pytest.approx(-held.widths.at([0.0])[0])
    assert band.x[-1] == pytest.approx(held.widths.at([0.0])[0])
    assert band.y[0] == 0.0
    assert list(equal.x) == [0, 19.5]
    assert list(points.x) == targets.tolist()
    assert list(points.y) == (targets + 0.5).tolist()
    assert figure.layout.xaxis.title.text == "latency[x] (s, measured)"
    # Few shapes promise nothing, so there is nothing to draw.
    assert len(draw_agreement(on_held_out(targets[:5], targets[:5]), "x").data) == 2


def test_importances_are_bars_by_feature():
    figure = draw_importances({"gain": {"a": 0.75, "b": 0.25}, "permutation": {"a": 1.0, "b": 0.0}})
    assert [bar.name for bar in figure.data] == ["gain", "permutation"]
    assert list(figure.data[0].x) == ["a", "b"]
    assert list(figure.data[0].y) == [0.75, 0.25]


def test_fit_draws_its_predictor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = [f"{a},{b},{3 * a + b}" for a, b in rng.choice([1, 2, 4, 8], (60, 2))]
    (tmp_path / "t.csv").write_text("\n".join(["layer_1,layer_2,loss", *rows]))

    def fit(plot):
        arguments = ["fit", "t.csv", "--target", "loss", "--model", "linear"]
        return CliRunner().invoke(main, [*arguments, "--output", "p", "--plot", plot])

    run = fit("p.html")
    assert run.exit_code == 0, run.stderr
    text = (tmp_path / "p.html").read_text()
    assert "Predictor of loss" in text
    assert text.count('class="figure"') == 2
    for plot, message in (("p.png", "must end in .html"), ("no/p.html", "folder 'no' must exist")):
        run = fit(plot)
        assert run.exit_code == 2
        assert message in run.stderr
