from rich.console import Console

from nastool.cli import progress
from nastool.cli.progress import ProgressBar, _start


def test_labels_with_brackets_are_shown_as_they_are(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    bar = _start("timing runs/net[b]")
    bar.stop()
    console = Console()
    with console.capture() as capture:
        console.print(bar.get_renderable())
    assert "timing runs/net[b] " in capture.get()


def test_a_pipe_gets_a_line_now_and_then(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now)
    with ProgressBar("exporting") as bar:
        for second in range(100):
            now = float(second)
            bar(second * 1000, 100_000)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "exporting: 5,000 of 100,000"
    assert len(lines) == 5


def test_quick_work_says_nothing(capsys):
    with ProgressBar("exporting") as bar:
        bar(1, 1)
    assert capsys.readouterr().err == ""
