import re
from pathlib import Path

import pytest

from nastool.study import Study


def refresh(file):
    return float(re.search(r'"refresh":([0-9.]+)', file.read_text(encoding="utf-8"))[1])


def test_a_study_that_ended_is_written_once(search, nastool):
    search("--study", "mine", "--storage", "sqlite:///here.db")
    found = nastool("watch", "mine", "--storage", "sqlite:///here.db")
    assert found.exit_code == 0
    page = Path("watch-mine.html")
    assert "Wrote watch-mine.html: 300 evaluations" in found.output
    assert "<b>state</b> the budget is spent" in page.read_text()
    assert refresh(page) == 0
    # A folder of the same name is no run, and a study comes first.
    Path("mine").mkdir()
    again = nastool("watch", "mine", "--storage", "sqlite:///here.db", "--to", "page.htm", "--once")
    assert again.exit_code == 0
    assert Path("page.htm").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "unknown study 'nothing'"),
        (("mine", "--to", "page.txt"), "--to: must end in .html, got 'page.txt'"),
        (("mine", "--to", "no/page.html"), "--to: folder 'no' must exist"),
        (("mine", "--to", "nastool.db"), "--to: must end in .html"),
        (("mine", "--every", "0s"), "--every: expected a time"),
        (("mine", "--every", "2h"), "--every: must be at most 1h, got 2h"),
        (("folder",), "folder: expected the name of a study, or a folder of one of"),
        (("./folder",), "folder: expected the name of a study, or a folder of one of"),
    ],
)
def test_what_cannot_be_watched_is_one_line(search, nastool, arguments, message):
    search("--study", "mine", budget="10")
    Path("folder").mkdir()
    found = nastool("watch", *arguments)
    assert found.exit_code == 2
    assert message in found.output
    assert "Traceback" not in found.output
    assert not list(Path().glob("*.html"))


def test_a_comparison_is_watched_by_its_runs(nastool):
    wanted = ("--space", "toy", "--objective", "loss", "--objective", "params")
    chosen = ("--strategy", "random", "--seeds", "2", "--budget", "5", "--name", "both")
    assert nastool("compare", *wanted, *chosen).exit_code == 0
    found = nastool("watch", "both")
    assert found.exit_code == 2
    assert "expected a study, got the comparison 'both'" in found.output
    run = found.output.split("studies: ")[1].split(",")[0].strip()
    assert nastool("watch", run).exit_code == 0


class KilledError(Exception):
    pass


def killed(*progress):
    raise KilledError


@pytest.fixture
def going_on(search):
    """A study whose process was killed: nothing says that it has ended."""
    search("--study", "mine", "--strategy", "random", budget="20")
    study = Study.open("mine")
    with pytest.raises(KilledError):
        study.run(900, progress=killed)
    return study


def test_a_run_is_followed_until_it_ends(going_on, nastool, monkeypatch):
    page, waits = Path("watch-mine.html"), []

    def wait(seconds):
        waits.append(seconds)
        assert refresh(page) == seconds == 90
        assert "<b>state</b> running" in page.read_text()
        if len(waits) == 2:
            Study.open("mine").run(900)

    monkeypatch.setattr("nastool.cli.watch.time.sleep", wait)
    found = nastool("watch", "mine", "--every", "1.5m")
    assert found.exit_code == 0
    assert len(waits) == 2
    assert "Wrote watch-mine.html: 900 evaluations" in found.output
    assert refresh(page) == 0


def test_ctrl_c_ends_watching_and_the_page_says_so(going_on, nastool, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("nastool.cli.watch.time.sleep", interrupt)
    found = nastool("watch", "mine")
    assert found.exit_code == 130
    assert "Interrupted: watch-mine.html stays as it is" in found.output
    assert refresh(Path("watch-mine.html")) == 0


def test_what_goes_on_is_written_once_where_that_is_wanted(going_on, nastool):
    found = nastool("watch", "mine", "--once")
    assert found.exit_code == 0
    assert "<b>state</b> running, or killed" in Path("watch-mine.html").read_text()
    assert refresh(Path("watch-mine.html")) == 0
