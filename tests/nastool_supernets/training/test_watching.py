import json
import os

import pytest

from nastool.errors import InvalidInputError
from nastool_supernets.training.watching import watched


def line(step, **more):
    record = {"step": step, "tokens": 100 * step, "seconds": step / 2, "learning_rate": 1e-4}
    return json.dumps({**record, "tokens_per_second": 200.0, **more}) + "\n"


@pytest.fixture
def run(tmp_path):
    """A folder of a run that goes on, whose last line is being written."""
    folder = tmp_path / "net"
    folder.mkdir()
    lines = [
        line(10, loss={"largest": 5.0, "smallest": 6.0}),
        line(20, loss={"largest": 4.5, "smallest": 5.5}, perplexity={"largest": 90.0}),
    ]
    (folder / "log.jsonl").write_text("".join(lines) + lines[0][:20])
    (folder / "run.json").write_text(json.dumps({"config": {"steps": 50}}))
    return folder


def test_a_run_that_goes_on_says_how_far_it_is(run):
    seen = watched(run)
    assert not seen.ended
    assert seen.said == "step 20 of 50, loss largest 4.500, smallest 5.500"
    text = seen.page(5)
    assert "<h1>net</h1>" in text
    assert "<b>steps</b> 20 of 50" in text
    assert "<b>tokens</b> 2,000" in text
    assert 'id="losses"' in text
    assert 'id="perplexities"' in text
    assert '<td data-value="90.0">90</td>' in text


def test_a_run_has_ended_when_its_weights_are_newer_than_its_log(run):
    model, log = run / "model.safetensors", run / "log.jsonl"
    model.write_bytes(b"")
    os.utime(log, (100, 100))
    os.utime(model, (50, 50))
    assert not watched(run).ended
    os.utime(model, (150, 150))
    assert watched(run).ended
    assert "of 50" not in watched(run).said


def test_other_folders_are_not_ours_and_an_empty_log_is_said(run):
    (run / "log.jsonl").write_text("")
    with pytest.raises(InvalidInputError, match="has logged a step"):
        watched(run)
    (run / "log.jsonl").unlink()
    with pytest.raises(InvalidInputError, match="has logged a step"):
        watched(run)
    (run / "run.json").unlink()
    assert watched(run) is None
