from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from nastool.devices import Device, Timing
from nastool.errors import InvalidInputError, NastoolError
from nastool.testing import Mixed
from nastool_objectives.latency.campaign import Plan, read_visits, run
from nastool_objectives.latency.tables import tabulate

pytest.importorskip("scipy")

PLAN = Plan(shapes=20, anchors=4, rounds=4, warmup=0, repeats=3, anchor_every=5, seed=3)


def measured(space, device, workload, path, plan=PLAN):
    visits = run(space, device, workload, plan, path)
    genotypes, n_anchors = plan.architectures(space)
    return tabulate(visits, genotypes, n_anchors, plan.rounds)


def test_architectures_are_distinct_and_begin_with_the_extremes(space):
    genotypes, n_anchors = PLAN.architectures(space)
    assert (len(genotypes), n_anchors) == (24, 4)
    assert len(np.unique(genotypes, axis=0)) == 24
    assert np.array_equal(genotypes[0], np.zeros(4))
    assert np.array_equal(genotypes[3], space.cardinalities - 1)
    assert np.array_equal(PLAN.architectures(space)[0], genotypes)


def test_draws_reach_further_than_uniform_ones(space):
    wide = type(space)(layers=12)
    genotypes, n_anchors = replace(PLAN, shapes=200).architectures(wide)
    drawn = wide.costs["params"].evaluate(genotypes[n_anchors:])
    uniform = wide.costs["params"].evaluate(wide.sample(200, np.random.default_rng(0)))
    assert np.ptp(drawn) > 1.5 * np.ptp(uniform)


def test_more_architectures_than_the_space_has_are_refused(space):
    with pytest.raises(InvalidInputError, match="700 architectures to measure were wanted"):
        replace(PLAN, shapes=700).architectures(space)


@pytest.mark.parametrize("shapes", [40, 621])
def test_a_small_space_is_the_whole_pool_of_informative_ones(space, shapes):
    plan = replace(PLAN, shapes=shapes, choose="informative")
    genotypes, n_anchors = plan.architectures(space)
    assert n_anchors == 4
    assert len(np.unique(genotypes, axis=0)) == len(genotypes) == shapes + 4
    with pytest.raises(InvalidInputError, match=r"^622 .* widths has 621 beside the anchors$"):
        replace(plan, shapes=622).architectures(space)


def test_genotypes_that_are_one_architecture_are_one_of_the_pool():
    """36 of the 144 differ from others only where it does not matter: 108 are distinct."""
    plan = replace(PLAN, anchors=2, choose="informative")
    genotypes, n_anchors = replace(plan, shapes=106).architectures(Mixed())
    assert len(np.unique(genotypes, axis=0)) == len(genotypes) == 106 + n_anchors
    with pytest.raises(InvalidInputError, match=r"^107 .* mixed has 106 beside the anchors$"):
        replace(plan, shapes=107).architectures(Mixed())


def test_every_round_visits_everything_once_and_anchors_throughout():
    order = PLAN.order(n=24, n_anchors=4)
    for number in range(PLAN.rounds):
        rows = order[order[:, 0] == number, 1]
        assert sorted(rows[rows >= 4]) == list(range(4, 24))
        assert set(rows[rows < 4]) == set(range(4))
        places = np.flatnonzero(rows < 4)
        assert max(b - a for a, b in pairwise(places)) <= PLAN.anchor_every + 1
    first, second = (order[order[:, 0] == k, 1] for k in (0, 1))
    assert not np.array_equal(first, second)


def test_more_rounds_begin_with_the_same_visits():
    shorter, longer = (replace(PLAN, rounds=k).order(24, 4) for k in (2, 5))
    assert np.array_equal(longer[: len(shorter)], shorter)


@pytest.mark.parametrize(
    "broken", [{"rounds": 1}, {"anchors": 1}, {"repeats": 0}, {"warmup": -1}, {"choose": "all"}]
)
def test_plans_that_cannot_tell_anything_are_rejected(broken):
    with pytest.raises(InvalidInputError, match="must be"):
        replace(PLAN, **broken)


def test_a_quiet_device_is_measured_exactly(space, simulated, workload, tmp_path):
    table = measured(space, simulated(), workload, tmp_path / "visits.csv")
    expected = 2e-3 * space.costs["params"].evaluate(table.genotypes)
    np.testing.assert_allclose(table.latency, expected, rtol=1e-8)
    np.testing.assert_allclose(table.spread, 0, atol=1e-8)
    assert table.repeats().spearman == 1.0
    assert table.repeats(anchors=True).error < 1e-8
    assert np.all(table.memory == 1000.0)
    assert np.isnan(table.energy).all()


