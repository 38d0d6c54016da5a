"""Sharing prefixes changes no number, and a table is continued as if never interrupted."""

import json
import math
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from nastool.errors import InvalidInputError
from nastool_supernets.cli.measure import measure as measure_command
from nastool_supernets.corpus.corpus import load_corpus, prepare_corpus
from nastool_supernets.corpus.masked_text import masked_text
from nastool_supernets.corpus.masking import Masking, mask_fixed, random_generator
from nastool_supernets.corpus.text import TextFile, load_tokenizer, save_tokenizer, train_tokenizer
from nastool_supernets.measuring import perplexities as measuring
from nastool_supernets.measuring.perplexities import (
    measure,
    perplexities,
    read_measured,
    read_shapes,
    sample_shapes,
)
from nastool_supernets.runtime.parallel import Workers
from nastool_supernets.training.checkpoints import load_supernet, save_model
from nastool_supershaper.modeling import SuperShaperConfig, SuperShaperForMaskedLM

WIDTHS = (4, 8, 16)
MASKING = Masking(mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=60)
BLOCKS = random_generator(0, 9, 0).integers(5, 60, (10, 16)).astype(np.uint16)
IDS, LABELS = mask_fixed(BLOCKS, MASKING)


def tiny(vocabulary=60):
    torch.manual_seed(0)
    return SuperShaperForMaskedLM(
        SuperShaperConfig(
            vocab_size=vocabulary,
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=128,
            widths=WIDTHS,
            initializer_range=0.3,
        )
    )


MODEL = tiny()
SHAPES = st.lists(st.tuples(*[st.sampled_from(WIDTHS)] * 3), min_size=1, max_size=12)


class TestPerplexities:
    @settings(max_examples=15, deadline=None)
    @given(shapes=SHAPES)
    def test_shared_prefixes_give_exactly_the_numbers_of_one_at_a_time(self, shapes):
        together = perplexities(MODEL, IDS, LABELS, shapes, batch_size=4)
        alone = [perplexities(MODEL, IDS, LABELS, [s], batch_size=4)[0] for s in shapes]
        assert together.tolist() == alone

    @pytest.mark.parametrize("length", [1, 16])
    def test_whole_forward_passes_give_the_same_numbers(self, length):
        model = tiny().double()
        shapes = sample_shapes(WIDTHS, 3, 6)
        ids, labels = IDS[:, :length].copy(), LABELS[:, :length].copy()
        labels[0] = -100  # the rows differ in their number of masked tokens
        values = perplexities(model, ids, labels, shapes, batch_size=4)
        known = torch.from_numpy(labels) != -100
        for shape, value in zip(shapes, values, strict=True):
            logits = model(torch.from_numpy(ids), shape=shape).logits[known]
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)[known])
            # The head adds up in double precision too: nothing but the order of sums differs.
            assert value == pytest.approx(math.exp(loss.item()), rel=1e-10)

    def test_definition(self):
        shape = (8, 16, 4)
        losses = MODEL.masked_losses(torch.from_numpy(IDS), torch.from_numpy(LABELS), shape)
        assert len(losses) == (LABELS != -100).sum()
        [value] = perplexities(MODEL, IDS, LABELS, [shape], batch_size=3)
        assert value == pytest.approx(math.exp(losses.mean().item()), rel=1e-5)

    def test_layers_are_not_run_twice(self, monkeypatch):
        runs = []
        layers = list(MODEL.supershaper.layers)
        forward = type(layers[0]).forward

        def counted(self, *args):
            runs.append(layers.index(self))
            return forward(self, *args)

        monkeypatch.setattr(type(layers[0]), "forward", counted)
        every = [(a, b, c) for a in WIDTHS for b in WIDTHS for c in WIDTHS]
        perplexities(MODEL, IDS, LABELS, every[::-1], batch_size=len(IDS))
        assert [runs.count(i) for i in range(3)] == [3, 9, 27]

    def test_bfloat16_is_close(self):
        shapes = sample_shapes(WIDTHS, 3, 5)
        exact = perplexities(MODEL, IDS, LABELS, shapes)
        rough = perplexities(MODEL, IDS, LABELS, shapes, dtype="bfloat16")
        assert not np.array_equal(exact, rough)
        np.testing.assert_allclose(rough, exact, rtol=0.02)

    def test_mode_is_restored(self):
        MODEL.train()
        perplexities(MODEL, IDS, LABELS, [(4, 4, 4)])
        assert MODEL.training


class TestSamples:
    def test_different_and_nested(self):
        shapes = sample_shapes(WIDTHS, 3, 20, seed=1, exclude=[(4, 4, 4)])
        assert len(set(shapes)) == 20
        assert (4, 4, 4) not in shapes
        assert sample_shapes(WIDTHS, 3, 8, seed=1, exclude=[(4, 4, 4)]) == shapes[:8]
        with pytest.raises(InvalidInputError, match="holds 27 shapes"):
            sample_shapes(WIDTHS, 3, 28)


