import codecs
import contextlib
import gzip
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nastool.errors import InvalidInputError, WriteError
from nastool.files import reading, writing
from nastool.files.reading import (
    is_file,
    json_lines,
    json_records,
    parse_json,
    read_json,
    read_table,
    read_text,
)
from nastool.files.writing import (
    check_free,
    file_part,
    owned,
    whole_file,
    whole_folder,
    write_whole,
)


def test_names_of_rows_and_empty_columns_are_left_out(tmp_path):
    (tmp_path / "a.csv").write_text(',"a","b",\n0,1, "x, y",\n1,2,z,\n')
    rows = [row.cells for row in read_table(tmp_path / "a.csv")]
    assert rows == [{"a": "1", "b": "x, y"}, {"a": "2", "b": "z"}]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_what_a_byte_order_mark_says_is_read(tmp_path, encoding):
    (tmp_path / "a.csv").write_text("a,b\n1,grün\n", encoding=encoding)
    assert [row.cells for row in read_table(tmp_path / "a.csv")] == [{"a": "1", "b": "grün"}]


def test_what_is_no_utf_8_is_named_by_its_line(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\n" * 9_000 + "grün\n".encode("latin-1"))
    with pytest.raises(InvalidInputError, match=r"a\.txt, line 9001: must be UTF-8.*0xfc"):
        read_text(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_bytes(codecs.BOM_UTF16_LE + b"a\0b")
    with pytest.raises(InvalidInputError, match=r"b\.txt: must be UTF-16"):
        read_text(tmp_path / "b.txt")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[1, 2]", [("record 1", 1), ("record 2", 2)]),
        ('{"a":\n 1}', [("record 1", {"a": 1})]),
        ('\n{"a": 1}\n\n', [("record 1", {"a": 1})]),
        ('\n"a\u2028\u0085b"\r\n\r\n2', [("line 2", "a\u2028\u0085b"), ("line 4", 2)]),
        ("1\r2\r", [("line 1", 1), ("line 2", 2)]),
        ("", None),
    ],
)
def test_json_files_are_a_list_an_object_or_a_record_a_line(tmp_path, content, expected):
    (tmp_path / "a.json").write_bytes(content.encode())
    if expected is None:
        with pytest.raises(InvalidInputError, match="no JSON"):
            list(json_records(tmp_path / "a.json"))
    else:
        assert list(json_records(tmp_path / "a.json")) == expected


def test_a_record_that_is_no_json_is_named_by_its_line(tmp_path):
    (tmp_path / "a.json").write_text("1\n2\n{bad\n")
    for read in (json_records, json_lines):
        with pytest.raises(InvalidInputError, match=r"a\.json, line 3: .*got '\{bad"):
            list(read(tmp_path / "a.json"))


def test_lines_and_json_beyond_all_measure_are_refused_while_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LONGEST_LINE", 99)
    monkeypatch.setattr(reading, "LONGEST_JSON", 99)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'1\n"' + b"0" * 100_000))
    with pytest.raises(InvalidInputError, match="line 2: must have at most 99 characters"):
        list(json_lines(tmp_path / "a.jsonl.gz"))
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b"[\n" + b"1,\n" * 100_000))
    with pytest.raises(InvalidInputError, match="at most 99 characters"):
        list(json_records(tmp_path / "a.json.gz"))


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.TXT.GZ"])
def test_a_text_is_read_with_and_without_a_mark_packed_or_not(tmp_path, name):
    content = "\ufeffgrün\u2028 end\r\n".encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.lower().endswith("gz") else content)
    assert read_text(path) == "grün\u2028 end\r\n"


def test_damaged_files_are_one_line_that_names_them(tmp_path):
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"x" * 1000)[:-9])
    (tmp_path / "latin.txt").write_bytes("grün".encode("latin-1"))
    for path in [
        tmp_path / "cut.gz",
        tmp_path / "latin.txt",
        tmp_path,
        tmp_path / "none",
        tmp_path / ("n" * 300),
        tmp_path / "nu\0ll",
    ]:
        with pytest.raises(InvalidInputError) as caught:
            read_text(path)
        assert path.name[:20] in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_unpacks_to_more_than_allowed_is_refused(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"0" * 10_000))
    with pytest.raises(InvalidInputError, match="at most 9,999 characters"):
        read_text(path, most=9_999)
    assert len(read_text(path, most=10_000)) == 10_000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "line 1, column 2"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5_000, "no JSON"),
        (b"\xff", "must be UTF-8"),
    ],
)
def test_what_is_no_json_says_where(text, says):
    with pytest.raises(InvalidInputError, match=rf"^card\.json: .*{says}"):
        parse_json(text, "card.json")


