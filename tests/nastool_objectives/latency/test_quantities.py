"""Energy and memory are metrics as latency is, and nothing that was measured is measured again."""

import json
from pathlib import Path

import numpy as np
import pytest

from nastool.plugins import load_objective, load_space
from nastool_objectives.latency.registry import read_card


def campaign(run, *arguments, device="metered", rounds="3", space="runnable:3"):
    """A campaign that visits every shape of the space, 125."""
    result = run(
        "latency", "measure", "--device", device, "--space", space, "--shapes", "120",
        "--rounds", rounds, "--model", "linear", "--name", "toy", *arguments,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return result


def visits():
    return Path("visits.txt").read_text().count("\n")


def searched(nastool, *objectives):
    wanted = [part for name in objectives for part in ("--objective", name)]
    result = nastool(
        "search", "--space", "runnable:3", *wanted, "--strategy", "random", "--budget", "100",
        "--study", "mine", "--format", "json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_energy_and_memory_are_objectives_of_a_device(begun, nastool):
    said = campaign(begun).stdout
    assert "use it as --objective 'latency[toy]' or 'energy[toy]' or 'memory[toy]'" in said
    found = searched(nastool, "badness", "energy[toy]", "memory[toy]")
    units = {metric["name"]: metric["unit"] for metric in found["metrics"]}
    assert (units["energy[toy]"], units["memory[toy]"]) == ("J", "B")
    space = load_space("runnable:3")
    rows = space.sample(20, np.random.default_rng(0))
    seconds = 1e-3 * space.costs["params"].evaluate(rows)
    for name, truth in (("energy", 7 * seconds), ("memory", 1e6 + 1e8 * seconds)):
        predicted = load_objective(f"{name}[toy]", space).evaluate(rows)
        np.testing.assert_allclose(predicted, truth, rtol=0.02)
    bounded = nastool(
        "search", "--space", "runnable:3", "--objective", "badness", "--max", "energy[toy]=2J",
        "--max", "memory[toy]=30MB", "--budget", "50", "--format", "json",
    )  # fmt: skip
    assert bounded.exit_code == 0, bounded.stderr
    best = json.loads(bounded.stdout)["architectures"][0]
    assert best["energy[toy]"] <= 2
    assert best["memory[toy]"] <= 30e6


def test_reading_a_text_and_the_next_token_are_latencies_of_their_own(begun, nastool):
    said = campaign(begun, space="served:3").stdout
    assert "or 'latency[toy].decode'" in said
    space = load_space("served:3")
    rows = space.sample(20, np.random.default_rng(0))
    decode = 1e-4 * (1 + rows[:, -1])
    whole = load_objective("latency[toy]", space).evaluate(rows)
    for text, truth in (("latency[toy].decode", decode), ("latency[toy].prefill", whole)):
        made = load_objective(text, space)
        assert made.name == text
        np.testing.assert_allclose(made.evaluate(rows), truth, rtol=0.02)
        measured = load_objective(f"measured_{text}", space)
        assert measured.name == f"measured_{text}"
        np.testing.assert_allclose(measured.evaluate(rows[:2]), truth[:2], rtol=0.02)
    before = visits()
    found = nastool(
        "search", "--space", "served:3", "--objective", "badness", "--objective",
        "measured_latency[toy].decode", "--max", "latency.decode:toy=0.35ms", "--budget", "50",
        "--max", "latency[toy].prefill=1s", "--format", "json",
    )  # fmt: skip
    assert found.exit_code == 0, found.stderr
    best = json.loads(found.stdout)["architectures"][0]
    assert best["measured_latency[toy].decode"] == pytest.approx(3e-4, rel=0.01)
    assert best["latency[toy].decode"] <= 3.5e-4
    # All of it was measured by the campaign.
    assert visits() == before
    assert "predictor of latency.decode  Linear model" in nastool("latency", "show", "toy").stdout
    known = json.loads(nastool("latency", "show", "toy", "--format", "json").stdout)["predictors"]
    units = {name: predictor["unit"] for name, predictor in known.items()}
    assert units == {"latency": "s", "energy": "J", "memory": "B", "latency.decode": "s"}


def test_a_device_that_never_served_has_no_latency_of_the_next_token(begun, nastool):
    campaign(begun)
    for name in ("latency[toy].prefill", "latency[toy].decode", "measured_latency[toy].decode"):
        refused = nastool("search", "--space", "runnable:3", "--objective", name)
        assert refused.exit_code == 2
        assert f"{name}: device 'toy' must have run a decoder with its cache" in refused.stderr
    refused = nastool("search", "--space", "runnable:3", "--objective", "latency.decode")
    assert "latency.decode needs a device: latency[DEVICE].decode" in refused.stderr


def test_what_a_campaign_measured_is_measured_by_nothing_else(begun, nastool):
    campaign(begun)
    before = visits()
    searched(nastool, "badness", "latency[toy]")
    verified = nastool("verify", "mine")
    assert verified.exit_code == 0, verified.stderr
    for quantity in ("latency", "energy", "memory"):
        result = nastool(
            "search", "--space", "runnable:3", "--objective", "badness", "--objective",
            f"measured_{quantity}[toy]", "--budget", "50",
        )  # fmt: skip
        assert result.exit_code == 0, result.stderr
    assert visits() == before


def test_fewer_visits_than_asked_for_do_not_do(begun, nastool):
    campaign(begun, rounds="2")
    before = visits()
    result = nastool(
        "search", "--space", "runnable:3", "--objective", "measured_latency[toy]", "--budget", "10",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    # Anchors were visited more often.
    assert before < visits() <= before + 30


def test_a_campaign_without_a_storage_keeps_nothing(begun):
    campaign(begun, "--storage", "none")
    assert not Path("nastool.db").exists()


def test_what_a_device_does_not_tell_apart_is_no_objective(begun, nastool):
    said = campaign(begun, device="metered:flat").stdout
    assert "memory is not predicted: a table must hold at least 3 shapes of different" in said
    refused = nastool("search", "--space", "runnable:3", "--objective", "memory[toy]")
    assert refused.exit_code == 2
    assert "device 'toy' has no predictor of memory" in refused.stderr


def test_a_counter_that_does_not_move_is_no_energy_of_nothing(begun, nastool):
    said = campaign(begun, device="metered:coarse").stdout
    assert "energy" not in said
    table = next(Path().rglob("table.csv")).read_text()
    assert "energy_J" not in table.partition("\n")[0]
    result = nastool(
        "search", "--space", "runnable:3", "--objective", "measured_energy[toy]", "--budget", "5"
    )
    assert result.exit_code == 2
    assert "does not say the energy of a pass" in result.stderr


def test_a_table_of_another_campaign_leaves_no_predictor_of_this_one(begun, nastool):
    campaign(begun, "--storage", "none")
    folder = next(Path().rglob("device.json")).parent
    assert read_card(folder).verdict == "passed"
    assert (folder / "energy").is_dir()
    campaign(nastool, "--storage", "none", rounds="4")
    assert (folder / "energy").is_dir()