def test_a_drifting_device_shows_in_its_halves(space, simulated, workload, tmp_path):
    table = measured(space, simulated(drift=1e-2), workload, tmp_path / "visits.csv")
    assert table.repeats(anchors=True).shift > 0.2


def test_one_disturbed_visit_hardly_moves_a_latency(space, simulated, workload, tmp_path):
    path = tmp_path / "visits.csv"
    quiet = measured(space, simulated(), workload, path)
    lines = path.read_text().splitlines()
    cells = lines[1].split(",")
    cells[3] = "99.0 99.0 99.0"
    path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    disturbed = measured(space, simulated(), workload, path)
    np.testing.assert_allclose(disturbed.latency, quiet.latency)
    assert disturbed.p90.max() > 90


def test_going_on_equals_never_having_stopped(space, simulated, workload, tmp_path):
    whole, parts = tmp_path / "whole.csv", tmp_path / "parts.csv"
    expected = measured(space, simulated(noise=0.1), workload, whole)
    device = simulated(noise=0.1)

    class StopError(Exception):
        pass

    def stop(done, total):
        if done % 30 == 0 and done < total:
            raise StopError

    for _ in range(3):
        with pytest.raises(StopError):
            run(space, device, workload, PLAN, parts, stop)
    # A kill may leave half a line behind.
    parts.write_text(parts.read_text() + "90,3,1")
    assert device.calls == 90
    found = measured(space, device, workload, parts)

    def steady(path):
        return [line.split(",")[:5] for line in path.read_text().splitlines()]

    assert steady(parts) == steady(whole)
    assert np.array_equal(found.latency, expected.latency)


def test_another_campaign_is_not_continued(space, simulated, workload, tmp_path):
    path = tmp_path / "visits.csv"
    run(space, simulated(), workload, PLAN, path)
    with pytest.raises(InvalidInputError, match="holds another campaign"):
        run(space, simulated(), workload, replace(PLAN, seed=4), path)


def test_what_cannot_run_is_left_out_and_counted(space, simulated, workload, tmp_path):
    path = tmp_path / "visits.csv"
    slowest = 2e-3 * space.costs["params"].evaluate(space.cardinalities[None] - 1)[0]
    table = measured(space, simulated(fails=slowest - 1e-9), workload, path)
    assert table.failed == 1
    assert len(table) == 23
    assert table.n_anchors == 3
    assert "too slow by" in next(v.error for v in read_visits(path) if v.timing is None)


def test_a_device_that_runs_nothing_ends_the_campaign(space, simulated, workload, tmp_path):
    with pytest.raises(NastoolError, match="all of the first 3 visits failed, the last one with"):
        run(space, simulated(fails=0.0), workload, PLAN, tmp_path / "visits.csv")


def test_few_shapes_can_be_chosen_by_what_they_tell(space):
    genotypes, n_anchors = replace(PLAN, shapes=8, choose="informative").architectures(space)
    assert len(np.unique(genotypes, axis=0)) == 8 + n_anchors


class Throttled(Device):
    """Says what held its clock back, and what it padded layers to."""

    facts = {"clock": "imaginary"}  # noqa: RUF012 - as plugins have it

    def measure(self, deployment, warmup, repeats):
        held_back = "power cap" if deployment.module < 0.31 else ""
        seconds = np.full(repeats, deployment.module)
        return Timing(seconds, clock=1.5e9, throttled=held_back, padding="8")


def test_clock_throttling_and_padding_are_kept_and_told(space, workload, tmp_path):
    table = measured(space, Throttled(), workload, tmp_path / "visits.csv")
    visits = read_visits(tmp_path / "visits.csv")
    assert {visit.clock for visit in visits} == {1.5e9}
    assert {visit.timing.padding for visit in visits} == {"8"}
    held = sum(visit.timing.seconds[0] < 0.31 for visit in visits)
    assert 0 < held < len(visits)
    assert [v.timing.throttled for v in visits].count("power cap") == held
    assert table.note == f"clock held back in {held} of {len(visits)} visits: power cap"


def test_a_campaign_that_an_older_release_began_goes_on(space, workload, simulated, tmp_path):
    whole, cut = tmp_path / "whole" / "visits.csv", tmp_path / "cut" / "visits.csv"
    for path in (whole, cut):
        path.parent.mkdir()
        run(space, simulated(), workload, PLAN, path)
    # Two columns fewer, and a few visits.
    older = [line.rsplit(",", 2)[0] for line in whole.read_text().splitlines()[:6]]
    cut.write_text("\n".join(older) + "\n")
    assert len(read_visits(cut)) == 5
    visits = run(space, simulated(), workload, PLAN, cut)
    assert len(visits) == len(PLAN.order(24, 4))
    assert cut.read_text().splitlines()[:6] == whole.read_text().splitlines()[:6]
