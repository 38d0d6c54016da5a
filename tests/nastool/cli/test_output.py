from pathlib import Path

PLUGIN = str(Path(__file__).with_name("toy_plugin.py"))


def test_a_terminal_without_the_characters_of_bars_gets_the_table(search, process, monkeypatch):
    search("--study", "mine")
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    done = process("show", "mine", "--plugin", PLUGIN)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line[:1].isdigit()]
    assert len(rows) > 5
    assert {len(row) for row in rows} == {3}  # shape, loss, params
