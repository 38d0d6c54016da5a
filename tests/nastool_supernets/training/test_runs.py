"""What a run is known by, and whose its folder is: nothing else goes on in its name."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from nastool.cli.options import parse_time
from nastool.discovery import PRESETS, available
from nastool.errors import InvalidInputError, NastoolError
from nastool.files.writing import owned
from nastool_supernets.cli.measure import measure as measure_command
from nastool_supernets.cli.pretrain import pretrain as pretrain_command
from nastool_supernets.cli.training_options import configuration
from nastool_supernets.corpus.corpus import load_corpus, prepare_corpus
from nastool_supernets.corpus.identity import describe_source, describe_tokenizer, is_same_text
from nastool_supernets.corpus.masked_text import mask_corpus, masked_text
from nastool_supernets.corpus.masking import Masking
from nastool_supernets.corpus.tasks import random_generator
from nastool_supernets.corpus.text import HubDataset, TextFile
from nastool_supernets.corpus.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer
from nastool_supernets.family import net_of
from nastool_supernets.saved import latest_checkpoint, load_supernet
from nastool_supernets.training import pretraining, run
from nastool_supernets.training.config import PretrainingConfig
from nastool_supernets.training.presets import laptop
from nastool_supernets.training.presets import preset as preset_of
from nastool_supernets.training.pretraining import pretrain
from nastool_supernets.training.rules import Distillation, RandomOnly, SizeAware
from tests.supershaped import tiny_net

MASKING = Masking(mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=60)
BLOCKS = random_generator(0, 9, 0).integers(5, 60, (50, 16)).astype(np.uint16)
CONFIG = PretrainingConfig(
    steps=6, batch_size=4, learning_rate=1e-3, checkpoint_every=3, dtype="float32", peak_flops=1e9
)


def tiny(**sizes):
    return tiny_net(**{"max_position_embeddings": 32, "initializer_range": 0.02, **sizes})


def train(folder, config=CONFIG, model=None, blocks=BLOCKS, **options):
    return pretrain(
        net_of(model or tiny()), blocks, MASKING, config, folder, trackers=[], **options
    )


def stopped(folder, **options):
    """A run that ended after its first checkpoint."""

    def power_cut(report):
        if report.step == 4:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train(folder, on_step=power_cut, **options)
    return folder


def contents(folder):
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".lock")
    }


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    rng = np.random.default_rng(0)
    words = [f"{a}{b}" for a in "bcdfgklm" for b in ("a", "en", "ilt", "orp")]
    path.write_text("\n\n".join(" ".join(rng.choice(words, 60)) for _ in range(40)))
    return path


@pytest.fixture(scope="module")
def tokenizer(text):
    return train_tokenizer([TextFile(text)], 60)


class TestIdentity:
    def test_every_token_counts(self):
        blocks = random_generator(0, 8, 0).integers(5, 60, (3000, 8)).astype(np.uint16)
        from nastool_supernets.corpus.identity import describe_blocks

        then = describe_blocks(blocks)
        assert is_same_text(then, blocks)
        assert is_same_text(then, blocks.astype(np.uint32))
        other = blocks.copy()
        other[-1, -1] += 1
        assert not is_same_text(then, other)
        # What older versions noted was a sample.
        import hashlib

        sample = blocks[::2].astype("<u4").tobytes()
        old = {
            "blocks": [3000, 8],
            "sample": hashlib.blake2b(sample, digest_size=16).hexdigest(),
        }
        assert is_same_text(old, blocks)
        assert not is_same_text(old, blocks[:-1])

    def test_a_tokenizer_is_more_than_its_words(self, tokenizer, tmp_path):
        import tokenizers
        from transformers import PreTrainedTokenizerFast

        save_tokenizer(tokenizer, tmp_path)
        parts = describe_tokenizer(tokenizer)
        assert describe_tokenizer(load_tokenizer(tmp_path)) == parts
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        special = {n: f"[{n[:-6].upper()}]" for n in ("pad_token", "unk_token", "cls_token")}
        special |= {"sep_token": "[SEP]", "mask_token": "[MASK]"}

        def changed(special=special, **model):
            content = json.dumps({**rules, "model": {**rules["model"], **model}})
            backend = tokenizers.Tokenizer.from_str(content)
            found = describe_tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, **special))
            return {name for name, part in found.items() if part != parts[name]}

        assert changed() == set()
        assert changed(max_input_chars_per_word=3) == {"model"}
        assert changed(special | {"mask_token": "[UNK]"}) == {"special tokens"}

    def test_a_corpus_of_another_tokenizer_is_named(self, tokenizer, text, tmp_path):
        corpus = prepare_corpus([TextFile(text)], tokenizer, tmp_path / "c", sequence_length=16)
        corpus.check_tokenizer(tokenizer, "net")
        other = train_tokenizer([TextFile(text)], 60, lowercase=True)
        with pytest.raises(InvalidInputError, match=r"another .*normalizer than that of net"):
            corpus.check_tokenizer(other, "net")

    def test_sources_are_known_by_field_and_files(self, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"text": "x", "body": "y"}\n')
        one, two = (describe_source(TextFile(tmp_path / "a.jsonl", f)) for f in ("text", "body"))
        assert one != two
        folder = HubDataset(str(tmp_path))
        before = describe_source(folder)
        assert describe_source(folder) == before
        (tmp_path / "b.jsonl").write_text("{}\n")
        assert describe_source(folder) != before


class TestCorpus:
    def test_other_text_under_one_name(self, tokenizer, tmp_path):
        records = [{"text": f"ba ben {i} " * 9, "body": f"kilt korp {i} " * 9} for i in range(40)]
        path = tmp_path / "a.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))

        def blocks(folder, field, **options):
            sources = [TextFile(path, field)]
            options = {"sequence_length": 16, "held_out": 0.0, **options}
            return np.array(prepare_corpus(sources, tokenizer, tmp_path / folder, **options).train)

        first = blocks("shared", "text")
        with pytest.raises(InvalidInputError, match="text_field=text, not body"):
            blocks("shared", "body", replace=False)
        assert np.array_equal(blocks("shared", "text"), first)
        assert np.array_equal(blocks("shared", "body"), blocks("fresh", "body"))

    def test_who_has_it_open_goes_on_reading_it(self, tokenizer, text, tmp_path):
        source = TextFile(text)
        corpus = prepare_corpus([source], tokenizer, tmp_path / "c", sequence_length=16)
        before = np.array(corpus.train)
        prepare_corpus([source], tokenizer, tmp_path / "c", sequence_length=32)
        assert np.array_equal(corpus.train, before)
        assert load_corpus(tmp_path / "c").train.shape[1] == 32

    def test_what_is_refused_leaves_it(self, tokenizer, text, tmp_path):
        folder = tmp_path / "c"
        prepare_corpus([TextFile(text)], tokenizer, folder, sequence_length=16)
        before = contents(folder)
        short, bad = tmp_path / "short.txt", tmp_path / "bad.jsonl"
        short.write_text("ba")
        bad.write_text('{"text": "ba"}\n{"body": "ba"}\n')
        for sources, length in (([TextFile(short)], 16), ([TextFile(bad)], 16), ([], 16)):
            with pytest.raises(InvalidInputError):
                prepare_corpus(sources, tokenizer, folder, sequence_length=length, held_out=0)
            assert contents(folder) == before
        with pytest.raises(InvalidInputError, match="fills no block"):
            prepare_corpus([TextFile(short)], tokenizer, tmp_path / "new" / "c", held_out=0)
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize("name", ["train.npy", "held_out.npy", "tokenizer/tokenizer.json"])
    def test_a_flipped_bit_is_noticed(self, tokenizer, text, tmp_path, caplog, name):
        folder = tmp_path / "c"
        prepare_corpus([TextFile(text)], tokenizer, folder, sequence_length=16, held_out=0.1)
        whole = contents(folder)
        content = bytearray((folder / name).read_bytes())
        content[-5] ^= 1
        (folder / name).write_bytes(content)
        with pytest.raises(InvalidInputError, match=f"{Path(name).name} is damaged"):
            load_corpus(folder)
        # Who names the text gets it prepared again.
        prepare_corpus([TextFile(text)], tokenizer, folder, sequence_length=16, held_out=0.1)
        assert "prepared anew" in caplog.text
        assert contents(folder) == whole

    def test_those_of_older_versions_are_read(self, tokenizer, text, tmp_path):
        from nastool_supernets.corpus.identity import old_tokenizer_fingerprint

        folder = tmp_path / "c"
        prepare_corpus([TextFile(text)], tokenizer, folder, sequence_length=16)
        card = json.loads((folder / "corpus.json").read_text())
        del card["digests"], card["request"]["format"]
        card["request"]["tokenizer"] = old_tokenizer_fingerprint(tokenizer)
        (folder / "corpus.json").write_text(json.dumps(card))
        before = contents(folder)
        prepare_corpus([TextFile(text)], tokenizer, folder, sequence_length=16, replace=False)
        assert contents(folder) == before

    def test_a_second_process_waits_and_shares(self, tokenizer, text, tmp_path, caplog):
        """The first holds the folder until it has a corpus; both end with the same one."""
        from concurrent.futures import ThreadPoolExecutor

        folder = tmp_path / "c"
        with ThreadPoolExecutor(1) as pool:
            with owned(folder, "corpus"):
                later = pool.submit(
                    prepare_corpus, [TextFile(text)], tokenizer, folder, sequence_length=16
                )
                prepare_corpus([TextFile(text)], tokenizer, folder, sequence_length=16)
                written = (folder / "train.npy").stat().st_ino
            later.result(60)
        assert (folder / "train.npy").stat().st_ino == written


class TestResume:
    def test_what_differs_is_named(self, tmp_path):
        folder = stopped(tmp_path, origin={"weights at the start": "a"})
        before = contents(folder)
        other = BLOCKS.copy()
        other[-1, -1] += 1
        for options, message in (
            ({"model": tiny(widths=(8, 16))}, r"widths=\[4, 8, 16\], got \[8, 16\]"),
            ({"model": tiny(layer_norm_eps=1e-3)}, r"layer_norm_eps=1e-12, got 0.001"),
            ({"config": replace(CONFIG, learning_rate=2e-3)}, "learning_rate=0.001, got 0.002"),
            ({"config": replace(CONFIG, seed=1, steps=7)}, "steps=6, got 7; seed=0, got 1"),
            ({"origin": {"weights at the start": "b"}}, "weights at the start='a', got 'b'"),
            ({"blocks": other}, "other text"),
            ({"blocks": BLOCKS[:, :8]}, r"other text \(blocks \[50, 16\], got \[50, 8\]\)"),
        ):
            with pytest.raises(InvalidInputError, match=message):
                train(folder, **options)
            assert contents(folder) == before

    def test_what_changes_no_bit_may_differ(self, tmp_path):
        train(tmp_path / "whole")
        folder = stopped(tmp_path / "cut")
        config = replace(CONFIG, gradient_checkpointing=True, log_every=1, checkpoint_every=1)
        train(folder, config, origin={"weights at the start": "not noted then"})
        one, two = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "cut"))
        assert all(torch.equal(one[name], two[name]) for name in one)
        folder = stopped(tmp_path / "pieces")
        train(folder, replace(CONFIG, micro_batch_size=2))
        two = load_file(folder / "model.safetensors")
        for name in one:
            if not name.endswith("key.bias"):
                torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=5e-5)

    def test_every_digest_is_read(self, tmp_path, caplog):
        train(tmp_path)
        newest = latest_checkpoint(tmp_path / "checkpoints").path
        names = set(json.loads((newest / "checksums.json").read_text()))
        assert names == {path.name for path in newest.iterdir()} - {"checksums.json"}
        for name in sorted(names):
            whole = (newest / name).read_bytes()
            (newest / name).write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
            assert latest_checkpoint(tmp_path / "checkpoints").state["step"] == 3
            assert f"{name} does not match" in caplog.text
            with pytest.raises(InvalidInputError, match="is damaged"):
                load_supernet(newest)
            (newest / name).write_bytes(whole)
        assert latest_checkpoint(tmp_path / "checkpoints").state["step"] == 6

    def test_configurations_are_read_back(self):
        for config in (
            CONFIG,
            replace(CONFIG, rule=RandomOnly(2, SizeAware()), betas=(0.8, 0.9)),
            replace(CONFIG, distillation=Distillation(0.3, 2.0)),
        ):
            assert PretrainingConfig.of(json.loads(json.dumps(config.describe()))) == config
        with pytest.raises(InvalidInputError, match="no hyperparameters"):
            PretrainingConfig.of({"rule": {"name": "Other"}})


class TestOwner:
    SCRIPT = """
