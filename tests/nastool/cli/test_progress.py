from rich.console import Console

from nastool.cli.progress import _start


def test_labels_with_brackets_are_shown_as_they_are(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    bar = _start("timing runs/net[b]")
    bar.stop()
    console = Console()
    with console.capture() as capture:
        console.print(bar.get_renderable())
    assert "timing runs/net[b] " in capture.get()
