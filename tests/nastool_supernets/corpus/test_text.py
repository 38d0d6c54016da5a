"""Text as people's tools leave it: every text once, and nothing left out without a word."""

import gzip
import json
import os

import pytest
import tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from nastool.errors import InvalidInputError
from nastool_supernets.corpus import text, tokenising
from nastool_supernets.corpus.corpus import fixed_masks, prepare_corpus
from nastool_supernets.corpus.text import TextFile, pieces, text_files
from nastool_supernets.corpus.tokenizer import (
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
    vocabulary_size,
)
from tests.sliced import byte_pairs

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fox", "dog", "jumps", "lazy", "##y"]


def make_tokenizer(gap=0, **marks):
    """A word-level BERT tokenizer; the ids of its ordinary words begin after a gap."""
    ids = {word: i if i < 5 else i + gap for i, word in enumerate(WORDS)}
    fast = tokenizers.Tokenizer(tokenizers.models.WordPiece(ids, unk_token="[UNK]"))
    fast.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    named = {f"{name.lower()}_token": f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK")}
    given = {name: mark for name, mark in (named | marks).items() if mark}
    return PreTrainedTokenizerFast(tokenizer_object=fast, **given)


def documents(path, content, **options):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(TextFile(path, **options).documents())


class TestReading:
    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.txt", "grün\n\nblau"),
            ("a.jsonl", '{"text": "grün"}\n{"text": "blau"}\n'),
            ("a.json", '{"text": "grün"}\n{"text": "blau"}\n'),
            ("A.JSON", '[{"text": "grün"},\n {"text": "blau"}]'),
            ("a.json", '{"data": ["grün", "blau"]}'),
        ],
    )
    def test_byte_order_marks(self, tmp_path, name, content, encoding):
        found = documents(tmp_path / name, content.encode(encoding))
        assert [text.strip() for text in found] == ["grün", "blau"]
        packed = documents(tmp_path / f"{name}.GZ", gzip.compress(content.encode(encoding)))
        assert packed == found

    @pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
    @pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c"])
    def test_what_only_python_takes_for_the_end_of_a_line(self, tmp_path, name, mark):
        texts = [f"one{mark}two {i}" for i in range(2)]
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
        assert documents(tmp_path / name, "\n".join(lines)) == texts

    @pytest.mark.parametrize("end", ["\r", "\r\n"])
    def test_line_ends_of_other_systems(self, tmp_path, end):
        assert documents(tmp_path / "a.txt", f"a{end}b{end}{end}c{end}") == ["a\nb\n", "c\n"]
        assert documents(tmp_path / "a.jsonl", f'"a"{end}"b"{end}') == ["a", "b"]

    @pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
    def test_half_a_character_is_replaced_and_said_once(self, tmp_path, name, caplog):
        texts = ["half \ud83d of it", "end \udc00", "an emoji: \U0001f600"]
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        found = documents(tmp_path / name, lines)
        assert found == ["half \ufffd of it", "end \ufffd", "an emoji: \U0001f600"]
        list(TextFile(tmp_path / name).documents())
        (record,) = caplog.records
        assert f"{name}: half a character in 2 texts" in record.getMessage()

    @pytest.mark.parametrize(
        ("name", "content", "place"),
        [
            ("a.jsonl", '{"text": "a"}\n\n{"text": 1}\n', "line 3"),
            ("a.json", '{"text": "a"}\n{"text": "b"}\n{"other": "c"}\n', "line 3"),
            ("a.json", '[{"text": "a"}, {"text": null}]', "record 2"),
            ("a.json", '[{"text": "a"},\n {"text" 1}]', "line 2, column 10"),
            ("a.jsonl", '"a"\n' + "[" * 100_000 + "\n", "line 2"),
            ("a.txt", b"a\nb\n\xff\n", "line 3"),
        ],
    )
    def test_errors_say_where(self, tmp_path, name, content, place):
        with pytest.raises(InvalidInputError, match=rf"{name}.*{place}") as caught:
            documents(tmp_path / name, content)
        assert len(str(caught.value).splitlines()) == 1

    def test_a_paragraph_without_end_is_cut_at_a_line(self, tmp_path, monkeypatch):
        monkeypatch.setattr(text, "_LONGEST_PARAGRAPH", 10)
        found = documents(tmp_path / "a.txt", "abcdef\nghijkl\nm\n\n" + "x" * 25)
        assert found == ["abcdef\nghijkl\n", "m\n", "x" * 10, "x" * 10, "x" * 5]


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.txt").write_text("a text")
        return tmp_path / "in"

    def names(self, *patterns):
        return [file.path.name for file in text_files(patterns)]

    @pytest.mark.parametrize("name", ["b.txt.gz", "b.jsonl.gz", "b.json.gz", "B.TXT", "B.Json.GZ"])
    def test_every_suffix_packed_or_not_in_any_case(self, folder, name):
        content = b"b text" if "txt" in name.lower() else b'{"text": "b text"}'
        packed = gzip.compress(content) if name.lower().endswith("gz") else content
        (folder / name).write_bytes(packed)
        files = text_files([folder])
        assert {file.path.name for file in files} == {"a.txt", name}
        assert [d for file in files if file.name == name for d in file.documents()] == ["b text"]

    def test_what_is_left_out_is_counted_in_one_line(self, folder, caplog):
        for hidden in (".ipynb_checkpoints/a-checkpoint.txt", ".git/x.json", "sub/._a.txt"):
            (folder / hidden).parent.mkdir(exist_ok=True)
            (folder / hidden).write_bytes(b"\x00\x05\x16\x07\xff")
        for other in ("a.md", "b.txt.zst", "c.parquet", "d.txt.bz2"):
            (folder / other).write_text("x")
        (folder / "sub" / "copy.txt").write_text("a text")
        (folder / "sub" / "a.txt.gz").write_bytes(gzip.compress(b"a text"))
        assert self.names(folder) == ["a.txt"]
        (record,) = caplog.records
        assert record.getMessage() == (
            "text is read from 1 file; left out: 3 hidden (.git, .ipynb_checkpoints, ._a.txt); "
            "4 of another kind (a.md, b.txt.zst, c.parquet and 1 more); "
            "2 repeated (a.txt.gz is a.txt, copy.txt is a.txt)"
        )

    def test_nothing_left_out_is_no_word(self, folder, caplog):
        (folder / "b.txt").write_text("b text")
        assert self.names(folder, folder / "a.txt", str(folder / "*.txt")) == ["a.txt", "b.txt"]
        assert not caplog.records

    def test_links_are_followed_and_every_text_is_taken_once(self, folder, tmp_path):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "b.txt").write_text("b text")
        (folder / "linked").symlink_to(tmp_path / "other")
        (folder / "again").symlink_to(tmp_path / "other")
        (folder / "round").symlink_to(folder)
        (folder / "link.txt").symlink_to(folder / "a.txt")
        (folder / "broken.txt").symlink_to(tmp_path / "nothing")
        assert sorted(self.names(folder)) == ["a.txt", "b.txt"]
        assert self.names(folder, tmp_path / "other") == self.names(folder)

    def test_what_is_named_is_read_although_hidden(self, folder):
        (folder / ".hidden").mkdir()
        (folder / ".hidden" / "b.txt").write_text("b text")
        assert self.names(folder / ".hidden") == ["b.txt"]
        assert self.names(folder / ".hidden" / "b.txt") == ["b.txt"]

    def test_patterns_find_folders_too(self, folder, tmp_path):
        assert self.names(str(tmp_path / "i*")) == ["a.txt"]

    @pytest.mark.parametrize("name", ["n" * 300, "nu\0ll", "none", "a.txt.zst"])
    def test_what_is_no_text_is_refused(self, tmp_path, name):
        if name.endswith("zst"):
            (tmp_path / name).write_text("x")
        with pytest.raises(InvalidInputError, match="found none"):
            text_files([str(tmp_path / name)])

    def test_a_folder_that_may_not_be_entered_is_named(self, folder, monkeypatch):
        def scan(path):
            raise PermissionError(13, "Permission denied", path)

        monkeypatch.setattr(os, "scandir", scan)
        with pytest.raises(InvalidInputError, match=r"cannot read .*/in: Permission denied"):
            text_files([folder])


