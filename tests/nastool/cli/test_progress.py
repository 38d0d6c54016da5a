import sys
import threading

from rich.console import Console

from nastool.cli import progress
from nastool.cli.progress import _start


def test_labels_with_brackets_are_shown_as_they_are(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    bar = _start("timing runs/net[b]")
    bar.stop()
    console = Console()
    with console.capture() as capture:
        console.print(bar.get_renderable())
    assert "timing runs/net[b] " in capture.get()


def test_without_a_terminal_lines_say_how_far_it_is(monkeypatch, capsys):
    """Ever less often; also while nothing else is said."""
    monkeypatch.setattr(progress, "_FIRST", 0.01)
    bar = progress.ProgressBar("searching")
    said = threading.Event()
    write = sys.stderr.write
    monkeypatch.setattr(sys.stderr, "write", lambda text: (write(text), said.set()))
    with bar:
        assert said.wait(30)
        bar(1200, 4800)
        said.clear()
        assert said.wait(30)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("searching, ")
    assert any(line.startswith("searching: 1,200 of 4,800 (25%), ") for line in lines)


def test_quick_work_shows_nothing(capsys):
    with progress.ProgressBar("searching") as bar:
        bar(1, 2)
    assert capsys.readouterr().err == ""
