"""Corpora and masks: what is packed is the text, nothing leaks, and every draw can be replayed."""

import copy
import gzip
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nastool.errors import InvalidInputError, NastoolError
from nastool_supernets.corpus import tokenising
from nastool_supernets.corpus.corpus import load_corpus, prepare_corpus
from nastool_supernets.corpus.masking import Masking
from nastool_supernets.corpus.tasks import IGNORED_LABEL, Batches, apply_fixed, random_generator
from nastool_supernets.corpus.text import HubDataset, TextFile, text_files
from nastool_supernets.corpus.tokenizer import (
    SPECIAL_TOKENS,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
)
from nastool_supernets.runtime.parallel import Workers

WORDS = [f"{a}{b}" for a in "bcdfgklm" for b in ("a", "en", "ilt", "orp")]
MASKING = Masking(mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=500)


def write_documents(path, n, seed=0, words=30):
    rng = np.random.default_rng(seed)
    documents = [" ".join([f"id{seed}x{i}", *rng.choice(WORDS, words)]) for i in range(n)]
    path.write_text("".join(json.dumps({"text": d}) + "\n" for d in documents))
    return documents


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "words.jsonl"
    write_documents(path, 100)
    return train_tokenizer([TextFile(path)], 200)


def test_training_a_tokenizer_twice_makes_the_same(tmp_path):
    # As good as random, so that many pairs are equally frequent.
    letters = np.random.default_rng(0).choice(list("abcdefgh"), (200, 6))
    path = tmp_path / "words.txt"
    path.write_text("\n".join("".join(word) for word in letters))
    first, second = (train_tokenizer([TextFile(path)], 80) for _ in range(2))
    vocabulary = first.get_vocab()
    assert second.get_vocab() == vocabulary
    by_id = sorted(vocabulary, key=vocabulary.get)
    assert by_id[:5] == list(SPECIAL_TOKENS)
    assert by_id[5:21] == [*(f"##{letter}" for letter in "abcdefgh"), *"abcdefgh"]
    assert sorted(vocabulary.values()) == list(range(80))
    assert first.all_special_tokens == second.all_special_tokens
    assert set(first.all_special_tokens) == set(SPECIAL_TOKENS)


def body(blocks):
    return np.asarray(blocks)[:, 1:-1].ravel().tolist()