class TestLongTexts:
    def test_pieces_are_the_text_and_end_before_blanks(self, monkeypatch):
        monkeypatch.setattr(text, "_PIECE", 8)
        for document in ("", "fox", "fox dog jumps lazy", "x" * 30, " " * 20, "a\nb c " * 9):
            cut = list(pieces(document))
            assert "".join(cut) == document
            assert max(map(len, cut)) <= 8
        assert list(pieces("fox dog jumps")) == ["fox dog", " jumps"]

    @pytest.mark.parametrize("held_out", [0, 0.3])
    def test_pieces_leave_no_trace_in_the_corpus(self, tmp_path, monkeypatch, held_out):
        words = "fox dog jumps lazy lazyy dog fox fox"
        lines = [" ".join([words] * n) for n in (1, 40, 0, 3, 17)]
        path = tmp_path / "a.jsonl"
        path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))

        def prepare(name):
            return prepare_corpus(
                text_files([path]),
                make_tokenizer(),
                tmp_path / name,
                sequence_length=16,
                held_out=held_out,
            )

        whole = prepare("whole")
        monkeypatch.setattr(text, "_PIECE", 11)
        monkeypatch.setattr(tokenising, "_CHARACTERS_AT_ONCE", 30)
        cut = prepare("cut")
        assert cut.card == whole.card
        assert cut.train.tolist() == whole.train.tolist()
        assert cut.held_out.tolist() == whole.held_out.tolist()


