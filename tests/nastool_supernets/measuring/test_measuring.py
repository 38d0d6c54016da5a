"""Sharing prefixes changes no number, and a table is continued as if never interrupted."""

import json
import math
import re
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
from nastool.problem import Problem
from nastool.store import open_store
from nastool.study import Study
from nastool_supernets.cli.measure import measure as measure_command
from nastool_supernets.corpus.corpus import load_corpus, prepare_corpus
from nastool_supernets.corpus.masked_text import masked_text
from nastool_supernets.corpus.masking import Masking
from nastool_supernets.corpus.tasks import apply_fixed, random_generator
from nastool_supernets.corpus.text import TextFile
from nastool_supernets.corpus.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer
from nastool_supernets.family import net_of
from nastool_supernets.genotypes import distinct, rows
from nastool_supernets.measuring import perplexities as measuring
from nastool_supernets.measuring import tables
from nastool_supernets.measuring.objective import MeasuredPerplexity
from nastool_supernets.measuring.perplexities import perplexities
from nastool_supernets.measuring.tables import measure, read_shapes, read_table, write_table
from nastool_supernets.runtime.parallel import Workers
from nastool_supernets.saved import load_supernet, save_model
from nastool_supershaper.modeling import SuperShaperForMaskedLM
from nastool_supershaper.space import SuperShaperSpace
from nastool_supershaper.supernet_config import SuperShaperConfig
from tests.supershaped import tiny_net

WIDTHS = (4, 8, 16)
MASKING = Masking(mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=60)
BLOCKS = random_generator(0, 9, 0).integers(5, 60, (10, 16)).astype(np.uint16)
IDS, LABELS = apply_fixed(BLOCKS, MASKING)


def tiny(vocabulary=60):
    return tiny_net(vocab_size=vocabulary, num_hidden_layers=3, max_position_embeddings=128)


MODEL = tiny()
NET = net_of(MODEL)
SPACE = NET.space
GENOTYPES = st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=12)


def drawn(n, seed=0, exclude=()):
    return distinct(SPACE, n, np.random.default_rng(seed), exclude)


def shape_of(genotype):
    return tuple(WIDTHS[index] for index in genotype)


class TestPerplexities:
    @settings(max_examples=15)
    @given(shapes=GENOTYPES)
    def test_shared_prefixes_give_exactly_the_numbers_of_one_at_a_time(self, shapes):
        together = perplexities(NET, IDS, LABELS, shapes, batch_size=4)
        alone = [perplexities(NET, IDS, LABELS, [s], batch_size=4)[0] for s in shapes]
        assert together.tolist() == alone

    @pytest.mark.parametrize("length", [1, 16])
    def test_whole_forward_passes_give_the_same_numbers(self, length):
        model = tiny().double()
        shapes = drawn(6)
        ids, labels = IDS[:, :length].copy(), LABELS[:, :length].copy()
        labels[0] = -100  # the rows differ in their number of masked tokens
        values = perplexities(net_of(model), ids, labels, shapes, batch_size=4)
        known = torch.from_numpy(labels) != -100
        for shape, value in zip(shapes, values, strict=True):
            logits = model(torch.from_numpy(ids), shape=shape_of(shape)).logits[known]
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)[known])
            # The head adds up in double precision too: nothing but the order of sums differs.
            assert value == pytest.approx(math.exp(loss.item()), rel=1e-10)

    def test_definition(self):
        shape = (8, 16, 4)
        ids, labels = torch.from_numpy(IDS), torch.from_numpy(LABELS)
        loss = MODEL(ids, labels=labels, shape=shape).loss
        [value] = perplexities(NET, IDS, LABELS, [(1, 2, 0)], batch_size=3)
        assert value == pytest.approx(math.exp(loss.item()), rel=1e-5)

    def test_layers_are_not_run_twice(self, monkeypatch):
        runs = []
        layers = list(MODEL.supershaper.layers)
        forward = type(layers[0]).forward

        def counted(self, *args):
            runs.append(layers.index(self))
            return forward(self, *args)

        monkeypatch.setattr(type(layers[0]), "forward", counted)
        every = [(a, b, c) for a in range(3) for b in range(3) for c in range(3)]
        perplexities(NET, IDS, LABELS, every[::-1], batch_size=len(IDS))
        assert [runs.count(i) for i in range(3)] == [3, 9, 27]

    def test_bfloat16_is_close(self):
        shapes = drawn(5)
        exact = perplexities(NET, IDS, LABELS, shapes)
        rough = perplexities(NET, IDS, LABELS, shapes, dtype="bfloat16")
        assert not np.array_equal(exact, rough)
        np.testing.assert_allclose(rough, exact, rtol=0.02)

    def test_mode_is_restored(self):
        MODEL.train()
        perplexities(NET, IDS, LABELS, [(0, 0, 0)])
        assert MODEL.training