def test_json_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_a_table_as_spreadsheets_write_it(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(
        '\ufeff a , b\r\n1, "x"\r\n\r\n2,"long\r\n'.encode() + b"y" * 200_000 + b'"\r\n3,z\r\n'
    )
    rows = list(read_table(path))
    assert [row.line for row in rows] == [2, 4, 6]
    assert [row.cells["a"] for row in rows] == ["1", "2", "3"]
    assert len(rows[1].cells["b"]) == 200_006


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("a,a\n1,2\n", "'a' stands twice"),
        ("a,\n1,2\n", "column 2 of the header has no name"),
        ("a,b\n1,2\n1,2,3\n", "line 3: expected 2 cells, got 3"),
        ('a,b\n1,"2\n3,4\n5,6\n', "line 2: "),
    ],
)
def test_a_table_with_a_fault_names_the_place(tmp_path, text, says):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InvalidInputError, match=says):
        list(read_table(tmp_path / "a.csv"))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    path.chmod(0o640)
    with contextlib.suppress(RuntimeError), whole_file(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "before"
    write_whole(path, "after")
    assert path.read_text() == "after"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_new_file_has_the_modes_of_the_umask_and_a_link_stays_one(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a", b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    (tmp_path / "link").symlink_to(tmp_path / "a")
    write_whole(tmp_path / "link", b"2")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a").read_bytes() == b"2"


def test_devices_are_written_to_and_never_replaced():
    write_whole(Path(os.devnull), "x")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_what_cannot_be_written_is_one_line(tmp_path):
    for path in [tmp_path / "none" / "a", tmp_path / ("n" * 300)]:
        with pytest.raises(WriteError, match=r"^cannot write"):
            write_whole(path, "x")
    assert not is_file(tmp_path / ("n" * 300))


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with contextlib.suppress(RuntimeError), whole_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("x")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with whole_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("x")
    assert os.listdir(tmp_path) == ["out"]
    with (
        pytest.raises(InvalidInputError, match="holds files"),
        whole_folder(tmp_path / "out"),
    ):
        pass


def test_the_current_folder_is_filled_in_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inode = tmp_path.stat().st_ino
    with whole_folder(tmp_path) as folder:
        (folder / "a").write_text("x")
    assert os.listdir(tmp_path) == ["a"]
    assert tmp_path.stat().st_ino == inode


def test_a_folder_keeps_its_mode_and_an_empty_volume_counts_as_empty(tmp_path):
    target = tmp_path / "out"
    target.mkdir(mode=0o700)
    with whole_folder(target) as folder:
        (folder / "a").write_text("x")
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
    volume = tmp_path / "volume"
    (volume / "lost+found").mkdir(parents=True)
    check_free(volume)
    (volume / "mine").touch()
    with pytest.raises(InvalidInputError, match="holds files"):
        check_free(volume)


def test_a_folder_is_written_by_one_process_at_a_time(tmp_path):
    target = tmp_path / ("n" * 255)
    with whole_folder(target) as folder:
        (folder / "a").write_text("first")
        with (
            pytest.raises(InvalidInputError, match=rf"in use by process {os.getpid()} on "),
            whole_folder(target),
        ):
            pass
    assert (target / "a").read_text() == "first"
    assert os.listdir(tmp_path) == [target.name]


def test_what_a_killed_process_left_beside_a_folder_is_removed(tmp_path):
    (tmp_path / ".out.partial-1-00").mkdir()
    (tmp_path / ".outer.partial-1-00").mkdir()
    with whole_folder(tmp_path / "out"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".outer.partial-1-00", "out"]


_WRITER = """
import os, signal, sys
from pathlib import Path
from nastool.files.writing import whole_file
with whole_file(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    {end}
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_the_next_writer_removes_what_a_killed_one_left_and_nothing_else(tmp_path):
    target = tmp_path / "a.json"
    target.write_text("before")
    end = "os.kill(os.getpid(), signal.SIGKILL)"
    killed = [sys.executable, "-c", _WRITER.format(end=end), str(target)]
    assert subprocess.run(killed).returncode == -signal.SIGKILL
    assert target.read_text() == "before"
    (left,) = (path for path in tmp_path.iterdir() if path != target)
    # Of a process that runs, of one that this machine cannot know, and a folder: not ours to take.
    others = [
        f".a.json{writing._own_mark()}{os.getpid()}-00",
        ".a.json.partial-99999-00",
        ".a.json.partial-00000000-99999-00",
    ]
    for name in others:
        (tmp_path / name).write_text("in use")
    (tmp_path / f"{left.name}-folder").mkdir()
    write_whole(tmp_path / "b.json", "after")
    expected = ["a.json", "b.json", *others, f"{left.name}-folder"]
    assert sorted(os.listdir(tmp_path)) == sorted(expected)


_OWNER = """
import pathlib, sys, time
from nastool.files.writing import owned
with owned(pathlib.Path(sys.argv[1]), "run"):
    print("owns", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_owns_a_folder_and_a_dead_one_none(tmp_path):
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "owns\n"
        said: list[str] = []
        with (
            pytest.raises(InvalidInputError, match=f"process {owner.pid} on "),
            owned(tmp_path, "run", wait=0.1, say=said.append),
        ):
            pass
        assert [line.split()[0] for line in said] == ["Waiting"]
    finally:
        owner.kill()
        owner.communicate()
    said = []
    with owned(tmp_path, "run", say=said.append):
        pass
    assert said == [said[0]]
    assert "Taking over run" in said[0]
    with owned(tmp_path, "run", say=said.append):
        pass
    assert len(said) == 1


def test_every_name_has_a_file_of_its_own(tmp_path):
    for plain in ("mine", "under-66M", "größer", "a b", "lr=1e-3", "v1.2"):
        assert file_part(plain) == plain
    names = ["a/b", "a-b", "c/b", "..", ".", "...", "*", "~", "é" * 255, "é" * 254, "a\\b", "<b>"]
    parts = [file_part(name) for name in names]
    for part in parts:
        (tmp_path / f"watch-{part}.html").write_text("")
        (tmp_path / part).mkdir()
    assert len(list(tmp_path.iterdir())) == 2 * len(names)


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="it has no names of open files")
def test_a_pipe_is_written_to_by_its_name(tmp_path):
    # What a shell writes for >(gzip > table.csv.gz), or /dev/stdout before | less.
    ends = os.pipe()
    try:
        write_whole(Path(f"/dev/fd/{ends[1]}"), "a,b\n")
        assert os.read(ends[0], 100) == b"a,b\n"
    finally:
        for end in ends:
            os.close(end)