class TestText:
    def test_formats_give_the_same_documents(self, tmp_path):
        documents = write_documents(tmp_path / "a.jsonl", 5)
        with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
            file.write((tmp_path / "a.jsonl").read_text())
        (tmp_path / "a.txt").write_text("\n\n".join(documents))
        (tmp_path / "a.json").write_text(json.dumps([{"text": d} for d in documents]))
        sources = text_files([tmp_path])
        assert [source.name for source in sources] == ["a.json", "a.jsonl", "a.txt"]
        for source in (*sources, TextFile(tmp_path / "a.jsonl.gz")):
            assert [d.strip() for d in source.documents()] == documents, source.name
        assert len(text_files([tmp_path / "*.jsonl", tmp_path / "a.jsonl"])) == 1

    def test_local_data_set(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
        (tmp_path / "source").mkdir()
        documents = write_documents(tmp_path / "source" / "train.jsonl", 5)
        for streaming in (False, True):
            source = HubDataset(str(tmp_path / "source"), streaming=streaming)
            assert list(source.documents()) == documents
            shares = [list(source.documents(share, 2)) for share in range(2)]
            assert [len(share) for share in shares] == [3, 2]
            assert sorted(shares[0] + shares[1]) == sorted(documents)
            limited = HubDataset(str(tmp_path / "source"), streaming=streaming, max_documents=3)
            assert list(limited.documents()) == documents[:3]
        with pytest.raises(InvalidInputError, match="expected a column 'body', got text"):
            list(HubDataset(str(tmp_path / "source"), text_field="body").documents())
        (tmp_path / "source" / "train.jsonl").write_text('{"text": "a"}\n{"text": null}\n')
        with pytest.raises(InvalidInputError, match="row 2: expected text in column 'text', got"):
            list(HubDataset(str(tmp_path / "source")).documents())

    def test_bad_input_is_named(self, tmp_path):
        with pytest.raises(InvalidInputError, match="found none"):
            text_files([tmp_path / "nothing.txt"])
        (tmp_path / "bad.jsonl").write_text('{"text": "fine"}\n{"text": \n')
        with pytest.raises(InvalidInputError, match=r"bad.jsonl, line 2: expected a JSON record"):
            list(TextFile(tmp_path / "bad.jsonl").documents())
        (tmp_path / "other.jsonl").write_text('{"content": "x"}\n')
        with pytest.raises(InvalidInputError, match="string field 'text'"):
            list(TextFile(tmp_path / "other.jsonl").documents())
        (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n' * 99)[:-12])
        with pytest.raises(InvalidInputError, match=r"cannot read .*cut\.jsonl\.gz"):
            list(TextFile(tmp_path / "cut.jsonl.gz").documents())
        (tmp_path / "word.json").write_text('"word"')
        with pytest.raises(InvalidInputError, match="expected a list of JSON records, got 'word'"):
            list(TextFile(tmp_path / "word.json").documents())


class TestCorpus:
    def test_blocks_hold_the_text(self, tmp_path, tokenizer):
        documents = write_documents(tmp_path / "a.jsonl", 20)
        source = TextFile(tmp_path / "a.jsonl")
        corpus = prepare_corpus([source], tokenizer, tmp_path / "c", sequence_length=16, held_out=0)
        expected = []
        for document in documents:
            expected += [*tokenizer(document, add_special_tokens=False)["input_ids"], 3]
        found = body(corpus.train)
        assert found == expected[: len(found)]
        assert len(expected) - len(found) < 16
        assert set(corpus.train[:, 0].tolist()) == {tokenizer.cls_token_id}
        assert set(corpus.train[:, -1].tolist()) == {tokenizer.sep_token_id}
        assert len(corpus.held_out) == 0

    def test_empty_documents_leave_nothing(self, tmp_path, tokenizer):
        """Data sets of lines (WikiText) have an empty one between any two paragraphs."""
        documents = write_documents(tmp_path / "a.jsonl", 20)
        with open(tmp_path / "b.jsonl", "w") as file:
            file.writelines(json.dumps({"text": x}) + "\n" for d in documents for x in ("", d, " "))
        dense, sparse = (
            prepare_corpus(
                [TextFile(tmp_path / f"{name}.jsonl")],
                tokenizer,
                tmp_path / name,
                sequence_length=16,
                held_out=0,
            )
            for name in "ab"
        )
        assert np.array_equal(dense.train, sparse.train)

    def test_held_out_documents_come_from_every_source_and_never_train(self, tmp_path, tokenizer):
        a = write_documents(tmp_path / "a.jsonl", 60, seed=1)
        write_documents(tmp_path / "b.jsonl", 60, seed=2)
        # The second source repeats documents of the first.
        with open(tmp_path / "b.jsonl", "a") as file:
            file.writelines(json.dumps({"text": d}) + "\n" for d in a)
        sources = text_files([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
        corpus = prepare_corpus(
            sources, tokenizer, tmp_path / "c", sequence_length=16, held_out=0.2
        )
        train = tokenizer.decode(body(corpus.train)).replace(" ", "")
        held_out = tokenizer.decode(body(corpus.held_out)).replace(" ", "")
        for seed in (1, 2):
            names = [f"id{seed}x{i}" for i in range(60)]
            held = {n for n in names if _occurs(held_out, n)}
            trained = {n for n in names if _occurs(train, n)}
            assert not held & trained
            assert 8 <= len(held) <= 24
            assert len(held | trained) >= 58  # the last ones may fall off the last block

    def test_cached_until_anything_changes(self, tmp_path, tokenizer):
        write_documents(tmp_path / "a.jsonl", 30)
        source, folder = TextFile(tmp_path / "a.jsonl"), tmp_path / "c"
        prepare_corpus([source], tokenizer, folder, sequence_length=16)
        written = (folder / "train.npy").stat().st_mtime_ns
        prepare_corpus([source], tokenizer, folder, sequence_length=16)
        assert (folder / "train.npy").stat().st_mtime_ns == written
        write_documents(tmp_path / "a.jsonl", 40)
        again = prepare_corpus([source], tokenizer, folder, sequence_length=16)
        assert again.card["sources"][0]["train_documents"] >= 38
        longer = prepare_corpus([source], tokenizer, folder, sequence_length=32)
        assert longer.train.shape[1] == 32
        assert np.array_equal(load_corpus(folder).train, longer.train)

    def test_a_corpus_that_may_not_give_way_is_kept(self, tmp_path, tokenizer):
        write_documents(tmp_path / "a.jsonl", 30)
        source, folder = TextFile(tmp_path / "a.jsonl"), tmp_path / "c"
        kept = prepare_corpus([source], tokenizer, folder, sequence_length=16)
        with pytest.raises(InvalidInputError, match=r"sequence_length=16, not 32\): ask for the"):
            prepare_corpus([source], tokenizer, folder, sequence_length=32, replace=False)
        write_documents(tmp_path / "a.jsonl", 40)
        with pytest.raises(InvalidInputError, match=r"else \(another content of a.jsonl\)"):
            prepare_corpus([source], tokenizer, folder, sequence_length=16, replace=False)
        assert np.array_equal(load_corpus(folder).train, kept.train)

    def test_another_vocabulary_is_noticed(self, tmp_path, tokenizer):
        write_documents(tmp_path / "a.jsonl", 30)
        source = TextFile(tmp_path / "a.jsonl")
        corpus = prepare_corpus([source], tokenizer, tmp_path / "c", sequence_length=16)
        corpus.check_tokenizer(tokenizer, "net")
        with pytest.raises(InvalidInputError, match="another vocabulary than that of net"):
            corpus.check_tokenizer(train_tokenizer([source], 120), "net")

    def test_token_limit(self, tmp_path, tokenizer):
        write_documents(tmp_path / "a.jsonl", 600, words=60)
        source = TextFile(tmp_path / "a.jsonl")
        corpus = prepare_corpus(
            [source], tokenizer, tmp_path / "c", sequence_length=16, max_tokens=1000
        )
        full = prepare_corpus([source], tokenizer, tmp_path / "d", sequence_length=16)
        assert 1000 <= corpus.train.size < full.train.size

    def test_stopped_and_called_again_it_goes_on(self, tmp_path, tokenizer, monkeypatch):
        monkeypatch.setattr(tokenising, "_PIECES_AT_ONCE", 4)
        monkeypatch.setattr(tokenising, "_DOCUMENTS_A_NOTE", 8)
        for name in "ab":
            write_documents(tmp_path / f"{name}.jsonl", 30, seed=ord(name))
        sources = text_files([tmp_path])
        reports = []

        def progress(name, tokens):
            reports.append((name, tokens))
            if len(reports) in (1, 7, 13):
                raise RuntimeError("power cut")

        options = {"sequence_length": 16, "held_out": 0.2, "progress": progress}
        for _ in range(3):
            with pytest.raises(RuntimeError, match="power cut"):
                prepare_corpus(sources, tokenizer, tmp_path / "c", **options)
        corpus = prepare_corpus(sources, tokenizer, tmp_path / "c", **options)
        # Sixteen groups make up the whole; from each stop at most two were done again.
        assert len(reports) < 4 * 8
        whole = prepare_corpus(sources, tokenizer, tmp_path / "d", sequence_length=16, held_out=0.2)
        assert corpus.card == whole.card
        for kind in ("train.npy", "held_out.npy"):
            assert (tmp_path / "c" / kind).read_bytes() == (tmp_path / "d" / kind).read_bytes()
        assert not list((tmp_path / "c").glob(".part*"))

    def test_stopped_with_another_request_nothing_of_it_is_taken_over(
        self, tmp_path, tokenizer, monkeypatch
    ):
        monkeypatch.setattr(tokenising, "_PIECES_AT_ONCE", 4)
        monkeypatch.setattr(tokenising, "_DOCUMENTS_A_NOTE", 8)
        write_documents(tmp_path / "a.jsonl", 30)
        source = TextFile(tmp_path / "a.jsonl")

        def prepare(folder, length, stop=0):
            left = [stop]

            def progress(name, tokens):
                left[0] -= 1
                if left[0] == 0:
                    raise RuntimeError("power cut")

            return prepare_corpus(
                [source], tokenizer, tmp_path / folder, sequence_length=length, progress=progress
            )

        # The first leaves a note; the second overwrites its parts and comes to no note.
        for length, stop in ((16, 4), (32, 1)):
            with pytest.raises(RuntimeError, match="power cut"):
                prepare("c", length, stop)
        assert np.array_equal(prepare("c", 16).train, prepare("d", 16).train)

    def test_processes_share_the_documents(self, tmp_path, tokenizer, monkeypatch):
        monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
        (tmp_path / "hub").mkdir()
        for name in ("a", "hub/train"):
            write_documents(tmp_path / f"{name}.jsonl", 31, seed=len(name))
        sources = [TextFile(tmp_path / "a.jsonl"), HubDataset(str(tmp_path / "hub"))]
        barrier = threading.Barrier(2, timeout=60)

        class Threads(Workers):
            def wait(self):
                barrier.wait()

        def prepare(rank):
            return prepare_corpus(
                sources,
                copy.deepcopy(tokenizer),
                tmp_path / "two",
                sequence_length=16,
                held_out=0.2,
                workers=Threads(rank, 2),
            )

        with ThreadPoolExecutor(2) as pool:
            two = list(pool.map(prepare, range(2)))
        one = prepare_corpus(sources, tokenizer, tmp_path / "one", sequence_length=16, held_out=0.2)
        assert two[0].card["sources"] == two[1].card["sources"] == one.card["sources"]
        for kind in ("train", "held_out"):
            texts = [
                tokenizer.decode(body(getattr(c, kind))).replace(" ", "") for c in (one, two[0])
            ]
            names = [
                {
                    f"id{seed}x{i}"
                    for seed in (1, 9)
                    for i in range(31)
                    if _occurs(t, f"id{seed}x{i}")
                }
                for t in texts
            ]
            # The last document of a process may fall off its last block.
            assert len(names[0] ^ names[1]) <= 2
            assert names[0]
        # Called again, each finds it done, whoever asks.
        assert prepare(0).card == two[0].card

    def test_full_disk_is_named_and_nothing_is_lost(self, tmp_path, tokenizer, monkeypatch):
        write_documents(tmp_path / "a.jsonl", 20)
        source = TextFile(tmp_path / "a.jsonl")

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(tokenising.os, "fsync", full)
        with pytest.raises(NastoolError, match=r"No space left on device"):
            prepare_corpus([source], tokenizer, tmp_path / "c", sequence_length=16)
        monkeypatch.undo()
        corpus = prepare_corpus([source], tokenizer, tmp_path / "c", sequence_length=16)
        assert len(corpus.train)

    def test_tokenizer_survives(self, tmp_path, tokenizer):
        write_documents(tmp_path / "a.jsonl", 20)
        corpus = prepare_corpus(
            [TextFile(tmp_path / "a.jsonl")], tokenizer, tmp_path / "c", sequence_length=16
        )
        loaded = load_tokenizer(corpus.tokenizer_path)
        assert loaded("ba orp")["input_ids"] == tokenizer("ba orp")["input_ids"]
        assert corpus.masking().mask_id == loaded.mask_token_id

    def test_a_tokenizer_is_there_in_full_or_not_at_all(self, tmp_path, tokenizer, monkeypatch):
        rename, renamed = Path.replace, []

        def stop(old, new):
            renamed.append(new.name)
            if new.name == "tokenizer.json":
                raise OSError(28, "No space left on device")
            rename(old, new)

        monkeypatch.setattr(Path, "replace", stop)
        with pytest.raises(NastoolError, match=r"cannot write the tokenizer .*No space left"):
            save_tokenizer(tokenizer, tmp_path)
        assert renamed == ["tokenizer_config.json", "tokenizer.json"]
        assert not (tmp_path / "tokenizer.json").exists()
        monkeypatch.undo()
        save_tokenizer(tokenizer, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == set(renamed)
        assert load_tokenizer(tmp_path).get_vocab() == tokenizer.get_vocab()

    def test_bad_input_is_named(self, tmp_path, tokenizer):
        (tmp_path / "a.txt").write_text("too short")
        source = TextFile(tmp_path / "a.txt")
        with pytest.raises(InvalidInputError, match="fills no block of 128 tokens"):
            prepare_corpus([source], tokenizer, tmp_path / "c")
        with pytest.raises(InvalidInputError, match="no prepared corpus"):
            load_corpus(tmp_path / "c")
        with pytest.raises(InvalidInputError, match="max_tokens must be at least 1, got 0"):
            prepare_corpus([source], tokenizer, tmp_path / "c", max_tokens=0)
        with pytest.raises(InvalidInputError, match=r"held_out must be in \[0, 1\), got 1"):
            prepare_corpus([source], tokenizer, tmp_path / "c", held_out=1)
        with pytest.raises(InvalidInputError, match="no tokenizer at"):
            load_tokenizer(tmp_path)
        (tmp_path / "config.json").write_text('{"model_type": "bert", "vocab_size": 100}')
        with pytest.raises(InvalidInputError, match=r"no tokenizer at .* it has no vocabulary"):
            load_tokenizer(tmp_path)


def _occurs(text, name):
    """Whether a document's name occurs, not as the beginning of a longer one."""
    return any(not rest[:1].isdigit() for rest in text.split(name)[1:])


class TestMasks:
    @settings(max_examples=40)
    @given(
        seed=st.integers(0, 2**32),
        n=st.integers(1, 5),
        length=st.integers(8, 40),
        rate=st.floats(0.05, 0.6),
    )
    def test_only_ordinary_tokens_are_predicted(self, seed, n, length, rate):
        masking = Masking(4, (0, 1, 2, 3, 4), 500, rate)
        blocks = random_generator(seed, 9, 0).integers(0, 500, (n, length)).astype(np.uint16)
        ids, labels = masking.apply(blocks, random_generator(seed, 0, 0))
        predicted = labels != IGNORED_LABEL
        assert np.array_equal(ids[~predicted], blocks[~predicted])
        assert np.array_equal(labels[predicted], blocks[predicted])
        assert not (labels[predicted] < 5).any()
        ordinary = (blocks >= 5).sum(1)
        expected = np.minimum(max(1, round(rate * (length - 2))), ordinary)
        assert np.array_equal(predicted.sum(1), expected)

    def test_shares_and_places(self):
        blocks = np.full((4000, 128), 400, np.uint16)
        blocks[:, 0], blocks[:, -1] = 2, 3
        ids, labels = MASKING.apply(blocks, random_generator(0, 0, 0))
        predicted = labels != IGNORED_LABEL
        chosen = ids[predicted]
        n = len(chosen)
        assert n == 4000 * 19
        # Four standard deviations of a binomial share of n draws.
        assert (chosen == 4).mean() == pytest.approx(0.8, abs=4 * (0.16 / n) ** 0.5)
        assert (chosen == 400).mean() == pytest.approx(0.1, abs=4 * (0.09 / n) ** 0.5)
        others = chosen[(chosen != 4) & (chosen != 400)]
        assert np.bincount(others, minlength=500).max() < 5 * len(others) / 500
        places = predicted[:, 1:-1].mean(0)
        assert np.abs(places - 19 / 126).max() < 5 * (0.128 / 4000) ** 0.5

    def test_held_out_masks_are_fixed(self):
        blocks = random_generator(0, 9, 0).integers(5, 500, (6, 32)).astype(np.uint16)
        ids, labels = apply_fixed(blocks, MASKING, seed=3)
        again, labels_again = apply_fixed(blocks[:4], MASKING, seed=3)
        assert np.array_equal(ids[:4], again)
        assert np.array_equal(labels[:4], labels_again)
        assert not np.array_equal(labels, apply_fixed(blocks, MASKING, seed=4)[1])

    def test_text_of_nothing_to_predict_is_refused(self):
        blocks = np.full((200, 16), MASKING.special_ids[0], np.uint16)
        said = r"text that the tokenizer knows, got no token to predict in any of"
        with pytest.raises(InvalidInputError, match=f"{said} 200 blocks"):
            apply_fixed(blocks, MASKING)
        with pytest.raises(InvalidInputError, match=f"{said} 64 blocks"):
            Batches(blocks, MASKING, 4, 0)
        blocks[::10, 3] = 400  # here and there a word that it knows
        assert (apply_fixed(blocks, MASKING)[1] != IGNORED_LABEL).sum() == 20
        Batches(blocks, MASKING, 4, 0)

    def test_bad_input_is_named(self):
        with pytest.raises(InvalidInputError, match=r"rate must be in \(0, 1\), got 0"):
            Masking(4, (), 500, 0)
        with pytest.raises(InvalidInputError, match="mask id"):
            Masking(500, (), 500)


class TestBatches:
    @settings(max_examples=30)
    @given(n=st.integers(1, 40), batch=st.integers(1, 50), seed=st.integers(0, 2**32))
    def test_every_epoch_takes_every_block_once(self, n, batch, seed):
        blocks = np.arange(5, 5 + n * 8, dtype=np.uint16).reshape(n, 8)
        batches = Batches(blocks, MASKING, batch, seed)
        rows = np.concatenate([batches.indices(step) for step in range(-(-2 * n // batch))])
        assert sorted(rows[:n]) == list(range(n))
        assert sorted(rows[n : 2 * n]) == list(range(n))

    def test_any_step_alone_equals_the_step_in_sequence(self):
        blocks = random_generator(0, 9, 0).integers(5, 500, (37, 16)).astype(np.uint16)
        sequence = Batches(blocks, MASKING, 8, 1)
        steps = [sequence.batch(step) for step in range(12)]
        alone = Batches(blocks, MASKING, 8, 1).batch(11)
        assert np.array_equal(steps[11][0], alone[0])
        assert np.array_equal(steps[11][1], alone[1])
        # Masks are dynamic: the same block is masked differently in another epoch.
        assert not np.array_equal(steps[0][1], steps[5][1])