class TestTokenizers:
    @pytest.mark.parametrize("gap", [0, 500, 70_000])
    def test_ids_with_gaps(self, tmp_path, gap):
        (tmp_path / "a.txt").write_text("fox dog jumps lazyy " * 40)
        tokenizer = make_tokenizer(gap)
        assert vocabulary_size(tokenizer) == len(WORDS) + gap
        corpus = prepare_corpus(
            text_files([tmp_path / "a.txt"]),
            tokenizer,
            tmp_path / "c",
            sequence_length=16,
            held_out=0,
        )
        assert corpus.train.max() == len(WORDS) + gap - 1
        ids, labels = fixed_masks(corpus, "train", None, 0)
        assert {*labels.ravel().tolist()} <= {-100, *(i + gap for i in range(5, 10))}
        # Ids that mean nothing are no random words either.
        assert {*ids.ravel().tolist()} <= {*tokenizer.get_vocab().values()}

    def test_without_padding_another_token_pads(self, tmp_path):
        make_tokenizer(pad_token=None).save_pretrained(tmp_path)
        assert load_tokenizer(tmp_path).pad_token == "[PAD]"
        words = {word: i for i, word in enumerate(WORDS[1:])}
        fast = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
        marks = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "mask")}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=fast, **marks)
        tokenizer.save_pretrained(tmp_path)
        assert load_tokenizer(tmp_path).pad_token == "[SEP]"

    @pytest.mark.parametrize("kind", ["bert", "roberta"])
    def test_special_tokens_that_files_do_not_name_are_those_of_the_class(self, tmp_path, kind):
        (tmp_path / "text.txt").write_text("we saw it")
        tokenizer = (
            train_tokenizer(text_files([tmp_path / "text.txt"]), 60)
            if kind == "bert"
            else byte_pairs(["we saw it"], 300)
        )
        tokenizer.save_pretrained(tmp_path)
        # As the checkpoints of both lie on the hub.
        (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 512}')
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        found, known = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
        for role in ("cls", "sep", "mask", "pad", "unk"):
            assert getattr(found, f"{role}_token_id") == getattr(known, f"{role}_token_id")
        assert {*found.all_special_ids} == {*known.all_special_ids} == {0, 1, 2, 3, 4}
        save_tokenizer(found, tmp_path / "kept")
        # Spaces before a mask are its own where the tokenizer says so.
        text = f"we saw {tokenizer.mask_token} it"
        kept = AutoTokenizer.from_pretrained(tmp_path / "kept")
        assert kept(text)["input_ids"] == tokenizer(text)["input_ids"]

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("tokenizer.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
            ("tokenizer.json", "{}"),
            ("tokenizer.json", ""),
            ("tokenizer.json", '{"model": {"type": "Nothing"}}'),
            ("tokenizer_config.json", "[1]"),
            ("tokenizer_config.json", "{bad"),
            ("tokenizer_config.json", '{"mask_token": 5}'),
        ],
    )
    def test_damaged_files_are_refused_in_one_line(self, tmp_path, name, content):
        make_tokenizer().save_pretrained(tmp_path)
        (tmp_path / name).write_text(content)
        with pytest.raises(InvalidInputError) as caught:
            load_tokenizer(tmp_path)
        assert str(tmp_path) in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