class TestSamples:
    def test_different_and_nested(self):
        shapes = drawn(20, 1, [(0, 0, 0)])
        assert len(set(shapes)) == 20
        assert (0, 0, 0) not in shapes
        assert drawn(8, 1, [(0, 0, 0)]) == shapes[:8]
        with pytest.raises(InvalidInputError, match="holds 27 shapes"):
            drawn(28)


class TestTable:
    @pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
    def test_interrupted_and_continued(self, tmp_path, name, monkeypatch):
        shapes = drawn(12)
        measure(NET, IDS, LABELS, shapes, tmp_path / name, chunk_size=5)

        class PowerCutError(Exception):
            pass

        def cut(progress):
            if progress.done == 10:
                raise PowerCutError

        part = tmp_path / "part" / name
        part.parent.mkdir()
        with pytest.raises(PowerCutError):
            measure(NET, IDS, LABELS, shapes, part, chunk_size=5, progress=cut)
        measured = []

        def counted(*args, **options):
            measured.extend(args[3])
            return perplexities(*args, **options)

        monkeypatch.setattr(tables, "perplexities", counted)
        measure(NET, IDS, LABELS, shapes, part, chunk_size=5)
        assert len(measured) == 2
        assert read_table(part, SPACE) == read_table(tmp_path / name, SPACE)
        assert set(read_table(part, SPACE)) == set(shapes)
        card = json.loads(part.with_name(name + ".card.json").read_text())
        assert card["masked_tokens"] == (LABELS != -100).sum()

    def test_a_table_that_stops_early_is_not_one_of_narrow_first_layers(
        self, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(measuring, "_SUBTREES", 6)
        shapes = drawn(24, 1)
        seen = []

        def stop(progress):
            seen.append(set(read_table(tmp_path / "table.csv", SPACE)))

        measure(NET, IDS, LABELS, shapes, tmp_path / "table.csv", chunk_size=6, progress=stop)
        assert [len(s) for s in seen] == [6, 12, 18, 24]
        assert shapes[0] in seen[0]
        assert {shape[0] for shape in seen[1]} == {0, 1, 2}

    def test_prefixes_of_many_shapes_are_shared(self):
        shapes = distinct(SuperShaperSpace(), 10_000, np.random.default_rng(0))
        ordered = measuring.share_prefixes(NET, shapes)
        assert sorted(ordered) == sorted(shapes)
        layers = 12 + sum(
            12 - next(i for i in range(12) if a[i] != b[i]) for a, b in pairwise(ordered)
        )
        # The tree of all of them has 79,800 nodes, give or take chance; one by one it is 120,000.
        assert layers == pytest.approx(80_400, rel=0.005)

    @pytest.mark.parametrize("name", ["two.csv", "m[1].csv"])
    def test_processes_share_the_shapes(self, tmp_path, name):
        shapes = drawn(15)
        measure(NET, IDS, LABELS, shapes, tmp_path / "one.csv")
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
                net_of(models[rank]),
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
            table = read_table(tmp_path / name, SPACE)
            for end in ("", ".card.json"):
                whole = tmp_path / f"{name}{end}"
                shutil.copy(whole, tmp_path / f".part-7.{name}{end}")
            write_table(tmp_path / name, SPACE, dict(list(table.items())[:4]))
            list(pool.map(work, range(2), [15, 15]))
        assert sum(counts.values()) == 15
        assert read_table(tmp_path / name, SPACE) == read_table(tmp_path / "one.csv", SPACE)
        assert not list(tmp_path.glob(".part*"))

    def test_another_net_or_text_is_refused(self, tmp_path):
        path = tmp_path / "t.csv"
        measure(NET, IDS, LABELS, [(0, 1, 2)], path)
        other = tiny()
        with torch.no_grad():
            other.head.bias[0] += 1
        with pytest.raises(InvalidInputError, match="another supernet_fingerprint"):
            measure(net_of(other), IDS, LABELS, [(0, 0, 0)], path)
        with pytest.raises(InvalidInputError, match="another text_fingerprint"):
            measure(NET, *apply_fixed(BLOCKS, MASKING, 1), [(0, 0, 0)], path)
        (tmp_path / "t.csv.card.json").unlink()
        with pytest.raises(InvalidInputError, match="without a readable card"):
            measure(NET, IDS, LABELS, [(0, 0, 0)], path)
        with pytest.raises(InvalidInputError, match=r"must end with .csv"):
            measure(NET, IDS, LABELS, [(0, 0, 0)], tmp_path / "t.xlsx")

    def test_a_damaged_table_is_named(self, tmp_path):
        path = tmp_path / "t.csv.gz"
        measure(NET, IDS, LABELS, [(0, 1, 2)], path)
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(InvalidInputError, match="is no table of measurements"):
            read_table(path, SPACE)

    def test_given_shapes(self, tmp_path):
        path = tmp_path / "s.csv"
        path.write_text("name,layer_1,layer_2,layer_3\na,4,8,16\nb,4,4,4\n")
        assert read_shapes(path, SPACE) == [(0, 1, 2), (0, 0, 0)]
        deeper = SuperShaperSpace(layers=4, widths=WIDTHS, heads=2)
        with pytest.raises(InvalidInputError, match=r"line 2: .*layer_4, got no such column"):
            read_shapes(path, deeper)
        path.write_text("layer_1,layer_2,layer_3\n4,8,16\n4,x,4\n")
        with pytest.raises(InvalidInputError, match=r"line 3: expected one of 4, 8, 16 .*'x'"):
            read_shapes(path, SPACE)


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
        "--storage",
        f"sqlite:///{tmp_path}/a.db",
    ]
    result = CliRunner().invoke(measure_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    measured = read_table(tmp_path / "new" / "t.csv", SPACE)
    assert {(0, 0, 0), (2, 2, 2), (0, 1, 2)} <= set(measured)
    assert 8 <= len(measured) <= 9
    assert f"{measured[2, 2, 2]:,.2f} (largest)" in result.output
    # Told beforehand: what would be measured, and nothing is.
    (tmp_path / "new" / "t.csv").unlink()
    plan = CliRunner().invoke(measure_command, [*arguments, "--dry-run"])
    assert plan.exit_code == 0
    said = rf"Measuring {len(measured)} shapes on 4 blocks, less what is known: about .+ here\n"
    assert re.search(said, plan.stderr), plan.stderr
    assert not (tmp_path / "new" / "t.csv").exists()
    bad = CliRunner().invoke(measure_command, [str(tmp_path), *arguments[1:]])
    assert isinstance(bad.exception, InvalidInputError)
    for option in ("--seed", "--mask-seed", "--shapes"):
        assert CliRunner().invoke(measure_command, [*arguments, option, "-1"]).exit_code == 2


def test_what_a_study_or_a_table_has_measured_is_measured_by_neither(tmp_path, monkeypatch):
    every = distinct(SPACE, 27, np.random.default_rng(0))
    asked = []

    def counted(net, ids, labels, genotypes, **options):
        asked.extend(genotypes)
        return perplexities(net, ids, labels, genotypes, **options)

    problem = Problem(SPACE, [MeasuredPerplexity(NET, IDS, LABELS, "text", dtype="float32")])
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        first = Study(problem, "random", store, "first").run(10, 5)
        known = rows(first.evaluations.genotypes)
        monkeypatch.setattr(tables, "perplexities", counted)
        measure(NET, IDS, LABELS, every, tmp_path / "t.csv", chunk_size=5, store=store)
        assert sorted(asked) == sorted({*every} - {*known})
        table = read_table(tmp_path / "t.csv", SPACE)
        assert [table[genotype] for genotype in known] == first.metrics[:, 0].tolist()
        asked.clear()
        monkeypatch.setattr(measuring, "perplexities", counted)
        whole = Study(problem, "random", store, "whole", seed=1).run(27)
        assert len(whole) == 27
        assert asked == []
        # A table of its own is an export of what is known.
        (tmp_path / "t.csv").unlink()
        measure(NET, IDS, LABELS, every, tmp_path / "t.csv", store=store)
        assert asked == []
        assert read_table(tmp_path / "t.csv", SPACE) == table
    with open_store(f"sqlite:///{tmp_path}/b.db") as store:
        # And what an earlier table holds is told.
        measure(NET, IDS, LABELS, every[:3], tmp_path / "t.csv", store=store)
        Study(problem, "random", store, "third").run(27)
    assert asked == []


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
        config = load_supernet(files / "net").model.config
        read = masked_text(files / "net", config, [str(files / "text.txt")], blocks=5)
        assert read.input_ids.shape == read.labels.shape == (5, 16)
        assert read.sources == ["text.txt"]
        held_out = load_corpus(files / "own").held_out
        taken = masked_text(files / "net", config, corpus=files / "own")
        assert len(taken.input_ids) == len(held_out)
        assert np.array_equal(np.where(taken.labels < 0, taken.input_ids, taken.labels), held_out)


def test_workers_measure_what_one_process_measures(files, tmp_path):
    written = []
    for number, executor in enumerate(([], ["--executor", "processes:1"])):
        output = tmp_path / f"{number}.csv"
        arguments = [str(files / "net"), "--corpus", str(files / "own"), "--shapes", "6"]
        arguments += ["--storage", "none", "--output", str(output), *executor]
        found = CliRunner().invoke(measure_command, arguments)
        assert found.exit_code == 0, found.output
        written.append(output.read_text())
    assert written[0] == written[1]
