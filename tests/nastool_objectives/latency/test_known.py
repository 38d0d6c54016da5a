"""What the ledger knows of a device is not measured again, where the device still says the same."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nastool_objectives.latency.campaign import Plan, read_visits, run
from nastool_objectives.latency.known import KNOWN, WITNESSES, Known, read_known
from nastool_objectives.latency.quantities import QUANTITIES
from nastool_objectives.latency.repeatability import NoiseGate

pytest.importorskip("scipy")

SHAPES, ANCHORS, ROUNDS = 60, 5, 2


@pytest.fixture
def campaign(nastool, begun):
    """Runs a campaign of 65 shapes and gives its folder and what it said."""

    def run(name, *arguments, device="metered"):
        # Most tests begin with the same one.
        command = begun if name == "first" else nastool
        result = command(
            "latency", "measure", "--device", device, "--space", "runnable", "--shapes",
            str(SHAPES), "--rounds", str(ROUNDS), "--model", "linear", "--name", name, *arguments,
        )  # fmt: skip
        assert result.exit_code == 0, result.stderr
        return Path("devices") / name, result

    return run


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table(folder):
    """Every shape's latency, energy and memory."""
    return {
        tuple(list(row.values())[:4]): tuple(
            row[name] for name in ("latency_s", "energy_J", "memory_B")
        )
        for row in rows(folder / "table.csv")
    }


def test_a_device_under_another_name_is_believed_what_repeats(campaign):
    first, _ = campaign("first")
    second, result = campaign("second")
    assert "60 of 65 shapes were measured before" in result.stderr
    assert (
        "40 shapes as measured before; 20 that were measured again: 20 shapes, Spearman 1.000"
        in (result.stdout)
    )
    assert table(second) == table(first)
    seen = rows(second / "visits.csv")
    assert len({row["row"] for row in seen}) == ANCHORS + WITNESSES
    # Each round has all of them, anchors in between.
    assert [row["round"] for row in seen] == sorted(row["round"] for row in seen)
    for number in range(ROUNDS):
        turn = [row["row"] for row in seen if row["round"] == str(number)]
        assert len(set(turn)) == ANCHORS + WITNESSES
    assert "noise gate: passed" in result.stdout
    # The noise gate judges what was visited.
    assert "repeats, shapes:  25 shapes" in result.stdout


def test_what_no_longer_repeats_is_visited_after_all(campaign):
    first, _ = campaign("first")
    Path("slower.txt").write_text("1.2")
    second, result = campaign("second")
    assert "what was known of 60 shapes does not repeat; 20 that were measured again" in (
        result.stdout
    )
    fresh, known = table(second), table(first)
    assert fresh.keys() == known.keys()
    for shape, values in fresh.items():
        assert float(values[0]) == pytest.approx(1.2 * float(known[shape][0]))
    seen = rows(second / "visits.csv")
    for number in range(ROUNDS):
        turn = [row["row"] for row in seen if row["round"] == str(number)]
        assert len(set(turn)) == ANCHORS + SHAPES
    # From the second round on in turns with the rest: the witnesses do not all come first.
    witnesses = set(map(str, read_known(second).rows[:WITNESSES]))
    last = [row["row"] in witnesses for row in seen if row["round"] == "1"]
    assert not all(last[: WITNESSES + ANCHORS])


@pytest.mark.parametrize("factor", [1.0, 1.2])
def test_a_stopped_campaign_goes_on_as_if_it_never_had(
    space, simulated, workload, tmp_path, factor
):
    plan = Plan(SHAPES, rounds=ROUNDS)
    genotypes, n_anchors = plan.architectures(space)
    seconds = factor * 2e-3 * space.costs["params"].evaluate(genotypes)
    known_rows = np.arange(n_anchors, n_anchors + 40)
    known = Known(known_rows, np.tile(seconds[known_rows, None], len(QUANTITIES)))
    first = SHAPES - (40 - WITNESSES) + ANCHORS  # visits of the first round

    def campaign(folder, kept):
        folder.mkdir()
        (folder / "visits.csv").write_text("".join(whole[:kept]))
        undecided = kept <= first + 1
        replace(known, agrees=None if undecided else factor == 1.0).write(folder)
        run(space, simulated(), workload, plan, folder / "visits.csv")
        assert read_known(folder).agrees is (factor == 1.0)
        return [v.row for v in read_visits(folder / "visits.csv")]

    whole = []
    order = campaign(tmp_path / "whole", 0)
    whole = (tmp_path / "whole" / "visits.csv").read_text().splitlines(keepends=True)
    assert (len(set(order)) == ANCHORS + SHAPES) is (factor != 1.0)
    for kept in (8, first, first + 1, first + 2, len(order) - 2):
        assert campaign(tmp_path / str(kept), kept) == order


def test_more_rounds_go_on_with_what_was_known(campaign):
    campaign("first")
    folder, _ = campaign("second")
    before = (folder / "visits.csv").read_text()
    _, result = campaign("second", "--rounds", "3")
    assert (folder / "visits.csv").read_text().startswith(before)
    assert len(rows(folder / "visits.csv")) == 3 * len(before.splitlines()[1:]) // 2
    assert "40 shapes as measured before" in result.stdout


def test_values_of_searches_count_as_well(campaign, nastool):
    # It says latency alone, as a search keeps it.
    campaign("first", device="simulated")
    shapes = ("--space", "runnable", "--strategy", "random", "--budget", "300")
    run = nastool(
        "search", *shapes, "--objective", "measured_latency[first]", "--objective", "params"
    )
    assert run.exit_code == 0, run.stderr
    folder, result = campaign("second", "--rounds", "3", "--seed", "1", device="simulated")
    n = len(read_known(folder).rows)
    assert 20 < n < 60  # of 625 shapes 300 and some are known
    assert f"{n} of 65 shapes were measured before" in result.stderr
    # A device that also says energy, which no search kept, measures them all.
    campaign("third", "--storage", "none")
    run = nastool(
        "search", *shapes, "--objective", "measured_latency[third]", "--objective", "params"
    )
    assert run.exit_code == 0, run.stderr
    folder, _ = campaign("fourth", "--rounds", "3")
    assert not (folder / KNOWN).exists()


def test_more_visits_than_are_known_and_no_storage_measure_all(campaign):
    campaign("first")
    for name, arguments in (("second", ("--rounds", "3")), ("third", ("--storage", "none"))):
        folder, result = campaign(name, *arguments)
        assert not (folder / KNOWN).exists()
        assert "measured before" not in result.stderr


def test_witnesses_that_never_ran_do_not_speak_for_the_others():
    known = Known(np.arange(30), np.tile(np.linspace(1, 2, 30)[:, None], len(QUANTITIES)))
    assert known.judged({}, NoiseGate()).agrees is False
    assert known.judged({25: [1.0]}, NoiseGate()).agrees is False
    repeated = {row: [1.0 + row / 29] for row in range(20)}
    assert known.judged(repeated, NoiseGate()).agrees is True
    shuffled = {row: [2.0 - row / 29] for row in range(20)}
    assert known.judged(shuffled, NoiseGate()).agrees is False


@pytest.mark.parametrize("text", ["{}", "[]", '{"rows": [0], "latency_s": ["x"]}', "{"])
def test_a_changed_file_is_named(tmp_path, text):
    (tmp_path / KNOWN).write_text(text)
    with pytest.raises(ValueError, match=KNOWN):
        read_known(tmp_path)
