import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nastool.errors import InvalidInputError
from nastool.objective import Direction
from nastool.testing import Formula, Mixed, Widths
from nastool_objectives.latency.device_study import (
    HEURISTICS,
    LATENCIES,
    PARAMETERS,
    Sensitivity,
    noise_floor,
    study_device,
)
from nastool_objectives.latency.figures import draw_families, study_page
from nastool_objectives.latency.fitting import fit_device, keep
from nastool_objectives.latency.objective import create
from nastool_objectives.latency.registry import DeviceCard
from nastool_objectives.latency.sampling import spread
from nastool_objectives.latency.tables import LatencyTable

pytest.importorskip("scipy")
pytest.importorskip("xgboost")
pytest.importorskip("sklearn")


class Space(Widths):
    heuristics = {  # noqa: RUF012
        "cigar": np.repeat(np.arange(5), 6).reshape(5, 6),
        "templates": np.zeros((3, 6), dtype=np.int64),
    }


SPACE = Space(layers=6)
QUALITY = Formula("quality", lambda g: 60.0 - g @ np.array([1.0, 1, 1, 2, 2, 4]))


def drawn():
    return spread(SPACE, 250, np.random.default_rng(0), np.empty((0, 6), np.int64))


def device(folder, workload, seconds, noise=0.002, kind="linear"):
    """A device on which a shape takes seconds that are a function of it."""
    rng = np.random.default_rng(0)
    genotypes = drawn()
    values = seconds(genotypes)
    halves = values[:, None] * (1 + noise * rng.standard_normal((len(values), 2)))
    card = DeviceCard("toy", "imported", {}, {}, workload, "widths", SPACE.fingerprint)
    keep(folder, SPACE, card, LatencyTable(genotypes, halves.mean(axis=1), halves), force=True)
    fit_device(folder, SPACE, kind)
    return create(SPACE, str(folder), "latency[toy]")


def by_params(genotypes):
    return 1e-3 * (50 + SPACE.costs["params"].evaluate(genotypes))


def by_first(genotypes):
    """Only the first two layers cost anything."""
    return 1e-3 * (5.0 + SPACE.features(genotypes)[:, :2].sum(axis=1))


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    from nastool.devices import Workload

    root = tmp_path_factory.mktemp("devices")
    return {
        f.__name__: study_device(
            SPACE, QUALITY, device(root / f.__name__, Workload(), f), budget=1500
        )
        for f in (by_params, by_first)
    }


def test_a_device_that_counts_parameters_is_insensitive_to_shape(studies):
    found = studies["by_params"].sensitivity
    assert found.explained > 0.99
    assert found.apart < 0.05
    assert abs(found.gain or 0.0) < 0.1
    assert found.ratio < 1
    assert "insensitive to shape" in str(found)


def test_a_device_that_does_not_is_sensitive(studies):
    found = studies["by_first"].sensitivity
    assert found.explained < 0.8
    assert found.predicted > 0.98
    # What a cubic in the parameter count leaves of the true latencies.
    genotypes = drawn()
    params, seconds = SPACE.costs["params"].evaluate(genotypes), by_first(genotypes)
    rest = seconds - np.polyval(np.polyfit(params, seconds, 3), params)
    width = np.ptp(np.quantile(rest, [0.05, 0.95]))
    assert found.apart == pytest.approx(width / np.median(seconds), rel=0.02)
    assert found.gain > 0.2
    assert found.ratio > 10
    assert "times the noise floor of 0." in str(found)
    assert "the parameter count alone explains" in str(found)


def test_noise_that_a_predictor_learned_is_no_effect_of_the_shape(tmp_path, workload):
    latency = device(tmp_path, workload, by_params, noise=0.1, kind="xgboost")
    found = study_device(SPACE, QUALITY, latency, budget=300).sensitivity
    assert found.predicted < found.explained
    assert found.apart < 0.01
    assert found.gain is None
    assert "the shape predicts no better, so that latency limits have nothing" in str(found)


def test_families_are_what_they_say(studies):
    study = studies["by_first"]
    assert [family.name for family in study.families] == [PARAMETERS, LATENCIES, HEURISTICS]
    for family in study.families:
        assert np.all(np.diff(family.latency) >= 0)
        np.testing.assert_array_equal(family.quality, QUALITY.evaluate(family.genotypes))
    under_latency = study.families[1]
    assert np.all(np.diff(under_latency.quality) < 0)
    # Templates, and shapes that somebody's search found, are none.
    assert len(study.families[2].genotypes) == 5


