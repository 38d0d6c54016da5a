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


def test_an_output_takes_the_place_of_no_database(search, tmp_path):
    assert search("--study", "mine", budget="20").exit_code == 0
    before = (tmp_path / "nastool.db").read_bytes()
    for option in ("--output", "--plot"):
        name = "nastool.db" if option == "--output" else "link.html"
        if option == "--plot":
            (tmp_path / name).symlink_to(tmp_path / "nastool.db")
        result = search("--study", "mine", option, name, budget="20")
        assert result.exit_code == 2
        assert f"{option}: expected a file that may be replaced, got the database" in result.stderr
    assert (tmp_path / "nastool.db").read_bytes() == before


def test_an_output_takes_the_place_of_nothing_that_is_read(search, tmp_path):
    table = tmp_path / "cloud.csv"
    table.write_text("what was measured")
    result = search("--cloud", str(table), "--plot", "a.html", "--output", "cloud.csv")
    assert result.exit_code == 2
    assert "got 'cloud.csv', which --cloud names, too" in result.stderr
    assert table.read_text() == "what was measured"