import sys
from pathlib import Path
from nastool.files.writing import owned
with owned(Path(sys.argv[1]), "run"):
    print("owns", flush=True)
    sys.stdin.read()
"""

    def test_a_run_has_one(self, tmp_path, monkeypatch):
        monkeypatch.setattr(pretraining, "WAIT", 0.1)
        folder = stopped(tmp_path / "run")
        before = contents(folder)
        command = [sys.executable, "-c", self.SCRIPT, str(folder)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as owner:
            assert owner.stdout.readline() == "owns\n"
            with pytest.raises(InvalidInputError, match=f"in use by process {owner.pid} on"):
                train(folder)
            assert contents(folder) == before
            owner.kill()
        assert train(folder).finished


class TestTrackers:
    def test_one_that_fails_ends_the_run_in_one_line(self, tmp_path, monkeypatch):
        class Full:
            name = "the curves"

            def log(self, step, values):
                if step > 3:
                    raise OSError(28, "No space left on device")

            def close(self):
                raise RuntimeError("closed")

        monkeypatch.setattr(run, "open_trackers", lambda *_: [Full()])
        with pytest.raises(NastoolError, match=r"curves to the curves: .*No space.* is kept"):
            train(tmp_path, replace(CONFIG, log_every=1))
        assert latest_checkpoint(tmp_path / "checkpoints").state["step"] == 3


class TestPositions:
    def test_training_notes_them(self, tmp_path):
        train(tmp_path)
        assert load_supernet(tmp_path).model.config.trained_positions == 16
        train(
            tmp_path / "longer", model=load_supernet(tmp_path).model, blocks=BLOCKS.reshape(25, 32)
        )
        longer = load_supernet(tmp_path / "longer").model
        assert longer.config.trained_positions == 32
        assert longer.extract((4, 8)).config.trained_positions == 32
        train(tmp_path / "again", model=load_supernet(tmp_path / "longer").model)
        assert load_supernet(tmp_path / "again").model.config.trained_positions == 32

    def test_others_are_not_measured(self, tokenizer, text, tmp_path):
        net, source = tmp_path / "net", TextFile(text)
        train(net, tokenizer=_saved(tokenizer, tmp_path / "tokenizer"))
        config = load_supernet(net).model.config
        assert masked_text(net, config, [str(text)], blocks=2).input_ids.shape == (2, 16)
        longer = prepare_corpus([source], tokenizer, tmp_path / "c", sequence_length=32)
        with pytest.raises(InvalidInputError, match="positions 1 to 16, got blocks of 32"):
            mask_corpus(longer, tokenizer, config, "net")
        arguments = [str(net), "--corpus", str(tmp_path / "c"), "--shapes", "0"]
        arguments += ["--output", str(tmp_path / "t.csv")]
        done = CliRunner().invoke(measure_command, arguments)
        assert "positions 1 to 16" in str(done.exception)
        assert not (tmp_path / "t.csv").exists()


def _saved(tokenizer, folder):
    save_tokenizer(tokenizer, folder)
    return folder


class TestOptions:
    def test_a_short_run_has_every_kind_of_step(self):
        for preset in [plugin.name for plugin in available(PRESETS)]:
            config = configuration(preset, {"steps": 60})
            assert config.head_steps <= 6
            assert config.warmup_steps <= 6
        assert configuration("laptop", {"steps": 60, "head_steps": 50}).head_steps == 50
        assert configuration("laptop", {}) == laptop()

    def test_a_run_that_goes_on_need_not_be_told_again(self):
        saved = configuration("smoke", {"steps": 60, "head_steps": 30}).describe()
        assert configuration(None, {}, saved).describe() == saved
        assert configuration(None, {"seed": 3}, saved).seed == 3
        named = configuration("smoke", {"steps": 60}, saved)
        assert named.describe() == saved
        assert "learning_rate" in str(configuration("laptop", {"steps": 60}, saved).changes(saved))

    @pytest.mark.parametrize(
        ("written", "seconds"), [("90s", 90), ("7m", 420), ("1.5h", 5400), (".5m", 30)]
    )
    def test_times(self, written, seconds):
        assert parse_time("--max-time", written) == seconds

    @pytest.mark.parametrize("written", ["", "7", "m", "0s", "-1m", "1d", "1e3s", "nan s"])
    def test_what_is_no_time(self, written):
        with pytest.raises(InvalidInputError, match="--max-time: expected a time such as"):
            parse_time("--max-time", written)


OPTIONS = [
    "--preset",
    "smoke",
    "--steps",
    "6",
    "--checkpoint-every",
    "3",
    "--dtype",
    "float32",
    "--peak-flops",
    "1e9",
    "--tracker",
    "none",
]


class TestCommand:
    def run(self, *arguments):
        options = [*OPTIONS, *map(str, arguments)]
        return CliRunner().invoke(pretrain_command, options)

    def test_a_run_goes_on_as_what_it_is(self, text, tmp_path):
        made = ["--tokenizer", "train:100", "--sequence-length", "16", "--text", text]
        net, start = tmp_path / "net", ["--config", "tiny", "--output", tmp_path / "net"]
        done = self.run(*start, *made, "--held-out", "0.3", "--evaluation-blocks", "2")
        assert done.exit_code == 0, done.output
        log = [json.loads(line) for line in (net / "log.jsonl").read_text().splitlines()]
        roles = [
            {subnet["role"] for subnet in json.loads(line)["subnets"]}
            for line in (net / "log.jsonl").read_text().splitlines()
        ]
        assert {"largest", "smallest", "random"} in roles
        card = json.loads((net / "run.json").read_text())
        assert card["data"]["blocks"][1] == 16
        assert card["net"]["widths"] == [16, 32, 48]
        assert len(np.load(net / "corpus" / "held_out.npy")) > 2
        shutil.rmtree(net / "checkpoints" / "step-00000006")
        (net / "model.safetensors").unlink()
        before = contents(net)
        sizes = tmp_path / "sizes.json"
        sizes.write_text(json.dumps({"num_attention_heads": 2, **_TINY}))
        for options, message in (
            (["--config", "tiny", "--widths", "24,48"], r"widths=[16, 32, 48], got [24, 48]"),
            (["--widths", "24,48"], "--widths: the run has 16,32,48, got 24,48"),
            (["--layers", "3"], "--layers: the run has 2, got 3"),
            (["--config", "small"], "hidden_size=48, got 384"),
            (["--config", str(sizes)], "num_attention_heads=4, got 2"),
            (["--seed", "1"], "seed=0, got 1"),
            (["--config", "tiny", "--reorder"], "reorder=False, got True"),
            (["--sequence-length", "32"], "has sequence_length=16, got 32"),
            (["--held-out", "0.2"], "has held_out=0.3, got 0.2"),
            (["--evaluation-blocks", "1"], "evaluation_blocks=2, got 1"),
            (["--text-field", "body"], "text_field=None, got body"),
        ):
            refused = self.run(*options, "--resume", "--output", net)
            assert isinstance(refused.exception, InvalidInputError), options
            assert message in str(refused.exception)
            assert contents(net) == before
        done = self.run("--resume", "--output", net, "--micro-batch-size", "4")
        assert done.exit_code == 0, done.output
        assert "No text is named: taking the corpus" in done.output
        again = [json.loads(line) for line in (net / "log.jsonl").read_text().splitlines()]
        # Followed on the same text as before, up to the rounding of smaller batches.
        ends = [entries[-1]["perplexity"] for entries in (log, again)]
        assert ends[1] == pytest.approx(ends[0], rel=1e-4)

    def test_the_head_stage_alone_is_said(self, text, tmp_path):
        made = ["--tokenizer", "train:100", "--sequence-length", "16", "--text", text]
        done = self.run("--config", "tiny", "--head-steps", "9", "--output", tmp_path / "n", *made)
        assert done.exit_code == 0, done.output
        assert "only the largest net is trained" in done.output


_TINY = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "intermediate_size": 96,
    "widths": [16, 32, 48],
}


def test_presets_take_what_they_say():
    plugins = available(PRESETS)
    assert {plugin.name for plugin in plugins} >= {"supershaper", "laptop", "short", "smoke"}
    for plugin in plugins:
        config = preset_of(plugin.name)
        tokens = config.steps * config.batch_size * 128
        assert f"{config.steps:,} steps" in plugin.summary
        found = re.search(r"([\d.]+)([kMB]) tokens", plugin.summary)
        scale = {"k": 1e3, "M": 1e6, "B": 1e9}[found[2]]
        assert tokens == pytest.approx(float(found[1]) * scale, rel=0.03)