def test_what_latency_limits_gain_is_said_with_its_seeds():
    found = Sensitivity(0.5, 0.9, 0.1, 0.01, -0.002, -0.004, 0.001, 0.9375, 5)
    assert "gains -0.20% (median of 5 seeds; -0.40% to +0.10% holds it with 94%: no gain)" in str(
        found
    )
    assert "(a single seed)" in str(replace(found, seeds=1))


def test_importances_find_the_layers_that_cost(studies):
    shares = studies["by_first"].importances
    kinds = ("gain", "permutation", "mean |SHAP|")
    assert set(shares) == {f"latency[toy], {kind}" for kind in kinds}
    for share in shares.values():
        assert list(share) == [*(f"layer_{i}" for i in range(6)), "params"]
        assert sum(share.values()) == pytest.approx(1.0)
        assert share["layer_0"] + share["layer_1"] > 0.9
    assert studies["by_params"].importances["latency[toy], gain"]["params"] > 0.9


def test_figures_draw_what_was_computed(studies):
    study = studies["by_params"]
    families = draw_families(study)
    assert [len(trace.x) for trace in families.data] == [len(f.latency) for f in study.families]


def test_the_noise_floor_is_that_of_the_mean_of_two_halves(tmp_path):
    rng = np.random.default_rng(0)
    genotypes = SPACE.sample(2000, rng)
    halves = 2.0 + 0.1 * rng.standard_normal((2000, 2))
    path = tmp_path / "table.csv"
    path.write_text(LatencyTable(genotypes, halves.mean(axis=1), halves).to_csv(SPACE))
    # From the 5th to the 95th percentile of a normal distribution: 3.29 standard deviations.
    assert noise_floor(path) == pytest.approx(3.29 * 0.1 / np.sqrt(2) / 2.0, rel=0.1)
    path.write_text(LatencyTable(genotypes, halves[:, 0]).to_csv(SPACE))
    assert noise_floor(path) is None


def test_the_page_holds_every_device_and_one_library(studies):
    page = study_page(list(studies.values()))
    assert page.count("<h2>latency[toy]</h2>") == 2
    assert page.count('class="figure"') == 6
    assert len(page) < 8e6


def test_what_cannot_be_studied_is_refused(studies, tmp_path, workload):
    latency = device(tmp_path / "toy", workload, by_params)
    with pytest.raises(InvalidInputError, match="must declare the cost 'params'"):
        study_device(Mixed(), QUALITY, latency)
    upward = Formula("quality", QUALITY.evaluate, Direction.MAXIMIZE)
    with pytest.raises(InvalidInputError, match="must be minimised"):
        study_device(SPACE, upward, latency)


def study_toy(nastool, *measuring):
    """What the command prints of a device that was just measured, and the page."""
    run = nastool(
        "latency", "measure", "--device", "simulated", "--space", "runnable", "--shapes", "60",
        "--rounds", "2", "--model", "linear", "--name", "toy", *measuring,
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    run = nastool(
        "latency", "study", "toy", "--space", "runnable", "--objective", "badness",
        "--budget", "100", "--output", "page.html",
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    return run.stdout, Path("page.html").read_text()


def test_the_command_prints_numbers_and_writes_a_page(nastool):
    printed, page = study_toy(nastool)
    assert "latency[toy]: the parameter count alone explains 100.0%" in printed
    for output in (printed, page):
        assert "latency[toy]: predicted (Linear model on" in output
        assert "badness: computed" in output


def test_the_device_studied_is_the_one_of_the_folder_given(nastool, tmp_path):
    """Not one of the same name in the default folder: that one is noisy, and was forced."""
    study_toy(nastool, "--option", "noise=0.5", "--force")
    study_toy(nastool, "--devices-dir", "here")
    shutil.copytree(tmp_path / "here" / "toy", tmp_path / "toy")
    words = ("--space", "runnable", "--objective", "badness", "--budget", "100")
    run = nastool("latency", "study", "toy", *words, "--devices-dir", ".")
    assert run.exit_code == 0, run.stderr
    assert "the parameter count alone explains 100.0%" in run.stdout
    assert "FORCED" not in run.stdout


def test_a_device_forced_past_the_gate_is_said_to_be(nastool):
    for output in study_toy(nastool, "--option", "noise=0.5", "--force"):
        assert "FORCED past the noise gate" in output