class TestTable:
    @pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
    def test_interrupted_and_continued(self, tmp_path, name, monkeypatch):
        shapes = sample_shapes(WIDTHS, 3, 12)
        measure(MODEL, IDS, LABELS, shapes, tmp_path / name, chunk_size=5)

        class PowerCutError(Exception):
            pass

        def cut(progress):
            if progress.done == 10:
                raise PowerCutError

        part = tmp_path / "part" / name
        part.parent.mkdir()
        with pytest.raises(PowerCutError):
            measure(MODEL, IDS, LABELS, shapes, part, chunk_size=5, progress=cut)
        measured = []

        def counted(*args, **options):
            measured.extend(args[3])
            return perplexities(*args, **options)

        monkeypatch.setattr(measuring, "perplexities", counted)
        measure(MODEL, IDS, LABELS, shapes, part, chunk_size=5)
        assert len(measured) == 2
        assert read_measured(part) == read_measured(tmp_path / name)
        assert set(read_measured(part)) == set(shapes)
        card = json.loads(part.with_name(name + ".card.json").read_text())
        assert card["masked_tokens"] == (LABELS != -100).sum()

    def test_a_table_that_stops_early_is_not_one_of_narrow_first_layers(
        self, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(measuring, "_SUBTREES", 6)
        shapes = sample_shapes(WIDTHS, 3, 24, seed=1)
        seen = []

        def stop(progress):
            seen.append(set(read_measured(tmp_path / "table.csv")))

        measure(MODEL, IDS, LABELS, shapes, tmp_path / "table.csv", chunk_size=6, progress=stop)
        assert [len(s) for s in seen] == [6, 12, 18, 24]
        assert shapes[0] in seen[0]
        assert {shape[0] for shape in seen[1]} == set(WIDTHS)

    def test_prefixes_of_many_shapes_are_shared(self):
        widths = (120, 240, 360, 480, 540, 600, 768)
        shapes = sample_shapes(widths, 12, 10_000)
        ordered = measuring.share_prefixes(shapes)
        assert sorted(ordered) == sorted(shapes)
        layers = 12 + sum(
            12 - next(i for i in range(12) if a[i] != b[i]) for a, b in pairwise(ordered)
        )
        # The tree of all of them has 79,800 nodes, give or take chance; one by one it is 120,000.
        assert layers == pytest.approx(80_400, rel=0.005)

    @pytest.mark.parametrize("name", ["two.csv", "m[1].csv"])
    def test_processes_share_the_shapes(self, tmp_path, name):
        shapes = sample_shapes(WIDTHS, 3, 15)
        measure(MODEL, IDS, LABELS, shapes, tmp_path / "one.csv")
        barrier = threading.Barrier(2, timeout=60)
        counts = {}
        # A model each, as processes have: measuring switches it to evaluation.
        models = [tiny(), tiny()]

        class Threads(Workers):
            def wait(self):
                barrier.wait()

        def work(rank, n):
            def progress(p):
                counts[rank] = counts.get(rank, 0) + 1
                assert p.done <= p.total

            measure(
                models[rank],
                IDS,
                LABELS,
                shapes[:n],
                tmp_path / name,
                chunk_size=1,
                workers=Threads(rank, 2),
                progress=progress,
            )

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(work, range(2), [10, 10]))
            assert counts == {0: 5, 1: 5}
            # What a stopped process had measured counts.
            table = read_measured(tmp_path / name)
            for end in ("", ".card.json"):
                whole = tmp_path / f"{name}{end}"
                shutil.copy(whole, tmp_path / f".part-7.{name}{end}")
            measuring.write_table(tmp_path / name, dict(list(table.items())[:4]))
            list(pool.map(work, range(2), [15, 15]))
        assert sum(counts.values()) == 15
        assert read_measured(tmp_path / name) == read_measured(tmp_path / "one.csv")
        assert not list(tmp_path.glob(".part*"))

    def test_another_net_or_text_is_refused(self, tmp_path):
        path = tmp_path / "t.csv"
        measure(MODEL, IDS, LABELS, [(4, 8, 16)], path)
        other = tiny()
        with torch.no_grad():
            other.head.bias[0] += 1
        with pytest.raises(InvalidInputError, match="another supernet_fingerprint"):
            measure(other, IDS, LABELS, [(4, 4, 4)], path)
        with pytest.raises(InvalidInputError, match="another text_fingerprint"):
            measure(MODEL, *mask_fixed(BLOCKS, MASKING, 1), [(4, 4, 4)], path)
        (tmp_path / "t.csv.card.json").unlink()
        with pytest.raises(InvalidInputError, match="without a readable card"):
            measure(MODEL, IDS, LABELS, [(4, 4, 4)], path)
        with pytest.raises(InvalidInputError, match=r"must end with .csv"):
            measure(MODEL, IDS, LABELS, [(4, 4, 4)], tmp_path / "t.xlsx")

    def test_a_damaged_table_is_named(self, tmp_path):
        path = tmp_path / "t.csv.gz"
        measure(MODEL, IDS, LABELS, [(4, 8, 16)], path)
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(InvalidInputError, match="is no table of measurements"):
            read_measured(path)

    def test_given_shapes(self, tmp_path):
        path = tmp_path / "s.csv"
        path.write_text("name,layer_1,layer_2,layer_3\na,4,8,16\nb,4,4,4\n")
        assert read_shapes(path, 3) == [(4, 8, 16), (4, 4, 4)]
        with pytest.raises(InvalidInputError, match="layer_4"):
            read_shapes(path, 4)


def test_command(tmp_path):
    text = tmp_path / "text.txt"
    words = ["stone", "river", "cloud", "meadow", "lantern", "harbour"]
    rng = np.random.default_rng(0)
    text.write_text("\n\n".join(" ".join(rng.choice(words, 60)) for _ in range(40)))
    tokenizer = train_tokenizer([TextFile(text)], 60)
    net = tmp_path / "net"
    net.mkdir()
    save_model(tiny(len(tokenizer)), net)
    tokenizer.save_pretrained(str(net))
    (tmp_path / "more.csv").write_text("layer_1,layer_2,layer_3\n4,8,16\n")
    arguments = [
        str(net),
        "--text",
        str(text),
        "--shapes",
        "6",
        "--blocks",
        "4",
        "--shapes-from",
        str(tmp_path / "more.csv"),
        "--dtype",
        "float32",
        "--output",
        str(tmp_path / "new" / "t.csv"),
    ]
    result = CliRunner().invoke(measure_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    measured = read_measured(tmp_path / "new" / "t.csv")
    assert {(4, 4, 4), (16, 16, 16), (4, 8, 16)} <= set(measured)
    assert 8 <= len(measured) <= 9
    assert f"{measured[16, 16, 16]:,.2f} (largest)" in result.output
    bad = CliRunner().invoke(measure_command, [str(tmp_path), *arguments[1:]])
    assert isinstance(bad.exception, InvalidInputError)
    for option in ("--seed", "--mask-seed", "--shapes"):
        assert CliRunner().invoke(measure_command, [*arguments, option, "-1"]).exit_code == 2


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A net that reads 16 tokens at most, its tokenizer beside it, and two corpora."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    words = [f"{a}{b}" for a in "bcdfgklm" for b in ("a", "en", "ilt", "orp")]
    source = TextFile(folder / "text.txt")
    source.path.write_text("\n\n".join(" ".join(rng.choice(words, 60)) for _ in range(40)))
    for name, size, length in (("own", 60, 16), ("other", 58, 16), ("long", 60, 32)):
        tokenizer = train_tokenizer([source], size)
        prepare_corpus([source], tokenizer, folder / name, sequence_length=length)
    net = folder / "net"
    save_tokenizer(load_tokenizer(folder / "own" / "tokenizer"), net)
    sizes = tiny().config.to_dict() | {"max_position_embeddings": 16}
    save_model(SuperShaperForMaskedLM(SuperShaperConfig(**sizes)), net)
    return folder


class TestText:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--corpus", "other"], "another vocabulary than that of"),
            (["--corpus", "long"], "blocks of at most 16 tokens, got 32"),
            (["--corpus", "own", "--text", "text.txt"], "expected --text or --corpus, got both"),
            ([], "no prepared corpus in net"),
        ],
    )
    def test_what_the_net_cannot_read_is_named(self, files, monkeypatch, options, message):
        monkeypatch.chdir(files)
        arguments = ["net", "--shapes", "0", "--output", "t.csv", *options]
        result = CliRunner().invoke(measure_command, arguments)
        assert isinstance(result.exception, InvalidInputError)
        assert message in str(result.exception)
        assert not (files / "t.csv").exists()

    def test_vocabularies_are_compared_by_size_where_there_is_no_tokenizer(self, files, tmp_path):
        sizes = tiny(50).config.to_dict()
        save_model(SuperShaperForMaskedLM(SuperShaperConfig(**sizes)), tmp_path)
        with pytest.raises(InvalidInputError, match="a vocabulary of 50 tokens, got text of 60"):
            masked_text(tmp_path, SuperShaperConfig(**sizes), corpus=files / "own")

    def test_text_and_corpus_are_cut_to_what_the_net_takes(self, files):
        config = load_supernet(files / "net").config
        read = masked_text(files / "net", config, [str(files / "text.txt")], blocks=5)
        assert read.input_ids.shape == read.labels.shape == (5, 16)
        assert read.sources == ["text.txt"]
        held_out = load_corpus(files / "own").held_out
        taken = masked_text(files / "net", config, corpus=files / "own")
        assert len(taken.input_ids) == len(held_out)
        assert np.array_equal(np.where(taken.labels < 0, taken.input_ids, taken.labels), held_out)
